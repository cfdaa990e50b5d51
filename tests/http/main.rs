//! The HTTP client by its public API, over real loopback sockets.

mod bad;
mod first;
mod second;
mod secure;
mod support;

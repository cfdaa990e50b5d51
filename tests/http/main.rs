//! The HTTP client by its public API, over real loopback sockets.

mod bad;
mod first;
#[path = "../support/identity.rs"]
mod identity;
mod second;
mod secure;
mod support;
mod watched;

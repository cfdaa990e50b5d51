//! Client transport for long-lived, real-time connections whose every failure replays from a seed.
//!
//! - [`websocket`]: a reconnecting WebSocket connection with requests, subscriptions and lifecycle events.
//! - [`http`]: an HTTP/1.1 and HTTP/2 client over a pool that keeps its limits and its order.
//! - [`env`](mod@env): the traits through which all of it sees time, randomness, sockets and tasks.
//! - [`backoff`]: when a lost connection tries again.
//! - [`tls`]: how peers are verified, and where TLS sessions are kept.
//!
//! The package `hpx-sim` runs this code, unmodified, in a simulated world. The repository's `docs/ARCHITECTURE.md` has the
//! map.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

pub mod backoff;
mod dial;
pub mod env;
mod error;
pub mod http;
#[doc(hidden)]
pub mod planted;
mod sync;
pub mod tls;
pub mod websocket;

pub use error::{Delivery, ErrorKind, Origin, TransportError, TransportResult};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

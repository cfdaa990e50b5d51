//! The public API over real loopback sockets.

mod auth;
mod bytes;
mod cancellation;
mod client;
mod close;
mod config;
mod failure_modes;
mod heartbeat;
#[path = "../support/identity.rs"]
mod identity;
mod lifecycle;
mod requests;
mod secrets;
mod sends;
mod subscriptions;
mod support;
mod texts;
mod tls;
mod upgrade;

/// A wait long enough for a server to be back, short enough for a test.
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(150);

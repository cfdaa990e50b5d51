//! HTTP/2 (RFC 9113) over the h2 crate, driven directly.

mod bdp;
mod connection;
mod keepalive;
#[cfg(all(test, hpx_loom))]
mod loom_tests;
mod ping;
mod stream;

pub use self::ping::{PingStats, Recorder};
pub(crate) use self::{
    bdp::WINDOW_MAX,
    connection::{Handle, Made, Settings, Task, handshake},
    ping::PingRules,
    stream::{Incoming, send},
};

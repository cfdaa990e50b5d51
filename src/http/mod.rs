//! An HTTP/1.1 and HTTP/2 client: a pool with limits that hold, pings that measure the link, resumed TLS sessions.
//!
//! ```no_run
//! use hpx_transport::http::{Client, HttpConfig};
//!
//! # async fn run() -> hpx_transport::TransportResult<()> {
//! let client = Client::new(HttpConfig::default())?;
//! let response = client.get("https://example.com/").await?;
//! println!("{}", response.status());
//! let body = response.into_body().bytes(1024 * 1024).await?;
//! # let _ = body;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`]: requests, and responses whose bodies stream.
//! - [`pool`]: connections kept for the next request; knows no protocol.
//! - [`h2`]: HTTP/2's recorder of what is received.

mod body;
mod client;
mod config;
mod event;
mod h1;
pub mod h2;
mod inbox;
mod link;
mod memory;
mod origin;
mod outside;
pub mod pool;
mod sent;

pub use self::{
    body::{Body, ConnectionInfo, ResponseBody},
    client::{Client, HostStats},
    config::{HttpConfig, Protocol},
    event::{Event, Observer},
    pool::{PoolConfig, PoolStats},
};

//! A WebSocket connection that reconnects, resubscribes and correlates.
//!
//! [`Connection::connect`] starts one task that owns the socket, and gives back a [`ConnectionHandle`] to act through and a
//! [`ConnectionStream`] that reports what happens. A [`ProtocolHandler`] teaches it the dialect of the API. The connection
//! lives as long as a handle does.
//!
//! ```no_run
//! use hpx_transport::websocket::{Connection, TransportResult, WsConfig, handlers::JsonRpcHandler};
//!
//! # async fn example() -> TransportResult<()> {
//! let config = WsConfig::new("wss://stream.example.com/v1");
//! let (handle, _events) = Connection::connect(config, JsonRpcHandler::new()).await?;
//! let mut trades = handle.subscribe("trades.BTC").await?;
//! while let Some(trade) = trades.recv().await {
//!     println!("{}", trade.as_text().unwrap_or_default());
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod connection;
mod driver;
mod event;
mod frame;
mod guard;
mod handle;
pub mod handlers;
mod link;
mod message;
mod protocol;
mod session;
mod shared;
#[cfg(hpx_planted)]
mod stray;
mod stream;
mod upgrade;

pub use self::{
    client::WsClient,
    config::WsConfig,
    connection::Connection,
    event::{CloseCause, ConnectionEpoch, ConnectionState, Event, IncomingMessage, MessageKind},
    guard::SubscriptionGuard,
    handle::ConnectionHandle,
    handlers::{GenericJsonHandler, JsonRpcHandler},
    message::{RequestId, Text, Topic, WsMessage},
    protocol::{ProtocolHandler, ResponseBody, Route, RouteId},
    shared::feed::Update,
    stream::ConnectionStream,
};
pub use crate::error::{Delivery, ErrorKind, Origin, TransportError, TransportResult};

//! Starting a connection.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use rand_chacha::rand_core::Rng;

use super::{
    config::WsConfig, driver::Driver, event::Event, handle::ConnectionHandle, protocol::ProtocolHandler,
    shared::Shared, stream::ConnectionStream,
};
use crate::{
    backoff::{Purpose, stream},
    env::{self, Env},
    error::TransportResult,
};

/// A connection with its event stream: the handle and the stream in one value.
///
/// Dropping it drops both; [`split`](Self::split) parts them.
#[derive(Debug)]
pub struct Connection {
    handle: ConnectionHandle,
    stream: ConnectionStream,
}

impl Connection {
    /// Starts a connection in the tokio runtime of the caller.
    ///
    /// Returns as soon as the driver runs, before the peer was reached: the first `Connected` comes as an event, and
    /// [`ConnectionHandle::ready`] waits for it. Cancelling it starts nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the field and the rule.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn connect<H: ProtocolHandler>(
        config: WsConfig,
        handler: H,
    ) -> TransportResult<(ConnectionHandle, ConnectionStream)> {
        Self::connect_in(env::Tokio::new(), config, handler).await
    }

    /// Starts a connection in an environment of the caller's, such as a simulated one.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_in<E: Env, H: ProtocolHandler>(
        env: E,
        config: WsConfig,
        handler: H,
    ) -> TransportResult<(ConnectionHandle, ConnectionStream)> {
        Self::connect_stream_in(env, config, handler).await.map(Self::split)
    }

    /// As [`connect`](Self::connect), in one value.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_stream<H: ProtocolHandler>(config: WsConfig, handler: H) -> TransportResult<Self> {
        Self::connect_stream_in(env::Tokio::new(), config, handler).await
    }

    /// As [`connect_in`](Self::connect_in), in one value.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_stream_in<E: Env, H: ProtocolHandler>(
        env: E,
        config: WsConfig,
        handler: H,
    ) -> TransportResult<Self> {
        config.validate()?;
        // One seed per connection: its waits, masks and nonces replay from it alone.
        let seed = env.seed();
        let shared = Shared::new(&config, stream(seed, Purpose::Hasher).next_u64());
        let driver = Driver::new(env.clone(), handler, &config, seed, shared.clone())?;
        env.spawn("hpx-websocket", driver.run());
        let handle = ConnectionHandle::new(shared.clone());
        Ok(Self { handle, stream: ConnectionStream::new(shared) })
    }

    /// The handle, to clone or to act through.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// The next event; `None` after `Closed`. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.stream.recv().await
    }

    /// Parts the two.
    pub fn split(self) -> (ConnectionHandle, ConnectionStream) {
        (self.handle, self.stream)
    }
}

impl Stream for Connection {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.stream).poll_next(cx)
    }
}

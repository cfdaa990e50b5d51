//! The connection for those who don't read events.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    config::WsConfig,
    connection::Connection,
    event::{ConnectionEpoch, ConnectionState},
    guard::SubscriptionGuard,
    handle::ConnectionHandle,
    message::{Topic, WsMessage},
    protocol::ProtocolHandler,
};
use crate::{
    env::{self, Env},
    error::TransportResult,
};

/// A connection without an event stream: messages that nothing claims are dropped. Cheap to clone; the connection ends with
/// its last clone.
///
/// Its methods are those of [`ConnectionHandle`], by the same names.
///
/// ```no_run
/// use hpx_transport::websocket::{TransportResult, WsClient, WsConfig, handlers::JsonRpcHandler};
///
/// # async fn example() -> TransportResult<()> {
/// let client = WsClient::connect(WsConfig::new("wss://rpc.example.com"), JsonRpcHandler::new()).await?;
/// let block: String = client.request(&serde_json::json!({"method": "eth_blockNumber", "params": []})).await?;
/// # let _ = block;
/// # Ok(())
/// # }
/// ```
pub struct WsClient<H> {
    handle: ConnectionHandle,
    handler: PhantomData<fn() -> H>,
}

impl<H> fmt::Debug for WsClient<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsClient").field("handle", &self.handle).finish()
    }
}

impl<H> Clone for WsClient<H> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), handler: PhantomData }
    }
}

impl<H: ProtocolHandler> WsClient<H> {
    /// As [`Connection::connect`].
    ///
    /// # Errors
    ///
    /// As [`Connection::connect`].
    pub async fn connect(config: WsConfig, handler: H) -> TransportResult<Self> {
        Self::connect_in(env::Tokio::new(), config, handler).await
    }

    /// As [`Connection::connect_in`].
    ///
    /// # Errors
    ///
    /// As [`Connection::connect`].
    pub async fn connect_in<E: Env>(env: E, config: WsConfig, handler: H) -> TransportResult<Self> {
        // Without a reader the event queue keeps nothing.
        let (handle, _) = Connection::connect_in(env, config, handler).await?;
        Ok(Self { handle, handler: PhantomData })
    }

    /// The handle under it.
    pub fn handle(&self) -> &ConnectionHandle {
        &self.handle
    }

    /// As [`ConnectionHandle::ready`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn ready(&self) -> TransportResult<ConnectionEpoch> {
        self.handle.ready().await
    }

    /// As [`ConnectionHandle::request`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn request<R, T>(&self, request: &R) -> TransportResult<T>
    where
        R: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.handle.request(request).await
    }

    /// As [`ConnectionHandle::request_with_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn request_with_timeout<R, T>(&self, request: &R, timeout: Duration) -> TransportResult<T>
    where
        R: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.handle.request_with_timeout(request, timeout).await
    }

    /// As [`ConnectionHandle::request_raw`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn request_raw(&self, message: WsMessage) -> TransportResult<String> {
        self.handle.request_raw(message).await
    }

    /// As [`ConnectionHandle::request_raw_with_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn request_raw_with_timeout(
        &self,
        message: WsMessage,
        timeout: Duration,
    ) -> TransportResult<String> {
        self.handle.request_raw_with_timeout(message, timeout).await
    }

    /// As [`ConnectionHandle::request_message`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn request_message(&self, message: WsMessage) -> TransportResult<WsMessage> {
        self.handle.request_message(message).await
    }

    /// As [`ConnectionHandle::subscribe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn subscribe(&self, topic: impl Into<Topic>) -> TransportResult<SubscriptionGuard> {
        self.handle.subscribe(topic).await
    }

    /// As [`ConnectionHandle::subscribe_many`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn subscribe_many<T: Into<Topic>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> TransportResult<Vec<SubscriptionGuard>> {
        self.handle.subscribe_many(topics).await
    }

    /// As [`ConnectionHandle::unsubscribe`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn unsubscribe(&self, topic: impl Into<Topic>) -> TransportResult<()> {
        self.handle.unsubscribe(topic).await
    }

    /// As [`ConnectionHandle::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&self, message: WsMessage) -> TransportResult<()> {
        self.handle.send(message).await
    }

    /// As [`ConnectionHandle::send_confirmed`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send_confirmed(&self, message: WsMessage) -> TransportResult<()> {
        self.handle.send_confirmed(message).await
    }

    /// As [`ConnectionHandle::send_json`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> TransportResult<()> {
        self.handle.send_json(value).await
    }

    /// As [`ConnectionHandle::reconnect`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn reconnect(&self, reason: impl Into<String>) -> TransportResult<()> {
        self.handle.reconnect(reason)
    }

    /// As [`ConnectionHandle::close`].
    pub async fn close(&self) {
        self.handle.close().await;
    }

    /// As [`ConnectionHandle::is_connected`].
    pub fn is_connected(&self) -> bool {
        self.handle.is_connected()
    }

    /// As [`ConnectionHandle::state`].
    pub fn state(&self) -> ConnectionState {
        self.handle.state()
    }

    /// As [`ConnectionHandle::epoch`].
    pub fn epoch(&self) -> ConnectionEpoch {
        self.handle.epoch()
    }

    /// As [`ConnectionHandle::pending_count`].
    pub fn pending_count(&self) -> usize {
        self.handle.pending_count()
    }

    /// As [`ConnectionHandle::subscription_count`].
    pub fn subscription_count(&self) -> usize {
        self.handle.subscription_count()
    }

    /// As [`ConnectionHandle::subscribed_topics`].
    pub fn subscribed_topics(&self) -> Vec<Topic> {
        self.handle.subscribed_topics()
    }
}

//! Acting on a connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    event::{CloseCause, ConnectionEpoch, ConnectionState},
    guard::SubscriptionGuard,
    message::{Topic, WsMessage},
    session::port::{DataCommand, Key, Reply, ReplyBody},
    shared::Shared,
};
use crate::{
    error::{ErrorKind, Origin, TransportError, TransportResult},
    planted::{self, Bug},
};

/// Acts on a connection. Cloning is cheap; the connection ends when the last clone is dropped.
///
/// Every method may be called in any state and from any thread. Futures may be dropped at any point: a request that was not
/// written by then never will be, and its place is free at once.
#[derive(Clone)]
pub struct ConnectionHandle {
    token: Arc<Token>,
}

/// What all clones of a handle share: its drop is the drop of the last one.
struct Token {
    shared: Arc<Shared>,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.shared.request_close(CloseCause::HandlesDropped);
    }
}

impl ConnectionHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { token: Arc::new(Token { shared }) }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.token.shared
    }

    /// Waits until the connection is ready, and gives back its epoch. Cancel safe.
    ///
    /// # Errors
    ///
    /// The terminal cause, if it ends before that.
    pub async fn ready(&self) -> TransportResult<ConnectionEpoch> {
        self.shared().ready().await
    }

    /// Sends `request` as JSON with an id put in by the protocol handler, and waits for the reply, of which the handler's
    /// `route` says what part is the answer. Uses the configured `request_timeout`.
    ///
    /// While there is no link the request waits for one. A request costs no task and no timer.
    ///
    /// # Errors
    ///
    /// [`delivery`](TransportError::delivery) says what became of it. `Timeout`, `CapacityExceeded` (at once, when
    /// `max_pending_requests` wait), `MessageTooLarge`, `Encode` and `Decode`, `Rejected` with the peer's
    /// [`peer_error`](TransportError::peer_error), `Io` if the link was lost after it was written, `Closed`.
    pub async fn request<R, T>(&self, request: &R) -> TransportResult<T>
    where
        R: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        self.request_with_timeout(request, self.shared().limits().request_timeout).await
    }

    /// [`request`](Self::request) with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub async fn request_with_timeout<R, T>(&self, request: &R, timeout: Duration) -> TransportResult<T>
    where
        R: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let message = to_json(request)?;
        let (message, body) = self.exchange(message, timeout).await?;
        match &body {
            ReplyBody::Whole => from_json(message.as_bytes()),
            ReplyBody::Result(range) => from_json(&message.as_bytes()[range.clone()]),
            ReplyBody::Error(range) => {
                let text = String::from_utf8_lossy(&message.as_bytes()[range.clone()]);
                Err(TransportError::rejected(&text))
            }
        }
    }

    /// Sends `message` with an id put in, and gives back the whole reply as text, errors of the peer included.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), but for `Rejected`; `Decode` if the reply is binary and not UTF-8.
    pub async fn request_raw(&self, message: WsMessage) -> TransportResult<String> {
        self.request_raw_with_timeout(message, self.shared().limits().request_timeout).await
    }

    /// [`request_raw`](Self::request_raw) with a timeout of its own.
    ///
    /// # Errors
    ///
    /// As [`request_raw`](Self::request_raw).
    pub async fn request_raw_with_timeout(
        &self,
        message: WsMessage,
        timeout: Duration,
    ) -> TransportResult<String> {
        let (message, _) = self.exchange(message, timeout).await?;
        let text = std::str::from_utf8(message.as_bytes());
        text.map(str::to_owned).map_err(|error| {
            TransportError::with_source(ErrorKind::Decode, "the reply is not UTF-8", error)
                .with_delivery(ANSWERED)
        })
    }

    /// Sends `message` with an id put in, and gives back the whole reply as it came, without a copy.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request), but for `Rejected` and `Decode`.
    pub async fn request_message(&self, message: WsMessage) -> TransportResult<WsMessage> {
        let (message, _) = self.exchange(message, self.shared().limits().request_timeout).await?;
        Ok(message)
    }

    /// Not an `async fn`: each layer of those moves the message and its reply once more.
    fn exchange(&self, message: WsMessage, timeout: Duration) -> Exchange<'_> {
        Exchange(Call { shared: self.shared(), step: Step::New { message, timeout, request: true } })
    }

    /// Subscribes to `topic`. The topic is desired as of this call; the peer is told when there is a link, again on every
    /// later one, and no more once the last guard is gone. There is no point inside at which it could be cancelled.
    ///
    /// # Errors
    ///
    /// Closed.
    pub async fn subscribe(&self, topic: impl Into<Topic>) -> TransportResult<SubscriptionGuard> {
        let topic = topic.into();
        let queue = self.shared().subscribe(&topic)?;
        Ok(SubscriptionGuard::new(topic, queue, Arc::clone(self.shared())))
    }

    /// Subscribes to each of `topics`; the guards come in their order. The peer is told of as many in one message as the
    /// handler's `topics_per_message` allows.
    ///
    /// # Errors
    ///
    /// Closed: then none is subscribed.
    pub async fn subscribe_many<T: Into<Topic>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> TransportResult<Vec<SubscriptionGuard>> {
        let mut guards = Vec::new();
        for topic in topics {
            let topic = topic.into();
            let queue = self.shared().subscribe(&topic)?;
            guards.push(SubscriptionGuard::new(topic, queue, Arc::clone(self.shared())));
        }
        Ok(guards)
    }

    /// Ends the present subscriptions to `topic`: their guards drain, then yield `None`, and their drop does nothing. A
    /// later [`subscribe`](Self::subscribe) begins anew. Does nothing if there is none.
    ///
    /// # Errors
    ///
    /// Closed.
    pub async fn unsubscribe(&self, topic: impl Into<Topic>) -> TransportResult<()> {
        self.shared().unsubscribe(&topic.into())
    }

    /// Queues `message` and forgets it. Waits, in turn, while `command_channel_capacity` messages are queued; dropping the
    /// future before it resolves withdraws it. What is queued is written, in order, as soon as there is a ready link;
    /// `Closed` counts what never was.
    ///
    /// # Errors
    ///
    /// `MessageTooLarge`, or closed: not sent.
    pub async fn send(&self, message: WsMessage) -> TransportResult<()> {
        check_size(self.shared(), &message)?;
        let Ok(permit) = self.shared().sends().acquire().await else {
            return Err(self.shared().end_error());
        };
        self.shared().enqueue_send(message)?;
        // The driver gives it back when the message leaves the queue.
        permit.forget();
        Ok(())
    }

    /// Queues `message` and waits until it is encoded on a live link. Dropping the future before that withdraws it.
    ///
    /// # Errors
    ///
    /// `MessageTooLarge`, `Timeout` after `request_timeout` in the queue, or closed: not sent.
    pub async fn send_confirmed(&self, message: WsMessage) -> TransportResult<()> {
        check_size(self.shared(), &message)?;
        let Ok(_permit) = self.shared().sends().acquire().await else {
            return Err(self.shared().end_error());
        };
        if planted::alive(Bug::ConfirmedTooEarly) {
            return self.send(message).await;
        }
        let timeout = self.shared().limits().request_timeout;
        Call { shared: self.shared(), step: Step::New { message, timeout, request: false } }.await.map(|_| ())
    }

    /// [`send`](Self::send) for a value, as JSON text.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and `Encode` if it doesn't serialise.
    pub async fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> TransportResult<()> {
        self.send(to_json(value)?).await
    }

    /// Drops the link, or the attempt at one, and begins anew after the usual backoff; a wait in progress is cut short.
    /// Returns at once. `reason` appears in the events.
    ///
    /// # Errors
    ///
    /// Closed.
    pub fn reconnect(&self, reason: impl Into<String>) -> TransportResult<()> {
        self.shared().request_reconnect(reason.into())
    }

    /// Ends the connection and waits until it has: what `send` accepted is written if the peer takes it, the Close frame
    /// goes out, the socket is closed, all within `close_timeout` and from any state. Waiting callers are told at once.
    /// Dropping the future leaves the connection to end by itself.
    pub async fn close(&self) {
        self.shared().request_close(CloseCause::CloseCalled);
        self.shared().closed().await;
    }

    /// True only while ready.
    pub fn is_connected(&self) -> bool {
        self.state() == ConnectionState::Ready
    }

    /// Where the connection stands.
    pub fn state(&self) -> ConnectionState {
        self.shared().state()
    }

    /// The number of the latest link; 0 before the first.
    pub fn epoch(&self) -> ConnectionEpoch {
        self.shared().epoch()
    }

    /// Requests that wait for their reply.
    pub fn pending_count(&self) -> usize {
        self.shared().pending_count()
    }

    /// Topics with a live guard.
    pub fn subscription_count(&self) -> usize {
        self.shared().subscription_count()
    }

    /// Topics with a live guard, sorted.
    pub fn subscribed_topics(&self) -> Vec<Topic> {
        self.shared().subscribed_topics()
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle")
            .field("state", &self.state())
            .field("epoch", &self.epoch())
            .field("pending", &self.pending_count())
            .field("subscriptions", &self.subscription_count())
            .finish()
    }
}

/// A caller who waits in a slot. Queues at the first poll, so that slot, command and waker take one lock.
struct Call<'a> {
    shared: &'a Shared,
    step: Step,
}

enum Step {
    New { message: WsMessage, timeout: Duration, request: bool },
    Waiting(Key),
    Done,
}

impl Future for Call<'_> {
    type Output = TransportResult<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::New { message, timeout, request } => {
                check_size(self.shared, &message)?;
                let command = |key| match request {
                    true => DataCommand::Request { key, message, timeout },
                    false => DataCommand::Confirm { key, message, timeout },
                };
                let key = self.shared.enqueue(cx.waker().clone(), request, command)?;
                self.step = Step::Waiting(key);
                Poll::Pending
            }
            Step::Waiting(key) => {
                let poll = self.shared.poll_answer(key, cx);
                if poll.is_pending() {
                    self.step = Step::Waiting(key);
                }
                poll
            }
            // Polled after it was ready: nothing will come.
            Step::Done => Poll::Pending,
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Step::Waiting(key) = self.step
            && !planted::alive(Bug::LeakedRequestSlot)
        {
            self.shared.release(key);
        }
    }
}

/// A request whose reply is waited for.
struct Exchange<'a>(Call<'a>);

impl Future for Exchange<'_> {
    type Output = TransportResult<(WsMessage, ReplyBody)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(reply) = Pin::new(&mut self.0).poll(cx) else { return Poll::Pending };
        Poll::Ready(match reply {
            Ok(Reply::Message { message, body }) => Ok((message, body)),
            Ok(Reply::Written) => Err(TransportError::new(ErrorKind::Closed, "the request was withdrawn")),
            Err(error) => Err(error),
        })
    }
}

fn check_size(shared: &Shared, message: &WsMessage) -> TransportResult<()> {
    let (size, limit) = (message.as_bytes().len(), shared.limits().max_message_size);
    if size <= limit {
        return Ok(());
    }
    Err(TransportError::too_large(size, limit).blamed_on(Origin::Caller))
}

fn to_json<R: Serialize + ?Sized>(value: &R) -> TransportResult<WsMessage> {
    let json = serde_json::to_string(value).map_err(|error| {
        TransportError::with_source(ErrorKind::Encode, "the value did not serialise as JSON", error)
    })?;
    Ok(WsMessage::text(json))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> TransportResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = "the reply did not deserialise into the type asked for";
        TransportError::with_source(ErrorKind::Decode, text, error).with_delivery(ANSWERED)
    })
}

/// Of a request that was answered with something the caller can't read: it was executed, for all we know.
const ANSWERED: crate::error::Delivery = crate::error::Delivery::MaybeSent;

//! One subscriber of one topic.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    message::{Topic, WsMessage},
    shared::{
        Shared,
        feed::{FeedQueue, Taken, Update},
    },
};

/// A subscription, for as long as it lives.
///
/// Dropping it releases the topic, and the last guard of a topic unsubscribes; dropping neither blocks nor fails and needs
/// no runtime. A guard keeps neither the connection nor its driver alive: when they end, it drains and then yields `None`.
///
/// The guard survives reconnects: the topic is subscribed anew on each link, and [`next_update`](Self::next_update) shows
/// the gap between. A guard that isn't read keeps the newest `subscription_channel_capacity` messages (and those it has
/// begun to read) and counts the rest.
#[must_use = "dropping the guard unsubscribes"]
pub struct SubscriptionGuard {
    topic: Topic,
    queue: Arc<FeedQueue>,
    shared: Arc<Shared>,
    /// Taken from the queue, and not yet read.
    taken: VecDeque<Update>,
}

impl SubscriptionGuard {
    pub(crate) fn new(topic: Topic, queue: Arc<FeedQueue>, shared: Arc<Shared>) -> Self {
        Self { topic, queue, shared, taken: VecDeque::new() }
    }

    /// The next message; lag and gaps are passed over ([`lagged`](Self::lagged) counts what was lost). `None` only at the
    /// end: of the connection, or of this generation by `unsubscribe`. Cancel safe.
    pub async fn recv(&mut self) -> Option<WsMessage> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// The next message, lag or gap; `None` only at the end. Cancel safe.
    pub async fn next_update(&mut self) -> Option<Update> {
        poll_fn(|cx| self.poll_update(cx)).await
    }

    /// A message that is already here; lag and gaps are passed over.
    pub fn try_recv(&mut self) -> Option<WsMessage> {
        loop {
            match self.taken.pop_front() {
                Some(Update::Message(message)) => return Some(message),
                Some(_) => {}
                None if self.queue.take(&mut self.taken, &mut None) == Taken::Updates => {}
                None => return None,
            }
        }
    }

    /// Messages waiting to be read.
    pub fn len(&self) -> usize {
        let taken = self.taken.iter().filter(|update| matches!(update, Update::Message(_))).count();
        taken + self.queue.len()
    }

    /// True if no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Messages lost so far because the guard was not read fast enough.
    pub fn lagged(&self) -> u64 {
        self.queue.lagged()
    }

    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    fn poll_update(&mut self, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        if let Some(update) = self.taken.pop_front() {
            return Poll::Ready(Some(update));
        }
        let mut waker = Some(cx.waker().clone());
        match self.queue.take(&mut self.taken, &mut waker) {
            Taken::Updates => Poll::Ready(self.taken.pop_front()),
            Taken::Empty => Poll::Pending,
            Taken::Ended => Poll::Ready(None),
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<WsMessage>> {
        // Bounded by the queue: every turn takes one update out of it.
        loop {
            match self.poll_update(cx) {
                Poll::Ready(Some(Update::Message(message))) => return Poll::Ready(Some(message)),
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for SubscriptionGuard {
    type Item = WsMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WsMessage>> {
        self.poll_message(cx)
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        self.shared.unguard(&self.topic, &self.queue);
    }
}

impl fmt::Debug for SubscriptionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionGuard")
            .field("topic", &self.topic)
            .field("len", &self.len())
            .field("lagged", &self.lagged())
            .finish()
    }
}

//! The queue of one guard: the driver appends under a short lock, the guard swaps it out whole.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

use parking_lot::Mutex;

use crate::{
    planted::{self, Bug},
    websocket::{event::ConnectionEpoch, message::WsMessage},
};

/// One thing a guard may be told, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// A message of the topic.
    Message(WsMessage),
    /// So many messages were dropped here, because the guard was not read.
    Lagged(u64),
    /// The link was replaced: whatever the peer sent between the two is missing.
    Gap {
        /// The last link this guard heard from.
        from: ConnectionEpoch,
        /// The link it hears from now on.
        to: ConnectionEpoch,
    },
}

/// Shared by one guard and the driver.
#[derive(Debug)]
pub(crate) struct FeedQueue {
    inner: Mutex<Inner>,
    capacity: usize,
    lagged: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    updates: VecDeque<Update>,
    /// Messages dropped from the front since the guard last took the queue.
    missed: u64,
    /// A gap that was dropped from the front with them.
    missed_gap: Option<(ConnectionEpoch, ConnectionEpoch)>,
    /// The link the guard hears from.
    epoch: Option<ConnectionEpoch>,
    ended: bool,
    reader: Option<Waker>,
}

/// What taking the queue found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Updates,
    Empty,
    Ended,
}

impl FeedQueue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { inner: Mutex::new(Inner::default()), capacity, lagged: AtomicU64::new(0) }
    }

    /// Appends messages. Gives back whom to wake.
    pub(crate) fn append(&self, messages: impl Iterator<Item = WsMessage>) -> Option<Waker> {
        let mut dropped = Vec::new();
        let mut inner = self.inner.lock();
        if inner.ended {
            return None;
        }
        for message in messages {
            while inner.updates.len() >= self.capacity {
                let oldest = inner.updates.pop_front();
                match oldest {
                    Some(Update::Message(message)) => {
                        inner.missed += 1;
                        dropped.push(message);
                    }
                    Some(Update::Gap { from, to }) => {
                        let from = inner.missed_gap.map_or(from, |(from, _)| from);
                        inner.missed_gap = Some((from, to));
                    }
                    Some(Update::Lagged(_)) | None => {}
                }
            }
            inner.updates.push_back(Update::Message(message));
        }
        let reader = inner.reader.take();
        drop(inner);
        if !dropped.is_empty() {
            self.lagged.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        }
        reader
    }

    /// The guard hears from link `epoch` from now on. If it heard from an earlier one, that is a gap, and whom to wake for
    /// it is given back.
    pub(crate) fn mark_epoch(&self, epoch: ConnectionEpoch) -> Option<Option<Waker>> {
        let mut inner = self.inner.lock();
        let before = inner.epoch.replace(epoch)?;
        if planted::alive(Bug::GapNotMarked) {
            return None;
        }
        if before == epoch || inner.ended {
            return None;
        }
        match inner.updates.back_mut() {
            // Nothing came between two gaps: they are one.
            Some(Update::Gap { to, .. }) => *to = epoch,
            _ => inner.updates.push_back(Update::Gap { from: before, to: epoch }),
        }
        Some(inner.reader.take())
    }

    /// Nothing will be appended any more; what is queued can still be taken. Gives back whom to wake.
    pub(crate) fn end(&self) -> Option<Waker> {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.reader.take()
    }

    /// Swaps the queue with `into`, which must be empty, or leaves `waker`.
    pub(crate) fn take(&self, into: &mut VecDeque<Update>, waker: &mut Option<Waker>) -> Taken {
        debug_assert!(into.is_empty());
        let mut inner = self.inner.lock();
        if inner.updates.is_empty() && inner.missed == 0 {
            if inner.ended {
                return Taken::Ended;
            }
            std::mem::swap(&mut inner.reader, waker);
            return Taken::Empty;
        }
        std::mem::swap(&mut inner.updates, into);
        let missed = std::mem::take(&mut inner.missed);
        let gap = inner.missed_gap.take();
        drop(inner);
        if let Some((from, to)) = gap {
            into.push_front(Update::Gap { from, to });
        }
        if missed > 0 && planted::alive(Bug::LaggingGuardEnds) {
            into.clear();
            return Taken::Ended;
        }
        if missed > 0 && !planted::alive(Bug::LagNotTold) {
            into.push_front(Update::Lagged(missed));
        }
        Taken::Updates
    }

    /// True if the guard has taken everything.
    pub(crate) fn is_taken(&self) -> bool {
        self.inner.lock().updates.is_empty()
    }

    /// Messages queued and not yet taken.
    pub(crate) fn len(&self) -> usize {
        let inner = self.inner.lock();
        inner.updates.iter().filter(|update| matches!(update, Update::Message(_))).count()
    }

    /// Messages dropped so far.
    pub(crate) fn lagged(&self) -> u64 {
        self.lagged.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(range: std::ops::Range<u32>) -> impl Iterator<Item = WsMessage> {
        range.map(|number| WsMessage::text(number.to_string()))
    }

    fn take(queue: &FeedQueue) -> Vec<Update> {
        let mut taken = VecDeque::new();
        queue.take(&mut taken, &mut None);
        taken.into()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let queue = FeedQueue::new(4);
        queue.append(messages(0..10));
        let taken = take(&queue);
        assert_eq!(taken[0], Update::Lagged(6));
        assert_eq!(taken[1], Update::Message(WsMessage::text("6")));
        assert_eq!((taken.len(), queue.lagged()), (5, 6));
    }

    #[test]
    fn a_gap_is_never_lost_and_two_in_a_row_are_one() {
        let queue = FeedQueue::new(2);
        queue.mark_epoch(ConnectionEpoch(1));
        queue.mark_epoch(ConnectionEpoch(2));
        queue.mark_epoch(ConnectionEpoch(3));
        let gap = Update::Gap { from: ConnectionEpoch(1), to: ConnectionEpoch(3) };
        queue.append(messages(0..1));
        assert_eq!(take(&queue), [gap.clone(), Update::Message(WsMessage::text("0"))]);
        queue.mark_epoch(ConnectionEpoch(4));
        queue.append(messages(0..3));
        let taken = take(&queue);
        assert_eq!(
            taken[..2],
            [Update::Lagged(1), Update::Gap { from: ConnectionEpoch(3), to: ConnectionEpoch(4) }]
        );
    }

    #[test]
    fn what_is_queued_at_the_end_can_still_be_taken() {
        let queue = FeedQueue::new(4);
        queue.append(messages(0..1));
        queue.end();
        queue.append(messages(1..2));
        assert_eq!(take(&queue).len(), 1);
        assert_eq!(queue.take(&mut VecDeque::new(), &mut None), Taken::Ended);
    }
}

//! The only state that callers and the driver share, under short locks.
//!
//! Under one lock lie the command queue, which the driver swaps out whole, and the slots callers wait in; the desired
//! topics, the event queue and each guard's queue have their own. No lock is held across an await, and no foreign code runs
//! under one: wakers are called, and messages dropped, after the lock is gone.

mod events;
pub(crate) mod feed;
mod slots;
mod topics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use self::{
    events::{EventQueue, Next},
    feed::FeedQueue,
    slots::{Look, Slots},
    topics::Topics,
};
use super::{
    config::WsConfig,
    event::{CloseCause, ConnectionEpoch, ConnectionState, Event},
    message::{Topic, WsMessage},
    session::port::{Action, ControlCommand, DataCommand, Key, Outgoing, Reply},
};
use crate::{
    error::{ErrorKind, TransportError, TransportResult},
    planted::{self, Bug},
};

/// See the module.
pub(crate) struct Shared {
    inbox: Mutex<Inbox>,
    topics: Mutex<Topics>,
    events: Mutex<EventQueue>,
    status: Mutex<Status>,
    /// A copy of the status' epoch, to be read without the lock.
    epoch: AtomicU64,
    /// Woken at every change of the status.
    changed: Notify,
    /// One permit per message that `send` may still accept.
    sends: Semaphore,
    limits: Limits,
}

struct Inbox {
    /// In the order callers queued it. Bounded by the slots and the permits of `sends`; dead keys are purged.
    data: Vec<DataCommand>,
    reconnect: Option<String>,
    close: Option<CloseCause>,
    topics_marked: bool,
    slots: Slots,
    /// Why nothing is accepted any more.
    ended: Option<TransportError>,
    /// The driver, if it sleeps.
    driver: Option<Waker>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Status {
    state: ConnectionState,
    epoch: ConnectionEpoch,
}

/// The limits that callers meet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_pending_requests: usize,
    pub(crate) command_channel_capacity: usize,
    pub(crate) subscription_channel_capacity: usize,
    pub(crate) max_message_size: usize,
    pub(crate) request_timeout: Duration,
}

impl Limits {
    pub(crate) fn of(config: &WsConfig) -> Self {
        Self {
            max_pending_requests: config.max_pending_requests,
            command_channel_capacity: config.command_channel_capacity,
            subscription_channel_capacity: config.subscription_channel_capacity,
            max_message_size: config.max_message_size,
            request_timeout: config.request_timeout,
        }
    }

    /// Callers that may wait for a slot's answer at once.
    pub(crate) fn callers_max(&self) -> usize {
        self.max_pending_requests + self.command_channel_capacity
    }
}

impl Shared {
    pub(crate) fn new(config: &WsConfig, hash_seed: u64) -> Arc<Self> {
        let limits = Limits::of(config);
        Arc::new(Self {
            inbox: Mutex::new(Inbox {
                data: Vec::new(),
                reconnect: None,
                close: None,
                topics_marked: false,
                slots: Slots::default(),
                ended: None,
                driver: None,
            }),
            topics: Mutex::new(Topics::new(hash_seed)),
            events: Mutex::new(EventQueue::new(config.event_channel_capacity)),
            status: Mutex::new(Status::default()),
            epoch: AtomicU64::new(0),
            changed: Notify::new(),
            sends: Semaphore::new(match planted::alive(Bug::SendQueueUnbounded) {
                true => Semaphore::MAX_PERMITS / 2,
                false => limits.command_channel_capacity,
            }),
            limits,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// What callers do.
impl Shared {
    /// Queues a message whose caller waits, in a slot of its own.
    ///
    /// # Errors
    ///
    /// Closed, or `CapacityExceeded` for one request too many: nothing was queued.
    pub(crate) fn enqueue(
        &self,
        waker: Waker,
        request: bool,
        command: impl FnOnce(Key) -> DataCommand,
    ) -> TransportResult<Key> {
        let mut inbox = self.inbox.lock();
        inbox.refuse_if_closing()?;
        let limit = self.limits.max_pending_requests;
        if request && inbox.slots.requests() >= limit && !planted::alive(Bug::QueueUnbounded) {
            let text = format!("max_pending_requests of {limit} are waiting");
            return Err(TransportError::new(ErrorKind::CapacityExceeded, text));
        }
        if inbox.slots.is_full() {
            // Answered callers who never look again hold slots too.
            return Err(TransportError::new(ErrorKind::CapacityExceeded, "1048575 callers hold a slot"));
        }
        let key = inbox.slots.insert(waker, request);
        inbox.data.push(command(key));
        let dead = inbox.purge(2 * self.limits.callers_max());
        let driver = inbox.driver.take();
        drop(inbox);
        drop(dead);
        wake(driver);
        Ok(key)
    }

    /// Queues a plain send, for which the caller holds a permit of `sends`.
    pub(crate) fn enqueue_send(&self, message: WsMessage) -> TransportResult<()> {
        let mut inbox = self.inbox.lock();
        inbox.refuse_if_closing()?;
        inbox.data.push(DataCommand::Send { message });
        let driver = inbox.driver.take();
        drop(inbox);
        wake(driver);
        Ok(())
    }

    /// The permits of `send`: closed when the connection ends.
    pub(crate) fn sends(&self) -> &Semaphore {
        &self.sends
    }

    pub(crate) fn poll_answer(&self, key: Key, cx: &mut Context<'_>) -> Poll<TransportResult<Reply>> {
        let look = self.inbox.lock().slots.look(key, cx.waker());
        match look {
            Look::Done(answer) => Poll::Ready(answer),
            Look::Pending => Poll::Pending,
            Look::OtherWaker => {
                // Cloned outside the lock, and what it replaces is dropped outside.
                let mut waker = cx.waker().clone();
                let look = self.inbox.lock().slots.set_waker(key, &mut waker);
                match look {
                    Look::Done(answer) => Poll::Ready(answer),
                    Look::Pending | Look::OtherWaker => Poll::Pending,
                }
            }
        }
    }

    /// The caller is gone.
    pub(crate) fn release(&self, key: Key) {
        let held = self.inbox.lock().slots.release(key);
        drop(held);
    }

    pub(crate) fn request_reconnect(&self, reason: String) -> TransportResult<()> {
        let mut inbox = self.inbox.lock();
        inbox.refuse_if_closing()?;
        inbox.reconnect = Some(reason);
        let driver = inbox.driver.take();
        drop(inbox);
        wake(driver);
        Ok(())
    }

    /// Asks the driver to end. The first cause stands.
    pub(crate) fn request_close(&self, cause: CloseCause) {
        let mut inbox = self.inbox.lock();
        if inbox.close.is_none() {
            inbox.close = Some(cause);
        }
        let driver = inbox.driver.take();
        drop(inbox);
        wake(driver);
    }

    /// Registers a guard's queue: from here on the topic is desired.
    pub(crate) fn subscribe(&self, topic: &Topic) -> TransportResult<Arc<FeedQueue>> {
        self.inbox.lock().refuse_if_closing()?;
        let guard = Arc::new(FeedQueue::new(self.limits.subscription_channel_capacity));
        if !self.topics.lock().add(topic, Arc::clone(&guard)) {
            return Err(TransportError::new(ErrorKind::Closed, "the connection has ended"));
        }
        if !planted::alive(Bug::SubscribeUnheard) {
            self.mark_topics();
        } else {
            self.inbox.lock().topics_marked = true;
        }
        Ok(guard)
    }

    /// A guard is gone.
    pub(crate) fn unguard(&self, topic: &Topic, guard: &Arc<FeedQueue>) {
        if planted::alive(Bug::LostUnsubscribe) {
            return;
        }
        let removed = self.topics.lock().remove(topic, guard);
        if removed {
            self.mark_topics();
        }
    }

    /// Ends the present generation of a topic.
    pub(crate) fn unsubscribe(&self, topic: &Topic) -> TransportResult<()> {
        self.inbox.lock().refuse_if_closing()?;
        let guards = self.topics.lock().clear(topic);
        for guard in guards {
            wake(guard.end());
        }
        self.mark_topics();
        Ok(())
    }

    fn mark_topics(&self) {
        let mut inbox = self.inbox.lock();
        inbox.topics_marked = true;
        let driver = inbox.driver.take();
        drop(inbox);
        wake(driver);
    }

    pub(crate) fn pending_count(&self) -> usize {
        self.inbox.lock().slots.requests()
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.topics.lock().live()
    }

    pub(crate) fn subscribed_topics(&self) -> Vec<Topic> {
        self.topics.lock().names()
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.status.lock().state
    }

    pub(crate) fn epoch(&self) -> ConnectionEpoch {
        ConnectionEpoch(self.epoch.load(Ordering::Relaxed))
    }

    /// Waits until the connection is ready, or has ended.
    pub(crate) async fn ready(&self) -> TransportResult<ConnectionEpoch> {
        loop {
            let changed = self.changed.notified();
            let status = *self.status.lock();
            match status.state {
                ConnectionState::Ready => return Ok(status.epoch),
                ConnectionState::Closed => return Err(self.end_error()),
                _ => changed.await,
            }
        }
    }

    /// Waits until the connection has ended.
    pub(crate) async fn closed(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state() == ConnectionState::Closed {
                return;
            }
            changed.await;
        }
    }

    /// What a caller is told who comes too late.
    pub(crate) fn end_error(&self) -> TransportError {
        let ended = self.inbox.lock().ended.clone();
        ended.unwrap_or_else(|| TransportError::new(ErrorKind::Closed, "the connection is closing"))
    }

    pub(crate) fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut waker = Some(cx.waker().clone());
        let next = self.events.lock().next(&mut waker);
        match next {
            Next::Event(event) => Poll::Ready(Some(event)),
            Next::Empty => Poll::Pending,
            Next::End => Poll::Ready(None),
        }
    }

    pub(crate) fn dropped_messages(&self) -> u64 {
        self.events.lock().dropped()
    }

    /// The event stream is gone.
    pub(crate) fn abandon_events(&self) {
        let left = self.events.lock().abandon();
        drop(left);
    }
}

/// What the driver does.
impl Shared {
    /// Swaps the queue into `data`, which must be empty, and takes what is wanted of the connection. The driver is woken
    /// through `waker` by whatever comes next.
    pub(crate) fn take_commands(&self, data: &mut Vec<DataCommand>, waker: &Waker) -> Wanted {
        debug_assert!(data.is_empty());
        let mut waker = Some(waker.clone());
        let mut inbox = self.inbox.lock();
        std::mem::swap(&mut inbox.data, data);
        std::mem::swap(&mut inbox.driver, &mut waker);
        let wanted = Wanted {
            reconnect: inbox.reconnect.take().map(ControlCommand::Reconnect),
            close: inbox.close.clone().map(ControlCommand::Close),
            topics_marked: std::mem::take(&mut inbox.topics_marked),
        };
        drop(inbox);
        wanted
    }

    pub(crate) fn take_marked_topics(&self) -> Vec<(Topic, Vec<Arc<FeedQueue>>)> {
        self.topics.lock().take_marked()
    }

    /// Settles with the callers, in one go: answers are delivered, messages whose callers are gone are struck out, and
    /// callers who wait for their message to be encoded hear of it.
    pub(crate) fn settle(&self, actions: &mut Vec<Action>, answers: &mut Vec<(Key, TransportResult<Reply>)>) {
        let concerned = |action: &Action| {
            matches!(
                action,
                Action::Answer(..) | Action::Write(Outgoing::Request { .. } | Outgoing::Confirmed { .. })
            )
        };
        if answers.is_empty() && !actions.iter().any(concerned) {
            return;
        }
        let mut wakers = Vec::new();
        let mut graveyard = Vec::new();
        let mut late = Vec::new();
        let mut inbox = self.inbox.lock();
        let slots = &mut inbox.slots;
        let mut deliver = |slots: &mut Slots, key, answer| match slots.answer(key, answer) {
            Ok(waker) => wakers.push(waker),
            Err(answer) => late.push(answer),
        };
        for (key, answer) in answers.drain(..) {
            deliver(slots, key, answer);
        }
        actions.retain_mut(|action| match action {
            Action::Answer(key, answer) => {
                // `Ok(Written)` stands in for the answer that is moved out.
                deliver(slots, *key, std::mem::replace(answer, Ok(Reply::Written)));
                false
            }
            Action::Write(Outgoing::Request { key, message }) => {
                let ghost = planted::alive(Bug::GhostRequest) || planted::alive(Bug::ExpiredStillWritten);
                let keep = slots.is_waiting(*key) || ghost;
                if !keep {
                    graveyard.push(message.clone());
                }
                keep
            }
            Action::Write(Outgoing::Confirmed { key, message }) => {
                let keep = slots.is_waiting(*key);
                if keep {
                    deliver(slots, *key, Ok(Reply::Written));
                } else {
                    graveyard.push(message.clone());
                }
                keep
            }
            _ => true,
        });
        drop(inbox);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Answers one caller.
    pub(crate) fn answer(&self, key: Key, answer: TransportResult<Reply>) {
        let answered = self.inbox.lock().slots.answer(key, answer);
        if let Ok(waker) = answered {
            waker.wake();
        }
    }

    /// Plain sends left the queue.
    pub(crate) fn release_sends(&self, sends: usize) {
        self.sends.add_permits(sends);
    }

    pub(crate) fn emit(&self, event: Event) {
        let reader = self.events.lock().push(event);
        wake(reader);
    }

    /// True if the reader of the events has taken every message, or is gone.
    pub(crate) fn events_are_taken(&self) -> bool {
        self.events.lock().is_taken()
    }

    /// Counts a message of the event stream as dropped.
    pub(crate) fn discard(&self) {
        self.events.lock().discard();
    }

    /// Shows callers where the connection stands.
    pub(crate) fn show(&self, state: ConnectionState, epoch: ConnectionEpoch) {
        let mut status = self.status.lock();
        let changed = status.state != state || status.epoch != epoch;
        if changed {
            *status = Status { state, epoch };
            self.epoch.store(epoch.0, Ordering::Relaxed);
        }
        drop(status);
        if changed {
            self.changed.notify_waiters();
        }
    }

    /// The end: everybody who waits is told, and nothing is accepted any more. Does nothing the second time.
    pub(crate) fn end(&self, cause: CloseCause, unsent: u64) {
        let error = cause.to_error();
        let mut wakers = Vec::new();
        let mut inbox = self.inbox.lock();
        if inbox.ended.is_some() {
            return;
        }
        inbox.ended = Some(error.clone());
        for key in inbox.slots.waiting() {
            if planted::alive(Bug::PendingHangsAtClose) {
                break;
            }
            if let Ok(waker) = inbox.slots.answer(key, Err(error.clone())) {
                wakers.push(waker);
            }
        }
        let data = std::mem::take(&mut inbox.data);
        let driver = inbox.driver.take();
        drop(inbox);
        drop(driver);
        let late = data.iter().filter(|command| matches!(command, DataCommand::Send { .. })).count() as u64;
        drop(data);
        self.sends.close();
        let guards = self.topics.lock().end();
        if !planted::alive(Bug::GuardOutlivesDriver) {
            wakers.extend(guards.iter().filter_map(|guard| guard.end()));
        }
        // Order matters: whoever hears of the end finds the state closed.
        let epoch = self.epoch();
        self.show(ConnectionState::Closed, epoch);
        self.emit(Event::Closed { cause, unsent: unsent + late });
        for waker in wakers {
            waker.wake();
        }
    }
}

/// What callers want of the connection itself.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) reconnect: Option<ControlCommand>,
    pub(crate) close: Option<ControlCommand>,
    pub(crate) topics_marked: bool,
}

impl Inbox {
    fn refuse_if_closing(&self) -> TransportResult<()> {
        match (&self.ended, &self.close) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(_)) => Err(TransportError::new(ErrorKind::Closed, "the connection is closing")),
            (None, None) => Ok(()),
        }
    }

    /// Takes out the commands of callers who are gone, once there are more than could be alive.
    fn purge(&mut self, limit: usize) -> Vec<DataCommand> {
        if self.data.len() <= limit {
            return Vec::new();
        }
        let slots = &self.slots;
        let dead = |command: &mut DataCommand| match command {
            DataCommand::Request { key, .. } | DataCommand::Confirm { key, .. } => !slots.is_waiting(*key),
            DataCommand::Send { .. } => false,
        };
        self.data.extract_if(.., dead).collect()
    }
}

/// Wakes outside every lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

//! The session: everything a connection decides, as a pure machine.
//!
//! Time, callers, bytes and the peer come in through `handle_*`, each with the `now` of the event; what is to be done comes
//! out of [`Session::take_actions`], and when to come back out of [`Session::poll_timeout`]. There is no clock, socket,
//! task, lock or await in here.
//!
//! Order of one instant: control, data, link, deadline. A reply that arrives at its deadline wins.

mod ending;
mod heartbeat;
mod pending;
mod phase;
pub(crate) mod port;
pub(crate) mod subscriptions;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use self::{
    heartbeat::{Beat, Heartbeat},
    pending::{Kind, PendingRequestStore, Progress},
    phase::{Phase, TRANSITIONS},
    port::{Action, ControlCommand, DataCommand, INDEX_MASK, Key, LinkEvent, Outgoing},
    subscriptions::{SubscriptionStore, TopicId},
};
use super::{
    event::{CloseCause, ConnectionEpoch, ConnectionState, Event, IncomingMessage},
    message::{RequestId, Topic, WsMessage},
    protocol::RouteId,
};
use crate::{
    backoff::{Backoff, BackoffPolicy},
    env::Timestamp,
    error::{Delivery, ErrorKind, TransportError},
    planted::{self, Bug},
};

/// The settings a session decides by.
#[derive(Debug, Clone)]
pub(crate) struct SessionConfig {
    pub(crate) backoff: BackoffPolicy,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) stable_after: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) auth_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) close_timeout: Duration,
    /// Callers that may wait at once: bounds what a queue of their keys may hold.
    pub(crate) callers_max: usize,
    pub(crate) topics_per_message: usize,
}

/// Asks the protocol handler whether a cause is worth a retry. A pure function to the session.
pub(crate) type Judge = Box<dyn Fn(&TransportError) -> bool + Send>;

pub(crate) struct Session {
    config: SessionConfig,
    judge: Judge,
    phase: Phase,
    epoch: ConnectionEpoch,
    backoff: Backoff,
    heartbeat: Option<Heartbeat>,
    /// Not yet encoded, in the order it came.
    outbox: VecDeque<Queued>,
    pending: PendingRequestStore,
    topics: SubscriptionStore,
    /// Subscribe and unsubscribe messages so far: numbers them.
    topic_messages: u64,
    /// Came in before the link was ready: reported after `Connected`. Bounded by [`EARLY_MESSAGES_MAX`].
    early: Vec<IncomingMessage>,
    /// Since when the peer has taken no byte of what waits in the write buffer.
    write_blocked_since: Option<Timestamp>,
    /// The write buffer takes more data.
    write_room: bool,
    /// Why all is over, until the driver has been told. Sends of the same instant are still counted.
    ending: Option<CloseCause>,
    /// A close that came while a planted bug was not listening.
    unheard: Option<CloseCause>,
    /// The requests of this link, for a planted bug that writes them again.
    #[cfg(hpx_planted)]
    written: VecDeque<WsMessage>,
    actions: Vec<Action>,
}

/// One place in the queue for the wire.
#[derive(Debug)]
enum Queued {
    Plain(WsMessage),
    /// The message lies with the caller's entry in the pending store.
    Of(Key),
}

impl Session {
    pub(crate) fn new(config: SessionConfig, judge: Judge, seed: [u8; 32], hash_seed: u64) -> Self {
        Self {
            backoff: Backoff::new(config.backoff, seed),
            config,
            judge,
            phase: Phase::Idle,
            epoch: ConnectionEpoch(0),
            heartbeat: None,
            outbox: VecDeque::new(),
            pending: PendingRequestStore::new(hash_seed),
            topics: SubscriptionStore::new(hash_seed),
            topic_messages: 0,
            early: Vec::new(),
            write_blocked_since: None,
            write_room: true,
            ending: None,
            unheard: None,
            #[cfg(hpx_planted)]
            written: VecDeque::new(),
            actions: Vec::new(),
        }
    }

    /// Starts the first dial.
    pub(crate) fn start(&mut self, now: Timestamp) {
        self.dial(now);
    }

    /// Somebody wants the connection to end or to begin anew.
    pub(crate) fn handle_control(&mut self, now: Timestamp, command: ControlCommand) {
        match command {
            ControlCommand::Close(cause) => self.close(now, cause),
            ControlCommand::Reconnect(reason) => match self.phase {
                Phase::Idle | Phase::Closing { .. } | Phase::Closed => {}
                // The wait is cut short: the caller knows better.
                Phase::Backoff { .. } => self.dial(now),
                Phase::Dialing { .. } | Phase::Authenticating { .. } | Phase::Ready { .. } => {
                    let text = format!("reconnect was requested: {reason}");
                    self.retry_after(now, TransportError::new(ErrorKind::ReconnectRequested, text));
                }
            },
        }
    }

    /// Sets whether any guard wants `topic`.
    /// The place returned is valid until the topic is forgotten, which only an undesired one is.
    pub(crate) fn handle_topic(&mut self, topic: &Topic, desired: bool) -> TopicId {
        self.topics.set_desired(topic, desired)
    }

    /// A caller queued something for the wire.
    pub(crate) fn handle_command(&mut self, now: Timestamp, command: DataCommand) {
        match command {
            DataCommand::Send { message } if planted::alive(Bug::SendsReordered) => {
                self.outbox.push_front(Queued::Plain(message));
            }
            DataCommand::Send { message } => self.outbox.push_back(Queued::Plain(message)),
            DataCommand::Request { key, message, timeout } => {
                self.queue_for(now, key, message, Kind::Reply, timeout);
            }
            DataCommand::Confirm { key, message, timeout } => {
                self.queue_for(now, key, message, Kind::Confirmation, timeout);
            }
        }
        self.compact_outbox();
    }

    /// Something happened to the link.
    pub(crate) fn handle_link(&mut self, now: Timestamp, event: LinkEvent) {
        match event {
            LinkEvent::Up { greetings, auth } => self.link_up(now, greetings, auth),
            LinkEvent::Down(cause) => self.lose(now, cause),
            LinkEvent::Alive => {
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.alive();
                }
            }
            LinkEvent::AuthAccepted => {
                if matches!(self.phase, Phase::Authenticating { .. }) {
                    self.become_ready(now);
                }
            }
            LinkEvent::AuthRejected(error) => {
                if matches!(self.phase, Phase::Authenticating { .. }) {
                    self.lose(now, error);
                }
            }
            LinkEvent::Incoming(message) => self.incoming(message),
            LinkEvent::PongDue(message) => {
                // A peer that pings and doesn't read gets no more pongs than the buffer holds.
                if self.write_room
                    && self.phase.link_is_up()
                    && !matches!(self.phase, Phase::Closing { said: true, .. })
                {
                    self.actions.push(Action::Write(Outgoing::Own(message)));
                }
            }
            LinkEvent::Flushed { pending, progressed, room, ping_left } => {
                if let Some(heartbeat) = self.heartbeat.as_mut().filter(|_| ping_left) {
                    heartbeat.ping_left(now);
                }
                self.write_room = room;
                if !pending {
                    self.write_blocked_since = None;
                } else if progressed || self.write_blocked_since.is_none() {
                    self.write_blocked_since = Some(now);
                }
            }
        }
    }

    /// The caller that a reply of this id answers, if it was written and still waits. Its entry is gone afterwards.
    pub(crate) fn handle_reply(&mut self, id: &RouteId<'_>) -> Option<Key> {
        self.pending.answer(id)
    }

    /// Notes that the request `key` goes by another id than its sequence number.
    pub(crate) fn handle_named(&mut self, key: Key, id: RequestId) {
        self.pending.name(key, id);
    }

    /// Deadlines that have come. Called after everything else of the same instant.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        match &self.phase {
            Phase::Backoff { until } if *until <= now => self.end_backoff(now),
            Phase::Dialing { deadline } if *deadline <= now => {
                self.lose(now, timeout("no link within connect_timeout of", self.config.connect_timeout));
            }
            Phase::Authenticating { deadline } if *deadline <= now => {
                self.lose(
                    now,
                    timeout(
                        "no answer to the authentication within auth_timeout of",
                        self.config.auth_timeout,
                    ),
                );
            }
            Phase::Closing { deadline, cause, .. } if *deadline <= now => {
                let cause = cause.clone();
                self.end(cause);
            }
            _ => {}
        }
        self.check_liveness(now);
        self.expire(now);
    }

    /// Takes what is to be done, in order. Everything that may be written by now is among it.
    pub(crate) fn take_actions(&mut self, actions: &mut Vec<Action>) {
        if planted::alive(Bug::SendsBeforeSub) {
            self.release_outbox();
        }
        self.reconcile_topics();
        self.release_outbox();
        if let Some(cause) = self.ending.take() {
            let unsent = self.unsent();
            self.outbox.clear();
            self.actions.push(Action::End { cause, unsent });
        }
        if actions.is_empty() {
            std::mem::swap(actions, &mut self.actions);
        } else {
            actions.append(&mut self.actions);
        }
    }

    /// Plain sends that are queued and were never written.
    pub(crate) fn unsent(&self) -> u64 {
        self.outbox.iter().filter(|queued| matches!(queued, Queued::Plain(_))).count() as u64
    }

    /// True if [`take_actions`](Self::take_actions) has something to give.
    pub(crate) fn has_work(&self) -> bool {
        let open = match self.phase {
            Phase::Ready { .. } => !self.outbox.is_empty() || self.topics.has_changes(),
            Phase::Closing { said, .. } => !said,
            _ => false,
        };
        !self.actions.is_empty() || self.ending.is_some() || (open && self.write_room)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let phase = match self.phase {
            Phase::Backoff { until } => Some(until),
            Phase::Dialing { deadline } | Phase::Authenticating { deadline } => Some(deadline),
            Phase::Closing { deadline, .. } => Some(deadline),
            Phase::Idle | Phase::Ready { .. } | Phase::Closed => None,
        };
        let heartbeat = self.heartbeat.as_ref().and_then(Heartbeat::deadline);
        let write = self.write_deadline();
        [phase, heartbeat, write, self.pending.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.phase.state(self.backoff.attempt())
    }

    /// The number of the latest link.
    pub(crate) fn epoch(&self) -> ConnectionEpoch {
        self.epoch
    }

    /// True while a link is being opened or up. What comes from a link the session has given up is not to be read: it may
    /// complete in the very instant in which it is abandoned.
    pub(crate) fn wants_link(&self) -> bool {
        self.phase.link_is_up() || matches!(self.phase, Phase::Dialing { .. })
    }

    pub(crate) fn awaits_auth(&self) -> bool {
        matches!(self.phase, Phase::Authenticating { .. })
    }

    /// The topic's place, if the peer has been told of it on this link.
    pub(crate) fn told(&self, topic: &str) -> Option<TopicId> {
        self.topics.told(topic)
    }

    pub(crate) fn is_told(&self, id: TopicId) -> bool {
        self.topics.is_told(id)
    }

    /// True if `id` is of a subscribe or unsubscribe message. Some peers echo a number as text.
    pub(crate) fn is_topic_message(id: &RouteId<'_>) -> bool {
        let number = match id {
            RouteId::Number(number) => Some(*number),
            RouteId::Text(text) => RequestId::parse_canonical(text),
        };
        number.is_some_and(|number| Key::from_sequence(number).index == INDEX_MASK)
    }

    fn enter(&mut self, phase: Phase) {
        debug_assert!(
            TRANSITIONS.contains(&(self.phase.name(), phase.name())),
            "illegal step from {} to {}",
            self.phase.name(),
            phase.name()
        );
        self.phase = phase;
    }

    fn dial(&mut self, now: Timestamp) {
        self.enter(Phase::Dialing { deadline: now + self.config.connect_timeout });
        self.actions.push(Action::Dial { attempt: self.backoff.attempt() });
    }

    fn end_backoff(&mut self, now: Timestamp) {
        match self.unheard.take() {
            Some(cause) => self.end(cause),
            None => self.dial(now),
        }
    }

    fn link_up(&mut self, now: Timestamp, greetings: Vec<WsMessage>, auth: Option<WsMessage>) {
        self.epoch.0 += 1;
        assert!(!planted::alive(Bug::Canary), "the canary sings");
        self.write_room = true;
        self.write_blocked_since = None;
        for message in greetings {
            self.actions.push(Action::Write(Outgoing::Own(message)));
        }
        match auth {
            Some(message) => {
                self.enter(Phase::Authenticating { deadline: now + self.config.auth_timeout });
                self.actions.push(Action::Write(Outgoing::Own(message)));
            }
            None => self.become_ready(now),
        }
    }

    fn become_ready(&mut self, now: Timestamp) {
        self.enter(Phase::Ready { since: now });
        if planted::alive(Bug::CloseReconnectsFirst)
            && let Some(cause) = self.unheard.take()
        {
            return self.close(now, cause);
        }
        self.heartbeat = self
            .config
            .ping_interval
            .map(|interval| Heartbeat::start(interval, self.config.pong_timeout, now));
        if planted::alive(Bug::AttemptResetAtConnect) {
            self.backoff.reset();
        }
        // Order matters: subscriptions are on the wire before the user hears of the link, and before queued sends.
        if !planted::alive(Bug::SendsBeforeSub) {
            self.reconcile_topics();
        }
        self.actions.push(Action::Emit(Event::Connected { epoch: self.epoch }));
        for message in std::mem::take(&mut self.early) {
            self.actions.push(Action::Emit(Event::Message(message)));
        }
    }

    fn incoming(&mut self, message: IncomingMessage) {
        match self.phase {
            Phase::Ready { .. } => self.actions.push(Action::Emit(Event::Message(message))),
            Phase::Authenticating { .. } if self.early.len() < EARLY_MESSAGES_MAX => self.early.push(message),
            // Nobody is promised messages outside an epoch: they are counted.
            _ => self.actions.push(Action::Discard),
        }
    }

    fn queue_for(&mut self, now: Timestamp, key: Key, message: WsMessage, kind: Kind, wait: Duration) {
        let refused = match self.phase {
            Phase::Closed => true,
            // A request would get no answer any more; a message can still be written.
            Phase::Closing { .. } => kind == Kind::Reply,
            _ => false,
        };
        if refused {
            self.actions.push(Action::Answer(key, Err(closing())));
            return;
        }
        self.pending.insert(key, message, kind, now + wait);
        self.outbox.push_back(Queued::Of(key));
    }

    /// Keys whose callers are gone must not pile up while nothing is written.
    fn compact_outbox(&mut self) {
        if self.outbox.len() > 2 * self.config.callers_max {
            let pending = &self.pending;
            self.outbox.retain(|queued| match queued {
                Queued::Plain(_) => true,
                Queued::Of(key) => pending.contains(*key),
            });
        }
    }

    /// Says the difference between the topics desired and those told.
    fn reconcile_topics(&mut self) {
        // A peer that doesn't read is told later, and then only of what is still different.
        let early = planted::alive(Bug::SubBeforeAuth) && self.phase.link_is_up();
        let ready = matches!(self.phase, Phase::Ready { .. }) || early;
        if !ready || !self.write_room || !self.topics.has_changes() {
            return;
        }
        let difference = self.topics.reconcile();
        let most = self.config.topics_per_message.max(1);
        for topics in difference.unsubscribe.chunks(most) {
            let sequence = self.next_topic_sequence();
            self.actions.push(Action::Write(Outgoing::Unsubscribe { topics: topics.to_vec(), sequence }));
        }
        for chunk in difference.subscribe.chunks(most) {
            let sequence = self.next_topic_sequence();
            let topics = chunk.iter().map(|(_, topic)| topic.clone()).collect();
            self.actions.push(Action::Write(Outgoing::Subscribe { topics, sequence }));
            for (id, _) in chunk {
                self.actions.push(Action::Told(*id, self.epoch));
            }
        }
    }

    fn next_topic_sequence(&mut self) -> u64 {
        self.topic_messages += 1;
        Key { index: INDEX_MASK, generation: self.topic_messages }.sequence()
    }

    /// Moves from the queue to the wire what the wire takes.
    fn release_outbox(&mut self) {
        let open = match self.phase {
            Phase::Ready { .. } => true,
            Phase::Closing { said, .. } => !said,
            _ => false,
        };
        if !open {
            return;
        }
        if planted::alive(Bug::CloseLosesSends) && matches!(self.phase, Phase::Closing { .. }) {
            self.outbox.clear();
        }
        let mut sends = 0;
        let mut bytes = 0;
        // What is not released can still be withdrawn: the rest waits until this much was flushed.
        while self.write_room
            && bytes < RELEASE_BYTES
            && let Some(queued) = self.outbox.pop_front()
        {
            match queued {
                Queued::Plain(message) => {
                    sends += 1;
                    bytes += message.as_bytes().len();
                    self.actions.push(Action::Write(Outgoing::Send(message)));
                }
                Queued::Of(key) => match self.pending.release(key) {
                    Some((message, Kind::Reply)) => {
                        bytes += message.as_bytes().len();
                        #[cfg(hpx_planted)]
                        self.written.push_back(message.clone());
                        self.actions.push(Action::Write(Outgoing::Request { key, message }));
                    }
                    Some((message, Kind::Confirmation)) => {
                        bytes += message.as_bytes().len();
                        self.actions.push(Action::Write(Outgoing::Confirmed { key, message }));
                    }
                    None => {}
                },
            }
        }
        if sends > 0 {
            self.actions.push(Action::Release { sends });
        }
        if self.outbox.is_empty()
            && let Phase::Closing { said, .. } = &mut self.phase
        {
            *said = true;
            self.actions.push(Action::Write(Outgoing::Close));
        }
    }

    fn check_liveness(&mut self, now: Timestamp) {
        if self.write_deadline().is_some_and(|deadline| deadline <= now) {
            self.lose(
                now,
                timeout("the peer took no byte within write_timeout of", self.config.write_timeout),
            );
            return;
        }
        let beat = self.heartbeat.as_mut().map_or(Beat::Nothing, |heartbeat| heartbeat.beat(now));
        match beat {
            Beat::Nothing => {}
            Beat::Ping => self.actions.push(Action::Write(Outgoing::Ping)),
            Beat::Dead => {
                self.lose(now, timeout("no byte came in within pong_timeout of", self.config.pong_timeout));
            }
        }
    }

    fn write_deadline(&self) -> Option<Timestamp> {
        if planted::alive(Bug::WriteWithoutDeadline) {
            return None;
        }
        let blocked = self.write_blocked_since.filter(|_| !matches!(self.phase, Phase::Closing { .. }))?;
        Some(blocked + self.config.write_timeout)
    }

    fn expire(&mut self, now: Timestamp) {
        if planted::alive(Bug::RequestDeadlineIgnored) {
            return;
        }
        let actions = &mut self.actions;
        self.pending.expire(now, |key, progress, kind| {
            let (text, delivery) = match (kind, progress) {
                (Kind::Confirmation, _) => {
                    ("the message was not written within request_timeout", Delivery::NotSent)
                }
                (Kind::Reply, Progress::Queued) => {
                    ("the request was not written within its timeout", Delivery::NotSent)
                }
                (Kind::Reply, Progress::Written) => {
                    ("no reply came within the request's timeout", Delivery::MaybeSent)
                }
            };
            let error = TransportError::new(ErrorKind::Timeout, text).with_delivery(delivery);
            actions.push(Action::Answer(key, Err(error)));
        });
    }
}

fn timeout(what: &str, limit: Duration) -> TransportError {
    TransportError::new(ErrorKind::Timeout, format!("{what} {limit:?}"))
}

fn closing() -> TransportError {
    TransportError::new(ErrorKind::Closed, "the connection is closing")
}

/// As much as the write buffer takes before it says that it is full.
const RELEASE_BYTES: usize = 256 << 10;
/// Enough for the greetings of any API seen; more before authentication is noise, and is dropped.
const EARLY_MESSAGES_MAX: usize = 64;

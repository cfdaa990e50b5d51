//! A session with everything around it played by hand: time moves when told, and every action is written down.

use std::{fmt::Write as _, time::Duration};

use super::super::{
    Session, SessionConfig,
    port::{Action, ControlCommand, DataCommand, Key, LinkEvent, Outgoing, Reply},
};
use crate::{
    backoff::BackoffPolicy,
    env::Timestamp,
    error::{ErrorKind, TransportError},
    websocket::{
        event::{CloseCause, ConnectionState, Event, IncomingMessage, MessageKind},
        message::{Topic, WsMessage},
        protocol::RouteId,
    },
};

pub(super) struct Rig {
    pub(super) session: Session,
    now: Timestamp,
    transcript: Vec<String>,
    next_generation: u64,
    /// What was written on the present link.
    wire: Vec<String>,
    /// The socket takes nothing.
    blocked: bool,
    /// A ping waits to leave.
    ping_waits: bool,
    ended: bool,
}

impl Rig {
    /// No jitter, one second growing to eight, auth and ping off unless `change` says so.
    pub(super) fn new(change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut config = SessionConfig {
            backoff: BackoffPolicy { initial: secs(1), max: secs(8), factor: 2.0, jitter: 0.0 },
            max_attempts: None,
            stable_after: secs(10),
            ping_interval: None,
            pong_timeout: secs(10),
            connect_timeout: secs(20),
            auth_timeout: secs(5),
            write_timeout: secs(10),
            close_timeout: secs(1),
            callers_max: 16,
            topics_per_message: 3,
        };
        change(&mut config);
        let judge = Box::new(|cause: &TransportError| cause.may_retry());
        let mut rig = Self {
            session: Session::new(config, judge, [7; 32], 7),
            now: Timestamp::ZERO,
            transcript: Vec::new(),
            next_generation: 0,
            wire: Vec::new(),
            blocked: false,
            ping_waits: false,
            ended: false,
        };
        rig.session.start(rig.now);
        rig.settle();
        rig
    }

    /// A rig whose first link is up and ready.
    pub(super) fn ready(change: impl FnOnce(&mut SessionConfig)) -> Self {
        let mut rig = Self::new(change);
        rig.up();
        rig
    }

    /// Lets `wait` pass, stopping at every deadline on the way.
    pub(super) fn pass(&mut self, wait: Duration) {
        let end = self.now + wait;
        // Bounded: a session that asks to be called again without end is a failure of its own.
        for _ in 0..10_000 {
            match self.session.poll_timeout() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.session.handle_timeout(self.now);
                    self.settle();
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the session spins at {:?}", self.now);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn up(&mut self) {
        self.link(LinkEvent::Up { greetings: Vec::new(), auth: None });
    }

    pub(super) fn up_with_auth(&mut self) {
        self.link(LinkEvent::Up {
            greetings: vec![WsMessage::text("hello")],
            auth: Some(WsMessage::text("auth")),
        });
    }

    pub(super) fn down(&mut self) {
        self.link(LinkEvent::Down(TransportError::new(ErrorKind::Io, "cut")));
    }

    pub(super) fn refused(&mut self, status: u16, retry_after: Option<Duration>) {
        self.link(LinkEvent::Down(TransportError::refused(status, retry_after)));
    }

    pub(super) fn link(&mut self, event: LinkEvent) {
        if matches!(event, LinkEvent::Up { .. }) {
            self.wire.clear();
            (self.blocked, self.ping_waits) = (false, false);
        }
        self.session.handle_link(self.now, event);
        self.settle();
    }

    pub(super) fn incoming(&mut self, text: &str) {
        let raw = WsMessage::text(text);
        let message = IncomingMessage { raw, text: None, kind: MessageKind::System, topic: None };
        self.link(LinkEvent::Incoming(message));
    }

    pub(super) fn request(&mut self, index: u32, timeout: Duration) -> Key {
        self.next_generation += 1;
        let key = Key { index, generation: self.next_generation };
        let message = WsMessage::text(format!("request {}", key.generation));
        self.session.handle_command(self.now, DataCommand::Request { key, message, timeout });
        self.settle();
        key
    }

    pub(super) fn confirm(&mut self, index: u32, timeout: Duration) -> Key {
        self.next_generation += 1;
        let key = Key { index, generation: self.next_generation };
        let message = WsMessage::text(format!("confirm {}", key.generation));
        self.session.handle_command(self.now, DataCommand::Confirm { key, message, timeout });
        self.settle();
        key
    }

    pub(super) fn send(&mut self, text: &str) {
        self.session.handle_command(self.now, DataCommand::Send { message: WsMessage::text(text) });
        self.settle();
    }

    /// A reply comes in. True if somebody waited for it.
    pub(super) fn reply(&mut self, key: Key) -> bool {
        self.session.handle_reply(&RouteId::Number(key.sequence())) == Some(key)
    }

    pub(super) fn desire(&mut self, topic: &str, desired: bool) {
        self.session.handle_topic(&Topic::from(topic), desired);
        self.settle();
    }

    /// Several wishes before the driver looks.
    pub(super) fn desire_all(&mut self, topics: &[(&str, bool)]) {
        for (topic, desired) in topics {
            self.session.handle_topic(&Topic::from(*topic), *desired);
        }
        self.settle();
    }

    pub(super) fn close(&mut self) {
        self.control(ControlCommand::Close(CloseCause::CloseCalled));
    }

    pub(super) fn drop_handles(&mut self) {
        self.control(ControlCommand::Close(CloseCause::HandlesDropped));
    }

    pub(super) fn reconnect(&mut self) {
        self.control(ControlCommand::Reconnect("test".to_owned()));
    }

    fn control(&mut self, command: ControlCommand) {
        self.session.handle_control(self.now, command);
        self.settle();
    }

    /// The write buffer is full, or has room again.
    pub(super) fn room(&mut self, room: bool) {
        self.blocked = !room;
        self.link(LinkEvent::Flushed { pending: !room, progressed: false, room, ping_left: false });
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// What was written on the present link.
    pub(super) fn wire(&self) -> Vec<&str> {
        self.wire.iter().map(String::as_str).collect()
    }

    /// Lines of the transcript since the last call.
    pub(super) fn take_transcript(&mut self) -> Vec<String> {
        std::mem::take(&mut self.transcript)
    }

    /// True if the transcript since the last take has a line with `part`.
    pub(super) fn saw(&self, part: &str) -> bool {
        self.count(part) > 0
    }

    pub(super) fn count(&self, part: &str) -> usize {
        self.transcript.iter().filter(|line| line.contains(part)).count()
    }

    /// The state has what follows of it: asserted after every step of every test.
    fn settle(&mut self) {
        // Releasing the queue may leave more to do: a driver would come back for it in the same wake.
        for _ in 0..1000 {
            let mut actions = Vec::new();
            self.session.take_actions(&mut actions);
            for action in actions {
                assert!(!self.ended, "{action:?} after the end");
                self.record(action);
            }
            if !self.blocked && std::mem::take(&mut self.ping_waits) {
                let (pending, progressed, room, ping_left) = (false, true, true, true);
                let flushed = LinkEvent::Flushed { pending, progressed, room, ping_left };
                self.session.handle_link(self.now, flushed);
            }
            if !self.session.has_work() {
                assert_eq!(self.ended, self.session.state() == ConnectionState::Closed);
                return;
            }
        }
        panic!("the session always has more to do");
    }

    fn record(&mut self, action: Action) {
        let mut line = format!("{:>8.3}  ", self.now.since_epoch().as_secs_f64());
        let _ = match &action {
            Action::Dial { attempt } => write!(line, "dial (attempt {attempt})"),
            Action::Write(outgoing) => {
                let text = self.describe(outgoing);
                self.ping_waits |= matches!(outgoing, Outgoing::Ping);
                self.wire.push(text.clone());
                write!(line, "write {text}")
            }
            Action::Hangup { say_goodbye: true } => write!(line, "hang up, saying goodbye"),
            Action::Hangup { say_goodbye: false } => write!(line, "hang up"),
            Action::Answer(key, Ok(Reply::Written)) => write!(line, "answer {}: written", key.generation),
            Action::Answer(key, Ok(_)) => write!(line, "answer {}: reply", key.generation),
            Action::Answer(key, Err(error)) => {
                write!(line, "answer {}: {:?}, {:?}", key.generation, error.kind(), error.delivery())
            }
            Action::Told(id, epoch) => write!(line, "told topic {} in epoch {epoch}", id.0),
            Action::Release { sends } => write!(line, "release {sends}"),
            Action::Discard => write!(line, "discard a message"),
            Action::Emit(event) => write!(line, "emit {}", describe_event(event)),
            Action::End { cause, unsent } => {
                self.ended = true;
                write!(line, "end: {cause}; unsent {unsent}")
            }
        };
        self.transcript.push(line);
    }

    fn describe(&self, outgoing: &Outgoing) -> String {
        match outgoing {
            Outgoing::Own(message)
            | Outgoing::Send(message)
            | Outgoing::Confirmed { message, .. }
            | Outgoing::Request { message, .. } => message.as_text().unwrap_or_default().to_owned(),
            Outgoing::Subscribe { topics, .. } => format!("SUB {}", names(topics)),
            Outgoing::Unsubscribe { topics, .. } => format!("UNSUB {}", names(topics)),
            Outgoing::Ping => "PING".to_owned(),
            Outgoing::Close => "CLOSE".to_owned(),
        }
    }
}

fn names(topics: &[Topic]) -> String {
    topics.iter().map(Topic::as_str).collect::<Vec<_>>().join(" ")
}

fn describe_event(event: &Event) -> String {
    match event {
        Event::Connected { epoch } => format!("Connected({epoch})"),
        Event::Disconnected { epoch, reason } => format!("Disconnected({epoch}, {:?})", reason.kind()),
        Event::Retrying { attempt, delay, cause } => {
            format!("Retrying({attempt}, {delay:?}, {:?})", cause.kind())
        }
        Event::Message(message) => format!("Message({})", message.raw.as_text().unwrap_or_default()),
        other => format!("{other:?}"),
    }
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

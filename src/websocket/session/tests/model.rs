//! Arbitrary commands, link events and times against a small model of what must hold.

use std::{collections::BTreeMap, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use super::super::{
    Session, SessionConfig,
    port::{Action, ControlCommand, DataCommand, Key, LinkEvent, Outgoing},
};
use crate::{
    backoff::BackoffPolicy,
    env::Timestamp,
    error::{Delivery, ErrorKind, TransportError},
    websocket::{
        event::{CloseCause, Event},
        message::{Topic, WsMessage},
        protocol::RouteId,
    },
};

#[derive(Debug, Arbitrary)]
enum Step {
    Pass(u16),
    Up { auth: bool },
    AuthAccepted,
    AuthRejected(u8),
    Down,
    Refused(u8),
    Alive,
    Room(bool),
    Request { slot: u8, timeout: u16 },
    Confirm { slot: u8, timeout: u16 },
    Send,
    Reply { slot: u8 },
    Topic { name: u8, desired: bool },
    Reconnect,
    Close(u8),
}

/// What must hold, from the outside. It knows phases only by what it was asked to do.
#[derive(Default)]
struct Model {
    dialing: bool,
    link: bool,
    ready: bool,
    ended: bool,
    close_said: bool,
    /// The write buffer takes data.
    room: bool,
    /// A ping waits to leave.
    ping_waits: bool,
    awaits_auth: bool,
    epoch: u64,
    attempts: u32,
    /// The live key of each slot, and what became of it.
    callers: BTreeMap<u32, (Key, Fate, Timestamp)>,
    told: BTreeMap<String, bool>,
    desired: BTreeMap<String, bool>,
    sends: u64,
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Queued,
    Written,
    Answered,
}

impl Model {
    fn observe(&mut self, now: Timestamp, action: Action) {
        assert!(!self.ended, "{action:?} after the end");
        match action {
            Action::Dial { .. } => {
                assert!(!self.dialing && !self.link, "WS-1: a second socket");
                self.dialing = true;
            }
            Action::Hangup { .. } => {
                (self.dialing, self.link, self.ready, self.awaits_auth) = (false, false, false, false);
                self.ping_waits = false;
                self.told.clear();
            }
            Action::Write(outgoing) => self.observe_write(outgoing),
            Action::Answer(key, answer) => {
                let (live, fate, deadline) = self.callers.get_mut(&key.index).expect("an answer to nobody");
                assert_eq!(*live, key, "WS-9: an answer to a caller who is gone");
                assert_ne!(*fate, Fate::Answered, "WS-9: answered twice");
                let error = answer.expect_err("replies are taken by the test");
                let sent = *fate == Fate::Written;
                assert_eq!(error.delivery() == Delivery::MaybeSent, sent, "WS-9: {fate:?} told {error:?}");
                if error.is_timeout() {
                    assert!(now >= *deadline, "WS-L3: expired early");
                }
                *fate = Fate::Answered;
            }
            Action::Told(..) => {}
            Action::Release { .. } | Action::Discard => {}
            Action::Emit(event) => self.observe_event(event),
            Action::End { unsent, .. } => {
                assert_eq!(unsent, self.sends - self.written, "WS-8");
                assert!(!self.link && !self.dialing, "ended with a socket");
                assert!(
                    self.callers.values().all(|(_, fate, _)| *fate == Fate::Answered),
                    "WS-9: a caller hangs"
                );
                self.ended = true;
            }
        }
    }

    fn observe_write(&mut self, outgoing: Outgoing) {
        assert!(self.link, "written without a link: {outgoing:?}");
        assert!(!self.close_said, "written after the Close frame: {outgoing:?}");
        match outgoing {
            Outgoing::Own(_) => assert!(self.awaits_auth),
            Outgoing::Send(_) => {
                assert!(!self.awaits_auth, "a send before authentication");
                self.written += 1;
            }
            Outgoing::Request { key, .. } | Outgoing::Confirmed { key, .. } => {
                assert!(!self.awaits_auth, "a request before authentication");
                let (live, fate, _) = self.callers.get_mut(&key.index).expect("written for nobody");
                // The driver strikes out the messages of callers who are gone; the session never sees two for one slot.
                assert_eq!(
                    (*live, *fate),
                    (key, Fate::Queued),
                    "WS-9: written twice or for a caller who is gone"
                );
                *fate = Fate::Written;
            }
            Outgoing::Subscribe { topics, .. } => {
                assert!(!self.awaits_auth, "WS-14: SUB before auth");
                for topic in topics {
                    let before = self.told.insert(topic.to_string(), true);
                    assert_ne!(before, Some(true), "WS-14: {topic} told twice");
                }
            }
            Outgoing::Unsubscribe { topics, .. } => {
                for topic in topics {
                    assert_eq!(
                        self.told.insert(topic.to_string(), false),
                        Some(true),
                        "WS-14: UNSUB before SUB"
                    );
                }
            }
            Outgoing::Ping => self.ping_waits = true,
            Outgoing::Close => self.close_said = true,
        }
    }

    fn observe_event(&mut self, event: Event) {
        match event {
            Event::Connected { epoch } => {
                assert!(self.link && !self.ready && epoch.0 > self.epoch, "WS-3");
                self.awaits_auth = false;
                self.ready = true;
                self.epoch = epoch.0;
            }
            Event::Disconnected { epoch, .. } => assert_eq!(epoch.0, self.epoch, "WS-3"),
            Event::Retrying { attempt, delay, .. } => {
                assert!(
                    attempt == self.attempts + 1 || attempt == 1,
                    "WS-5: attempt {attempt} after {}",
                    self.attempts
                );
                let bound = POLICY.bound(attempt);
                assert!(delay <= bound, "WS-5: {delay:?} over {bound:?}");
                self.attempts = attempt;
            }
            _ => {}
        }
    }

    /// After every step: the wire has converged where it can.
    fn check_topics(&self) {
        if self.ready && self.room && !self.close_said && self.link {
            for (topic, desired) in &self.desired {
                let told = self.told.get(topic).copied().unwrap_or(false);
                assert_eq!(told, *desired, "WS-14: {topic}");
            }
        }
    }
}

const POLICY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(8), factor: 2.0, jitter: 1.0 };

fn play(seed: u64) -> usize {
    let mut bytes = [0; 2048];
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    rng.fill_bytes(&mut bytes);
    let mut source = Unstructured::new(&bytes);
    let config = SessionConfig {
        backoff: POLICY,
        max_attempts: seed.is_multiple_of(3).then_some(6),
        stable_after: Duration::from_secs(5),
        ping_interval: seed.is_multiple_of(2).then_some(Duration::from_secs(3)),
        pong_timeout: Duration::from_secs(2),
        connect_timeout: Duration::from_secs(5),
        auth_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(5),
        close_timeout: Duration::from_secs(1),
        callers_max: 16,
        topics_per_message: 2,
    };
    let judge = Box::new(|cause: &TransportError| cause.may_retry());
    let mut session = Session::new(config, judge, [1; 32], 1);
    let mut model = Model::default();
    let mut now = Timestamp::ZERO;
    let mut generation = 0;
    let mut steps = 0;
    session.start(now);
    settle(&mut session, &mut model, now);
    while !model.ended
        && !source.is_empty()
        && let Ok(step) = Step::arbitrary(&mut source)
    {
        steps += 1;
        apply(step, &mut session, &mut model, &mut now, &mut generation);
        settle(&mut session, &mut model, now);
        model.check_topics();
    }
    // Liveness: whatever came before, closing ends within its timeout.
    if !model.ended {
        let start = now;
        session.handle_control(now, ControlCommand::Close(CloseCause::CloseCalled));
        settle(&mut session, &mut model, now);
        pass(&mut session, &mut model, &mut now, Duration::from_secs(1));
        assert!(model.ended && now - start <= Duration::from_secs(1), "WS-L2");
    }
    steps
}

fn apply(step: Step, session: &mut Session, model: &mut Model, now: &mut Timestamp, generation: &mut u64) {
    match step {
        Step::Pass(millis) => pass(session, model, now, Duration::from_millis(millis.into())),
        Step::Up { auth } if model.dialing => {
            (model.dialing, model.link, model.awaits_auth, model.room) = (false, true, auth, true);
            let auth = auth.then(|| WsMessage::text("auth"));
            session.handle_link(*now, LinkEvent::Up { greetings: Vec::new(), auth });
        }
        Step::AuthAccepted if model.awaits_auth && model.link => {
            model.awaits_auth = false;
            session.handle_link(*now, LinkEvent::AuthAccepted);
        }
        Step::AuthRejected(chance) if chance % 8 == 0 && model.awaits_auth && model.link => {
            let error = TransportError::new(ErrorKind::AuthRejected, "no");
            session.handle_link(*now, LinkEvent::AuthRejected(error));
        }
        Step::Down if model.dialing || model.link => {
            session.handle_link(*now, LinkEvent::Down(TransportError::new(ErrorKind::Io, "cut")));
        }
        Step::Refused(permanent) if model.dialing => {
            let status = if permanent % 8 == 0 { 403 } else { 503 };
            session.handle_link(*now, LinkEvent::Down(TransportError::refused(status, None)));
        }
        Step::Alive if model.link => session.handle_link(*now, LinkEvent::Alive),
        Step::Room(room) if model.link => {
            model.room = room;
            session.handle_link(
                *now,
                LinkEvent::Flushed { pending: !room, progressed: false, room, ping_left: false },
            );
        }
        Step::Request { slot, timeout } => queue(session, model, *now, generation, (slot, timeout), true),
        Step::Confirm { slot, timeout } => queue(session, model, *now, generation, (slot, timeout), false),
        Step::Send if !model.close_said => {
            model.sends += 1;
            session.handle_command(*now, DataCommand::Send { message: WsMessage::text("send") });
        }
        Step::Reply { slot } if model.link => {
            if let Some((key, fate, _)) = model.callers.get_mut(&u32::from(slot % 4)) {
                let answered = session.handle_reply(&RouteId::Number(key.sequence()));
                assert!(answered.is_none_or(|answered| answered == *key));
                if answered.is_some() {
                    assert_eq!(*fate, Fate::Written, "WS-9: a reply to what was not written");
                    *fate = Fate::Answered;
                }
            }
        }
        Step::Topic { name, desired } => {
            let topic = format!("t{}", name % 5);
            session.handle_topic(&Topic::from(topic.as_str()), desired);
            model.desired.insert(topic, desired);
        }
        Step::Reconnect => session.handle_control(*now, ControlCommand::Reconnect("model".to_owned())),
        // Rare, so that lives are long.
        Step::Close(chance) if chance % 16 == 0 => {
            // From here on topics are no longer followed.
            model.ready = false;
            session.handle_control(*now, ControlCommand::Close(CloseCause::CloseCalled));
        }
        _ => {}
    }
}

fn queue(
    session: &mut Session,
    model: &mut Model,
    now: Timestamp,
    generation: &mut u64,
    (slot, timeout): (u8, u16),
    request: bool,
) {
    let index = u32::from(slot % 4);
    // A slot is free again only after its caller was answered.
    if model.callers.get(&index).is_some_and(|(_, fate, _)| *fate != Fate::Answered) || model.close_said {
        return;
    }
    *generation += 1;
    let key = Key { index, generation: *generation };
    let timeout = Duration::from_millis(u64::from(timeout) + 1);
    model.callers.insert(index, (key, Fate::Queued, now + timeout));
    let message = WsMessage::text("data");
    session.handle_command(
        now,
        match request {
            true => DataCommand::Request { key, message, timeout },
            false => DataCommand::Confirm { key, message, timeout },
        },
    );
}

fn pass(session: &mut Session, model: &mut Model, now: &mut Timestamp, wait: Duration) {
    let end = *now + wait;
    for _ in 0..10_000 {
        match session.poll_timeout() {
            Some(at) if at <= end && !model.ended => {
                *now = (*now).max(at);
                session.handle_timeout(*now);
                settle(session, model, *now);
            }
            _ => {
                *now = end;
                return;
            }
        }
    }
    panic!("WS-13: the session spins at {now:?}");
}

fn settle(session: &mut Session, model: &mut Model, now: Timestamp) {
    for _ in 0..100 {
        let mut actions = Vec::new();
        session.take_actions(&mut actions);
        for action in actions {
            // Order matters: a confirmation is answered by the driver when it is written.
            let confirmed = match &action {
                Action::Write(Outgoing::Confirmed { key, .. }) => Some(key.index),
                _ => None,
            };
            model.observe(now, action);
            if let Some(index) = confirmed
                && let Some((_, fate, _)) = model.callers.get_mut(&index)
            {
                *fate = Fate::Answered;
            }
        }
        if model.room && std::mem::take(&mut model.ping_waits) {
            let (pending, progressed, room, ping_left) = (false, true, true, true);
            session.handle_link(now, LinkEvent::Flushed { pending, progressed, room, ping_left });
        }
        if !session.has_work() {
            return;
        }
    }
    panic!("WS-13: the session always has more to do");
}

#[test]
fn arbitrary_lives_keep_every_promise() {
    let steps: usize = (0..3_000).map(play).sum();
    assert!(steps > 60_000, "the lives were too short to mean anything: {steps} steps");
}

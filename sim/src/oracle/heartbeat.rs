//! WS-17, heartbeat: a peer that is heard within `pong_timeout` is never given up on, a silent one is, in time.

use std::{sync::Arc, time::Duration};

use hpx_transport::{TransportError, env::Timestamp, websocket::Event};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, SocketLog, What, WorkLog},
};

pub(super) struct Heartbeat {
    plan: Arc<Plan>,
    clients: Vec<Pulse>,
}

#[derive(Clone, Default)]
struct Pulse {
    /// When bytes last came in.
    heard: Timestamp,
    /// Ready since, as far as the reader knows.
    ready: Option<Timestamp>,
    /// The socket took less than it was offered since then: a ping may be among what waits, and its time runs from when it
    /// is taken.
    blocked: bool,
    flushed: bool,
    /// The present silence was reported.
    reported: bool,
    /// Since when an open socket has taken no byte of what it was offered.
    stuck: Option<Timestamp>,
    ending: bool,
}

impl Heartbeat {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), clients: vec![Pulse::default(); plan.clients.len()] }
    }

    /// A peer that takes nothing is given up on within `write_timeout`.
    fn check_stuck(&mut self, at: Timestamp, client: usize, judge: &mut Judge) {
        // Before it is ready, other timeouts rule.
        let pulse = &self.clients[client];
        let (Some(stuck), Some(ready)) = (pulse.stuck, pulse.ready) else { return };
        let stuck = stuck.max(ready);
        let timeout = Duration::from_millis(self.plan.clients[client].config.write_timeout_ms);
        let most = timeout + self.plan.slack_for(client, timeout);
        if at.since(stuck) > most {
            self.clients[client].stuck = None;
            judge.broken(at, format!("client {client}: the peer has taken nothing for more than {most:?}"));
        }
    }

    fn lost(&mut self, at: Timestamp, client: usize, reason: &TransportError, judge: &mut Judge) {
        let plan = &self.plan.clients[client];
        let pulse = &mut self.clients[client];
        pulse.ready = None;
        pulse.reported = false;
        if !plan.is_read_promptly() || !reason.to_string().contains("pong_timeout") {
            return;
        }
        let silence = at.since(pulse.heard);
        let timeout = Duration::from_millis(plan.config.pong_timeout_ms);
        // A clock that runs fast finds a silence long sooner.
        let fast = self.plan.slack_for(client, timeout) - self.plan.slack_for(client, Duration::ZERO);
        judge.check(at, silence + fast >= timeout, || {
            format!("client {client}: gave the peer up {silence:?} after it was heard, pong_timeout is {timeout:?}")
        });
    }
}

impl Oracle for Heartbeat {
    fn card(&self) -> Card {
        Card {
            id: "WS-17",
            rule: "a peer that answers is never given up on, a silent one is in time",
            observers: &[Observer::Library, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        self.check_stuck(entry.at, client, judge);
        let pulse = &mut self.clients[client];
        match &entry.what {
            What::Work(WorkLog::CloseCalled | WorkLog::HandlesDropped) => {
                (pulse.ending, pulse.stuck) = (true, None)
            }
            What::Socket(SocketLog::Blocked { .. }) if !pulse.ending => pulse.stuck = Some(entry.at),
            What::Socket(SocketLog::Wrote { .. }) if pulse.stuck.is_some() => pulse.stuck = Some(entry.at),
            What::Socket(SocketLog::Flushed { .. } | SocketLog::Closed { .. } | SocketLog::Opened { .. }) => {
                pulse.stuck = None;
            }
            _ => {}
        }
        if let Some(ready) = pulse.ready {
            let config = &self.plan.clients[client].config;
            let most = Duration::from_millis(config.ping_interval_ms + config.pong_timeout_ms);
            let waits =
                if pulse.blocked { Duration::from_millis(config.write_timeout_ms) } else { Duration::ZERO };
            let most = most + waits + self.plan.slack_for(client, most);
            if entry.at.since(pulse.heard.max(ready)) > most && !std::mem::replace(&mut pulse.reported, true)
            {
                judge.broken(
                    entry.at,
                    format!("client {client}: silent for more than {most:?}, and still up"),
                );
            }
        }
        match &entry.what {
            What::Socket(SocketLog::Read { .. }) => {
                pulse.heard = entry.at;
                pulse.reported = false;
                pulse.blocked &= !pulse.flushed;
            }
            What::Socket(SocketLog::Blocked { .. }) => (pulse.blocked, pulse.flushed) = (true, false),
            What::Socket(SocketLog::Flushed { .. }) => pulse.flushed = true,
            What::Socket(SocketLog::Opened { .. }) => pulse.blocked = false,
            What::Event(Event::Connected { .. }) if self.plan.clients[client].is_read_promptly() => {
                pulse.ready = Some(entry.at);
            }
            What::Event(Event::Disconnected { reason, .. }) => self.lost(entry.at, client, reason, judge),
            What::Socket(SocketLog::Frame { frame, .. }) if frame.opcode == 9 => judge.armed(),
            What::Work(WorkLog::CloseCalled | WorkLog::HandlesDropped) => pulse.ready = None,
            _ => {}
        }
    }
}

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
}

impl Heartbeat {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), clients: vec![Pulse::default(); plan.clients.len()] }
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
        let pulse = &mut self.clients[client];
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

//! WS-L1 and WS-L4: what must come about once the world is healthy, and in a world that always was.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hpx_transport::websocket::{ConnectionState, Event};

use crate::{
    oracle::{Card, Judge, Observer, Oracle, certificates::Certificates},
    plan::{Behaviour, DnsFault, Fault, FaultKind, Plan, Until, is_for_good},
    trace::{Entry, Place, ServerLog, What, WorkLog},
};

/// WS-L1: after the world has healed, every connection stands within its bound.
pub(super) struct Recovery {
    plan: Arc<Plan>,
    /// Of the exchange: connection, owner, authenticated and not gone.
    conns: Vec<(u64, usize, bool)>,
    /// Clients that were refused for good.
    refused: BTreeSet<usize>,
    certificates: Certificates,
}

impl Recovery {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            conns: Vec::new(),
            refused: BTreeSet::new(),
            certificates: Certificates::new(plan),
        }
    }

    fn owner(&self, conn: u64) -> Option<usize> {
        self.conns.iter().find(|(other, ..)| *other == conn).map(|(_, owner, _)| *owner)
    }

    fn set(&mut self, conn: u64, standing: bool) {
        if let Some(entry) = self.conns.iter_mut().find(|(other, ..)| *other == conn) {
            entry.2 = standing;
        }
    }
}

impl Oracle for Recovery {
    fn card(&self) -> Card {
        Card {
            id: "WS-L1",
            rule: "once the world is healthy, every connection stands within its bound",
            observers: &[Observer::Workload, Observer::Server],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        self.certificates.observe(entry);
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Accepted { conn, client, .. }), _) => {
                self.conns.push((*conn, *client, false))
            }
            (What::Server(ServerLog::Authenticated { conn }), _) => self.set(*conn, true),
            (What::Server(ServerLog::Gone { conn, .. } | ServerLog::Frozen { conn }), _) => {
                self.set(*conn, false)
            }
            (What::Server(ServerLog::Refused { conn, status }), _) if is_for_good(*status) => {
                self.refused.extend(self.owner(*conn));
            }
            (What::Server(ServerLog::Misbehaved { conn, behaviour: Behaviour::RejectAuth }), _) => {
                self.refused.extend(self.owner(*conn));
            }
            (What::Work(WorkLog::Snapshot { state, .. }), Place::Client(client)) => {
                let plan = &self.plan.clients[client];
                let may_give_up = plan.config.reconnect_max_attempts.is_some()
                    || self.refused.contains(&client)
                    || self.certificates.may_refuse(client);
                let gave_up = may_give_up && *state == ConnectionState::Closed;
                // The script may have asked for a new link a moment ago.
                let bound = plan.config.recovery_ms();
                let asked = plan.script.iter().rev().find(|step| step.op == crate::plan::Op::Reconnect);
                let recent = asked.is_some_and(|step| step.at_ms + bound > self.plan.settle_ms);
                if gave_up || recent || !self.plan.is_core(client) {
                    return;
                }
                judge.check(entry.at, *state == ConnectionState::Ready, || {
                    format!(
                        "client {client}: is {state:?} at {:?}, the world healed at {} ms",
                        entry.at, self.plan.heal_ms
                    )
                });
                let standing = self.conns.iter().any(|(_, owner, standing)| *owner == client && *standing);
                judge.check(entry.at, standing, || {
                    format!("client {client}: the exchange knows no such connection")
                });
            }
            _ => {}
        }
    }
}

/// WS-L6: of two addresses one is dead for good, and the connection stands on the other.
pub(super) struct OtherAddress {
    plan: Arc<Plan>,
    standing: Recovery,
}

impl OtherAddress {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), standing: Recovery::new(plan) }
    }

    fn has_a_dead_address(&self, client: usize) -> bool {
        let dead = |fault: &Fault| {
            let first = matches!(fault.kind, FaultKind::Dns(DnsFault::DeadFirst { .. }));
            first && fault.until == Until::Never && fault.concerns(client)
        };
        self.plan.faults.iter().any(dead)
    }
}

impl Oracle for OtherAddress {
    fn card(&self) -> Card {
        Card {
            id: "WS-L6",
            rule: "with one of two addresses dead for good, the connection stands on the other",
            observers: &[Observer::Workload, Observer::Server],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        match (&entry.what, entry.place) {
            (What::Work(WorkLog::Snapshot { .. }), Place::Client(client))
                if !self.has_a_dead_address(client) => {}
            _ => self.standing.observe(entry, judge),
        }
    }
}

/// WS-L4: without a fault, nothing is ever lost.
pub(super) struct CalmSea {
    calm: bool,
    asked: Vec<Option<Duration>>,
}

impl CalmSea {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { calm: plan.faults.is_empty(), asked: vec![None; plan.clients.len()] }
    }
}

impl Oracle for CalmSea {
    fn card(&self) -> Card {
        Card {
            id: "WS-L4",
            rule: "without a fault no link is lost",
            observers: &[Observer::Library, Observer::Workload],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        if !self.calm {
            return;
        }
        let now = entry.at.since_epoch();
        match &entry.what {
            What::Work(WorkLog::ReconnectCalled | WorkLog::CloseCalled | WorkLog::HandlesDropped) => {
                self.asked[client] = Some(now);
            }
            What::Event(Event::Connected { .. }) => judge.armed(),
            What::Event(Event::Disconnected { reason, .. }) => {
                let asked = self.asked[client].is_some();
                judge.check(entry.at, asked, || {
                    format!("client {client}: lost its link in a calm sea: {reason}")
                });
            }
            _ => {}
        }
    }
}

//! WS-13, no spin and no lost wake: polls without progress are bounded, and nobody leaves unread what may be there.

use std::time::Duration;

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::{FaultKind, Plan},
    trace::{Entry, Place, SocketLog, TaskLog, What},
};

pub(super) struct NoSpin {
    /// Clients whose process never stands still: whoever does reads later. And without TLS, whose handshake writes before it
    /// reads on.
    awake: Vec<bool>,
}

impl NoSpin {
    pub(super) fn new(plan: &Plan) -> Self {
        let pauses = |client: usize| {
            plan.faults.iter().any(|fault| fault.kind == FaultKind::Pause && fault.concerns(client))
        };
        Self {
            awake: (0..plan.clients.len())
                .map(|client| !pauses(client) && !plan.clients[client].tls)
                .collect(),
        }
    }
}

impl Oracle for NoSpin {
    fn card(&self) -> Card {
        Card {
            id: "WS-13",
            rule: "nobody polls for nothing, and nobody leaves bytes unread",
            observers: &[Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        match &entry.what {
            What::Task(TaskLog::Spun { polls }) => {
                judge.broken(entry.at, format!("client {client}: {polls} polls in one instant, for nothing"));
            }
            What::Socket(SocketLog::LeftUnread { since, .. }) if self.awake[client] => {
                let late = entry.at.since(*since);
                judge.check(entry.at, late <= UNREAD_MAX, || {
                    format!("client {client}: went away from a socket that had bytes for {late:?}")
                });
            }
            What::Socket(SocketLog::Read { .. }) => judge.armed(),
            _ => {}
        }
    }
}

/// Who has been given bytes comes back for more in the same instant.
const UNREAD_MAX: Duration = Duration::ZERO;

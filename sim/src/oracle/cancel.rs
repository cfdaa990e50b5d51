//! WS-12, cancellation: a public future dropped at any poll leaves nothing behind: what is pending are the futures that live.

use std::collections::BTreeSet;

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Outcome, Place, TaskLog, What, WorkLog},
};

pub(super) struct Cancellation {
    clients: Vec<Dropped>,
}

#[derive(Clone, Default)]
struct Dropped {
    /// Calls whose future was dropped.
    calls: BTreeSet<u64>,
    close: bool,
    tasks: usize,
}

impl Cancellation {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { clients: vec![Dropped::default(); plan.clients.len()] }
    }
}

impl Oracle for Cancellation {
    fn card(&self) -> Card {
        Card {
            id: "WS-12",
            rule: "a future dropped at any poll is gone: pending requests are live futures",
            observers: &[Observer::Workload, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        let dropped = &mut self.clients[client];
        match &entry.what {
            What::Work(WorkLog::CallEnded { label, outcome, live, pending, .. }) => {
                judge.check(entry.at, pending <= live, || {
                    format!("client {client}: {pending} requests are pending, {live} futures live")
                });
                let again = dropped.calls.contains(label);
                judge.check(entry.at, !again, || format!("client {client}: {label} ended after its drop"));
                if matches!(outcome, Outcome::Cancelled { .. }) {
                    dropped.calls.insert(*label);
                }
            }
            // The end it asked for comes all the same.
            What::Work(WorkLog::CloseCancelled { .. }) => dropped.close = true,
            What::Task(TaskLog::Spawned { .. }) => dropped.tasks += 1,
            What::Task(TaskLog::Ended { .. }) => dropped.tasks = dropped.tasks.saturating_sub(1),
            What::Work(WorkLog::Residue(_)) if dropped.close => {
                judge.check(entry.at, dropped.tasks == 0, || {
                    format!("client {client}: the future of close was dropped, and the driver runs on")
                });
            }
            _ => {}
        }
    }
}

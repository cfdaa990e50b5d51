//! WS-11, RAII: what was dropped is gone. At the end no task, timer, dial or socket is left; while it runs, the library
//! never holds more pending requests than there are live futures.

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    trace::{Entry, Outcome, Place, What, WorkLog},
};

pub(super) struct NothingLeft;

impl Oracle for NothingLeft {
    fn card(&self) -> Card {
        Card {
            id: "WS-11",
            rule: "what was dropped leaves no task, timer, socket or pending request",
            observers: &[Observer::Registry, Observer::Workload],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        match &entry.what {
            What::Work(WorkLog::CallEnded { outcome, live, pending, .. }) => {
                if matches!(outcome, Outcome::Cancelled { .. }) {
                    judge.check(entry.at, pending <= live, || {
                        format!("client {client}: {pending} requests are pending after a drop, {live} futures live")
                    });
                }
            }
            What::Work(WorkLog::Snapshot { live, pending, .. }) => {
                judge.check(entry.at, pending <= live, || {
                    format!("client {client}: {pending} requests are pending at rest, {live} futures live")
                });
            }
            What::Work(WorkLog::Residue(census)) => {
                judge.check(entry.at, census.is_empty(), || {
                    format!("client {client}: still holds {census:?}")
                });
            }
            _ => {}
        }
    }
}

//! WS-16, in part: no task panics, and no connection ends because its driver failed.

use hpx_transport::websocket::{CloseCause, Event};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    trace::{Entry, TaskLog, What, WorkLog},
};

pub(super) struct NoPanic;

impl Oracle for NoPanic {
    fn card(&self) -> Card {
        Card {
            id: "WS-16",
            rule: "no task panics, no driver fails",
            observers: &[Observer::Library, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        match &entry.what {
            What::Task(TaskLog::Ended { .. }) => judge.armed(),
            What::Task(TaskLog::Panicked { name, text }) => {
                judge.broken(entry.at, format!("task {name} panicked: {text}"));
            }
            What::Event(Event::Closed { cause: CloseCause::Failed(error), .. }) => {
                judge.broken(entry.at, format!("the driver failed: {error}"));
            }
            What::Work(WorkLog::StartFailed { text }) => {
                judge.broken(entry.at, format!("a connection did not start: {text}"));
            }
            What::Work(WorkLog::GuardNote { text, .. }) if text == "subscribe waited" => {
                judge.broken(entry.at, "subscribe has an await point inside");
            }
            _ => {}
        }
    }
}

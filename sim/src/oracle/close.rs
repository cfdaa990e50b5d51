//! WS-L2: `close` and the drop of the last handle end the driver within `close_timeout`, in every phase.

use std::{sync::Arc, time::Duration};

use hpx_transport::env::Timestamp;

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, SocketLog, TaskLog, What, WorkLog},
};

pub(super) struct CloseDeadline {
    plan: Arc<Plan>,
    clients: Vec<Ending>,
}

#[derive(Clone, Default)]
struct Ending {
    /// Asked to end, and how.
    asked: Option<(Timestamp, &'static str)>,
    tasks: usize,
    returned: bool,
    /// The future of `close` was dropped: nothing returns.
    cancelled: bool,
}

impl CloseDeadline {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), clients: vec![Ending::default(); plan.clients.len()] }
    }

    fn bound(&self, client: usize) -> Duration {
        let timeout = Duration::from_millis(self.plan.clients[client].config.close_timeout_ms);
        timeout + self.plan.slack_for(client, timeout)
    }
}

impl Oracle for CloseDeadline {
    fn card(&self) -> Card {
        Card {
            id: "WS-L2",
            rule: "close and the last handle's drop end the driver within close_timeout",
            observers: &[Observer::Workload, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        // Of all entries few end a task, and the bound takes a look at every fault of the plan.
        let ends = matches!(entry.what, What::Task(TaskLog::Ended { .. }));
        let bound = if ends { self.bound(client) } else { Duration::ZERO };
        let ending = &mut self.clients[client];
        match &entry.what {
            What::Task(TaskLog::Spawned { .. }) => ending.tasks += 1,
            What::Task(TaskLog::Ended { .. }) => {
                ending.tasks = ending.tasks.saturating_sub(1);
                if let Some((asked, how)) = ending.asked {
                    let took = entry.at.since(asked);
                    judge.check(entry.at, took <= bound, || {
                        format!("client {client}: {how} took {took:?} to end the driver, at most {bound:?}")
                    });
                }
            }
            What::Work(WorkLog::CloseCalled) => {
                ending.asked.get_or_insert((entry.at, "close"));
            }
            What::Work(WorkLog::HandlesDropped) => {
                ending.asked.get_or_insert((entry.at, "the drop of the handles"));
            }
            What::Work(WorkLog::CloseCancelled { .. }) => ending.cancelled = true,
            What::Socket(SocketLog::Resolving) => {
                judge.check(entry.at, ending.asked.is_none(), || {
                    format!("client {client}: dials anew, and was asked to end")
                });
            }
            What::Work(WorkLog::CloseReturned) => {
                ending.returned = true;
                let tasks = ending.tasks;
                judge.check(entry.at, tasks == 0, || {
                    format!("client {client}: close returned, {tasks} tasks run")
                });
            }
            _ => {}
        }
    }

    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        for client in 0..self.clients.len() {
            let (bound, ending) = (self.bound(client), &self.clients[client]);
            let Some((asked, how)) = ending.asked else { continue };
            if asked + bound > end {
                continue;
            }
            judge.check(end, ending.tasks == 0, || {
                format!("client {client}: {how} at {asked:?} never ended the driver")
            });
            if how == "close" && !ending.cancelled {
                judge.check(end, ending.returned, || format!("client {client}: close never returned"));
            }
        }
    }
}

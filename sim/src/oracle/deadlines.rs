//! WS-L3: every request ends within its deadline, whatever happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hpx_transport::env::Timestamp;

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, What, WorkLog},
};

pub(super) struct Deadlines {
    plan: Arc<Plan>,
    /// Requests that run: whose, and until when each may.
    running: BTreeMap<u64, (usize, Timestamp)>,
}

impl Deadlines {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), running: BTreeMap::new() }
    }

    /// What the end of a request may be late by.
    fn slack(&self, client: usize) -> Duration {
        let timeout = Duration::from_millis(self.plan.clients[client].config.request_timeout_ms);
        self.plan.slack_for(client, timeout)
    }
}

impl Oracle for Deadlines {
    fn card(&self) -> Card {
        Card { id: "WS-L3", rule: "every request ends within its deadline", observers: &[Observer::Workload] }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        match &entry.what {
            What::Work(WorkLog::RequestStarted { label, timeout }) => {
                self.running.insert(*label, (client, entry.at + *timeout));
            }
            What::Work(WorkLog::CallEnded { label, request: true, .. }) => {
                let Some((_, deadline)) = self.running.remove(label) else { return };
                let slack = self.slack(client);
                judge.check(entry.at, entry.at <= deadline + slack, || {
                    let late = entry.at.since(deadline);
                    format!("client {client}: request {label} ended {late:?} after its deadline")
                });
            }
            _ => {}
        }
    }

    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        for (label, (client, deadline)) in &self.running {
            let due = *deadline + self.slack(*client) + Duration::from_millis(1);
            judge.check(end, due >= end, || {
                format!("client {client}: request {label} was due at {deadline:?} and never ended")
            });
        }
    }
}

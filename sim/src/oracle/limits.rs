//! WS-10, bounded memory: no queue grows past its named limit.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Outcome, Place, SocketLog, What, WorkLog},
};

pub(super) struct Limits {
    plan: Arc<Plan>,
    clients: Vec<Queues>,
}

#[derive(Clone, Default)]
struct Queues {
    has_socket: bool,
    /// Messages that `send` accepted since there was last a socket.
    queued: usize,
    /// Sends in progress, and whether each waits to be encoded.
    sends: BTreeMap<u64, bool>,
}

impl Limits {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), clients: vec![Queues::default(); plan.clients.len()] }
    }
}

impl Oracle for Limits {
    fn card(&self) -> Card {
        Card {
            id: "WS-10",
            rule: "no queue grows past its limit",
            observers: &[Observer::Workload, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        let (queues, config) = (&mut self.clients[client], &self.plan.clients[client].config);
        match &entry.what {
            What::Socket(SocketLog::Opened { .. }) => (queues.has_socket, queues.queued) = (true, 0),
            What::Socket(SocketLog::Closed { .. }) => queues.has_socket = false,
            What::Work(WorkLog::SendStarted { label, confirmed }) => {
                queues.sends.insert(*label, *confirmed);
            }
            What::Work(WorkLog::Snapshot { pending, .. }) => {
                let most = config.max_pending_requests;
                judge.check(entry.at, *pending <= most, || {
                    format!("client {client}: {pending} requests are pending, at most {most} may be")
                });
            }
            What::Work(WorkLog::CallEnded { label, request, outcome, pending, .. }) => {
                let most = config.max_pending_requests;
                judge.check(entry.at, *pending <= most, || {
                    format!("client {client}: {pending} requests are pending, at most {most} may be")
                });
                let confirmed = queues.sends.remove(label);
                if *request || confirmed != Some(false) || *outcome != Outcome::Taken || queues.has_socket {
                    return;
                }
                queues.queued += 1;
                let (queued, most) = (queues.queued, config.command_channel_capacity);
                judge.check(entry.at, queued <= most, || {
                    format!("client {client}: {queued} messages were accepted without a socket, at most {most} may be")
                });
            }
            _ => {}
        }
    }
}

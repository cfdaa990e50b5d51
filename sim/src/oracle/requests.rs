//! WS-9, the request contract: answered once, written at most once and never after its future is gone, the
//! outcome tells the truth about the wire, and a reply belongs to the link its request went out on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hpx_transport::{Delivery, env::Timestamp};

use crate::{
    dialect::{Dialect, Heard},
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Outcome, Place, ServerLog, SocketLog, What, WorkLog},
};

pub(super) struct RequestContract {
    plan: Arc<Plan>,
    dialect: Arc<dyn Dialect>,
    calls: BTreeMap<u64, Call>,
    /// Which connection of the exchange a client's socket is, by the client's address.
    peers: BTreeMap<String, u64>,
    sockets: BTreeMap<(usize, u64), String>,
    /// Clients whose socket takes less than it is offered.
    blocked: BTreeSet<usize>,
}

#[derive(Default)]
struct Call {
    client: usize,
    /// When its future was first polled, and until when it must be answered. Requests only.
    deadline: Option<Timestamp>,
    outcome: Option<(Timestamp, Outcome)>,
    /// It ended while the socket took less than it was offered: its frame may be among what waits.
    ended_blocked: bool,
    /// The socket it was written to.
    written: Option<(Timestamp, u64)>,
    /// Over TLS nothing is seen of what is written: the connection on which the exchange heard it.
    heard_on: Option<u64>,
    /// When the library let go of that socket: nothing can answer it any more.
    orphaned: Option<Timestamp>,
    heard: u32,
}

impl RequestContract {
    pub(super) fn new(plan: &Arc<Plan>, dialect: &Arc<dyn Dialect>) -> Self {
        Self {
            plan: Arc::clone(plan),
            dialect: Arc::clone(dialect),
            calls: BTreeMap::new(),
            peers: BTreeMap::new(),
            sockets: BTreeMap::new(),
            blocked: BTreeSet::new(),
        }
    }

    fn written(&mut self, at: Timestamp, client: usize, socket: u64, label: u64, judge: &mut Judge) {
        let call = self.calls.entry(label).or_default();
        if let Some((outcome_at, outcome)) = &call.outcome {
            // A send is over once queued; it is written later. A request, or a send that was withdrawn, must not be.
            // What was encoded before is finished: a blocked socket shows it late.
            let finished = call.ended_blocked
                && !matches!(
                    outcome,
                    Outcome::Failed { delivery: Delivery::NotSent | Delivery::Rejected, .. }
                );
            let gone = !finished && (call.deadline.is_some() || !matches!(outcome, Outcome::Taken));
            judge.check(at, !gone, || {
                format!(
                    "client {client}: {label} was written after it had ended at {outcome_at:?} as {outcome:?}"
                )
            });
        }
        judge.check(at, call.written.is_none(), || format!("client {client}: {label} was written twice"));
        call.written = Some((at, socket));
    }

    fn ended(&mut self, at: Timestamp, client: usize, label: u64, outcome: &Outcome, judge: &mut Judge) {
        let slack = self.plan.slack_for(client, Duration::ZERO);
        let call = self.calls.entry(label).or_default();
        call.ended_blocked = self.blocked.contains(&client);
        if let Some((earlier, _)) = &call.outcome {
            judge.broken(at, format!("client {client}: {label} ended twice, before at {earlier:?}"));
        }
        call.outcome = Some((at, outcome.clone()));
        if let Some(orphaned) = call.orphaned {
            judge.check(at, at <= orphaned + slack, || {
                format!(
                    "client {client}: {label} ended {:?} after the link it was written to",
                    at.since(orphaned)
                )
            });
        }
        let (written, heard_on) = (call.written, call.heard_on);
        let truth = match outcome {
            Outcome::Failed { delivery: Delivery::NotSent, .. } => written.is_none() && heard_on.is_none(),
            Outcome::Answered { .. } => written.is_some() || heard_on.is_some(),
            _ => true,
        };
        judge.check(at, truth, || {
            format!(
                "client {client}: {label} ended as {outcome:?}, and it was written: {}",
                written.is_some()
            )
        });
        // Over plain TCP nobody notices a letter that was changed on its way.
        if let Outcome::Answered { label: answered, conn } = outcome
            && !self.plan.is_corrupted(client)
        {
            judge.check(at, *answered == label, || {
                format!("client {client}: request {label} got the reply to {answered}")
            });
            let of = written.and_then(|(_, socket)| self.sockets.get(&(client, socket)));
            let asked = heard_on.as_ref().or_else(|| of.and_then(|local| self.peers.get(local)));
            judge.check(at, asked == Some(conn), || {
                format!("client {client}: request {label} went to connection {asked:?}, its reply came from {conn}")
            });
        }
    }
}

impl Oracle for RequestContract {
    fn card(&self) -> Card {
        Card {
            id: "WS-9",
            rule: "a request is written at most once, never after its end, answered by its own link",
            observers: &[Observer::Workload, Observer::Server, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        match (&entry.what, entry.place) {
            (What::Work(WorkLog::RequestStarted { label, timeout }), Place::Client(client)) => {
                let call = self.calls.entry(*label).or_default();
                call.client = client;
                call.deadline = Some(entry.at + *timeout);
            }
            (What::Work(WorkLog::CallEnded { label, outcome, .. }), Place::Client(client)) => {
                self.ended(entry.at, client, *label, outcome, judge);
            }
            (What::Socket(SocketLog::Opened { socket, local }), Place::Client(client)) => {
                self.sockets.insert((client, *socket), local.to_string());
            }
            (What::Socket(SocketLog::Blocked { .. }), Place::Client(client)) => {
                self.blocked.insert(client);
            }
            (What::Socket(SocketLog::Flushed { .. } | SocketLog::Closed { .. }), Place::Client(client)) => {
                // What waited is written, or never will be.
                self.blocked.remove(&client);
                let closed = if let What::Socket(SocketLog::Closed { socket }) = entry.what {
                    Some(socket)
                } else {
                    None
                };
                for call in self.calls.values_mut().filter(|call| call.client == client) {
                    call.ended_blocked = false;
                    let of_this = call.written.is_some_and(|(_, socket)| Some(socket) == closed);
                    if of_this && call.outcome.is_none() {
                        call.orphaned = Some(entry.at);
                    }
                }
            }
            (What::Socket(SocketLog::Frame { socket, frame }), Place::Client(client)) => {
                let heard = frame.text().map(|text| self.dialect.read(text));
                if let Some(Heard::Request { label, .. } | Heard::Message { label }) = heard {
                    self.written(entry.at, client, *socket, label, judge);
                }
            }
            (What::Server(ServerLog::Accepted { conn, peer, .. }), _) => {
                self.peers.insert(peer.to_string(), *conn);
            }
            (
                What::Server(ServerLog::Heard {
                    conn,
                    heard: Heard::Request { label, .. } | Heard::Message { label },
                    ..
                }),
                _,
            ) => {
                let call = self.calls.entry(*label).or_default();
                call.heard += 1;
                if self.plan.clients.get(call.client).is_some_and(|client| client.tls) {
                    call.heard_on = Some(*conn);
                }
                let times = call.heard;
                judge.check(entry.at, times == 1, || format!("the exchange heard {label} {times} times"));
            }
            _ => {}
        }
    }
}

//! WS-4, one cause, one retry: each attempt or link that fails is answered by one retry, and its cause is what happened.

use std::sync::Arc;

use hpx_transport::{
    ErrorKind, TransportError,
    env::Timestamp,
    websocket::{CloseCause, Event},
};

use crate::{
    oracle::{Card, Judge, Observer, Oracle, owners::Owners},
    plan::{Behaviour, Plan},
    trace::{Entry, Place, ServerLog, SocketLog, What, WorkLog},
};

pub(super) struct Causes {
    plan: Arc<Plan>,
    clients: Vec<Retries>,
    owners: Owners,
}

#[derive(Clone, Default)]
struct Retries {
    attempts: u64,
    /// Calls of `reconnect`.
    asked: u64,
    retries: u64,
    /// Events are missing.
    blind: bool,
    /// The codes of the Close frames that the exchange sent on the newest connection.
    codes: Vec<Option<u16>>,
}

impl Causes {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let clients = vec![Retries::default(); plan.clients.len()];
        Self { plan: Arc::clone(plan), clients, owners: Owners::default() }
    }

    fn sent_code(&mut self, conn: u64, code: Option<u16>) {
        if let Some(retries) = self.owners.of(conn, &mut self.clients) {
            retries.codes.push(code);
        }
    }

    /// The words of the peer are those it said.
    fn cause(&self, at: Timestamp, client: usize, cause: &TransportError, judge: &mut Judge) {
        if cause.kind() != ErrorKind::PeerClosed || self.plan.is_corrupted(client) {
            return;
        }
        let (said, codes) = (cause.close_code(), &self.clients[client].codes);
        // 1005 stands for a Close frame without a code (RFC 6455, section 7.1.5).
        let same = |code: &Option<u16>| *code == said || (said.is_none() && *code == Some(1005));
        judge.check(at, codes.iter().any(same), || {
            format!("client {client}: the peer closed with {said:?}, the exchange says it sent {codes:?}")
        });
    }
}

impl Oracle for Causes {
    fn card(&self) -> Card {
        Card {
            id: "WS-4",
            rule: "one failure, one retry, and its cause is what happened",
            observers: &[Observer::Library, Observer::Registry, Observer::Server],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        self.owners.observe(entry);
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Upgraded { conn }), _) => {
                // A link begins: what was said on earlier ones is over.
                if let Some(retries) = self.owners.of(*conn, &mut self.clients) {
                    retries.codes.clear();
                }
            }
            (What::Server(ServerLog::Closing { conn, code, .. }), _) => self.sent_code(*conn, *code),
            (What::Server(ServerLog::Misbehaved { conn, behaviour: Behaviour::CloseCode(code) }), _) => {
                self.sent_code(*conn, Some(*code));
            }
            // It counts as the failure that it asks for; before the first attempt there is no other.
            (What::Work(WorkLog::ReconnectCalled), Place::Client(client)) => self.clients[client].asked += 1,
            (What::Socket(SocketLog::Resolving), Place::Client(client)) => self.clients[client].attempts += 1,
            (What::Event(event), Place::Client(client)) if self.plan.clients[client].is_read_promptly() => {
                match event {
                    Event::Disconnected { reason, .. } => self.cause(entry.at, client, reason, judge),
                    Event::Skipped { .. } => self.clients[client].blind = true,
                    Event::Retrying { cause, .. } => {
                        self.cause(entry.at, client, cause, judge);
                        let retries = &mut self.clients[client];
                        retries.retries += 1;
                        let (attempts, count) = (retries.attempts + retries.asked, retries.retries);
                        judge.check(entry.at, retries.blind || count <= attempts, || {
                            format!("client {client}: {count} retries of {attempts} attempts")
                        });
                    }
                    Event::Closed { cause: CloseCause::RetriesExhausted { last, .. }, .. } => {
                        self.cause(entry.at, client, last, judge);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

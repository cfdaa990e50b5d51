//! WS-L5: what no retry cures ends the connection, typed, and without a storm of attempts.

use std::{collections::BTreeSet, sync::Arc};

use hpx_transport::{
    ErrorKind, TransportError,
    websocket::{CloseCause, Event},
};

use crate::{
    oracle::{Card, Judge, Observer, Oracle, certificates::Certificates, owners::Owners},
    plan::{Behaviour, Plan, is_for_good},
    trace::{Entry, Place, ServerLog, SocketLog, What},
};

pub(super) struct Refusals {
    certificates: Certificates,
    clients: Vec<Standing>,
    owners: Owners,
    /// Connections whose client was shown a bad certificate.
    shown: BTreeSet<u64>,
}

#[derive(Clone, Default)]
struct Standing {
    /// Statuses of refusals for good that the exchange gave; 0 is a rejected authentication.
    refused: Vec<u16>,
    closed: bool,
}

impl Refusals {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            certificates: Certificates::new(plan),
            clients: vec![Standing::default(); plan.clients.len()],
            owners: Owners::default(),
            shown: BTreeSet::new(),
        }
    }

    fn refused(&mut self, conn: u64, status: u16, judge: &mut Judge) {
        if let Some(standing) = self.owners.of(conn, &mut self.clients) {
            standing.refused.push(status);
            judge.armed();
        }
    }

    fn event(&mut self, entry: &Entry, client: usize, event: &Event, judge: &mut Judge) {
        let standing = &mut self.clients[client];
        match event {
            Event::Retrying { cause, .. } if ends_for_good(cause) => {
                judge.broken(entry.at, format!("client {client}: retries what no retry cures: {cause}"));
            }
            Event::Closed { cause, .. } => {
                standing.closed = true;
                let CloseCause::Refused(error) = cause else { return };
                let status = error.status().unwrap_or(0);
                let caused = match error.kind() {
                    ErrorKind::Certificate => self.certificates.may_refuse(client),
                    _ => standing.refused.contains(&status),
                };
                let true_word = ends_for_good(error) && caused;
                judge.check(entry.at, true_word, || {
                    let said = &standing.refused;
                    format!(
                        "client {client}: ended as refused ({error}), the exchange's refusals are {said:?}"
                    )
                });
            }
            _ => {}
        }
    }
}

impl Oracle for Refusals {
    fn card(&self) -> Card {
        Card {
            id: "WS-L5",
            rule: "a refusal for good ends the connection, typed, and is not retried",
            observers: &[Observer::Library, Observer::Server, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        self.owners.observe(entry);
        self.certificates.observe(entry);
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Refused { conn, status }), _) if is_for_good(*status) => {
                self.refused(*conn, *status, judge);
            }
            (What::Server(ServerLog::Misbehaved { conn, behaviour: Behaviour::RejectAuth }), _) => {
                self.refused(*conn, 0, judge);
            }
            (What::Server(ServerLog::BadCertificate { conn }), _) => {
                self.shown.insert(*conn);
            }
            (What::Server(ServerLog::Upgraded { conn }), _) => {
                let shown = self.shown.contains(conn);
                judge.check(entry.at, !shown, || {
                    format!("connection {conn} was upgraded over a certificate that nobody vouches for")
                });
            }
            (What::Event(event), Place::Client(client)) => self.event(entry, client, event, judge),
            (What::Socket(SocketLog::Resolving), Place::Client(client)) => {
                let closed = self.clients[client].closed;
                judge.check(entry.at, !closed, || format!("client {client}: dials after its end"));
            }
            _ => {}
        }
    }
}

/// True for a cause that ends a connection.
fn ends_for_good(cause: &TransportError) -> bool {
    match cause.kind() {
        ErrorKind::AuthRejected | ErrorKind::Certificate => true,
        ErrorKind::UpgradeRefused => cause.status().is_some_and(is_for_good),
        _ => false,
    }
}

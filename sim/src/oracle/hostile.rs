//! WS-16: no task panics, whatever comes; hostile bytes are answered by the code that fits them, and by none without them;
//! nothing too long comes through.

use std::{collections::BTreeMap, sync::Arc};

use hpx_transport::{
    ErrorKind,
    env::Timestamp,
    websocket::{CloseCause, Event},
};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::{Behaviour, Fate, MESSAGE_BYTES_MAX, Plan},
    trace::{Entry, Place, ServerLog, SocketLog, TaskLog, What, WorkLog},
};

pub(super) struct Hostile {
    plan: Arc<Plan>,
    clients: Vec<Told>,
    conns: BTreeMap<u64, Conn>,
    /// Which connection of the exchange has this address at the client's end.
    peers: BTreeMap<String, u64>,
}

#[derive(Clone, Default)]
struct Told {
    /// The connection of the exchange that each socket is, by the client's address.
    sockets: BTreeMap<u64, String>,
    /// The code of the last Close frame that says whose fault the end is.
    blamed: Option<u16>,
}

struct Conn {
    client: usize,
    did: Option<Behaviour>,
    gone: bool,
}

impl Hostile {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            clients: vec![Told::default(); plan.clients.len()],
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
        }
    }

    /// A Close frame that blames the peer: it must have done what the code says.
    fn blames(&mut self, at: Timestamp, client: usize, socket: u64, code: u16, judge: &mut Judge) {
        if !matches!(code, 1002 | 1007 | 1009) || self.plan.is_corrupted(client) {
            return;
        }
        let told = &mut self.clients[client];
        told.blamed = Some(code);
        let conn = told.sockets.get(&socket).and_then(|local| self.peers.get(local));
        let did = conn.and_then(|conn| self.conns.get(conn)).and_then(|conn| conn.did);
        let fits = did.map(|behaviour| behaviour.expected(&self.plan.clients[client].config).close_code);
        // The same words come back when the peer has closed with such a code itself.
        let echo = matches!(did, Some(Behaviour::CloseCode(said)) if said == code);
        judge.check(at, fits == Some(Some(code)) || echo, || {
            format!("client {client}: closed socket {socket} with {code}, and what the peer did was {did:?}")
        });
    }

    /// What the user is told fits what the peer was told.
    fn reported(&mut self, at: Timestamp, client: usize, kind: ErrorKind, judge: &mut Judge) {
        if self.plan.is_corrupted(client) || !self.plan.clients[client].is_read_promptly() {
            return;
        }
        let did: Vec<Behaviour> =
            self.conns.values().filter(|conn| conn.client == client).filter_map(|conn| conn.did).collect();
        let config = &self.plan.clients[client].config;
        match kind {
            ErrorKind::Protocol | ErrorKind::MessageTooLarge | ErrorKind::Handshake => {
                let fits = did.iter().any(|behaviour| behaviour.expected(config).kind == Some(kind));
                judge.check(at, fits, || format!("client {client}: reports {kind:?}, the peer did {did:?}"));
            }
            _ => {}
        }
    }

    /// At rest no link stands whose peer broke the protocol.
    fn settled(&self, at: Timestamp, client: usize, judge: &mut Judge) {
        if !self.plan.is_core(client) {
            return;
        }
        let config = &self.plan.clients[client].config;
        for (number, conn) in self.conns.iter().filter(|(_, conn)| conn.client == client) {
            let Some(behaviour) = conn.did else { continue };
            // What says nothing, or not enough, is given up by timeouts, and a peer behind a partition doesn't hear of it.
            let silent = matches!(
                behaviour,
                Behaviour::Slowloris { .. }
                    | Behaviour::BadAcceptKey
                    | Behaviour::SilentAfterUpgrade
                    | Behaviour::IgnoreAuth
            );
            let must_end = behaviour.expected(config).fate != Fate::Stands && !silent;
            judge.check(at, conn.gone || !must_end, || {
                format!("client {client}: connection {number} stands, and its peer did {behaviour:?}")
            });
        }
    }
}

impl Oracle for Hostile {
    fn card(&self) -> Card {
        Card {
            id: "WS-16",
            rule: "no task panics; what breaks the protocol ends the link with the code that fits",
            observers: &[Observer::Library, Observer::Server, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        nobody_panics(entry, judge);
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Accepted { conn, client, peer }), _) => {
                self.conns.insert(*conn, Conn { client: *client, did: None, gone: false });
                self.peers.insert(peer.to_string(), *conn);
            }
            (What::Server(ServerLog::Misbehaved { conn, behaviour }), _) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.did = Some(*behaviour);
                    judge.armed();
                }
            }
            (What::Server(ServerLog::Gone { conn, .. } | ServerLog::Frozen { conn }), _) => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.gone = true;
                }
            }
            (What::Socket(SocketLog::Opened { socket, local }), Place::Client(client)) => {
                self.clients[client].sockets.insert(*socket, local.to_string());
            }
            (What::Socket(SocketLog::Closed { socket }), Place::Client(client)) => {
                // The client is done with it, whatever its peer has heard of that.
                let conn = self.clients[client].sockets.get(socket).and_then(|local| self.peers.get(local));
                if let Some(conn) = conn.and_then(|conn| self.conns.get_mut(conn)) {
                    conn.gone = true;
                }
            }
            (What::Socket(SocketLog::Frame { socket, frame }), Place::Client(client))
                if frame.opcode == 8 =>
            {
                if let [high, low, ..] = frame.payload[..] {
                    let code = u16::from_be_bytes([high, low]);
                    self.blames(entry.at, client, *socket, code, judge);
                }
            }
            (What::Event(Event::Message(message)), Place::Client(client)) => {
                let bytes = message.raw.as_bytes().len();
                judge.check(entry.at, bytes <= MESSAGE_BYTES_MAX, || {
                    format!("client {client}: a message of {bytes} bytes came through")
                });
            }
            (
                What::Event(Event::Disconnected { reason: cause, .. } | Event::Retrying { cause, .. }),
                Place::Client(client),
            ) => {
                self.reported(entry.at, client, cause.kind(), judge);
            }
            (What::Work(WorkLog::Snapshot { .. }), Place::Client(client)) => {
                self.settled(entry.at, client, judge);
            }
            _ => {}
        }
    }
}

/// No task dies of what it hears, and no connection is lost by its own driver.
fn nobody_panics(entry: &Entry, judge: &mut Judge) {
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
        What::Work(WorkLog::SubscribeWaited { guard }) => {
            judge.broken(entry.at, format!("subscribe of guard {guard} has an await point inside"));
        }
        _ => {}
    }
}

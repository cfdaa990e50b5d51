//! What an HTTP client did so far, and what its hosts saw.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hpx_transport::{
    env::Timestamp,
    http::{Event, PoolStats, Protocol},
};

use crate::{
    env::Census,
    plan::{HttpOp, HttpPlan, HttpStep, http::port_of},
    trace::{Entry, HttpLog, HttpOutcome, SocketLog, WebLog, What},
};

/// One client's course.
#[derive(Default)]
pub(super) struct Course {
    pub(super) now: Timestamp,
    pub(super) links: BTreeMap<u64, Link>,
    /// By the number the library gives it.
    pub(super) calls: BTreeMap<u64, Call>,
    /// The call of a label.
    pub(super) labels: BTreeMap<u64, u64>,
    /// Waiting calls of each port, in the order in which they came.
    pub(super) lines: BTreeMap<u16, Vec<u64>>,
    /// What is idle at each port, the most recently used last.
    pub(super) idle: BTreeMap<u16, Vec<u64>>,
    /// Who was passed over in this instant.
    pub(super) passed: BTreeSet<u64>,
    /// Connections that came back in this instant while somebody waited.
    pub(super) owed: BTreeSet<u64>,
    /// Ports of connections that ended in this instant in nobody's hands: who was to have one keeps its place in the line.
    pub(super) died: BTreeSet<u16>,
    pub(super) books: Vec<(u16, PoolStats)>,
    pub(super) census: Census,
    pub(super) dial_errors: u64,
    pub(super) dial_failures: u64,
    pub(super) close_called: Option<Timestamp>,
    pub(super) over: bool,
    /// How often each port asked for calm.
    pub(super) complaints: BTreeMap<u16, u32>,
    /// Ports known to speak HTTP/1.1.
    pub(super) first: BTreeSet<u16>,
}

/// One connection, or dial.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) port: u16,
    pub(super) opened: Option<Timestamp>,
    pub(super) is_over: bool,
    pub(super) h2: bool,
    pub(super) resumed: Option<bool>,
    pub(super) streams: usize,
    /// The most it took within this instant.
    pub(super) streams_now: (Timestamp, usize),
    pub(super) held: usize,
    /// Since when somebody does.
    pub(super) busy: Option<Timestamp>,
    /// Since when nobody holds it.
    pub(super) free: Option<Timestamp>,
    pub(super) leaving: Option<Timestamp>,
    pub(super) socket: Option<u64>,
    /// When its socket last gave something.
    pub(super) heard: Option<Timestamp>,
    /// Bytes of the bodies that were asked for over it.
    pub(super) asked: u64,
    pub(super) pinged: Option<Timestamp>,
    pub(super) window: u32,
    pub(super) received: u64,
    /// Complaints of its port when it was dialed.
    pub(super) complaints: u32,
    pub(super) calls: BTreeSet<u64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) label: u64,
    pub(super) port: u16,
    pub(super) bytes: u64,
    pub(super) called: Timestamp,
    pub(super) waiting: bool,
    pub(super) has_waited: bool,
    pub(super) on: Option<u64>,
    pub(super) head: Option<Timestamp>,
    pub(super) ended: Option<Timestamp>,
}

impl Call {
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some()
    }
}

impl Course {
    /// What the bodies hold that were on this connection together with this call's.
    pub(super) fn bytes_beside(&self, call: &Call) -> u64 {
        let Some(link) = call.on.and_then(|on| self.links.get(&on)) else { return 0 };
        let calls = link.calls.iter().filter_map(|other| self.calls.get(other));
        let since = call.head.unwrap_or(call.called);
        let was_beside = |other: &&Call| other.ended.is_none_or(|ended| ended >= since);
        calls.filter(was_beside).map(|other| other.bytes).sum()
    }

    /// The connection that has this socket.
    fn link_of(&mut self, socket: u64) -> Option<&mut Link> {
        self.links.values_mut().find(|link| link.socket == Some(socket) && !link.is_over)
    }

    pub(super) fn sum(&self, of: fn(&PoolStats) -> usize) -> usize {
        self.books.iter().map(|(_, stats)| of(stats)).sum()
    }

    pub(super) fn observe(&mut self, entry: &Entry, http: &HttpPlan, is_own: bool) {
        let at = entry.at;
        if is_own && at > self.now {
            self.now = at;
            self.passed.clear();
            self.owed.clear();
            self.died.clear();
        }
        match &entry.what {
            What::Socket(SocketLog::Read { socket, .. }) => {
                if let Some(link) = self.link_of(*socket) {
                    link.heard = Some(at);
                }
            }
            What::Http(log) => self.log(log, at, http),
            _ => {}
        }
    }

    fn log(&mut self, log: &HttpLog, at: Timestamp, http: &HttpPlan) {
        match log {
            HttpLog::Called { label, origin } => {
                let call = self.calls.len() as u64 + 1;
                let port = port_of(*origin);
                let bytes = |step: &HttpStep| match step.op {
                    HttpOp::Request { label: other, bytes, .. } if other == *label => Some(bytes as u64),
                    _ => None,
                };
                let bytes = http.script.iter().find_map(bytes).unwrap_or(0);
                self.calls.insert(call, Call { label: *label, port, bytes, called: at, ..Call::default() });
                self.labels.insert(*label, call);
            }
            HttpLog::Head { label, .. } => {
                if let Some(call) = self.labels.get(label).and_then(|call| self.calls.get_mut(call)) {
                    call.head = Some(at);
                }
            }
            HttpLog::Ended { label, outcome } => {
                let Some(number) = self.labels.get(label).copied() else { return };
                self.leave_line(number);
                if let Some(call) = self.calls.get_mut(&number) {
                    call.ended = Some(at);
                }
                self.dial_errors += u64::from(is_dial_error(outcome));
            }
            HttpLog::Owns { connection, socket } => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.socket = Some(*socket);
                    link.heard = Some(at);
                }
            }
            HttpLog::Books { hosts, census } => {
                self.books.clone_from(hosts);
                self.census = *census;
            }
            HttpLog::CloseCalled => self.close_called = Some(at),
            HttpLog::Dropped => self.over = true,
            HttpLog::Event(event) => self.event(event, at, http),
            _ => {}
        }
    }

    fn event(&mut self, event: &Event, at: Timestamp, http: &HttpPlan) {
        match event {
            Event::Waiting { call } => {
                if let Some(entry) = self.calls.get_mut(call) {
                    entry.waiting = true;
                    entry.has_waited = true;
                    self.lines.entry(entry.port).or_default().push(*call);
                }
            }
            Event::Acquired { call, connection, .. } => {
                let ahead = self.ahead_of(*call);
                self.leave_line(*call);
                let Some(entry) = self.calls.get_mut(call) else { return };
                entry.on = Some(*connection);
                let bytes = entry.bytes;
                self.passed.remove(call);
                self.passed.extend(ahead);
                self.owed.remove(connection);
                if let Some(link) = self.links.get_mut(connection) {
                    link.held += 1;
                    if link.held == 1 {
                        link.busy = Some(at);
                    }
                    link.asked += bytes;
                    link.free = None;
                    link.calls.insert(*call);
                    self.leave_idle(*connection);
                }
            }
            Event::Released { connection } => {
                let Some(link) = self.links.get_mut(connection) else { return };
                link.held = link.held.saturating_sub(1);
                let port = link.port;
                if link.held == 0 {
                    link.free = Some(at);
                    if !link.h2 {
                        self.idle.entry(port).or_default().push(*connection);
                    }
                    // Those before it have taken as many out of the line, who needn't have looked yet.
                    let waiting = self.lines.get(&port).map_or(0, Vec::len);
                    let owed = self
                        .owed
                        .iter()
                        .filter(|other| self.links.get(other).is_some_and(|other| other.port == port));
                    if !self.links[connection].h2 && owed.count() < waiting {
                        self.owed.insert(*connection);
                    }
                }
            }
            Event::Dialing { connection, port, .. } => {
                let complaints = self.complaints.get(port).copied().unwrap_or(0);
                self.links.insert(*connection, Link { port: *port, complaints, ..Link::default() });
            }
            Event::DialFailed { connection, .. } => {
                self.dial_failures += 1;
                self.end(*connection);
            }
            Event::Opened { connection, protocol, resumed, streams } => {
                let Some(link) = self.links.get_mut(connection) else { return };
                link.opened = Some(at);
                link.free = Some(at);
                link.h2 = *protocol == Protocol::Http2;
                link.resumed = *resumed;
                link.streams = *streams;
                link.window = http.config.h2_window;
                if !link.h2 {
                    self.first.insert(link.port);
                }
            }
            Event::StreamsChanged { connection, streams } => {
                if let Some(link) = self.links.get_mut(connection) {
                    let before = if link.streams_now.0 == at { link.streams_now.1 } else { 0 };
                    link.streams_now = (at, before.max(link.streams));
                    link.streams = *streams;
                }
            }
            Event::GoingAway { connection } => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.leaving.get_or_insert(at);
                }
            }
            Event::PingSent { connection, .. } => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.pinged = Some(at);
                }
            }
            Event::PongReceived { connection, received, .. } => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.pinged = None;
                    link.received = *received;
                }
            }
            Event::WindowGrew { connection, window } => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.window = *window;
                }
            }
            Event::CalmAsked { connection } => {
                if let Some(link) = self.links.get(connection) {
                    *self.complaints.entry(link.port).or_default() += 1;
                }
            }
            Event::Closed { connection, .. } => self.end(*connection),
            _ => {}
        }
    }

    fn end(&mut self, connection: u64) {
        self.owed.remove(&connection);
        self.leave_idle(connection);
        if let Some(link) = self.links.get_mut(&connection) {
            link.is_over = true;
            if link.held == 0 {
                self.died.insert(link.port);
            }
        }
    }

    /// Who has waited longer than this call; all, if it never waited.
    fn ahead_of(&self, call: u64) -> Vec<u64> {
        let port = self.calls.get(&call).map_or(0, |call| call.port);
        let line = self.lines.get(&port).map_or(&[][..], Vec::as_slice);
        let place = line.iter().position(|other| *other == call).unwrap_or(line.len());
        line[..place].to_vec()
    }

    fn leave_idle(&mut self, connection: u64) {
        self.idle.values_mut().for_each(|idle| idle.retain(|other| *other != connection));
    }

    fn leave_line(&mut self, call: u64) {
        self.passed.remove(&call);
        self.lines.values_mut().for_each(|line| line.retain(|other| *other != call));
        if let Some(call) = self.calls.get_mut(&call) {
            call.waiting = false;
        }
    }
}

/// An error that only a dial has.
pub(super) fn is_dial_error(outcome: &HttpOutcome) -> bool {
    use hpx_transport::ErrorKind;
    let HttpOutcome::Failed { kind, .. } = outcome else { return false };
    matches!(kind, ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::Tls | ErrorKind::Certificate)
}

/// What the hosts saw.
#[derive(Default)]
pub(super) struct Hosts {
    pub(super) conns: BTreeMap<u64, HostConn>,
    /// How often each client's request was executed.
    pub(super) executed: BTreeMap<(usize, u64), u32>,
    pub(super) tickets: BTreeMap<u64, Ticket>,
}

#[derive(Debug, Clone)]
pub(super) struct HostConn {
    pub(super) client: usize,
    pub(super) port: u16,
    pub(super) accepted: Timestamp,
    pub(super) leaving: Option<Timestamp>,
    /// The ticket it was offered was good.
    pub(super) accepts: bool,
    pub(super) offered: bool,
    /// When the client has read an answer over it: it has its tickets.
    pub(super) heard: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    pub(super) conn: u64,
    pub(super) at: Timestamp,
    pub(super) offered: bool,
}

impl Hosts {
    pub(super) fn client_of(&self, log: &WebLog) -> Option<usize> {
        match log {
            WebLog::Accepted { client, .. } => Some(*client),
            WebLog::Secured { conn, .. }
            | WebLog::TicketIssued { conn, .. }
            | WebLog::TicketOffered { conn, .. }
            | WebLog::Executed { conn, .. }
            | WebLog::Answered { conn, .. }
            | WebLog::Pipelined { conn }
            | WebLog::Leaving { conn, .. }
            | WebLog::Gone { conn } => self.conns.get(conn).map(|conn| conn.client),
        }
    }

    pub(super) fn observe(&mut self, log: &WebLog, at: Timestamp) {
        match log {
            WebLog::Accepted { conn, client, port } => {
                let conn_of = HostConn {
                    client: *client,
                    port: *port,
                    accepted: at,
                    leaving: None,
                    accepts: false,
                    offered: false,
                    heard: None,
                };
                self.conns.insert(*conn, conn_of);
            }
            WebLog::TicketIssued { conn, ticket } => {
                self.tickets.insert(*ticket, Ticket { conn: *conn, at, offered: false });
            }
            WebLog::TicketOffered { conn, ticket, accepted } => {
                if let Some(ticket) = ticket.and_then(|ticket| self.tickets.get_mut(&ticket)) {
                    ticket.offered = true;
                }
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.offered = true;
                    conn.accepts = *accepted;
                }
            }
            WebLog::Executed { conn, label, .. } => {
                if let Some(conn) = self.conns.get(conn) {
                    *self.executed.entry((conn.client, *label)).or_default() += 1;
                }
            }
            WebLog::Leaving { conn, .. } => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.leaving.get_or_insert(at);
                }
            }
            _ => {}
        }
    }

    /// A client has read an answer of this connection.
    pub(super) fn was_heard(&mut self, conn: u64, at: Timestamp) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.heard.get_or_insert(at);
        }
    }
}

/// As much as it may take behind so many bytes, that a socket's or a stream's window lets through by and by.
pub(super) fn behind(http: &HttpPlan, bytes: u64) -> Duration {
    let round_trip = 2 * Duration::from_millis(http.latency_ms);
    let rounds = 2 + bytes / WINDOW;
    round_trip.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
}

/// Of a socket; HTTP/2's is no smaller.
const WINDOW: u64 = 65_535;

//! WS-14, subscriptions: per link at most one SUB a topic until its UNSUB, UNSUB only after SUB, nothing before the
//! authentication, SUB before queued messages, no more topics in a message than the handler takes; and at rest the exchange knows exactly the topics of live guards.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use hpx_transport::{
    env::Timestamp,
    websocket::{ConnectionState, Event},
};

use crate::{
    dialect::{Dialect, Heard},
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, ServerLog, SocketLog, What, WorkLog},
};

pub(super) struct Subscriptions {
    plan: Arc<Plan>,
    dialect: Arc<dyn Dialect>,
    clients: Vec<Wanted>,
    conns: BTreeMap<u64, Conn>,
}

#[derive(Clone, Default)]
struct Wanted {
    /// Topics of live guards, by guard.
    guards: BTreeMap<u32, String>,
    /// And of those that `unsubscribe` has ended.
    over: BTreeMap<u32, String>,
    changed: Timestamp,
    /// What the present socket was told, and what must be said on it before other messages.
    told: BTreeSet<String>,
    owed: BTreeSet<String>,
    authed: bool,
    /// Ready, as far as a prompt reader knows: a new topic is told at once. Those that are not yet, and since when.
    ready: bool,
    /// Its socket takes less than it is offered: what is told waits.
    blocked: bool,
    due: BTreeMap<String, Timestamp>,
}

/// A connection of the exchange.
#[derive(Default)]
struct Conn {
    client: usize,
    authed: bool,
    topics: BTreeSet<String>,
    gone: bool,
}

impl Subscriptions {
    pub(super) fn new(plan: &Arc<Plan>, dialect: &Arc<dyn Dialect>) -> Self {
        Self {
            plan: Arc::clone(plan),
            dialect: Arc::clone(dialect),
            clients: vec![Wanted::default(); plan.clients.len()],
            conns: BTreeMap::new(),
        }
    }

    /// What the client hands to its socket.
    fn wrote(&mut self, at: Timestamp, client: usize, heard: Heard, judge: &mut Judge) {
        let wanted = &mut self.clients[client];
        match heard {
            Heard::Auth => wanted.authed = true,
            Heard::Subscribe { topics, .. } => {
                judge.check(at, wanted.authed, || format!("client {client}: SUB before authentication"));
                Self::check_size(&self.plan, at, client, topics.len(), judge);
                for topic in topics {
                    wanted.owed.remove(&topic);
                    wanted.due.remove(&topic);
                    let new = wanted.told.insert(topic.clone());
                    judge.check(at, new, || format!("client {client}: a second SUB of {topic} on one link"));
                }
            }
            Heard::Unsubscribe { topics, .. } => {
                Self::check_size(&self.plan, at, client, topics.len(), judge);
                for topic in topics {
                    let known = wanted.told.remove(&topic);
                    judge.check(at, known, || {
                        format!("client {client}: UNSUB of {topic}, which was not told")
                    });
                }
            }
            Heard::Request { label, .. } | Heard::Message { label } => {
                judge.check(at, wanted.authed, || format!("client {client}: {label} before authentication"));
                judge.check(at, wanted.owed.is_empty(), || {
                    format!("client {client}: {label} was written before the SUB of {:?}", wanted.owed)
                });
            }
            Heard::Other => {}
        }
    }

    /// A message names no more topics than its handler takes.
    fn check_size(plan: &Plan, at: Timestamp, client: usize, topics: usize, judge: &mut Judge) {
        let limit = plan.clients[client].handler.topics_per_message;
        judge.check(at, topics <= limit, || {
            format!("client {client}: {topics} topics in one message, of {limit}")
        });
    }

    /// What the exchange hears, on whatever socket.
    fn heard(&mut self, at: Timestamp, conn: u64, heard: &Heard, judge: &mut Judge) {
        let conn_state = self.conns.entry(conn).or_default();
        match heard {
            Heard::Subscribe { topics, .. } => {
                judge
                    .check(at, conn_state.authed, || format!("connection {conn}: SUB before authentication"));
                conn_state.topics.extend(topics.iter().cloned());
            }
            Heard::Unsubscribe { topics, .. } => {
                for topic in topics {
                    conn_state.topics.remove(topic);
                }
            }
            _ => {}
        }
    }

    /// At rest: guards, library and exchange agree.
    fn settled(&self, at: Timestamp, client: usize, topics: &[String], guards: &[String], judge: &mut Judge) {
        let wanted = &self.clients[client];
        let latency = 4 * self.plan.clients[client].latency_ms + 4 * self.plan.tick_ms;
        let quiet = at.since(wanted.changed).as_millis() >= u128::from(latency);
        judge.check(at, topics == guards, || {
            format!("client {client}: subscribed to {topics:?}, its guards are for {guards:?}")
        });
        if !quiet {
            return;
        }
        let known = self.conns.values().rev().find(|conn| conn.client == client && !conn.gone);
        let known: Vec<String> = known.map(|conn| conn.topics.iter().cloned().collect()).unwrap_or_default();
        judge.check(at, known == guards, || {
            format!("client {client}: the exchange knows {known:?}, live guards are for {guards:?}")
        });
    }

    /// A new topic is told while the link stands: nobody has to wait for something else to happen.
    fn take_guard(&mut self, at: Timestamp, client: usize, guard: u32, topic: &str) {
        let wanted = &mut self.clients[client];
        wanted.changed = at;
        wanted.guards.insert(guard, topic.to_owned());
        if wanted.ready && !wanted.blocked && !wanted.told.contains(topic) {
            wanted.due.entry(topic.to_owned()).or_insert(at);
        }
    }

    fn check_due(&mut self, at: Timestamp, client: usize, judge: &mut Judge) {
        if self.clients[client].due.is_empty() {
            return;
        }
        let slack = self.plan.slack_for(client, Duration::ZERO);
        let wanted = &mut self.clients[client];
        while let Some(entry) = wanted.due.first_entry() {
            if *entry.get() + slack >= at {
                return;
            }
            let (topic, since) = entry.remove_entry();
            judge.broken(at, format!("client {client}: the SUB of {topic} has been due since {since:?}"));
        }
    }

    fn lost_guard(&mut self, at: Timestamp, client: usize, guard: u32) {
        let wanted = &mut self.clients[client];
        wanted.changed = at;
        if let Some(topic) = wanted.guards.remove(&guard)
            && !wanted.guards.values().any(|other| *other == topic)
        {
            wanted.owed.remove(&topic);
            wanted.due.remove(&topic);
        }
    }
}

impl Oracle for Subscriptions {
    fn card(&self) -> Card {
        Card {
            id: "WS-14",
            rule: "SUB once a link, after auth, before queued messages; the wire set converges",
            observers: &[Observer::Registry, Observer::Server, Observer::Workload],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        if let Place::Client(client) = entry.place {
            self.check_due(entry.at, client, judge);
        }
        match (&entry.what, entry.place) {
            (What::Socket(SocketLog::Opened { .. }), Place::Client(client)) => {
                let wanted = &mut self.clients[client];
                wanted.told.clear();
                (wanted.authed, wanted.ready, wanted.blocked) = (false, false, false);
                wanted.owed = wanted.guards.values().cloned().collect();
            }
            (What::Socket(SocketLog::Frame { frame, .. }), Place::Client(client)) => {
                if let Some(heard) = frame.text().map(|text| self.dialect.read(text)) {
                    self.wrote(entry.at, client, heard, judge);
                }
            }
            (What::Socket(SocketLog::Blocked { .. }), Place::Client(client)) => {
                self.clients[client].blocked = true;
                self.clients[client].due.clear();
            }
            (What::Socket(SocketLog::Flushed { .. }), Place::Client(client)) => {
                self.clients[client].blocked = false;
            }
            (What::Socket(SocketLog::Closed { .. } | SocketLog::Ended { .. }), Place::Client(client))
            | (What::Event(Event::Disconnected { .. }), Place::Client(client)) => {
                self.clients[client].ready = false;
                self.clients[client].due.clear();
            }
            (What::Event(Event::Connected { .. }), Place::Client(client)) => {
                // Over TLS nothing is seen of what is told.
                let plan = &self.plan.clients[client];
                self.clients[client].ready = plan.is_read_promptly() && !plan.tls;
            }
            (What::Work(log), Place::Client(client)) => match log {
                WorkLog::GuardOpened { guard, topic } => self.take_guard(entry.at, client, *guard, topic),
                WorkLog::CloseCalled | WorkLog::HandlesDropped | WorkLog::ReconnectCalled => {
                    self.clients[client].ready = false;
                    self.clients[client].due.clear();
                }
                WorkLog::GuardDropped { guard, .. } | WorkLog::GuardEnded { guard, .. } => {
                    self.lost_guard(entry.at, client, *guard);
                }
                WorkLog::Unsubscribed { topic } => {
                    let wanted = &mut self.clients[client];
                    wanted.changed = entry.at;
                    wanted.owed.remove(topic);
                    wanted.due.remove(topic);
                    // They have ended, and may have more to yield.
                    let (over, guards) =
                        std::mem::take(&mut wanted.guards).into_iter().partition(|(_, of)| of == topic);
                    wanted.guards = guards;
                    wanted.over.extend::<BTreeMap<u32, String>>(over);
                }
                WorkLog::GuardMessage { guard, topic, .. } => {
                    let wanted = &self.clients[client];
                    let of = wanted.guards.get(guard).or_else(|| wanted.over.get(guard));
                    judge.check(entry.at, of == Some(topic), || {
                        format!("client {client}: guard {guard} yielded {topic}")
                    });
                }
                WorkLog::Snapshot { state: ConnectionState::Ready, topics, guards, .. } => {
                    self.settled(entry.at, client, topics, guards, judge);
                }
                _ => {}
            },
            (What::Server(ServerLog::Accepted { conn, client, .. }), _) => {
                self.conns.insert(*conn, Conn { client: *client, ..Conn::default() });
            }
            (What::Server(ServerLog::Authenticated { conn }), _) => {
                self.conns.entry(*conn).or_default().authed = true;
            }
            (What::Server(ServerLog::Gone { conn, .. } | ServerLog::Frozen { conn }), _) => {
                self.conns.entry(*conn).or_default().gone = true
            }
            (What::Server(ServerLog::Heard { conn, heard, .. }), _) => {
                self.heard(entry.at, *conn, heard, judge)
            }
            _ => {}
        }
    }
}

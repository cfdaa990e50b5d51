//! WS-3, event grammar: `(Retrying* Connected Message* Disconnected)* Retrying*`, then exactly one `Closed`; epochs rise.
//!
//! `Skipped` stands for whole pairs and single retries: what is left obeys the same grammar.

use hpx_transport::websocket::Event;

use crate::{
    oracle::{Card, Judge, Observer, Oracle, owners::Owners},
    plan::Plan,
    trace::{Entry, Place, ServerLog, What, WorkLog},
};

pub(super) struct EventGrammar {
    clients: Vec<Life>,
    owners: Owners,
}

#[derive(Default, Clone)]
struct Life {
    /// The epoch that is up.
    up: Option<u64>,
    last_epoch: u64,
    closed: bool,
    stream_ended: bool,
    connected: u64,
    authenticated: u64,
    reads: bool,
}

impl EventGrammar {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { clients: vec![Life::default(); plan.clients.len()], owners: Owners::default() }
    }
}

impl Oracle for EventGrammar {
    fn card(&self) -> Card {
        Card {
            id: "WS-3",
            rule: "events follow the grammar, epochs rise, Closed is last and one",
            observers: &[Observer::Library, Observer::Server],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        self.owners.observe(entry);
        match (&entry.what, entry.place) {
            (What::Event(event), Place::Client(client)) => {
                let life = &mut self.clients[client];
                life.reads = true;
                if let Some(fault) = life.next(event) {
                    judge.broken(entry.at, format!("client {client}: {fault}"));
                }
                judge.armed();
            }
            (What::Work(WorkLog::StreamEnded), Place::Client(client)) => {
                let life = &mut self.clients[client];
                life.stream_ended = true;
                judge.check(entry.at, life.closed, || {
                    format!("client {client}: the stream ended without Closed")
                });
            }
            (What::Server(ServerLog::Authenticated { conn }), _) => {
                if let Some(life) = self.owners.of(*conn, &mut self.clients) {
                    life.authenticated += 1;
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, end: hpx_transport::env::Timestamp, judge: &mut Judge) {
        for (client, life) in self.clients.iter().enumerate() {
            if life.stream_ended {
                judge.check(end, life.closed, || format!("client {client}: no Closed"));
            }
        }
    }
}

impl Life {
    /// What is wrong with this event here, if anything.
    fn next(&mut self, event: &Event) -> Option<String> {
        if self.closed {
            return Some(format!("{event:?} came after Closed"));
        }
        match event {
            Event::Connected { epoch } => {
                let fault = match self.up {
                    Some(up) => Some(format!("Connected({epoch}) while epoch {up} is up")),
                    None if epoch.0 <= self.last_epoch => {
                        Some(format!("Connected({epoch}) after epoch {}", self.last_epoch))
                    }
                    None => None,
                };
                self.up = Some(epoch.0);
                self.last_epoch = epoch.0;
                self.connected += 1;
                let early = self.connected > self.authenticated;
                fault.or_else(|| {
                    early.then(|| format!("Connected({epoch}), and the exchange authenticated nobody"))
                })
            }
            Event::Disconnected { epoch, .. } => match self.up.take() {
                Some(up) if up == epoch.0 => None,
                up => Some(format!("Disconnected({epoch}) while {up:?} is up")),
            },
            Event::Retrying { attempt, .. } => {
                self.up.map(|up| format!("Retrying({attempt}) while epoch {up} is up"))
            }
            Event::Message(_) if self.up.is_none() => Some("Message while no epoch is up".to_owned()),
            Event::Closed { .. } => {
                self.closed = true;
                self.up.map(|up| format!("Closed while epoch {up} is up"))
            }
            _ => None,
        }
    }
}

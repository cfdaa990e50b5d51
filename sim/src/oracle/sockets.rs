//! WS-1, single flight: dialing and open sockets of one connection are never more than one.

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, SocketLog, What},
};

pub(super) struct SingleFlight {
    alive: Vec<Vec<u64>>,
}

impl SingleFlight {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { alive: vec![Vec::new(); plan.clients.len()] }
    }
}

impl Oracle for SingleFlight {
    fn card(&self) -> Card {
        Card {
            id: "WS-1",
            rule: "one connection has at most one dial or socket",
            observers: &[Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let (Place::Client(client), What::Socket(log)) = (entry.place, &entry.what) else { return };
        let alive = &mut self.alive[client];
        match log {
            SocketLog::Dialing { socket } => {
                alive.push(*socket);
                judge.check(entry.at, alive.len() <= 1, || {
                    format!(
                        "client {client} dials socket {socket} while {:?} are alive",
                        &alive[..alive.len() - 1]
                    )
                });
            }
            SocketLog::DialFailed { socket, .. }
            | SocketLog::DialAbandoned { socket }
            | SocketLog::Closed { socket } => alive.retain(|other| other != socket),
            _ => {}
        }
    }
}

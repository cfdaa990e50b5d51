//! WS-8, send accounting: what was accepted is written, or counted as unsent, or was lost with a link it may have been on;
//! in the order it was accepted; and "confirmed" means that it was encoded for a link.

use std::{collections::BTreeMap, sync::Arc};

use hpx_transport::{
    env::Timestamp,
    websocket::{CloseCause, Event},
};

use crate::{
    dialect::{Dialect, Heard},
    oracle::{Card, Judge, Observer, Oracle, owners::Owners},
    plan::Plan,
    trace::{Entry, Outcome, Place, ServerLog, SocketLog, What, WorkLog},
};

pub(super) struct SendAccounts {
    plan: Arc<Plan>,
    dialect: Arc<dyn Dialect>,
    clients: Vec<Account>,
    owners: Owners,
}

#[derive(Clone, Default)]
struct Account {
    /// Sends in progress: when each began, and whether it waits to be encoded.
    open: BTreeMap<u64, (Timestamp, bool)>,
    /// Accepted and not yet seen on a socket.
    accepted: BTreeMap<u64, Accepted>,
    /// How many were accepted so far.
    count: u64,
    /// The place in that order of what was last written.
    written: u64,
    /// Up to this place in it, a lost link may have taken them.
    lost: u64,
    /// When an authenticated link was last there.
    linked: Option<Timestamp>,
    is_linked: bool,
    /// Ready, as far as the events read so far tell; and it was when the end was asked for.
    is_up: bool,
    takes_leave: bool,
}

#[derive(Clone, Copy)]
struct Accepted {
    order: u64,
    /// A link may have taken it with it.
    may_be_lost: bool,
}

impl SendAccounts {
    pub(super) fn new(plan: &Arc<Plan>, dialect: &Arc<dyn Dialect>) -> Self {
        Self {
            plan: Arc::clone(plan),
            dialect: Arc::clone(dialect),
            clients: vec![Account::default(); plan.clients.len()],
            owners: Owners::default(),
        }
    }

    fn taken(&mut self, at: Timestamp, client: usize, label: u64, judge: &mut Judge) {
        let account = &mut self.clients[client];
        let Some((began, confirmed)) = account.open.remove(&label) else { return };
        if confirmed {
            let linked = account.is_linked || account.linked.is_some_and(|linked| linked >= began);
            judge.check(at, linked, || {
                format!("client {client}: send {label} is confirmed, and no link was there since it began")
            });
            return;
        }
        account.count += 1;
        let accepted = Accepted { order: account.count, may_be_lost: account.is_linked };
        account.accepted.insert(label, accepted);
    }

    fn written(&mut self, at: Timestamp, client: usize, label: u64, judge: &mut Judge) {
        let account = &mut self.clients[client];
        let Some(Accepted { order, .. }) = account.accepted.remove(&label) else { return };
        let last = std::mem::replace(&mut account.written, order);
        judge.check(at, order > last, || {
            format!(
                "client {client}: send {label} was accepted as number {order} and written after number {last}"
            )
        });
    }

    /// The goodbye of a link that was up comes after everything that was accepted.
    fn says_goodbye(&self, at: Timestamp, client: usize, judge: &mut Judge) {
        let account = &self.clients[client];
        if account.takes_leave {
            // What an earlier link took with it is not on its way.
            let due = |(_, accepted): &(&u64, &Accepted)| accepted.order > account.lost;
            let left: Vec<&u64> = account.accepted.iter().filter(due).map(|(label, _)| label).collect();
            judge.check(at, left.is_empty(), || {
                format!("client {client}: says goodbye, and has not written {left:?}")
            });
        }
    }

    /// The end: what no link can have taken must be counted.
    fn closed(&mut self, at: Timestamp, client: usize, unsent: u64, judge: &mut Judge) {
        let accepted = &self.clients[client].accepted;
        let kept = accepted.values().filter(|accepted| !accepted.may_be_lost).count() as u64;
        let most = accepted.len() as u64;
        judge.check(at, (kept..=most).contains(&unsent), || {
            format!("client {client}: ended with {unsent} unsent, the accounts say {kept} to {most}")
        });
    }
}

impl Oracle for SendAccounts {
    fn card(&self) -> Card {
        Card {
            id: "WS-8",
            rule: "an accepted send is written in order, or counted; confirmed means encoded",
            observers: &[Observer::Workload, Observer::Registry, Observer::Library, Observer::Server],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        self.owners.observe(entry);
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Authenticated { conn }), _) => {
                if let Some(account) = self.owners.of(*conn, &mut self.clients) {
                    (account.is_linked, account.linked) = (true, Some(entry.at));
                    // From here on the link may take with it what waits.
                    account.accepted.values_mut().for_each(|accepted| accepted.may_be_lost = true);
                }
            }
            // A Close frame of ours may be the answer to one of the peer's.
            (What::Server(ServerLog::Closing { conn, .. } | ServerLog::Misbehaved { conn, .. }), _) => {
                if let Some(account) = self.owners.of(*conn, &mut self.clients) {
                    (account.is_up, account.takes_leave) = (false, false);
                }
            }
            (What::Socket(SocketLog::Closed { .. }), Place::Client(client)) => {
                let account = &mut self.clients[client];
                if std::mem::take(&mut account.is_linked) {
                    account.linked = Some(entry.at);
                    account.lost = account.count;
                }
            }
            (What::Socket(SocketLog::Frame { frame, .. }), Place::Client(client)) => {
                let heard = frame.text().map(|text| self.dialect.read(text));
                if let Some(Heard::Message { label }) = heard {
                    self.written(entry.at, client, label, judge);
                }
                if frame.opcode == 8 {
                    self.says_goodbye(entry.at, client, judge);
                }
            }
            (What::Event(Event::Connected { .. }), Place::Client(client)) => {
                self.clients[client].is_up = self.plan.clients[client].is_read_promptly();
            }

            (What::Event(Event::Disconnected { .. } | Event::Skipped { .. }), Place::Client(client)) => {
                self.clients[client].is_up = false;
            }
            (What::Work(WorkLog::ReconnectCalled), Place::Client(client)) => {
                // `close` is called when its future is polled: what was asked for in the same instant may come before it.
                let account = &mut self.clients[client];
                (account.is_up, account.takes_leave) = (false, false);
            }
            (What::Work(WorkLog::CloseCalled | WorkLog::HandlesDropped), Place::Client(client)) => {
                let account = &mut self.clients[client];
                account.takes_leave |= account.is_up;
            }
            (What::Work(WorkLog::SendStarted { label, confirmed }), Place::Client(client)) => {
                self.clients[client].open.insert(*label, (entry.at, *confirmed));
            }
            (
                What::Work(WorkLog::CallEnded { label, request: false, outcome, .. }),
                Place::Client(client),
            ) => match outcome {
                Outcome::Taken => self.taken(entry.at, client, *label, judge),
                _ => drop(self.clients[client].open.remove(label)),
            },
            (What::Event(Event::Closed { unsent, cause }), Place::Client(client))
                if !matches!(cause, CloseCause::Failed(_)) =>
            {
                self.closed(entry.at, client, *unsent, judge);
            }
            _ => {}
        }
    }
}

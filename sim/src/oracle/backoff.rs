//! WS-5 and WS-6: the waits between attempts.

use std::{sync::Arc, time::Duration};

use hpx_transport::{
    backoff::Backoff,
    env::Timestamp,
    websocket::{CloseCause, Event},
};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, ServerLog, SocketLog, TaskLog, What, WorkLog},
};

/// WS-5, backoff envelope: each wait lies within its bound, and only a stable link makes the bounds start anew.
pub(super) struct Envelope {
    plan: Arc<Plan>,
    clients: Vec<Growth>,
    /// Of the exchange: connection, owner, when it was authenticated.
    conns: Vec<(u64, usize, Option<Timestamp>)>,
}

#[derive(Default, Clone)]
struct Growth {
    attempt: u32,
    resets: usize,
    stable_links: usize,
    skipped: bool,
}

impl Envelope {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self {
            plan: Arc::clone(plan),
            clients: vec![Growth::default(); plan.clients.len()],
            conns: Vec::new(),
        }
    }

    fn retrying(&mut self, at: Timestamp, client: usize, event: &Event, judge: &mut Judge) {
        let Event::Retrying { attempt, delay, cause } = event else { return };
        let config = &self.plan.clients[client].config;
        let growth = &mut self.clients[client];
        let policy = config.backoff();
        let bound = policy.bound(*attempt).max(cause.retry_after().unwrap_or_default().min(policy.max));
        judge.check(at, *delay <= bound, || {
            format!("client {client}: attempt {attempt} waits {delay:?}, its bound is {bound:?}")
        });
        let most = config.reconnect_max_attempts.unwrap_or(u32::MAX);
        judge.check(at, *attempt <= most, || format!("client {client}: attempt {attempt} of at most {most}"));
        let reset = *attempt == 1 && growth.attempt > 0;
        if reset {
            growth.resets += 1;
            let (resets, stable) = (growth.resets, growth.stable_links);
            judge.check(at, resets <= stable, || {
                format!(
                    "client {client}: the growth began anew {resets} times, and {stable} links were stable"
                )
            });
        } else if !growth.skipped {
            let expected = growth.attempt + 1;
            judge.check(at, *attempt == expected, || {
                format!("client {client}: attempt {attempt} where {expected} was due")
            });
        }
        growth.skipped = false;
        growth.attempt = *attempt;
    }
}

impl Oracle for Envelope {
    fn card(&self) -> Card {
        Card {
            id: "WS-5",
            rule: "waits lie within their bound; only a stable link resets it",
            observers: &[Observer::Library, Observer::Server, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Accepted { conn, client, .. }), _) => {
                self.conns.push((*conn, *client, None))
            }
            (What::Server(ServerLog::Authenticated { conn }), _) => {
                if let Some((_, _, at)) = self.conns.iter_mut().find(|(other, ..)| other == conn) {
                    *at = Some(entry.at);
                }
            }
            // Authenticated no later than the client knew, closed no earlier than it gave up: never too short.
            (What::Socket(SocketLog::Closed { .. }), Place::Client(client)) => {
                let since =
                    self.conns.iter_mut().rev().find(|(_, owner, at)| *owner == client && at.is_some());
                if let Some((_, _, at)) = since
                    && let Some(since) = at.take()
                {
                    let stable = Duration::from_millis(self.plan.clients[client].config.stable_after_ms);
                    let stood = entry.at.since(since) + self.plan.slack_for(client, stable) >= stable;
                    self.clients[client].stable_links += usize::from(stood);
                }
            }
            (What::Event(Event::Skipped { .. }), Place::Client(client)) => {
                self.clients[client].skipped = true
            }
            (
                What::Event(Event::Closed { cause: CloseCause::RetriesExhausted { attempts, .. }, .. }),
                Place::Client(client),
            ) => {
                let most = self.plan.clients[client].config.reconnect_max_attempts;
                judge.check(entry.at, most == Some(*attempts), || {
                    format!("client {client}: gave up after {attempts} attempts of {most:?}")
                });
            }
            (What::Event(event @ Event::Retrying { .. }), Place::Client(client)) => {
                self.retrying(entry.at, client, event, judge);
            }
            _ => {}
        }
    }
}

/// WS-6, dial budget: every wait is the one the connection's own seed draws, and a dial follows it, and no other does.
pub(super) struct DialBudget {
    plan: Arc<Plan>,
    clients: Vec<Redraw>,
}

#[derive(Clone, Default)]
struct Redraw {
    backoff: Option<Backoff>,
    /// Since when the link has been ready.
    ready: Option<Timestamp>,
    /// The stable period was too close to call.
    either: bool,
    /// When the next dial is due.
    due: Option<Timestamp>,
    /// A dial before its Retrying was read: after a wait shorter than an instant of the clock.
    early: Option<Timestamp>,
    /// When `reconnect` last cut a wait short.
    cut: Option<Timestamp>,
    /// Events are missing: waits can't be told any more.
    blind: bool,
    ending: bool,
    dialed: bool,
}

impl DialBudget {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        Self { plan: Arc::clone(plan), clients: vec![Redraw::default(); plan.clients.len()] }
    }

    fn event(&mut self, at: Timestamp, client: usize, event: &Event, judge: &mut Judge) {
        let plan = &self.plan.clients[client];
        let redraw = &mut self.clients[client];
        match event {
            Event::Connected { .. } => redraw.ready = Some(at),
            Event::Disconnected { .. } => {
                let Some(ready) = redraw.ready.take() else { return };
                let (uptime, stable) = (at.since(ready), Duration::from_millis(plan.config.stable_after_ms));
                if uptime >= stable
                    && let Some(backoff) = &mut redraw.backoff
                {
                    backoff.reset();
                }
                redraw.either = !plan.is_read_promptly() || self.plan.is_out_of_time(client);
            }
            Event::Retrying { attempt, delay, cause } => {
                let Some(backoff) = &mut redraw.backoff else { return };
                // A slow reader sees when it reads, not when it was: the attempt tells whether there was a reset.
                if redraw.either && *attempt == 1 {
                    backoff.reset();
                } else if redraw.either && backoff.attempt() + 1 != *attempt {
                    redraw.blind = true;
                }
                let drawn = backoff.next_delay(cause.retry_after());
                if !redraw.blind {
                    judge.check(at, drawn == *delay && backoff.attempt() == *attempt, || {
                        format!(
                            "client {client}: waits {delay:?} for attempt {attempt}, its seed draws {drawn:?} for {}",
                            backoff.attempt()
                        )
                    });
                }
                let dialed = redraw
                    .early
                    .take()
                    .is_some_and(|dialed| at + *delay <= dialed + self.plan.slack_for(client, *delay));
                redraw.due = (plan.is_read_promptly() && !dialed).then_some(at + *delay);
            }
            Event::Skipped { .. } => {
                redraw.blind = true;
                redraw.due = None;
            }
            Event::Closed { .. } => {
                redraw.ending = true;
                redraw.due = None;
            }
            _ => {}
        }
    }

    fn attempting(&mut self, at: Timestamp, client: usize, judge: &mut Judge) {
        let longest = Duration::from_millis(self.plan.clients[client].config.reconnect_max_delay_ms);
        let slack = self.plan.slack_for(client, longest);
        let fast = slack - self.plan.slack_for(client, Duration::ZERO);
        let prompt = self.plan.clients[client].is_read_promptly();
        let redraw = &mut self.clients[client];
        let first = !std::mem::replace(&mut redraw.dialed, true);
        if first || !prompt || redraw.blind {
            return;
        }
        match redraw.due.take() {
            None => {
                if let Some(earlier) = redraw.early.replace(at) {
                    judge.broken(
                        at,
                        format!("client {client}: no Retrying announced the dial at {earlier:?}"),
                    );
                }
            }
            Some(due) => {
                let cut = redraw.cut.is_some_and(|cut| cut + slack >= at);
                judge.check(at, at + fast >= due || cut, || {
                    format!("client {client}: dials {:?} too early", due.since(at))
                });
                judge.check(at, at <= due + slack, || {
                    format!("client {client}: dials {:?} late", at.since(due))
                });
            }
        }
    }
}

impl Oracle for DialBudget {
    fn card(&self) -> Card {
        Card {
            id: "WS-6",
            rule: "every wait is what its seed draws, and one dial follows it",
            observers: &[Observer::Library, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        match &entry.what {
            What::Task(TaskLog::Seeded { seed }) => {
                let policy = self.plan.clients[client].config.backoff();
                self.clients[client].backoff = Some(Backoff::new(policy, *seed));
            }
            What::Event(event) => self.event(entry.at, client, event, judge),
            What::Socket(SocketLog::Resolving) => self.attempting(entry.at, client, judge),
            What::Work(WorkLog::ReconnectCalled) => {
                let redraw = &mut self.clients[client];
                redraw.cut = Some(entry.at);
                if let Some(due) = &mut redraw.due {
                    *due = (*due).min(entry.at);
                }
            }
            What::Work(WorkLog::CloseCalled | WorkLog::HandlesDropped) => {
                self.clients[client].ending = true;
                self.clients[client].due = None;
            }
            _ => {}
        }
    }

    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        let longest =
            |client: usize| Duration::from_millis(self.plan.clients[client].config.reconnect_max_delay_ms);
        for (client, redraw) in self.clients.iter().enumerate() {
            if let Some(early) = redraw.early {
                judge.broken(early, format!("client {client}: no Retrying announced this dial"));
            }
            if let Some(due) = redraw.due
                && !redraw.ending
            {
                judge.check(end, due + self.plan.slack_for(client, longest(client)) >= end, || {
                    format!("client {client}: the dial that was due at {due:?} never came")
                });
            }
        }
    }
}

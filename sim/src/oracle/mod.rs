//! The oracles: each watches the trace for one invariant, entry by entry, and says how often it had something to judge.
//!
//! The ids are those of the project's list of invariants. Wherever a rule can be stated over two of {library events, server
//! log, socket registry}, the oracle uses both.

mod backoff;
mod cancel;
mod causes;
mod certificates;
mod close;
mod deadlines;
mod epochs;
mod fleet;
mod guards;
mod heartbeat;
mod hostile;
mod http;
mod lifecycle;
mod limits;
mod liveness;
mod owners;
mod reference;
mod refusal;
mod requests;
mod residue;
mod sends;
mod sockets;
mod spin;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hpx_transport::env::Timestamp;

use crate::{
    dialect::Dialect,
    plan::{ClientPlan, Plan},
    trace::{Entry, Place, What},
};

/// One invariant, watched.
pub(crate) trait Oracle: Send {
    /// What it is called.
    fn card(&self) -> Card;

    /// Something happened.
    fn observe(&mut self, entry: &Entry, judge: &mut Judge);

    /// The run is over.
    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        let _ = (end, judge);
    }
}

/// What an oracle is called and where it looks.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    /// The invariant's id.
    pub id: &'static str,
    /// The invariant in a clause.
    pub rule: &'static str,
    /// Whose words it takes.
    pub observers: &'static [Observer],
}

/// Somebody who saw what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observer {
    /// The event stream.
    Library,
    /// The exchange's log.
    Server,
    /// Sockets, timers and tasks.
    Registry,
    /// The client's own calls and their outcomes.
    Workload,
}

/// Takes an oracle's findings.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judge {
    armed: u64,
    violations: Vec<Violation>,
}

impl Judge {
    /// There was something to judge, and it may have been found good.
    pub(crate) fn armed(&mut self) {
        self.armed += 1;
    }

    /// The invariant is broken.
    pub(crate) fn broken(&mut self, at: Timestamp, text: impl Into<String>) {
        // Bounded: the first few tell the story.
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { at, text: text.into() });
        }
    }

    /// Judges one thing: `holds` or broken.
    pub(crate) fn check(&mut self, at: Timestamp, holds: bool, text: impl FnOnce() -> String) {
        self.armed();
        if !holds {
            self.broken(at, text());
        }
    }
}

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When that showed.
    pub at: Timestamp,
    /// How.
    pub text: String,
}

/// What one oracle says of a run.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Which oracle.
    pub card: Card,
    /// How often it had something to judge. Zero: it says nothing of this run.
    pub armed: u64,
    /// What it found; empty is good.
    pub violations: Vec<Violation>,
}

/// All oracles of a run.
pub(crate) struct Bench {
    /// Those of WebSocket clients.
    seats: Vec<(Box<dyn Oracle>, Judge)>,
    /// WebSocket clients come first.
    clients: usize,
    http: Option<http::HttpBench>,
}

impl Bench {
    pub(crate) fn new(plan: &Arc<Plan>, dialect: &Arc<dyn Dialect>) -> Self {
        let http = (!plan.http.is_empty()).then(|| http::HttpBench::new(plan));
        if plan.clients.is_empty() {
            return Self { seats: Vec::new(), clients: 0, http };
        }
        let clients = plan.clients.iter().map(ClientPlan::for_oracles).collect();
        let plan = &Arc::new(Plan { clients, ..Plan::clone(plan) });
        let oracles: Vec<Box<dyn Oracle>> = vec![
            Box::new(sockets::SingleFlight::new(plan)),
            Box::new(epochs::OneAtATime::new(plan)),
            Box::new(lifecycle::EventGrammar::new(plan)),
            Box::new(causes::Causes::new(plan)),
            Box::new(backoff::Envelope::new(plan)),
            Box::new(backoff::DialBudget::new(plan)),
            Box::new(fleet::Fleet::new(plan)),
            Box::new(sends::SendAccounts::new(plan, dialect)),
            Box::new(requests::RequestContract::new(plan, dialect)),
            Box::new(limits::Limits::new(plan)),
            Box::new(residue::NothingLeft),
            Box::new(cancel::Cancellation::new(plan)),
            Box::new(spin::NoSpin::new(plan)),
            Box::new(subscriptions::Subscriptions::new(plan, dialect)),
            Box::new(guards::Guards::new(plan, dialect)),
            Box::new(hostile::Hostile::new(plan)),
            Box::new(heartbeat::Heartbeat::new(plan)),
            Box::new(liveness::Recovery::new(plan)),
            Box::new(close::CloseDeadline::new(plan)),
            Box::new(deadlines::Deadlines::new(plan)),
            Box::new(liveness::CalmSea::new(plan)),
            Box::new(refusal::Refusals::new(plan)),
            Box::new(liveness::OtherAddress::new(plan)),
            Box::new(reference::Reference::new(plan)),
        ];
        let seats = oracles.into_iter().map(|oracle| (oracle, Judge::default())).collect();
        Self { seats, clients: plan.clients.len(), http }
    }

    pub(crate) fn observe(&mut self, entry: &Entry) {
        if let Some(http) = &mut self.http {
            http.observe(entry);
        }
        let is_others = matches!(entry.place, Place::Client(client) if client >= self.clients);
        if is_others || matches!(entry.what, What::Web(_)) {
            return;
        }
        for (oracle, judge) in &mut self.seats {
            oracle.observe(entry, judge);
        }
    }

    pub(crate) fn finish(&mut self, end: Timestamp) {
        for (oracle, judge) in &mut self.seats {
            oracle.finish(end, judge);
        }
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let verdict = |(oracle, judge): &(Box<dyn Oracle>, Judge)| Verdict {
            card: oracle.card(),
            armed: judge.armed,
            violations: judge.violations.clone(),
        };
        let of_http = self.http.iter().flat_map(http::HttpBench::seats).map(|(card, judge)| Verdict {
            card,
            armed: judge.armed,
            violations: judge.violations.clone(),
        });
        self.seats.iter().map(verdict).chain(of_http).collect()
    }
}

const VIOLATIONS_MAX: usize = 5;

//! What a run has shown.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use hpx_transport::{env::Timestamp, websocket::ConnectionState};

use crate::{
    net::Backend,
    oracle::Verdict,
    plan::{FAULT_NAMES, Plan, Reader},
    trace::{Digests, Entry, FaultLog, Outcome, Place, ServerLog, SocketLog, WebLog, What, WorkLog},
    world::Ran,
};

/// The outcome of one run. Its `Display` is the timeline and the verdicts, as `cargo sim` prints them.
pub struct Report {
    plan: Arc<Plan>,
    backend: Backend,
    entries: Vec<Entry>,
    verdicts: Vec<Verdict>,
    digests: Digests,
    bytes: Option<[u8; 16]>,
    failure: Option<String>,
}

impl Report {
    pub(crate) fn new(plan: Arc<Plan>, backend: Backend, ran: Ran) -> Self {
        let digests = Digests::of(&ran.entries);
        Self {
            plan,
            backend,
            digests,
            entries: ran.entries,
            verdicts: ran.bench.verdicts(),
            bytes: ran.bytes,
            failure: ran.failure,
        }
    }

    /// True if nothing was broken.
    pub fn is_green(&self) -> bool {
        self.failure.is_none() && self.verdicts.iter().all(|verdict| verdict.violations.is_empty())
    }

    /// What was run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What it ran on.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Everything that happened.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What the oracles say.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The fingerprint of the trace.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// The fingerprint of every byte that the clients' sockets read and wrote, if the simulation was told to take it.
    pub fn byte_digest(&self) -> Option<String> {
        self.bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Why the simulation itself broke, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Why this run proves nothing, if it doesn't (M-4): nobody ever connected and no fault is why, or links were cut and
    /// nobody dialed again.
    pub fn vacuous(&self) -> Option<&'static str> {
        let any = |test: fn(&What) -> bool| self.entries.iter().any(|entry| test(&entry.what));
        let connected = |what: &What| {
            matches!(what, What::Server(ServerLog::Authenticated { .. }) | What::Web(WebLog::Executed { .. }))
        };
        if !any(connected) {
            let struck = any(|what| matches!(what, What::Fault(FaultLog::Began { .. })));
            return (!struck).then_some("nobody was ever connected, and nothing befell anybody");
        }
        let deaf = |client| self.was_cut(client) && !self.dialed_again(client);
        (0..self.plan.clients.len())
            .any(deaf)
            .then_some("a link was cut whose client stayed, and it did not dial again")
    }

    /// True if the exchange closed a connection of this client, which had not come to its own end when the world had healed.
    fn was_cut(&self, client: usize) -> bool {
        let mut own = Vec::new();
        let (mut cut, mut stayed) = (false, false);
        for entry in &self.entries {
            match &entry.what {
                What::Server(ServerLog::Accepted { conn, client: owner, .. }) if *owner == client => {
                    own.push(*conn);
                }
                What::Server(ServerLog::Closing { conn, .. }) => cut |= own.contains(conn),
                // Whoever has given up for good does not dial again.
                What::Work(WorkLog::Snapshot { state, .. }) if entry.place == Place::Client(client) => {
                    stayed |= *state != ConnectionState::Closed;
                }
                _ => {}
            }
        }
        cut && stayed
    }

    /// True if the library made another attempt for this client.
    fn dialed_again(&self, client: usize) -> bool {
        let attempt = |entry: &&Entry| {
            entry.place == Place::Client(client) && matches!(entry.what, What::Socket(SocketLog::Resolving))
        };
        self.entries.iter().filter(attempt).count() >= 2
    }

    /// The id of the first oracle that fired.
    pub fn killer(&self) -> Option<&'static str> {
        let fired = |verdict: &&Verdict| !verdict.violations.is_empty();
        let first = |verdict: &&Verdict| verdict.violations.first().map(|violation| violation.at);
        self.verdicts.iter().filter(fired).min_by_key(first).map(|verdict| verdict.card.id)
    }

    /// How often each kind of fault happened, by its name in [`FAULT_NAMES`].
    pub fn fault_counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<&'static str, u64> = FAULT_NAMES.iter().map(|name| (*name, 0)).collect();
        let mut count = |name: &'static str| *counts.entry(name).or_default() += 1;
        for client in &self.plan.clients {
            if client.reader != Reader::Prompt {
                count("slow-reader");
            }
        }
        for entry in &self.entries {
            match &entry.what {
                What::Fault(FaultLog::Began { fault, .. }) => count(self.plan.faults[*fault].kind.name()),
                What::Work(WorkLog::HandlesDropped) => count("handle-drop"),
                What::Work(WorkLog::CallEnded { outcome: Outcome::Cancelled { .. }, .. }) => {
                    count("cancelled-future");
                }
                _ => {}
            }
        }
        counts
    }

    /// The run as a page of HTML: what broke, a picture of the connections and the faults, the events, the plan.
    pub fn page(&self) -> String {
        crate::page::page(self)
    }

    /// The events of the trace as lines, without bytes and bookkeeping.
    pub fn story(&self) -> String {
        crate::trace::story(&self.entries)
    }

    /// The story with its times rounded down to the plan's tick: what a snapshot keeps.
    pub fn transcript(&self) -> String {
        let tick = self.plan.tick_ms.max(1) * 1_000_000;
        let rounded = |entry: &Entry| {
            let at = Timestamp::ZERO + Duration::from_nanos(entry.at.as_nanos() / tick * tick);
            Entry { at, ..entry.clone() }
        };
        crate::trace::story(&self.entries.iter().map(rounded).collect::<Vec<_>>())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::trace::lanes(&self.plan, &self.entries))?;
        writeln!(f)?;
        f.write_str(&self.story())?;
        writeln!(f)?;
        for verdict in &self.verdicts {
            let word = match (verdict.violations.is_empty(), verdict.armed) {
                (false, _) => "BROKEN",
                (true, 0) => "not armed",
                (true, _) => "holds",
            };
            writeln!(
                f,
                "{:<6} {word:<9} armed {:>5}x  {}",
                verdict.card.id, verdict.armed, verdict.card.rule
            )?;
            for violation in &verdict.violations {
                writeln!(f, "         {:?}  {}", violation.at, violation.text)?;
            }
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

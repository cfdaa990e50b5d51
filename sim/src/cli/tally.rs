//! What many runs have shown together, as a table.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::coverage::Coverage;
use crate::{
    Report,
    plan::{FAULT_NAMES, Preset, Work},
    trace::{ServerLog, What},
};

/// What one run, or many, have shown.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    /// What the runs were drawn as.
    #[serde(skip)]
    preset: Preset,
    #[serde(skip)]
    work: Work,
    pub(super) runs: u64,
    pub(super) red: u64,
    /// Runs that prove nothing.
    pub(super) vacuous: u64,
    simulated_ms: u64,
    /// Links that stood after another one of the same client.
    reconnects: u64,
    faults: BTreeMap<&'static str, u64>,
    oracles: Vec<OracleRow>,
    pub(super) coverage: Coverage,
}

#[derive(Debug, Clone, Serialize)]
struct OracleRow {
    id: &'static str,
    /// How often it had something to judge, and in how many runs.
    armed: u64,
    runs: u64,
    /// In how many runs it was broken, and how many violations that were.
    broken: u64,
    violations: u64,
}

impl Tally {
    /// Of no runs yet, which will be of this preset, with such clients.
    pub(super) fn of_none(preset: Preset, work: Work) -> Self {
        Self { preset, work, ..Self::default() }
    }

    /// Of one run.
    pub(super) fn of(report: &Report) -> Self {
        let row = |verdict: &crate::Verdict| OracleRow {
            id: verdict.card.id,
            armed: verdict.armed,
            runs: u64::from(verdict.armed > 0),
            broken: u64::from(!verdict.violations.is_empty()),
            violations: verdict.violations.len() as u64,
        };
        Self {
            preset: Preset::default(),
            work: Work::default(),
            runs: 1,
            red: u64::from(!report.is_green()),
            vacuous: u64::from(report.vacuous().is_some()),
            simulated_ms: report.plan().end_ms(),
            reconnects: reconnects(report),
            faults: report.fault_counts(),
            oracles: report.verdicts().iter().map(row).collect(),
            coverage: Coverage::of(report.plan(), report.entries()),
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.red += other.red;
        self.vacuous += other.vacuous;
        self.simulated_ms += other.simulated_ms;
        self.reconnects += other.reconnects;
        for (name, count) in other.faults {
            *self.faults.entry(name).or_default() += count;
        }
        // By id: not every run need have every oracle.
        for row in other.oracles {
            match self.oracles.iter_mut().find(|own| own.id == row.id) {
                Some(own) => {
                    own.armed += row.armed;
                    own.runs += row.runs;
                    own.broken += row.broken;
                    own.violations += row.violations;
                }
                None => self.oracles.push(row),
            }
        }
        self.coverage.add(other.coverage);
    }

    /// Nothing broken; and over a range that is long enough, nothing left untried.
    pub(super) fn is_green(&self) -> bool {
        self.red == 0 && self.vacuous == 0 && self.untried().is_empty()
    }

    /// The kinds of fault that many plans have, with such clients.
    fn fault_names(&self) -> Vec<&'static str> {
        let of_http = [("serve", Preset::Calm)];
        let of_http = of_http.iter().filter(|(_, not)| self.work != Work::WebSocket && self.preset != *not);
        // WebSocket clients alone have scripts of these, and an endpoint that breaks the protocol.
        let theirs = ["misbehave", "handle-drop", "slow-reader", "cancelled-future"];
        let names = self.preset.fault_names().into_iter();
        let names = names.filter(|name| self.work != Work::Http || !theirs.contains(name));
        names.chain(of_http.map(|(name, _)| *name)).collect()
    }

    pub(super) fn simulated_hours(&self) -> f64 {
        self.simulated_ms as f64 / 3_600_000.0
    }

    /// Oracles never armed and faults too rare. Nothing, over few runs.
    pub(super) fn untried(&self) -> Vec<&'static str> {
        if self.runs < RUNS_TO_JUDGE {
            return Vec::new();
        }
        let idle = |row: &&OracleRow| row.armed == 0 && !may_rest(self.preset, self.work, row.id);
        let oracles = self.oracles.iter().filter(idle).map(|row| row.id);
        let rare = |name: &&str| self.faults.get(name).copied().unwrap_or_default() < OCCURRENCES_MIN;
        oracles.chain(self.fault_names().into_iter().filter(rare)).collect()
    }
}

/// True if plans of this preset, with such clients, need not give this oracle anything to judge.
fn may_rest(preset: Preset, work: Work, oracle: &str) -> bool {
    match oracle {
        // Where both draw faults, hardly a run has none, or just the one that is looked for.
        "WS-L4" | "WS-L6" | "P-15" if work == Work::Both => true,
        // Hardly a hostile plan has no fault but hosts that misbehave.
        "P-15" if preset == Preset::Hostile => true,
        // The law of a thousand first waits.
        "WS-7" => preset != Preset::Fleet,
        // Refusals for good.
        "WS-L5" => preset != Preset::Hostile,
        // One of two addresses dead for good.
        "WS-L6" => matches!(preset, Preset::Calm | Preset::Fleet),
        // A calm sea has no lost hosts, nor hosts that misbehave.
        "P-12" | "P-15" | "K-3" | "K-5" | "K-9" | "T-6" => preset == Preset::Calm,
        // A jump of the clock, and nothing else.
        "K-14" => preset != Preset::Calm,
        // Runs without any fault.
        "WS-L4" => preset == Preset::Fleet,
        _ => false,
    }
}

fn reconnects(report: &Report) -> u64 {
    let mut clients = BTreeMap::new();
    let mut stood: BTreeMap<usize, u64> = BTreeMap::new();
    for entry in report.entries() {
        match &entry.what {
            What::Server(ServerLog::Accepted { conn, client, .. }) => {
                clients.insert(*conn, *client);
            }
            What::Server(ServerLog::Authenticated { conn }) => {
                if let Some(client) = clients.get(conn) {
                    *stood.entry(*client).or_default() += 1;
                }
            }
            _ => {}
        }
    }
    stood.values().map(|links| links - 1).sum()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {:.1} simulated hours, {} reconnects, {} red, {} vacuous",
            self.runs,
            self.simulated_hours(),
            self.reconnects,
            self.red,
            self.vacuous
        )?;
        writeln!(f, "\nfault              happened")?;
        for name in FAULT_NAMES {
            let count = self.faults.get(name).copied().unwrap_or_default();
            if count > 0 || self.fault_names().contains(&name) {
                writeln!(f, "{name:<18} {count:>8}")?;
            }
        }
        writeln!(f, "\noracle     armed   in runs   broken in  violations")?;
        for OracleRow { id, armed, runs, broken, violations } in &self.oracles {
            writeln!(f, "{id:<6} {armed:>9} {runs:>9} {broken:>11} {violations:>11}")?;
        }
        let untried = self.untried();
        if !untried.is_empty() {
            writeln!(f, "\nVACUOUS: too seldom: {}", untried.join(", "))?;
        }
        Ok(())
    }
}

/// Fewer seeds may well miss a fault.
const RUNS_TO_JUDGE: u64 = 200;
/// What each kind of fault must come to in as many runs.
const OCCURRENCES_MIN: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Simulation;

    #[test]
    fn a_tally_of_two_runs_is_the_sum_of_both() {
        let [first, second] = [42, 43].map(|seed| Simulation::new(seed).run());
        let mut tally = Tally::of(&first);
        tally.add(Tally::of(&second));
        assert_eq!((tally.runs, tally.red), (2, 0));
        assert_eq!(tally.simulated_ms, first.plan().end_ms() + second.plan().end_ms());
        assert_eq!(tally.reconnects, reconnects(&first) + reconnects(&second));
        assert_eq!(tally.oracles.len(), first.verdicts().len());
        let armed = |report: &Report| report.verdicts().iter().map(|verdict| verdict.armed).sum::<u64>();
        assert_eq!(tally.oracles.iter().map(|row| row.armed).sum::<u64>(), armed(&first) + armed(&second));
    }
}

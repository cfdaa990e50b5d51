//! The table at the end of many seeds.

use std::{collections::BTreeMap, fmt};

use crate::{Report, plan::FAULT_NAMES};

/// What many runs have shown together.
#[derive(Default)]
pub(super) struct Tally {
    runs: u64,
    red: Vec<u64>,
    faults: BTreeMap<&'static str, u64>,
    /// Per oracle: how often armed, in how many runs, how often broken.
    oracles: Vec<(&'static str, u64, u64, u64)>,
}

impl Tally {
    pub(super) fn add(&mut self, seed: u64, report: &Report) {
        self.runs += 1;
        if !report.is_green() {
            self.red.push(seed);
        }
        for (name, count) in report.fault_counts() {
            *self.faults.entry(name).or_default() += count;
        }
        if self.oracles.is_empty() {
            self.oracles = report.verdicts().iter().map(|verdict| (verdict.card.id, 0, 0, 0)).collect();
        }
        for (row, verdict) in self.oracles.iter_mut().zip(report.verdicts()) {
            row.1 += verdict.armed;
            row.2 += u64::from(verdict.armed > 0);
            row.3 += u64::from(!verdict.violations.is_empty());
        }
    }

    /// Nothing broken; and over a range that is long enough, nothing left untried.
    pub(super) fn is_green(&self) -> bool {
        self.red.is_empty() && (self.runs < RUNS_TO_JUDGE || self.untried().is_empty())
    }

    /// Oracles never armed and faults too rare.
    fn untried(&self) -> Vec<&'static str> {
        let oracles = self.oracles.iter().filter(|row| row.1 == 0).map(|row| row.0);
        let rare = |name: &&&str| self.faults.get(**name).copied().unwrap_or_default() < OCCURRENCES_MIN;
        oracles.chain(FAULT_NAMES.iter().filter(rare).copied()).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "fault              happened")?;
        for name in FAULT_NAMES {
            writeln!(f, "{name:<18} {:>8}", self.faults.get(name).copied().unwrap_or_default())?;
        }
        writeln!(f, "\noracle     armed   in runs   broken in")?;
        for (id, armed, runs, broken) in &self.oracles {
            writeln!(f, "{id:<6} {armed:>9} {runs:>9} {broken:>11}")?;
        }
        if !self.red.is_empty() {
            writeln!(f, "\nred seeds: {:?}", self.red)?;
        }
        if self.runs >= RUNS_TO_JUDGE && !self.untried().is_empty() {
            writeln!(f, "\nVACUOUS: too seldom: {}", self.untried().join(", "))?;
        }
        Ok(())
    }
}

/// Fewer seeds may well miss a fault.
const RUNS_TO_JUDGE: u64 = 200;
/// What each kind of fault must come to in as many runs.
const OCCURRENCES_MIN: u64 = 10;

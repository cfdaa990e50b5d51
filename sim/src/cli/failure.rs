//! What is kept of a run that is red: why, its plan in a file, and the command that replays it.

use std::{fmt, fs, path::Path};

use serde::Serialize;

use super::setup::Setup;
use crate::{Plan, Report, trace::whole_line};

/// One red run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    pub(super) seed: u64,
    /// The oracle that fired first, and what it said.
    pub(super) cause: Cause,
    /// The file of its plan; `None` if it could not be written.
    pub(super) plan: Option<String>,
    pub(super) replay: String,
}

/// Why a run is red.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cause {
    /// The oracle's id, or [`SIMULATION`].
    pub(super) oracle: String,
    pub(super) text: String,
}

/// The failures of many runs: the first ones whole, the others counted.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) kept: Vec<Failure>,
    pub(super) total: u64,
}

/// Stands for an oracle where the simulation itself broke.
pub(super) const SIMULATION: &str = "simulation";
/// So many plans of one sweep are looked at by somebody. One bug makes hundreds of seeds red.
const FAILURES_MAX: usize = 20;

impl Cause {
    /// Why a run is red; `None` if it is green.
    pub(super) fn of(report: &Report) -> Option<Self> {
        if let Some(oracle) = report.killer() {
            let verdict = report.verdicts().iter().find(|verdict| verdict.card.id == oracle)?;
            let violation = verdict.violations.first()?;
            let text = format!("at {:?}: {}", violation.at, violation.text);
            return Some(Self { oracle: oracle.to_owned(), text });
        }
        let text = report.failure()?.to_owned();
        Some(Self { oracle: SIMULATION.to_owned(), text })
    }

    /// True if a run is red for this oracle too, whatever else it is red for.
    pub(super) fn is_in(&self, report: &Report) -> bool {
        if self.oracle == SIMULATION {
            return report.failure().is_some();
        }
        let mut verdicts = report.verdicts().iter();
        verdicts.any(|verdict| verdict.card.id == self.oracle && !verdict.violations.is_empty())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.oracle, self.text)
    }
}

impl Failure {
    /// Writes the plan of a red run to `out`, its page and its trace beside it, and says what became of the plan.
    pub(super) fn keep(seed: u64, cause: Cause, plan: &Plan, out: &str, setup: &Setup) -> Self {
        let path = |suffix: &str| Path::new(out).join(format!("seed-{seed}.{suffix}"));
        // The run is its plan: it is run again rather than kept.
        let report = setup.simulation(plan.clone()).run();
        let trace = report.entries().iter().map(whole_line).collect::<Vec<_>>().join("\n");
        for (suffix, text) in [("html", report.page()), ("trace.txt", trace)] {
            if let Err(text) = write_file(&path(suffix), &text) {
                eprintln!("error: of seed {seed} is lost: {text}");
            }
        }
        let path = path("json");
        let plan = match write_file(&path, &plan.to_json()) {
            Ok(()) => Some(path.display().to_string()),
            Err(text) => {
                eprintln!("error: the plan of seed {seed} is lost: {text}");
                None
            }
        };
        Self { seed, cause, plan, replay: format!("cargo sim SEED={seed}{setup}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan.as_deref().unwrap_or("not saved");
        write!(f, "seed {:>6}  RED  {}  plan: {plan}  replay: {}", self.seed, self.cause, self.replay)
    }
}

impl Failures {
    /// Counts a red run, and keeps what `keep` makes of it if there is room.
    pub(super) fn add(&mut self, keep: impl FnOnce() -> Failure) -> Option<&Failure> {
        self.total += 1;
        if self.kept.len() == FAILURES_MAX {
            return None;
        }
        self.kept.push(keep());
        self.kept.last()
    }

    /// How many are counted and not kept.
    pub(super) fn not_kept(&self) -> u64 {
        self.total - self.kept.len() as u64
    }
}

/// Writes a file, and the folders it lies in where there are none.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text)).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failures_are_kept_and_the_rest_is_counted() {
        let mut failures = Failures::default();
        for seed in 0..FAILURES_MAX as u64 + 5 {
            let cause = Cause { oracle: "WS-1".to_owned(), text: String::new() };
            let kept = failures.add(|| Failure { seed, cause, plan: None, replay: String::new() });
            assert_eq!(kept.is_some(), seed < FAILURES_MAX as u64);
        }
        assert_eq!((failures.kept.len(), failures.not_kept()), (FAILURES_MAX, 5));
    }

    #[test]
    fn a_green_run_has_no_cause() {
        assert_eq!(Cause::of(&crate::Simulation::new(42).run()), None);
    }
}

//! The command line: `KEY=VALUE` pairs, as `just sim SEED=42` passes them through.

use crate::Backend;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    Help,
    Seed { seed: u64, save: Option<String>, bug: Option<String> },
    Seeds { from: u64, to: u64, bug: Option<String> },
    Plan { path: String, save: Option<String>, bug: Option<String> },
    Planted { from: u64, to: u64 },
}

pub(super) const USAGE: &str = "\
usage: cargo sim [KEY=VALUE]..
  SEED=42        draw the plan of a seed and run it; a bare 42 does the same (default: SEED=42)
  SEEDS=0..200   run every seed of the range, one line each, and a table at the end
  PLAN=file      run the plan in this JSON file
  SAVE=file      with SEED or PLAN: write the plan to this file
  BACKEND=memory with SEED, SEEDS or PLAN: on the network in memory (default: turmoil)
  BUG=name       plant a bug (a build with RUSTFLAGS=\"--cfg hpx_planted\"); BUG=all hunts all of them
  PLANTED        the same as BUG=all; with SEEDS, over that range (default: 0..200)";

#[derive(Default)]
struct Words {
    seed: Option<u64>,
    seeds: Option<(u64, u64)>,
    plan: Option<String>,
    save: Option<String>,
    bug: Option<String>,
    planted: bool,
}

/// The task, and the network it runs on.
///
/// # Errors
///
/// What is wrong with the first word that is.
pub(super) fn read(args: impl IntoIterator<Item = String>) -> Result<(Task, Backend), String> {
    let (backend, rest) = backend(args)?;
    let task = parse(rest)?;
    if backend.is_some() && matches!(task, Task::Planted { .. }) {
        return Err("BACKEND goes with SEED, SEEDS or PLAN: planted bugs are hunted on turmoil".to_owned());
    }
    Ok((task, backend.unwrap_or_default()))
}

/// Takes `BACKEND=` out of the words.
///
/// # Errors
///
/// No such backend, or two of them.
fn backend(args: impl IntoIterator<Item = String>) -> Result<(Option<Backend>, Vec<String>), String> {
    let (mut backend, mut rest) = (None, Vec::new());
    for arg in args {
        let Some(value) = arg.strip_prefix("BACKEND=") else {
            rest.push(arg);
            continue;
        };
        let named = Backend::named(value);
        let named = named.ok_or_else(|| format!("BACKEND={value}: the backends are turmoil and memory"))?;
        if backend.replace(named).is_some() {
            return Err("BACKEND is given twice".to_owned());
        }
    }
    Ok((backend, rest))
}

/// # Errors
///
/// What is wrong with the first word that is.
fn parse(args: impl IntoIterator<Item = String>) -> Result<Task, String> {
    let mut words = Words::default();
    for arg in args {
        match arg.split_once('=') {
            Some((key, value)) => words.set(key, value)?,
            None if matches!(arg.as_str(), "help" | "-h" | "--help") => return Ok(Task::Help),
            None if arg == "PLANTED" => words.planted = true,
            None => words.set("SEED", &arg).map_err(|_| format!("{arg} is neither KEY=VALUE nor a seed"))?,
        }
    }
    words.task()
}

impl Words {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let twice = |taken: bool| if taken { Err(format!("{key} is given twice")) } else { Ok(()) };
        match key {
            "SEED" => {
                twice(self.seed.is_some())?;
                let seed = value
                    .parse()
                    .map_err(|_| format!("SEED={value}: a seed is a whole number below 2^64"))?;
                self.seed = Some(seed);
            }
            "SEEDS" => {
                twice(self.seeds.is_some())?;
                self.seeds = Some(range(value)?);
            }
            "PLAN" => {
                twice(self.plan.is_some())?;
                self.plan = Some(value.to_owned());
            }
            "SAVE" => {
                twice(self.save.is_some())?;
                self.save = Some(value.to_owned());
            }
            "BUG" if value == "all" => self.planted = true,
            "BUG" => {
                twice(self.bug.is_some())?;
                self.bug = Some(value.to_owned());
            }
            _ => {
                return Err(format!(
                    "{key} is not a key; the keys are SEED, SEEDS, PLAN, SAVE, BACKEND, BUG and PLANTED"
                ));
            }
        }
        Ok(())
    }

    fn task(self) -> Result<Task, String> {
        let Self { seed, seeds, plan, save, bug, planted } = self;
        let ways = usize::from(seed.is_some()) + usize::from(seeds.is_some()) + usize::from(plan.is_some());
        if ways > 1 {
            return Err("SEED, SEEDS and PLAN exclude each other".to_owned());
        }
        if planted {
            if seed.is_some() || plan.is_some() || bug.is_some() || save.is_some() {
                return Err("PLANTED goes with SEEDS alone".to_owned());
            }
            let (from, to) = seeds.unwrap_or(HUNT);
            return Ok(Task::Planted { from, to });
        }
        match (seeds, plan) {
            (Some(_), _) if save.is_some() => Err("SAVE goes with SEED or PLAN".to_owned()),
            (Some((from, to)), _) => Ok(Task::Seeds { from, to, bug }),
            (None, Some(path)) => Ok(Task::Plan { path, save, bug }),
            (None, None) => Ok(Task::Seed { seed: seed.unwrap_or(42), save, bug }),
        }
    }
}

fn range(value: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("SEEDS={value}: a range is written 0..200");
    let (from, to) = value.split_once("..").ok_or_else(wrong)?;
    let (from, to): (u64, u64) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok((from, to)) } else { Err(format!("SEEDS={value}: the range is empty")) }
}

/// The seeds within which every planted bug must be found.
const HUNT: (u64, u64) = (0, 200);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Task, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_forms_of_a_command_line() {
        let seed = |seed| Ok(Task::Seed { seed, save: None, bug: None });
        assert_eq!(of("SEED=7"), seed(7));
        assert_eq!(of("7"), seed(7));
        assert_eq!(of(""), seed(42));
        assert_eq!(of("SEEDS=3..9"), Ok(Task::Seeds { from: 3, to: 9, bug: None }));
        assert_eq!(of("PLANTED"), Ok(Task::Planted { from: 0, to: 200 }));
        assert_eq!(of("BUG=all SEEDS=0..5"), Ok(Task::Planted { from: 0, to: 5 }));
        let plan =
            Task::Plan { path: "p.json".to_owned(), save: Some("q".to_owned()), bug: Some("x".to_owned()) };
        assert_eq!(of("PLAN=p.json SAVE=q BUG=x"), Ok(plan));
    }

    #[test]
    fn a_backend_is_taken_out_of_the_words() {
        let of = |line: &str| backend(line.split_whitespace().map(str::to_owned));
        assert_eq!(of("SEED=7"), Ok((None, vec!["SEED=7".to_owned()])));
        assert_eq!(of("BACKEND=memory SEED=7"), Ok((Some(Backend::Memory), vec!["SEED=7".to_owned()])));
        assert!(of("BACKEND=smoke signals").is_err_and(|error| error.contains("turmoil and memory")));
        assert!(of("BACKEND=memory BACKEND=turmoil").is_err_and(|error| error.contains("twice")));
        let planted = read(["PLANTED", "BACKEND=memory"].map(str::to_owned));
        assert!(planted.is_err_and(|error| error.contains("goes with SEED")));
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, word) in [
            ("SED=1", "SED is not a key; the keys are SEED"),
            ("SEED=-1", "SEED=-1"),
            ("SEED=1 SEED=2", "SEED is given twice"),
            ("x", "x is neither"),
            ("SEEDS=9", "SEEDS=9"),
            ("SEEDS=9..9", "empty"),
            ("SEED=1 PLAN=x", "exclude"),
            ("SEEDS=0..2 SAVE=x", "SAVE goes with"),
        ] {
            let error = of(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}

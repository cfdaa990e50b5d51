//! The command line: a command and `KEY=VALUE` pairs, as `just sweep SEEDS=0..1000` passes them through.

use std::{collections::BTreeMap, ops::Range};

use super::setup::{self, Setup};

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    Help,
    One(One),
    Many { seeds: Range<u64>, out: String, setup: Setup },
    Planted { seeds: Range<u64>, bugs: Option<String> },
    Certify(Certify),
    Differential(Differential),
    Sweep(Sweep),
    Trace { source: Source, canary: bool, setup: Setup },
}

/// Where a plan comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Seed(u64),
    File(String),
}

/// One run with its picture.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct One {
    pub(super) source: Source,
    pub(super) save: Option<String>,
    pub(super) page: Option<String>,
    pub(super) shrink: bool,
    pub(super) out: String,
    pub(super) setup: Setup,
}

/// Every seed twice, in processes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certify {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: usize,
    /// Lets the processes differ, to show that it is seen.
    pub(super) canary: bool,
    pub(super) out: String,
    pub(super) setup: Setup,
}

/// Every seed on both backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Differential {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: usize,
    pub(super) out: String,
    pub(super) setup: Setup,
}

/// Many seeds, several at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sweep {
    pub(super) seeds: Range<u64>,
    pub(super) jobs: usize,
    pub(super) shard: Shard,
    pub(super) json: Option<String>,
    pub(super) out: String,
    pub(super) setup: Setup,
}

/// Every `of`-th seed of a range, from its `number`-th on; `number` counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) number: u64,
    pub(super) of: u64,
}

impl Shard {
    /// The seeds of a range that are of this shard.
    pub(super) fn of(self, seeds: Range<u64>) -> impl Iterator<Item = u64> + Clone {
        let step = usize::try_from(self.of).unwrap_or(usize::MAX);
        // Past the range there is nothing, also where the sum would not fit.
        let first = seeds.start.saturating_add(self.number - 1).min(seeds.end);
        (first..seeds.end).step_by(step)
    }
}

pub(super) const USAGE: &str = "\
usage: cargo sim [COMMAND] [KEY=VALUE]..

cargo sim                one run, or a few, one after the other
  SEED=42        draw the plan of a seed and run it; a bare 42 does the same (default: SEED=42)
  SEEDS=0..200   run every seed of the range, one line each, and a table at the end
  PLAN=file      run the plan in this JSON file
  SAVE=file      with SEED or PLAN: write the plan to this file
  PAGE=file      with SEED or PLAN: write a page of HTML to look at
  SHRINK=no      with SEED or PLAN: leave a failing plan as large as it is
  PLANTED        hunt every planted bug; with SEEDS, over that range (default: 0..1000); BUG=all is the same,
                 BUG=name,name hunts only these
cargo sim sweep          many runs at once; a table and what the faults struck at the end
  SEEDS=0..10000 (default: 0..1000)
  JOBS=2         runs at the same time (default: 2)
  SHARD=3/64     every 64th seed, from the third on
  JSON=file      write the table to this file too
cargo sim certify        every seed twice, each run in a process of its own: their digests must be equal
  SEEDS=0..64    (default)
  JOBS=2         processes at the same time (default: 2)
  CANARY=yes     let the processes differ: this must be seen, and end with 1
cargo sim differential   every seed on both backends, without what they are known to differ in: they must come to the same
  SEEDS=0..500   (default)
  JOBS=2
cargo sim trace          everything that happened in a run, a line each, and the digest
  SEED=42, PLAN=file

with each of them
  PRESET=calm    the kind of plan a seed draws: calm, stormy, hostile, long-haul, fleet (default: stormy)
  WORK=http      what its clients are: websocket, http, both (default: websocket)
  BACKEND=memory the network in memory (default: turmoil)
  BUG=name       plant a bug (a build with RUSTFLAGS=\"--cfg hpx_planted\")
  OUT=folder     where the plans of failures go (default: target/sim)

ends with 0 if all held, 1 if not, 2 if the words are wrong, 130 if it was interrupted";

/// A command and its keys, but for those of every command.
struct Command {
    name: &'static str,
    keys: &'static [&'static str],
}

const RUN: Command =
    Command { name: "run", keys: &["SEED", "SEEDS", "PLAN", "SAVE", "PAGE", "SHRINK", "OUT"] };
const SWEEP: Command = Command { name: "sweep", keys: &["SEEDS", "JOBS", "SHARD", "JSON", "OUT"] };
const CERTIFY: Command = Command { name: "certify", keys: &["SEEDS", "JOBS", "CANARY", "OUT"] };
const DIFFERENTIAL: Command = Command { name: "differential", keys: &["SEEDS", "JOBS", "OUT"] };
const TRACE: Command = Command { name: "trace", keys: &["SEED", "PLAN", "CANARY"] };

impl Command {
    fn all_keys(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().chain(setup::KEYS).copied()
    }

    /// The key as it stands in the list.
    fn key(&self, name: &str) -> Result<&'static str, String> {
        self.all_keys().find(|key| *key == name).ok_or_else(|| {
            let keys: Vec<&str> = self.all_keys().collect();
            format!("{name} is not a key of {}; its keys are {}", self.name, keys.join(", "))
        })
    }
}

/// # Errors
///
/// What is wrong with the first word that is.
pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Task, String> {
    let mut args = args.into_iter().peekable();
    let command = match args.peek().map(String::as_str) {
        Some("sweep") => &SWEEP,
        Some("certify") => &CERTIFY,
        Some("differential") => &DIFFERENTIAL,
        Some("trace") => &TRACE,
        _ => &RUN,
    };
    let named = args.next_if(|word| word == command.name).is_some();
    let mut words = Words { command, values: BTreeMap::new(), planted: false };
    for arg in args {
        match arg.split_once('=') {
            Some((key, value)) => words.set(key, value)?,
            None if matches!(arg.as_str(), "help" | "-h" | "--help") => return Ok(Task::Help),
            None if arg == "PLANTED" && !named => words.planted = true,
            None if words.command.key("SEED").is_ok() => words
                .set("SEED", &arg)
                .and_then(|()| number("SEED", &arg).map(drop))
                .map_err(|_| format!("{arg} is neither a command, nor KEY=VALUE, nor a seed"))?,
            None => return Err(format!("{arg} is not KEY=VALUE")),
        }
    }
    words.task()
}

/// The words of a command line, by key.
struct Words {
    command: &'static Command,
    values: BTreeMap<&'static str, String>,
    planted: bool,
}

impl Words {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let key = self.command.key(key)?;
        if value.is_empty() {
            return Err(format!("{key} has no value"));
        }
        if key == "BUG" && value == "all" && self.command.name == RUN.name {
            self.planted = true;
            return Ok(());
        }
        match self.values.insert(key, value.to_owned()) {
            None => Ok(()),
            Some(_) => Err(format!("{key} is given twice")),
        }
    }

    fn task(mut self) -> Result<Task, String> {
        let name = self.command.name;
        let setup = |words: &mut Self| {
            let own = setup::KEYS.iter();
            Setup::new(own.filter_map(|key| words.values.remove(key).map(|value| (*key, value))).collect())
        };
        if name == RUN.name {
            return self.run(setup);
        }
        let (setup, out) = (setup(&mut self), self.out());
        Ok(match name {
            "sweep" => Task::Sweep(Sweep {
                seeds: self.seeds()?.unwrap_or(0..1000),
                jobs: self.jobs()?,
                shard: self.shard()?,
                json: self.values.remove("JSON"),
                out,
                setup,
            }),
            "certify" => Task::Certify(Certify {
                seeds: self.seeds()?.unwrap_or(0..64),
                jobs: self.jobs()?,
                canary: self.yes_or_no("CANARY")?.unwrap_or(false),
                out,
                setup,
            }),
            "differential" => {
                if setup.value("BACKEND").is_some() {
                    return Err("BACKEND does not go with differential, which runs both".to_owned());
                }
                let (seeds, jobs) = (self.seeds()?.unwrap_or(0..500), self.jobs()?);
                Task::Differential(Differential { seeds, jobs, out, setup })
            }
            _ => Task::Trace {
                canary: self.yes_or_no("CANARY")?.unwrap_or(false),
                source: self.source()?,
                setup,
            },
        })
    }

    fn run(mut self, setup: impl Fn(&mut Self) -> Setup) -> Result<Task, String> {
        if self.planted {
            let bugs = self.values.remove("BUG");
            let seeds = self.seeds()?.unwrap_or(HUNT);
            return match self.values.keys().next() {
                Some(key) => Err(format!("{key} does not go with PLANTED, which takes SEEDS and BUG")),
                None => Ok(Task::Planted { seeds, bugs }),
            };
        }
        let (setup, out) = (setup(&mut self), self.out());
        if let Some(seeds) = self.seeds()? {
            return match self.values.keys().next() {
                Some(key @ (&"SEED" | &"PLAN")) => Err(format!("SEEDS and {key} exclude each other")),
                Some(key) => Err(format!("{key} goes with SEED or PLAN")),
                None => Ok(Task::Many { seeds, out, setup }),
            };
        }
        let page = self.values.remove("PAGE");
        let (save, shrink) = (self.values.remove("SAVE"), self.yes_or_no("SHRINK")?.unwrap_or(true));
        Ok(Task::One(One { source: self.source()?, save, page, shrink, out, setup }))
    }

    fn source(&mut self) -> Result<Source, String> {
        match (self.values.remove("SEED"), self.values.remove("PLAN")) {
            (Some(_), Some(_)) => Err("SEED and PLAN exclude each other".to_owned()),
            (None, Some(path)) => Ok(Source::File(path)),
            (Some(seed), None) => Ok(Source::Seed(number("SEED", &seed)?)),
            (None, None) => Ok(Source::Seed(42)),
        }
    }

    fn seeds(&mut self) -> Result<Option<Range<u64>>, String> {
        let Some(value) = self.values.remove("SEEDS") else { return Ok(None) };
        let wrong = |_| format!("SEEDS={value}: a range is written 0..200");
        let (from, to) = value.split_once("..").ok_or(()).map_err(wrong)?;
        let (from, to) =
            (from.parse::<u64>().map_err(drop).map_err(wrong)?, to.parse().map_err(drop).map_err(wrong)?);
        if from < to { Ok(Some(from..to)) } else { Err(format!("SEEDS={value}: the range is empty")) }
    }

    fn jobs(&mut self) -> Result<usize, String> {
        let Some(value) = self.values.remove("JOBS") else { return Ok(JOBS) };
        let jobs = value.parse().ok().filter(|jobs| (1..=JOBS_MAX).contains(jobs));
        jobs.ok_or_else(|| format!("JOBS={value}: a whole number from 1 to {JOBS_MAX}"))
    }

    fn shard(&mut self) -> Result<Shard, String> {
        let Some(value) = self.values.remove("SHARD") else { return Ok(Shard { number: 1, of: 1 }) };
        let parts = value.split_once('/');
        let parts = parts.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err(format!("SHARD={value}: a shard is written 3/64, and the first is 1/64")),
        }
    }

    fn yes_or_no(&mut self, key: &str) -> Result<Option<bool>, String> {
        match self.values.remove(key).as_deref() {
            None => Ok(None),
            Some("yes") => Ok(Some(true)),
            Some("no") => Ok(Some(false)),
            Some(value) => Err(format!("{key}={value}: yes or no")),
        }
    }

    fn out(&mut self) -> String {
        self.values.remove("OUT").unwrap_or_else(|| OUT.to_owned())
    }
}

fn number(key: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("{key}={value}: a seed is a whole number below 2^64"))
}

/// The seeds within which every planted bug must be found.
const HUNT: Range<u64> = 0..1000;
/// What the smallest machines that check this have cores for.
const JOBS: usize = 2;
/// Far above the cores of any machine: a typing error, and not a wish.
const JOBS_MAX: usize = 1024;
/// Where the plans of failures go.
const OUT: &str = "target/sim";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Task, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn bug(name: &str) -> Setup {
        Setup::new(vec![("BUG", name.to_owned())])
    }

    fn one(source: Source) -> One {
        One { source, save: None, page: None, shrink: true, out: OUT.to_owned(), setup: Setup::default() }
    }

    #[test]
    fn the_forms_of_a_run() {
        let seed = |seed| Ok(Task::One(one(Source::Seed(seed))));
        assert_eq!(of("SEED=7"), seed(7));
        assert_eq!(of("7"), seed(7));
        assert_eq!(of(""), seed(42));
        let many = Task::Many { seeds: 3..9, out: OUT.to_owned(), setup: bug("x") };
        assert_eq!(of("SEEDS=3..9 BUG=x"), Ok(many));
        assert_eq!(of("PLANTED"), Ok(Task::Planted { seeds: 0..1000, bugs: None }));
        assert_eq!(of("BUG=all SEEDS=0..5"), Ok(Task::Planted { seeds: 0..5, bugs: None }));
        let bugs = Some("x,y".to_owned());
        assert_eq!(of("PLANTED BUG=x,y"), Ok(Task::Planted { seeds: 0..1000, bugs }));
        let plan = One {
            save: Some("q".to_owned()),
            shrink: false,
            out: "o".to_owned(),
            setup: bug("x"),
            ..one(Source::File("p.json".to_owned()))
        };
        assert_eq!(of("PLAN=p.json SAVE=q BUG=x SHRINK=no OUT=o"), Ok(Task::One(plan)));
    }

    #[test]
    fn the_forms_of_a_sweep_a_certificate_and_a_trace() {
        let (out, setup) = (OUT.to_owned(), Setup::default());
        let shard = Shard { number: 3, of: 64 };
        let json = Some("f".to_owned());
        let sweep = Sweep { seeds: 0..10_000, jobs: 4, shard, json, out: out.clone(), setup: setup.clone() };
        assert_eq!(of("sweep SEEDS=0..10000 JOBS=4 SHARD=3/64 JSON=f"), Ok(Task::Sweep(sweep)));
        let certify = Certify { seeds: 0..64, jobs: 2, canary: true, out, setup };
        assert_eq!(of("certify CANARY=yes"), Ok(Task::Certify(certify)));
        let both = Differential { seeds: 0..500, jobs: 1, out: OUT.to_owned(), setup: Setup::default() };
        assert_eq!(of("differential JOBS=1"), Ok(Task::Differential(both)));
        let trace = Task::Trace { source: Source::Seed(9), canary: false, setup: bug("x") };
        assert_eq!(of("trace 9 BUG=x"), Ok(trace));
    }

    #[test]
    fn shards_split_a_range_without_overlap_and_without_a_gap() {
        let mut seeds: Vec<u64> = (1..=7).flat_map(|number| Shard { number, of: 7 }.of(5..50)).collect();
        seeds.sort_unstable();
        assert_eq!(seeds, (5..50).collect::<Vec<u64>>());
        assert_eq!(Shard { number: 9, of: 9 }.of(0..3).count(), 0);
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, word) in [
            (
                "SED=1",
                "SED is not a key of run; its keys are SEED, SEEDS, PLAN, SAVE, PAGE, SHRINK, OUT, PRESET, WORK, BACKEND, BUG",
            ),
            ("JOBS=2", "JOBS is not a key of run"),
            (
                "sweep SEED=1",
                "SEED is not a key of sweep; its keys are SEEDS, JOBS, SHARD, JSON, OUT, PRESET, WORK, BACKEND, BUG",
            ),
            ("sweep PRESETS=calm", "PRESETS is not a key of sweep"),
            (
                "certify JSON=x",
                "JSON is not a key of certify; its keys are SEEDS, JOBS, CANARY, OUT, PRESET, WORK, BACKEND, BUG",
            ),
            (
                "trace SEEDS=0..2",
                "SEEDS is not a key of trace; its keys are SEED, PLAN, CANARY, PRESET, WORK, BACKEND, BUG",
            ),
            ("differential BACKEND=memory", "runs both"),
            ("sweep 7", "7 is not KEY=VALUE"),
            ("sweep sweep", "sweep is not KEY=VALUE"),
            ("SEED=-1", "SEED=-1"),
            ("SEED=1 SEED=2", "SEED is given twice"),
            ("SEED=", "SEED has no value"),
            ("x", "x is neither"),
            ("SEEDS=9", "SEEDS=9: a range is written"),
            ("SEEDS=9..9", "empty"),
            ("SEED=1 PLAN=x", "exclude"),
            ("SEEDS=0..2 PLAN=x", "exclude"),
            ("SEEDS=0..2 SAVE=x", "SAVE goes with SEED or PLAN"),
            ("SEEDS=0..2 SHRINK=no", "SHRINK goes with SEED or PLAN"),
            ("SHRINK=maybe", "SHRINK=maybe: yes or no"),
            ("PLANTED SAVE=x", "SAVE does not go with PLANTED"),
            ("PLANTED BACKEND=memory", "BACKEND does not go with PLANTED"),
            ("sweep JOBS=0", "JOBS=0: a whole number from 1"),
            ("sweep JOBS=two", "JOBS=two"),
            ("sweep SHARD=0/4", "SHARD=0/4: a shard is written"),
            ("sweep SHARD=5/4", "SHARD=5/4"),
            ("sweep SHARD=5", "SHARD=5"),
            ("certify CANARY=1", "CANARY=1: yes or no"),
        ] {
            let error = of(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}

//! The command line.

use std::{collections::BTreeMap, ops::Range, process::Command};

use hpx_sim::{Backend, Plan, Preset, Report, Simulation};

use crate::{Read, allow};

const USAGE: &str = "\
usage: cargo tripwire [KEY=VALUE]..
  MODE=trip      report every read of entropy or wall time that is not on the list (default)
  MODE=supply    feed them from the seed, in two processes: the bytes must be equal too
  SEEDS=0..16    (default)
  PRESET=stormy  calm, stormy, hostile, long-haul, fleet
  BACKEND=turmoil, or memory

ends with 0 if all held, 1 if not, 2 if the words are wrong";

const KEYS: [&str; 5] = ["MODE", "SEEDS", "PRESET", "BACKEND", "CHILD"];

/// Runs the command line, without the program's name. Returns the exit code.
pub fn run(args: impl Iterator<Item = String>) -> u8 {
    match Task::parse(args) {
        Ok(task) => task.carry_out(),
        Err(text) => {
            eprintln!("error: {text}\n\n{USAGE}");
            2
        }
    }
}

struct Task {
    supplies: bool,
    seeds: Range<u64>,
    preset: Preset,
    backend: Backend,
    /// One of the two processes: it prints its digests and compares nothing.
    child: bool,
}

impl Task {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = BTreeMap::new();
        for arg in args {
            let (key, value) = arg.split_once('=').ok_or_else(|| format!("{arg} is not KEY=VALUE"))?;
            if !KEYS.contains(&key) {
                return Err(format!("{key} is not a key; the keys are {}", KEYS[..4].join(", ")));
            }
            if words.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        let word = |key: &str, default: &str| words.get(key).cloned().unwrap_or_else(|| default.to_owned());
        let (mode, seeds) = (word("MODE", "trip"), word("SEEDS", "0..16"));
        let (preset, backend) = (word("PRESET", "stormy"), word("BACKEND", "turmoil"));
        let ends = seeds.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (from, to) = ends
            .filter(|(from, to)| from < to)
            .ok_or_else(|| format!("SEEDS={seeds}: a range is written 0..16, and is not empty"))?;
        if !matches!(mode.as_str(), "trip" | "supply") {
            return Err(format!("MODE={mode}: the modes are trip and supply"));
        }
        Ok(Self {
            supplies: mode == "supply",
            seeds: from..to,
            preset: Preset::named(&preset)
                .ok_or_else(|| format!("PRESET={preset}: there is none of this name"))?,
            backend: Backend::named(&backend)
                .ok_or_else(|| format!("BACKEND={backend}: the backends are turmoil and memory"))?,
            child: words.contains_key("CHILD"),
        })
    }

    fn carry_out(&self) -> u8 {
        match (self.supplies, self.child) {
            (false, _) => self.trip(),
            (true, true) => {
                for seed in self.seeds.clone() {
                    println!("{}", digests(seed, &crate::supply(self.simulation(seed))));
                }
                0
            }
            (true, false) => self.compare(),
        }
    }

    fn simulation(&self, seed: u64) -> Simulation {
        Simulation::of(Plan::draw_as(self.preset, seed)).backend(self.backend)
    }

    /// Reports who reads.
    fn trip(&self) -> u8 {
        let list = allow::list();
        let mut matched = vec![0_u64; list.len()];
        let mut strangers: BTreeMap<String, (u64, Read)> = BTreeMap::new();
        let mut red = 0;
        for seed in self.seeds.clone() {
            let (report, reads) = crate::trip(self.simulation(seed));
            red += u64::from(!report.is_green());
            for read in reads {
                match allow::allows(&list, &read) {
                    Some(line) => matched[line] += read.count,
                    None => {
                        let count = read.count;
                        strangers.entry(site(&read)).or_insert((0, read)).0 += count;
                    }
                }
            }
        }
        for (allowed, count) in list.iter().zip(&matched) {
            println!("allowed {count:>7}x  {:<40} {}", allowed.function, allowed.reason);
        }
        for (count, read) in strangers.values() {
            println!("\n{} was called {count}x by nobody on the list:\n{}", read.function, read.backtrace);
        }
        let runs = self.seeds.end - self.seeds.start;
        println!("\n{runs} runs, {red} red, {} call sites that are not allowed", strangers.len());
        u8::from(!strangers.is_empty() || red > 0)
    }

    /// Runs every seed in two processes, and compares what they say.
    fn compare(&self) -> u8 {
        let child = || {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let words = [
                "MODE=supply".to_owned(),
                "CHILD=yes".to_owned(),
                format!("SEEDS={}..{}", self.seeds.start, self.seeds.end),
                format!("PRESET={}", self.preset.name()),
                format!("BACKEND={}", self.backend.name()),
            ];
            let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() {
                Ok(text)
            } else {
                Err(format!("a process ended with {}", output.status))
            }
        };
        let (first, second) = match (child(), child()) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(text), _) | (_, Err(text)) => {
                println!("error: {text}");
                return 1;
            }
        };
        let mut differ = 0;
        for (one, other) in first.lines().zip(second.lines()) {
            println!("{one}{}", if one == other { "" } else { "  DIFFERS" });
            differ += u64::from(one != other);
        }
        let complete = first.lines().count() as u64 == self.seeds.end - self.seeds.start;
        println!("\n{differ} seeds differ in two processes with entropy and time from the seed");
        u8::from(differ > 0 || !complete || first.lines().count() != second.lines().count())
    }
}

fn digests(seed: u64, report: &Report) -> String {
    let bytes = report.byte_digest().unwrap_or_default();
    format!("seed {seed:>6}  {}  bytes {bytes}", report.digests())
}

/// Where a read comes from, in a line: equal for equal ways through the program.
fn site(read: &Read) -> String {
    let names = read.backtrace.lines().filter_map(|line| line.trim().split_once(": "));
    names.map(|(_, name)| name).collect::<Vec<_>>().join(" < ")
}

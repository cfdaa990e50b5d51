//! Many seeds, several at once: what they struck, what broke, and all of it as JSON.

use std::{fmt, path::Path, sync::atomic::Ordering, time::Duration};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    args::Sweep,
    failure::{Cause, Failure, Failures, write_file},
    interrupt::{self, INTERRUPTED},
    pool,
    progress::Progress,
    tally::Tally,
};
use crate::{Plan, plan::Work, trace::Digests};

/// What a job hands over of a run: its trace stays behind.
struct Ran {
    tally: Tally,
    digests: Digests,
    red: Option<(Cause, Plan)>,
    vacuous: Option<&'static str>,
}

/// Runs the seeds and prints what they have shown. Returns the exit code.
pub(super) fn sweep(task: &Sweep) -> u8 {
    if let Err(error) = interrupt::listen() {
        // The sweep is as good without; it ends without its table.
        eprintln!("warning: Ctrl-C is not listened to: {error}");
    }
    let seeds = task.shard.of(task.seeds.clone());
    let mut progress = Progress::start(seeds.clone().count() as u64);
    let (mut tally, mut failures, mut digest) =
        (Tally::of_none(task.setup.preset(), task.setup.work()), Failures::default(), Sha256::new());
    let take = |seed, ran: Ran| {
        tally.add(ran.tally);
        digest.update(ran.digests.semantic);
        digest.update(ran.digests.frames);
        if let Some((cause, plan)) = ran.red {
            let keep = || Failure::keep(seed, cause, &plan, &task.out, &task.setup);
            if let Some(failure) = failures.add(keep) {
                progress.clear();
                println!("{failure}");
            }
        }
        if let Some(why) = ran.vacuous
            && tally.vacuous <= VACUOUS_SHOWN_MAX
        {
            progress.clear();
            println!("seed {seed:>6}  VACUOUS  {why}  replay: cargo sim SEED={seed}{}", task.setup);
        }
        progress.step(tally.runs, tally.red);
    };
    pool::in_order(seeds, task.jobs, &INTERRUPTED, |seed| run(task, seed), take);
    progress.clear();
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    let digest = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let result = Swept { task, tally, failures, digest, took: progress.elapsed(), interrupted };
    print!("{result}");
    if let Some(path) = &task.json
        && let Err(text) = write_file(Path::new(path), &result.to_json())
    {
        eprintln!("error: JSON={text}");
        return 2;
    }
    match (interrupted, result.tally.is_green()) {
        (true, _) => interrupt::EXIT_CODE,
        (false, green) => u8::from(!green),
    }
}

fn run(task: &Sweep, seed: u64) -> Ran {
    let report = task.setup.simulation(task.setup.draw(seed)).run();
    let red = Cause::of(&report).map(|cause| (cause, report.plan().clone()));
    Ran { tally: Tally::of(&report), digests: report.digests(), red, vacuous: report.vacuous() }
}

/// The first few tell what is wrong with the generator.
const VACUOUS_SHOWN_MAX: u64 = 10;

/// The result of a sweep. Its `Display` is the table.
struct Swept<'a> {
    task: &'a Sweep,
    tally: Tally,
    failures: Failures,
    /// Of the digests of all runs: equal for equal seeds, whatever the jobs.
    digest: String,
    took: Duration,
    interrupted: bool,
}

impl Swept<'_> {
    fn rate(&self) -> f64 {
        self.tally.runs as f64 * 60.0 / self.took.as_secs_f64().max(0.001)
    }

    fn to_json(&self) -> String {
        let form = Form {
            version: 1,
            seeds: [self.task.seeds.start, self.task.seeds.end],
            shard: [self.task.shard.number, self.task.shard.of],
            setup: self.task.setup.args().collect(),
            interrupted: self.interrupted,
            green: self.tally.is_green(),
            simulated_hours: self.tally.simulated_hours(),
            seconds: self.took.as_secs_f64(),
            runs_a_minute: self.rate(),
            digest: &self.digest,
            too_seldom: self.tally.untried(),
            tally: &self.tally,
            failures: &self.failures.kept,
            failures_not_kept: self.failures.not_kept(),
        };
        // Plain structs, numbers and strings have no way to fail.
        serde_json::to_string_pretty(&form).expect("a table has a JSON form") + "\n"
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Form<'a> {
    version: u32,
    seeds: [u64; 2],
    shard: [u64; 2],
    setup: Vec<String>,
    interrupted: bool,
    green: bool,
    simulated_hours: f64,
    seconds: f64,
    runs_a_minute: f64,
    digest: &'a str,
    too_seldom: Vec<&'static str>,
    #[serde(flatten)]
    tally: &'a Tally,
    failures: &'a [Failure],
    failures_not_kept: u64,
}

impl fmt::Display for Swept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.tally)?;
        // Its phases are those of a WebSocket connection.
        if self.task.setup.work() != Work::Http {
            writeln!(f, "{}", self.tally.coverage)?;
        }
        if self.failures.not_kept() > 0 {
            writeln!(f, "{} more seeds are red; their plans are not kept", self.failures.not_kept())?;
        }
        let (took, rate) = (self.took.as_secs_f64(), self.rate());
        writeln!(f, "digest of all {}", self.digest)?;
        writeln!(
            f,
            "{} seeds on {} in {took:.1} s: {rate:.0} a minute",
            self.tally.runs,
            self.task.setup.backend().name()
        )?;
        let word = match (self.interrupted, self.tally.is_green()) {
            (true, _) => "INTERRUPTED",
            (false, true) => "GREEN",
            (false, false) => "RED",
        };
        writeln!(f, "{word}")
    }
}

//! One run with its picture; and a few, one after the other.

use std::{ops::Range, path::Path, time::Instant};

use super::{
    args::{One, Source},
    failure::{Cause, Failure, Failures, write_file},
    setup::Setup,
    tally::Tally,
};
use crate::{Plan, Report};

/// The plan of a source.
///
/// # Errors
///
/// The file can't be read, or is no plan.
pub(super) fn plan(source: &Source, setup: &Setup) -> Result<Plan, String> {
    match source {
        Source::Seed(seed) => Ok(setup.draw(*seed)),
        Source::File(path) => {
            let json = std::fs::read_to_string(path).map_err(|error| format!("PLAN={path}: {error}"))?;
            Plan::from_json(&json).map_err(|error| format!("PLAN={path}: {error}"))
        }
    }
}

/// Runs one plan and prints all there is to see. Returns the exit code.
///
/// # Errors
///
/// There is no plan, or it can't be saved.
pub(super) fn one(task: &One) -> Result<u8, String> {
    let plan = plan(&task.source, &task.setup)?;
    if let Some(path) = &task.save {
        write_file(Path::new(path), &plan.to_json()).map_err(|text| format!("SAVE={text}"))?;
    }
    print!("{}", crate::plan::describe(&plan));
    println!();
    let report = task.setup.simulation(plan).run();
    print!("{report}");
    println!();
    if let Some(path) = &task.page {
        write_file(Path::new(path), &report.page()).map_err(|text| format!("PAGE={text}"))?;
    }
    for (name, count) in report.fault_counts().into_iter().filter(|(_, count)| *count > 0) {
        println!("happened: {name} {count}x");
    }
    if let Some(why) = report.vacuous() {
        println!("VACUOUS: {why}");
    }
    println!("backend {}", report.backend().name());
    println!("digest {}", report.digests());
    let source = match &task.source {
        Source::Seed(seed) => format!("SEED={seed}"),
        Source::File(path) => format!("PLAN={path}"),
    };
    println!("replay cargo sim {source}{}", task.setup);
    println!("{}", if report.is_green() { "GREEN" } else { "RED" });
    if let Some(cause) = Cause::of(&report) {
        super::reduce::after(&report, &cause, task);
    }
    Ok(u8::from(!report.is_green()))
}

/// Runs the seeds one after the other, a line each, and prints a table. Returns the exit code.
pub(super) fn many(seeds: Range<u64>, out: &str, setup: &Setup) -> u8 {
    let (mut tally, mut failures) = (Tally::of_none(setup.preset(), setup.work()), Failures::default());
    let started = Instant::now();
    for seed in seeds {
        let report = setup.simulation(setup.draw(seed)).run();
        println!("{}", one_line(seed, &report));
        if let Some(cause) = Cause::of(&report)
            && let Some(failure) = failures.add(|| Failure::keep(seed, cause, report.plan(), out, setup))
        {
            let plan = failure.plan.as_deref().unwrap_or("not saved");
            println!("    plan: {plan}  replay: {}", failure.replay);
        }
        tally.add(Tally::of(&report));
    }
    let took = started.elapsed().as_secs_f64();
    println!("\n{tally}");
    if !failures.kept.is_empty() {
        let seeds: Vec<u64> = failures.kept.iter().map(|failure| failure.seed).collect();
        println!("red seeds: {seeds:?} and {} more\n", failures.not_kept());
    }
    println!(
        "{} seeds in {took:.1} s: {:.0} a minute",
        tally.runs,
        tally.runs as f64 * 60.0 / took.max(0.001)
    );
    println!("{}", if tally.is_green() { "GREEN" } else { "RED" });
    u8::from(!tally.is_green())
}

fn one_line(seed: u64, report: &Report) -> String {
    let word = if report.is_green() { "green" } else { "RED  " };
    let mut line =
        format!("seed {seed:>6}  {word}  {:>6} entries  {}", report.entries().len(), report.digests());
    for verdict in report.verdicts() {
        if let Some(violation) = verdict.violations.first() {
            line.push_str(&format!("\n    {} at {:?}: {}", verdict.card.id, violation.at, violation.text));
        }
    }
    if let Some(failure) = report.failure() {
        line.push_str(&format!("\n    {failure}"));
    }
    if let Some(why) = report.vacuous() {
        line.push_str(&format!("\n    vacuous: {why}"));
    }
    line
}

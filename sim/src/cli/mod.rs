//! What `cargo sim` does: one seed with its picture, many seeds with a table, a plan from a file, or the planted bugs.

mod args;
mod planted;
mod tally;

use std::{fs, time::Instant};

use self::{args::Task, tally::Tally};
use crate::{Backend, Plan, Report, Simulation};

/// Runs the command line `args`, without the program's name. Returns the exit code: 0 green, 1 an invariant is broken or a
/// planted bug survives, 2 the command line or plan is wrong.
pub fn run(args: impl IntoIterator<Item = String>) -> u8 {
    match args::read(args) {
        Ok((task, backend)) => carry_out(task, backend),
        Err(text) => {
            eprintln!("error: {text}\n\n{}", args::USAGE);
            2
        }
    }
}

fn carry_out(task: Task, backend: Backend) -> u8 {
    match task {
        Task::Help => {
            println!("{}", args::USAGE);
            0
        }
        Task::Seed { seed, save, bug } => match planted::alive(bug.as_deref()) {
            Ok(()) => {
                let again = again(&format!("SEED={seed}"), bug.as_deref(), backend);
                one(Plan::draw(seed), backend, save.as_deref(), &again)
            }
            Err(text) => wrong(&text),
        },
        Task::Plan { path, save, bug } => match (read(&path), planted::alive(bug.as_deref())) {
            (Ok(plan), Ok(())) => {
                let again = again(&format!("PLAN={path}"), bug.as_deref(), backend);
                one(plan, backend, save.as_deref(), &again)
            }
            (Err(text), _) | (_, Err(text)) => wrong(&text),
        },
        Task::Seeds { from, to, bug } => match planted::alive(bug.as_deref()) {
            Ok(()) => many(from, to, backend),
            Err(text) => wrong(&text),
        },
        Task::Planted { from, to } => planted::hunt(from, to),
    }
}

fn wrong(text: &str) -> u8 {
    eprintln!("error: {text}");
    2
}

fn again(what: &str, bug: Option<&str>, backend: Backend) -> String {
    let bug = bug.map(|bug| format!(" BUG={bug}")).unwrap_or_default();
    let on =
        if backend == Backend::default() { String::new() } else { format!(" BACKEND={}", backend.name()) };
    format!("cargo sim {what}{bug}{on}")
}

fn read(path: &str) -> Result<Plan, String> {
    let json = fs::read_to_string(path).map_err(|error| format!("PLAN={path}: {error}"))?;
    Plan::from_json(&json).map_err(|error| format!("PLAN={path}: {error}"))
}

fn one(plan: Plan, backend: Backend, save: Option<&str>, again: &str) -> u8 {
    if let Some(path) = save
        && let Err(error) = fs::write(path, plan.to_json())
    {
        return wrong(&format!("SAVE={path}: {error}"));
    }
    print!("{}", crate::plan::describe(&plan));
    println!();
    let report = Simulation::of(plan).backend(backend).run();
    print!("{report}");
    println!();
    for (name, count) in report.fault_counts().into_iter().filter(|(_, count)| *count > 0) {
        println!("happened: {name} {count}x");
    }
    if let Some(why) = report.vacuous() {
        println!("VACUOUS: {why}");
    }
    println!("backend {}", report.backend().name());
    println!("digest {}", report.digests());
    println!("replay {again}");
    println!("{}", if report.is_green() { "GREEN" } else { "RED" });
    u8::from(!report.is_green())
}

fn many(from: u64, to: u64, backend: Backend) -> u8 {
    let mut tally = Tally::default();
    let started = Instant::now();
    for seed in from..to {
        let report = Simulation::new(seed).backend(backend).run();
        println!("{}", one_line(seed, &report));
        tally.add(seed, &report);
    }
    let took = started.elapsed();
    println!("\n{tally}");
    let rate = (to - from) as f64 * 60.0 / took.as_secs_f64().max(0.001);
    println!("{} seeds on {} in {:.1} s: {rate:.0} a minute", to - from, backend.name(), took.as_secs_f64());
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

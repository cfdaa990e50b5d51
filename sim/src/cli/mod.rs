//! What `cargo sim` does: one seed with its picture, many seeds with a table, a plan from a file, the certificate that a
//! seed is the same run in every process, or the planted bugs.

mod args;
mod certify;
mod coverage;
mod differential;
mod failure;
mod interrupt;
mod one;
mod planted;
mod pool;
mod progress;
mod reduce;
mod setup;
mod sweep;
mod tally;

use std::hash::{BuildHasher, RandomState};

use self::{
    args::{Source, Task},
    setup::Setup,
};

/// Runs the command line `args`, without the program's name. Returns the exit code: 0 green, 1 an invariant is broken, a
/// planted bug survives or two processes differ, 2 the command line or plan is wrong, 130 it was interrupted.
pub fn run(args: impl IntoIterator<Item = String>) -> u8 {
    match args::parse(args) {
        Ok(task) => carry_out(task).unwrap_or_else(|text| {
            eprintln!("error: {text}");
            2
        }),
        Err(text) => {
            eprintln!("error: {text}\n`cargo sim help` lists the words there are");
            2
        }
    }
}

fn carry_out(task: Task) -> Result<u8, String> {
    match task {
        Task::Help => {
            println!("{}", args::USAGE);
            Ok(0)
        }
        Task::One(task) => {
            task.setup.prepare()?;
            one::one(&task)
        }
        Task::Many { seeds, out, setup } => {
            setup.prepare()?;
            Ok(one::many(seeds, &out, &setup))
        }
        Task::Planted { seeds, bugs } => planted::hunt(&seeds, bugs.as_deref()),
        Task::Certify(task) => {
            task.setup.prepare()?;
            Ok(certify::certify(&task))
        }
        Task::Differential(task) => {
            task.setup.prepare()?;
            Ok(differential::differential(&task))
        }
        Task::Sweep(task) => {
            task.setup.prepare()?;
            Ok(sweep::sweep(&task))
        }
        Task::Trace { source, canary, setup } => {
            setup.prepare()?;
            trace(&source, canary, &setup)
        }
    }
}

fn trace(source: &Source, canary: bool, setup: &Setup) -> Result<u8, String> {
    let mut plan = one::plan(source, setup)?;
    if canary {
        // What no run may depend on: std draws the keys of its hashers anew in every process.
        plan.seed ^= RandomState::new().hash_one(plan.seed);
    }
    let report = setup.simulation(plan).run();
    certify::tell(&report).map_err(|error| format!("the trace can't be written: {error}"))?;
    Ok(u8::from(!report.is_green()))
}

//! The hunt for planted bugs: each must be found by an oracle, and without one all must be green.

use hpx_transport::planted::{self, Bug};

use crate::{Report, Simulation};

/// Brings the bug of this name to life.
///
/// # Errors
///
/// No such bug, or this build can't plant any.
pub(super) fn alive(name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let Some(bug) = Bug::ALL.into_iter().find(|bug| bug.name() == name) else {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        return Err(format!("BUG={name}: the bugs are {} and all", names.join(", ")));
    };
    if !planted::AVAILABLE {
        return Err(format!("BUG={name}: {UNAVAILABLE}"));
    }
    set(Some(bug));
    Ok(())
}

/// Runs seeds with each bug until an oracle fires, and all of them without one. Returns the exit code.
pub(super) fn hunt(from: u64, to: u64) -> u8 {
    if !planted::AVAILABLE {
        eprintln!("error: PLANTED: {UNAVAILABLE}");
        return 2;
    }
    let mut survivors = 0;
    for bug in Bug::ALL {
        match first_red(Some(bug), from, to) {
            Some((seed, report)) => {
                let killer = report.killer().unwrap_or("the simulation itself");
                println!(
                    "{:<26} killed by {killer:<6} after {:>3} seeds (SEED={seed})",
                    bug.name(),
                    seed - from + 1
                );
            }
            None => {
                survivors += 1;
                println!("{:<26} SURVIVES {} seeds", bug.name(), to - from);
            }
        }
    }
    match first_red(None, from, to) {
        None => println!("{:<26} green over {} seeds", "(no bug)", to - from),
        Some((seed, _)) => {
            survivors += 1;
            println!("{:<26} RED at SEED={seed}: the control must be green", "(no bug)");
        }
    }
    u8::from(survivors > 0)
}

/// The first seed at which something is broken with this bug alive.
pub(crate) fn first_red(bug: Option<Bug>, from: u64, to: u64) -> Option<(u64, Report)> {
    set(bug);
    let found =
        (from..to).map(|seed| (seed, Simulation::new(seed).run())).find(|(_, report)| !report.is_green());
    set(None);
    found
}

#[cfg(hpx_planted)]
fn set(bug: Option<Bug>) {
    planted::plant(bug);
}

#[cfg(not(hpx_planted))]
fn set(_bug: Option<Bug>) {}

const UNAVAILABLE: &str = "this build can't plant bugs; build with RUSTFLAGS=\"--cfg hpx_planted\" and a target directory of its own";

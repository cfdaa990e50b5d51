//! The hunt for planted bugs: each must be found by an oracle, and without one all must be green.

use std::fmt;

use hpx_transport::planted::{self, Bug};

use super::failure::Cause;
use crate::{Backend, Plan, Preset, Simulation};

/// Brings the bug of this name to life.
///
/// # Errors
///
/// No such bug, or this build can't plant any.
pub(super) fn alive(name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let Some(bug) = Bug::ALL.iter().copied().find(|bug| bug.name() == name) else {
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
    for bug in Bug::ALL.iter().copied() {
        let Some(kill) = first_red(Some(bug), from, to) else {
            println!("{:<29} SURVIVES {} seeds; it breaks {}", bug.name(), to - from, bug.breaks());
            survivors += 1;
            if bug == Bug::ALL[0] {
                println!(
                    "the canary lives: this hunt sees nothing, and what it says of the others is worth nothing"
                );
                return 1;
            }
            continue;
        };
        println!("{:<29} {kill}", bug.name());
    }
    match first_red(None, from, to) {
        None => println!("{:<29} green over {} seeds", "(no bug)", to - from),
        Some(kill) => {
            survivors += 1;
            println!("{:<29} {kill}: the control must be green", "(no bug)");
        }
    }
    let all = Bug::ALL.len();
    println!("{} of {all} planted bugs killed", all - survivors.min(all));
    u8::from(survivors > 0)
}

/// What found a bug.
pub(crate) struct Kill {
    /// The id of the first oracle that fired, and what it said.
    killer: String,
    seeds: u64,
    seed: u64,
    preset: Preset,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killer, seeds, seed, preset } = self;
        write!(f, "killed by {killer} after {seeds} seeds (SEED={seed} PRESET={})", preset.name())
    }
}

/// The first seed at which something is broken with this bug alive. Seeds take turns in the kinds of plan.
pub(crate) fn first_red(bug: Option<Bug>, from: u64, to: u64) -> Option<Kill> {
    set(bug);
    let kill = (from..to).find_map(|seed| {
        let preset = HUNTED[(seed % HUNTED.len() as u64) as usize];
        let report = Simulation::of(Plan::draw_as(preset, seed)).backend(Backend::Memory).run();
        let cause = Cause::of(&report)?;
        Some(Kill { killer: cause.oracle, seeds: seed - from + 1, seed, preset })
    });
    set(None);
    kill
}

/// The kinds of plan in which bugs are hunted, on the network in memory: the fast one.
const HUNTED: [Preset; 3] = [Preset::Stormy, Preset::Hostile, Preset::Calm];

#[cfg(hpx_planted)]
fn set(bug: Option<Bug>) {
    planted::plant(bug);
}

#[cfg(not(hpx_planted))]
fn set(_bug: Option<Bug>) {}

const UNAVAILABLE: &str = "this build can't plant bugs; build with RUSTFLAGS=\"--cfg hpx_planted\" and a target directory of its own";

//! The hunt for planted bugs: each must be found by an oracle, and without one all must be green.

use std::{fmt, ops::Range};

use hpx_transport::planted::{self, Bug};

use super::failure::Cause;
use crate::{Backend, Plan, Preset, Simulation, plan::Work};

/// Brings the bug of this name to life.
///
/// # Errors
///
/// No such bug, or this build can't plant any.
pub(super) fn alive(name: Option<&str>) -> Result<(), String> {
    let Some(name) = name else { return Ok(()) };
    let bug = named(name)?;
    if !planted::AVAILABLE {
        return Err(format!("BUG={name}: {UNAVAILABLE}"));
    }
    set(Some(bug));
    Ok(())
}

fn named(name: &str) -> Result<Bug, String> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name).ok_or_else(|| {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("BUG={name}: the bugs are {} and all", names.join(", "))
    })
}

/// Runs seeds with each bug until an oracle fires, and all of them without one. Returns the exit code. `names` are those of
/// the bugs to hunt, after commas; without it, all.
///
/// # Errors
///
/// No such bug, or this build can't plant any.
pub(super) fn hunt(seeds: &Range<u64>, names: Option<&str>) -> Result<u8, String> {
    let bugs: Vec<Bug> = match names {
        Some(names) => names.split(',').map(named).collect::<Result<_, _>>()?,
        None => Bug::ALL.to_vec(),
    };
    if !planted::AVAILABLE {
        return Err(format!("PLANTED: {UNAVAILABLE}"));
    }
    let mut killed = 0;
    for bug in &bugs {
        match first_red(Some(*bug), work_of(*bug), seeds) {
            Some(kill) => {
                killed += 1;
                println!("{:<29} {kill}", bug.name());
            }
            None => {
                let count = seeds.end - seeds.start;
                println!("{:<29} SURVIVES {count} seeds; it breaks {}", bug.name(), bug.breaks());
                if *bug == Bug::ALL[0] {
                    println!(
                        "the canary lives: this hunt sees nothing, and what it would say is worth nothing"
                    );
                    return Ok(1);
                }
            }
        }
    }
    let mut is_sound = true;
    for work in WORKS.into_iter().filter(|work| bugs.iter().any(|bug| work_of(*bug) == *work)) {
        let name = format!("(no bug, {})", work.name());
        match first_red(None, work, seeds) {
            None => println!("{name:<29} green over {} seeds", seeds.end - seeds.start),
            Some(kill) => {
                is_sound = false;
                println!("{name:<29} {kill}: the control must be green");
            }
        }
    }
    println!("{killed} of {} planted bugs killed", bugs.len());
    Ok(u8::from(killed < bugs.len() || !is_sound))
}

/// What found a bug.
struct Kill {
    /// The id of the first oracle that fired, and what it said.
    killer: String,
    seeds: u64,
    seed: u64,
    preset: Preset,
    work: Work,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { killer, seeds, seed, preset, work } = self;
        let (preset, work) = (preset.name(), work.name());
        write!(f, "killed by {killer} after {seeds} seeds (SEED={seed} PRESET={preset} WORK={work})")
    }
}

/// The first seed at which something is broken with this bug alive. Seeds take turns in the kinds of plan.
fn first_red(bug: Option<Bug>, work: Work, seeds: &Range<u64>) -> Option<Kill> {
    set(bug);
    let kill = seeds.clone().find_map(|seed| {
        let preset = HUNTED[(seed % HUNTED.len() as u64) as usize];
        let report = Simulation::of(Plan::draw_for(work, preset, seed)).backend(Backend::Memory).run();
        let cause = Cause::of(&report)?;
        Some(Kill { killer: cause.oracle, seeds: seed - seeds.start + 1, seed, preset, work })
    });
    set(None);
    kill
}

/// Whose plans show a bug: those of the protocol whose invariant it breaks.
fn work_of(bug: Bug) -> Work {
    if bug.breaks().starts_with("WS-") { Work::WebSocket } else { Work::Http }
}

const WORKS: [Work; 2] = [Work::WebSocket, Work::Http];

/// The kinds of plan in which bugs are hunted, on the network in memory: the fast one.
const HUNTED: [Preset; 3] = [Preset::Stormy, Preset::Hostile, Preset::Calm];

#[cfg(hpx_planted)]
fn set(bug: Option<Bug>) {
    planted::plant(bug);
}

#[cfg(not(hpx_planted))]
fn set(_bug: Option<Bug>) {}

const UNAVAILABLE: &str = "this build can't plant bugs; build with RUSTFLAGS=\"--cfg hpx_planted\" and a target directory of its own";

//! The storm itself: seeds are green, and the same seed is the same run in any thread and process.

use std::process::Command;

use hpx_sim::{
    Backend, Plan, Report, Simulation,
    plan::{Fault, FaultKind, Target, Until, When},
};

fn green(seed: u64) -> Report {
    let report = Simulation::new(seed).run();
    assert!(report.is_green(), "seed {seed}\n{report}\nreplay: cargo sim SEED={seed}");
    report
}

#[test]
fn seeds_are_green_and_not_vacuous() {
    let mut vacuous = 0;
    for seed in 0..40 {
        vacuous += u32::from(green(seed).vacuous().is_some());
    }
    assert!(vacuous <= 4, "{vacuous} of 40 runs prove nothing");
}

#[test]
fn the_same_seed_is_the_same_run_in_every_thread() {
    for seed in [3, 42] {
        let simulation = Simulation::new(seed);
        let (first, second) = (simulation.run(), simulation.run());
        assert_eq!(first.digests(), second.digests(), "seed {seed}");
        assert_eq!(first.story(), second.story(), "seed {seed}");
    }
}

#[test]
fn seeds_are_green_on_the_network_in_memory_and_the_same_in_every_process() {
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
        let output = command.args(["SEEDS=0..40", "BACKEND=memory"]).output().expect("the binary runs");
        let text = String::from_utf8(output.stdout).expect("its output is text");
        assert!(output.status.success(), "{text}");
        text.lines().filter(|line| line.starts_with("seed ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (run(), run());
    assert_eq!(first.len(), 40);
    assert_eq!(first, second);
    let here = Simulation::new(7).backend(Backend::Memory).run().digests().to_string();
    assert!(first[7].contains(&here), "{here}\n{}", first[7]);
}

#[test]
fn the_same_seed_is_the_same_run_in_every_process() {
    let output = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).output().expect("the binary runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).expect("its output is text")
    };
    // A run before it in the same process changes nothing.
    let alone = output(&["SEED=42"]);
    let after_others = output(&["SEEDS=40..43"]);
    let digest = Simulation::new(42).run().digests().to_string();
    assert!(alone.contains(&digest) && after_others.contains(&digest), "{digest}\n{after_others}");
    assert_eq!(alone, output(&["42"]));
}

#[test]
fn a_plan_replays_what_its_seed_ran() {
    let plan = Plan::draw(9);
    let read = Plan::from_json(&plan.to_json()).expect("a drawn plan is well formed");
    assert_eq!(Simulation::of(read).run().digests(), Simulation::new(9).run().digests());
}

#[test]
fn a_fault_after_the_last_event_changes_nothing_before_it() {
    let plan = Plan::draw(5);
    let mut late = plan.clone();
    let at_ms = late.heal_ms - 1;
    let over = |fault: &Fault| fault.begins_ms().unwrap_or(0) + fault.length_ms().unwrap_or(0);
    late.faults.retain(|fault| over(fault) + 50 < at_ms);
    let mut more = late.clone();
    let (at, until) = (When::At(at_ms), Until::ForMs(1));
    more.faults.push(Fault { at, until, target: Target::All, kind: FaultKind::Crash });
    let before = |plan: Plan| -> Vec<String> {
        let report = Simulation::of(plan).run();
        let entries = report.entries().iter();
        let early = entries.filter(|entry| entry.at.since_epoch().as_millis() < u128::from(at_ms) - 100);
        early.map(|entry| format!("{entry:?}")).collect()
    };
    assert_eq!(before(late), before(more));
}

/// WS-L4: a day of simulated time in coarse steps, and not one link lost.
#[test]
fn a_day_without_faults_loses_no_link() {
    let report = Simulation::of(Plan::control(1, 24, 500)).run();
    assert!(report.is_green(), "{report}");
    let calm =
        report.verdicts().iter().find(|verdict| verdict.card.id == "WS-L4").expect("WS-L4 sits on the bench");
    assert_eq!(calm.armed, 2, "one Connected, and one Disconnected at the close");
}

#[test]
fn wrong_words_end_with_code_2_and_the_list_of_keys() {
    for words in [["SED=1"], ["PLAN=/nowhere.json"], ["SEED=1.5"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

//! `cargo sim sweep`, `certify` and `trace`, as somebody runs them.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");
    folder
}

fn sim(folder: &PathBuf, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(words).current_dir(folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn seeds_are_certified_in_processes_of_their_own() {
    let output = sim(&folder("certify"), &["certify", "SEEDS=3..6"]);
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert_eq!(out.matches("  equal  ").count(), 3, "{out}");
    assert!(out.contains("3 seeds equal in two processes, 0 differ, 0 broken\nGREEN"), "{out}");
}

#[test]
fn a_process_that_draws_on_its_own_randomness_is_found_out_and_the_entry_named() {
    let folder = folder("canary");
    let output = sim(&folder, &["certify", "SEEDS=3..4", "CANARY=yes"]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}");
    // The first thing that a connection's seed decides is written down where it is drawn.
    let named: Vec<&str> = out.lines().filter(|line| line.trim_start().starts_with("> ")).collect();
    assert!(named.len() == 2 && named.iter().all(|line| line.contains("Seeded")), "{out}");
    for name in ["first", "second"] {
        assert!(folder.join(format!("target/sim/seed-3.{name}.trace")).exists(), "{out}");
    }
}

#[test]
fn a_sweep_is_the_same_with_any_number_of_jobs_and_tells_it_as_json() {
    let folder = folder("sweep");
    let result = |jobs: &str| {
        let output = sim(&folder, &["sweep", "SEEDS=0..24", jobs, "JSON=out/sweep.json"]);
        let out = text(&output.stdout);
        assert!(output.status.success(), "{out}");
        assert!(out.contains("24 runs") && out.contains("holes") && out.ends_with("GREEN\n"), "{out}");
        let json = fs::read_to_string(folder.join("out/sweep.json")).expect("it was written");
        serde_json::from_str::<serde_json::Value>(&json).expect("it is JSON")
    };
    let (mut alone, mut together) = (result("JOBS=1"), result("JOBS=3"));
    assert_eq!(alone["runs"], 24);
    assert!(alone["reconnects"].as_u64() > Some(0), "{alone}");
    // All but how long it took.
    for form in [&mut alone, &mut together] {
        for timing in ["seconds", "runs_a_minute"] {
            assert!(form[timing].take().is_number());
        }
    }
    assert_eq!(alone, together);
}

#[test]
fn the_shards_of_a_sweep_run_every_seed_once() {
    let folder = folder("shards");
    let runs = |shard: &str| {
        let output = sim(&folder, &["sweep", "SEEDS=0..5", shard]);
        let out = text(&output.stdout);
        let runs = out.lines().find_map(|line| line.split_once(" runs, "));
        runs.and_then(|(runs, _)| runs.parse::<u64>().ok()).expect("the table counts the runs")
    };
    assert_eq!((runs("SHARD=1/2"), runs("SHARD=2/2")), (3, 2));
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_what_was_done_and_ends_with_130() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["sweep", "SEEDS=0..100000000", "JOBS=1"])
        .current_dir(folder("interrupt"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = String::new();
    let stderr = child.stderr.take().expect("it is piped");
    // The first line of progress comes after the signal is listened to.
    BufReader::new(stderr).read_line(&mut first).expect("it has a line");
    assert!(first.starts_with("0/100000000 seeds"), "{first}");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("there is a kill").success());
    let output = child.wait_with_output().expect("it ends");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{out}");
    assert!(out.contains(" runs, ") && out.ends_with("INTERRUPTED\n"), "{out}");
}

#[test]
fn a_wrong_key_is_answered_with_the_keys_of_its_command() {
    let output = sim(&folder("keys"), &["sweep", "SED=1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("SED is not a key of sweep; its keys are SEEDS, JOBS, SHARD"));
}

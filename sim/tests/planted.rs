//! Every planted bug is killed by an oracle within the seeds of the suite, and without one all is green.
//!
//! Only in a build with `RUSTFLAGS="--cfg hpx_planted"`, with a target directory of its own.
#![cfg(hpx_planted)]

use std::{fs, path::PathBuf, process::Command};

#[test]
fn every_planted_bug_is_killed_within_a_thousand_seeds_and_the_control_is_green() {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).arg("PLANTED").output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    let bugs = hpx_transport::planted::Bug::ALL.len();
    assert!(bugs >= 80 && text.contains(&format!("{bugs} of {bugs} planted bugs killed")), "{text}");
}

#[test]
fn a_hunt_in_which_a_bug_survives_ends_with_one() {
    // One seed is too few for a bug that needs a refusal, or a hostile peer.
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["PLANTED", "SEEDS=0..1", "BUG=refusal-retried"])
        .output();
    let output = output.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("SURVIVES 1 seeds; it breaks WS-L5") && text.contains("0 of 1 planted"), "{text}");
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("planted").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");
    folder
}

fn sim(folder: &PathBuf, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).current_dir(folder).output();
    let output = output.expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_red_seed_is_shrunk_to_a_plan_that_is_red_with_the_bug_and_green_without() {
    let folder = folder("shrink");
    let (code, text) = sim(&folder, &["SEED=0", "BUG=ghost-request"]);
    assert_eq!(code, Some(1), "{text}");
    for part in ["cause  WS-9", "replay cargo sim PLAN=", "fn seed_0_ws_9_stays_green()", "shrunk from"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    let read = |path: &str| {
        let json = fs::read_to_string(folder.join(path)).expect("it was saved");
        hpx_sim::Plan::from_json(&json).expect("it is a plan")
    };
    assert_eq!(read("target/sim/seed-0.json"), hpx_sim::Plan::draw(0));
    let small = read("target/sim/seed-0.min.json");
    let steps: usize = small.clients.iter().map(|client| client.script.len()).sum();
    // A request, and the end of the connection.
    assert_eq!((small.clients.len(), small.faults.len(), steps), (1, 0, 2));
    let again = "PLAN=target/sim/seed-0.min.json";
    assert_eq!(sim(&folder, &[again, "BUG=ghost-request", "SHRINK=no"]).0, Some(1));
    assert_eq!(sim(&folder, &[again]).0, Some(0));
}

#[test]
fn a_red_seed_of_http_clients_is_shrunk_to_the_requests_that_show_it() {
    let folder = folder("shrink-http");
    let words = ["SEED=2", "PRESET=calm", "WORK=http", "BACKEND=memory", "BUG=nothing-reclaimed"];
    let (code, text) = sim(&folder, &words);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("cause  P-8") && text.contains("fn seed_2_p_8_stays_green()"), "{text}");
    let json = fs::read_to_string(folder.join("target/sim/seed-2.min.json")).expect("it was saved");
    let small = hpx_sim::Plan::from_json(&json).expect("it is a plan");
    let steps: usize = small.http.iter().map(|client| client.script.len()).sum();
    // As many requests as the pool is wide, one more that finds no room, and the end.
    let wide = small.http[0].config.open_total_max;
    assert_eq!((small.clients.len(), small.http.len(), small.faults.len(), steps), (0, 1, 0, wide + 2));
}

#[test]
fn a_sweep_names_every_red_seed_with_its_plan_and_keeps_a_bounded_number() {
    let folder = folder("sweep");
    let (code, text) = sim(&folder, &["sweep", "SEEDS=0..80", "BUG=ghost-request"]);
    assert_eq!(code, Some(1), "{text}");
    let red: Vec<&str> = text.lines().filter(|line| line.contains("  RED  ")).collect();
    assert_eq!(red.len(), 20, "{text}");
    assert!(
        red[0].contains("plan: target/sim/seed-0.json  replay: cargo sim SEED=0 BUG=ghost-request"),
        "{text}"
    );
    let saved = fs::read_dir(folder.join("target/sim")).expect("plans were saved");
    let names: Vec<_> = saved.map(|entry| entry.expect("it is listed").path()).collect();
    for suffix in ["json", "html", "txt"] {
        let of_kind = names.iter().filter(|name| name.extension().is_some_and(|end| end == suffix));
        assert_eq!(of_kind.count(), 20, "{suffix} of {names:?}");
    }
    assert!(text.contains("more seeds are red") && text.ends_with("RED\n"), "{text}");
}

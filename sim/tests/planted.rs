//! Every planted bug is killed by an oracle within the seeds of the suite, and without one all is green.
//!
//! Only in a build with `RUSTFLAGS="--cfg hpx_planted"`, with a target directory of its own.
#![cfg(hpx_planted)]

use std::process::Command;

#[test]
fn every_planted_bug_is_killed_and_the_control_is_green() {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(["PLANTED", "SEEDS=0..60"]).output();
    let output = output.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("killed by").count(), 8, "{text}");
}

//! The table of legal steps, as a snapshot: a new step shows in review.

use super::super::phase::TRANSITIONS;

#[test]
fn the_legal_steps_are_these() {
    let table: Vec<String> = TRANSITIONS.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/phase"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!("transitions", table.join("\n")));
}

//! Ending, from every phase, in bounded time.

use super::rig::{Rig, secs};
use crate::websocket::session::port::LinkEvent;

/// A rig in each phase a connection can be in.
fn every_phase() -> Vec<(&'static str, Rig)> {
    let mut authenticating = Rig::new(|_| {});
    authenticating.up_with_auth();
    let mut blocked = Rig::ready(|_| {});
    blocked.room(false);
    blocked.send("stuck");
    let mut backoff = Rig::new(|_| {});
    backoff.down();
    vec![
        ("dialing", Rig::new(|_| {})),
        ("authenticating", authenticating),
        ("ready", Rig::ready(|_| {})),
        ("write-blocked", blocked),
        ("backoff", backoff),
    ]
}

#[test]
fn failure_mode_06_close_ends_within_its_timeout_from_every_phase() {
    for (phase, mut rig) in every_phase() {
        let start = rig.now();
        rig.close();
        rig.pass(secs(1));
        assert!(rig.is_ended(), "still alive in {phase}");
        assert!(rig.now() - start <= secs(1), "{phase}");
    }
}

#[test]
fn failure_mode_06_the_drop_of_the_last_handle_ends_within_the_same_time() {
    for (phase, mut rig) in every_phase() {
        rig.drop_handles();
        rig.pass(secs(1));
        assert!(rig.is_ended() && rig.saw("end: the last handle was dropped"), "still alive in {phase}");
        assert_eq!(rig.count("dial"), usize::from(phase != "up"), "dialed again after the drop, in {phase}");
    }
}

#[test]
fn closing_writes_what_was_accepted_and_then_the_close_frame() {
    let mut rig = Rig::ready(|_| {});
    rig.room(false);
    rig.send("a");
    rig.close();
    rig.send("b");
    assert!(rig.wire().is_empty());
    rig.room(true);
    assert_eq!(rig.wire(), ["a", "b", "CLOSE"]);
    rig.down();
    assert!(rig.saw("end: close was called; unsent 0"));
}

#[test]
fn closing_counts_what_the_peer_did_not_take() {
    let mut rig = Rig::ready(|_| {});
    rig.room(false);
    rig.send("a");
    rig.send("b");
    rig.close();
    rig.pass(secs(1));
    assert!(rig.saw("end: close was called; unsent 2"));
}

#[test]
fn nothing_of_the_callers_is_written_before_authentication_also_when_closing() {
    let mut rig = Rig::new(|_| {});
    rig.send("a");
    rig.up_with_auth();
    rig.close();
    rig.pass(secs(1));
    assert_eq!(rig.wire(), ["hello", "auth", "CLOSE"]);
    assert!(rig.saw("unsent 1"));
}

#[test]
fn closing_tells_waiting_callers_at_once_what_became_of_their_requests() {
    let mut rig = Rig::ready(|_| {});
    rig.request(0, secs(30));
    rig.room(false);
    rig.request(1, secs(30));
    rig.close();
    assert!(rig.saw("answer 1: Closed, MaybeSent") && rig.saw("answer 2: Closed, NotSent"));
    assert!(!rig.is_ended());
}

#[test]
fn a_close_by_the_peer_while_closing_ends_at_once() {
    let mut rig = Rig::ready(|_| {});
    rig.close();
    rig.down();
    assert!(rig.is_ended());
    assert_eq!(rig.count("Retrying"), 0);
}

#[test]
fn a_closing_connection_hears_no_reconnect_and_no_second_close() {
    let mut rig = Rig::ready(|_| {});
    rig.close();
    rig.reconnect();
    rig.drop_handles();
    rig.link(LinkEvent::Alive);
    rig.pass(secs(1));
    assert_eq!((rig.count("dial"), rig.count("end: close was called")), (1, 1));
}

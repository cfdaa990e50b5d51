//! Losing links and getting new ones.

use std::time::Duration;

use super::rig::{Rig, secs};
use crate::error::{ErrorKind, TransportError};
use crate::websocket::session::port::LinkEvent;

#[test]
fn failed_dials_wait_longer_and_longer_up_to_the_cap() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..6 {
        rig.down();
        rig.pass(secs(8));
    }
    let waits: Vec<String> = rig
        .take_transcript()
        .into_iter()
        .filter(|line| line.contains("Retrying"))
        .map(|l| l[10..].to_owned())
        .collect();
    let expected: Vec<String> = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (6, 8)]
        .map(|(n, s)| format!("emit Retrying({n}, {s}s, Io)"))
        .into();
    assert_eq!(waits, expected);
}

#[test]
fn failure_mode_05_accept_then_close_neither_resets_the_growth_nor_escapes_max_attempts() {
    let mut rig = Rig::new(|config| config.max_attempts = Some(4));
    for _ in 0..5 {
        rig.up();
        rig.pass(secs(1));
        rig.down();
        rig.pass(secs(8));
    }
    assert!(rig.saw("Retrying(4, 8s"));
    assert!(rig.is_ended() && rig.saw("end: 4 retries failed"));
    assert_eq!(rig.count("dial"), 5);
}

#[test]
fn a_stable_period_starts_the_growth_anew() {
    let mut rig = Rig::new(|config| config.max_attempts = Some(3));
    rig.down();
    rig.pass(secs(1));
    rig.down();
    rig.pass(secs(2));
    rig.up();
    rig.pass(secs(10));
    rig.down();
    assert!(rig.saw("Disconnected(1, Io)") && rig.count("Retrying(1, 1s") == 2);
}

#[test]
fn exactly_max_attempts_retries_are_made() {
    for max in 0..4 {
        let mut rig = Rig::new(|config| config.max_attempts = Some(max));
        while !rig.is_ended() {
            rig.down();
            rig.pass(secs(8));
        }
        assert_eq!(rig.count("dial"), 1 + max as usize);
        assert_eq!(rig.count("Retrying"), max as usize);
    }
}

#[test]
fn a_dial_that_hangs_is_given_up_on_at_connect_timeout() {
    let mut rig = Rig::new(|_| {});
    rig.pass(secs(19));
    assert!(!rig.saw("Retrying"));
    rig.pass(secs(1));
    assert!(rig.saw("hang up") && rig.saw("Retrying(1, 1s, Timeout)"));
}

#[test]
fn failure_mode_15_permanent_refusals_end_at_once_with_their_status() {
    for status in [301, 400, 401, 403, 404, 410] {
        let mut rig = Rig::new(|_| {});
        rig.refused(status, None);
        assert!(rig.is_ended(), "{status}");
        assert!(rig.saw(&format!("HTTP status {status}")) && !rig.saw("Retrying"));
    }
    for status in [200, 408, 425, 429, 500, 502, 503] {
        let mut rig = Rig::new(|_| {});
        rig.refused(status, None);
        assert!(!rig.is_ended() && rig.saw("Retrying(1"), "{status}");
    }
}

#[test]
fn the_wait_a_peer_asks_for_is_kept_up_to_the_cap() {
    let mut rig = Rig::new(|_| {});
    rig.refused(429, Some(secs(5)));
    assert!(rig.saw("Retrying(1, 5s"));
    rig.pass(secs(5));
    rig.refused(503, Some(secs(3600)));
    assert!(rig.saw("Retrying(2, 8s"));
}

#[test]
fn a_rejected_authentication_is_terminal_and_a_silent_one_is_retried() {
    let mut rig = Rig::new(|_| {});
    rig.up_with_auth();
    rig.pass(secs(5));
    assert!(rig.saw("Retrying(1, 1s, Timeout)") && !rig.saw("Connected"));
    rig.pass(secs(1));
    rig.up_with_auth();
    rig.link(LinkEvent::AuthRejected(TransportError::new(ErrorKind::AuthRejected, "no")));
    assert!(rig.is_ended() && rig.saw("end: no"));
}

#[test]
fn reconnect_drops_the_link_and_retries_by_backoff() {
    let mut rig = Rig::ready(|_| {});
    rig.reconnect();
    assert!(rig.saw("hang up, saying goodbye") && rig.saw("Disconnected(1, ReconnectRequested)"));
    assert!(rig.saw("Retrying(1, 1s, ReconnectRequested)"));
    assert_eq!(rig.count("dial"), 1);
    rig.pass(secs(1));
    assert_eq!(rig.count("dial"), 2);
}

#[test]
fn reconnect_while_waiting_dials_at_once_and_only_once() {
    let mut rig = Rig::new(|_| {});
    rig.down();
    rig.pass(Duration::from_millis(300));
    rig.reconnect();
    assert_eq!(rig.count("dial"), 2);
    rig.pass(secs(2));
    assert_eq!(rig.count("dial"), 2);
}

#[test]
fn reconnect_while_dialing_or_authenticating_abandons_the_attempt() {
    let mut rig = Rig::new(|_| {});
    rig.reconnect();
    assert!(rig.saw("hang up") && rig.saw("Retrying(1"));
    rig.pass(secs(1));
    rig.up_with_auth();
    rig.reconnect();
    assert!(rig.saw("Retrying(2") && !rig.saw("Disconnected"));
}

#[test]
fn epochs_rise_with_every_link_and_events_follow_the_grammar() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..3 {
        rig.up();
        rig.incoming("x");
        rig.down();
        rig.pass(secs(8));
    }
    let events: Vec<String> = rig
        .take_transcript()
        .iter()
        .filter_map(|line| line.split_once("emit ").map(|(_, e)| e.to_owned()))
        .collect();
    let mut expected = Vec::new();
    for (epoch, delay) in [(1, 1), (2, 2), (3, 4)] {
        expected.push(format!("Connected({epoch})"));
        expected.push("Message(x)".to_owned());
        expected.push(format!("Disconnected({epoch}, Io)"));
        expected.push(format!("Retrying({epoch}, {delay}s, Io)"));
    }
    assert_eq!(events, expected);
}

#[test]
fn what_comes_in_before_the_link_is_ready_is_reported_after_it() {
    let mut rig = Rig::new(|_| {});
    rig.up_with_auth();
    rig.incoming("welcome");
    assert!(!rig.saw("Message"));
    rig.link(LinkEvent::AuthAccepted);
    let lines = rig.take_transcript();
    let place = |part: &str| lines.iter().position(|line| line.contains(part)).expect(part);
    assert!(place("Connected(1)") < place("Message(welcome)"));
}

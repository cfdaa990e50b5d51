//! Noticing silence, and nothing else.

use std::time::Duration;

use super::rig::{Rig, secs};
use crate::websocket::session::port::LinkEvent;

#[test]
fn failure_mode_01_a_healthy_link_outlives_any_pair_of_interval_and_timeout() {
    for (interval, timeout) in [(30, 10), (10, 30), (5, 5), (1, 60)] {
        let mut rig = Rig::ready(|config| {
            config.ping_interval = Some(secs(interval));
            config.pong_timeout = secs(timeout);
        });
        let mut pings = 0;
        for _ in 0..3600 {
            rig.pass(secs(1));
            // The pong comes within the second.
            if rig.count("write PING") > pings {
                pings = rig.count("write PING");
                rig.link(LinkEvent::Alive);
            }
        }
        assert!(!rig.saw("Disconnected"), "({interval}, {timeout})");
        assert!(pings >= 3600 / (interval as usize + 1));
    }
}

#[test]
fn failure_mode_02_data_is_liveness_even_if_no_pong_ever_comes() {
    let mut rig = Rig::ready(|config| config.ping_interval = Some(secs(3)));
    for _ in 0..1000 {
        rig.pass(secs(9));
        rig.link(LinkEvent::Alive);
    }
    assert!(!rig.saw("Disconnected"));
}

#[test]
fn a_silent_peer_is_given_up_on_within_interval_and_timeout() {
    let mut rig = Rig::ready(|config| config.ping_interval = Some(secs(30)));
    rig.pass(Duration::from_millis(39_999));
    assert!(!rig.saw("Disconnected"));
    rig.pass(Duration::from_millis(1));
    assert!(rig.saw("Disconnected(1, Timeout)"));
}

#[test]
fn a_byte_at_the_deadline_wins() {
    let mut rig = Rig::ready(|config| config.ping_interval = Some(secs(30)));
    rig.pass(Duration::from_millis(39_999));
    rig.session.handle_link(crate::env::Timestamp::from_nanos(40_000_000_000), LinkEvent::Alive);
    rig.pass(Duration::from_millis(1));
    assert!(!rig.saw("Disconnected"));
}

#[test]
fn failure_mode_03_a_peer_that_does_not_read_is_given_up_on_at_write_timeout() {
    let mut rig = Rig::ready(|_| {});
    rig.room(false);
    rig.pass(secs(9));
    // Progress starts the time anew.
    rig.link(LinkEvent::Flushed { pending: true, progressed: true, room: false, ping_left: false });
    rig.pass(secs(9));
    assert!(!rig.saw("Disconnected"));
    rig.pass(secs(1));
    assert!(rig.saw("Disconnected(1, Timeout)"));
}

#[test]
fn pings_go_out_while_the_write_buffer_is_full() {
    let mut rig = Rig::ready(|config| config.ping_interval = Some(secs(2)));
    rig.room(false);
    rig.send("waits");
    rig.pass(secs(2));
    assert_eq!(rig.wire(), ["PING"]);
}

#[test]
fn silence_counts_from_the_ping_that_left_and_not_from_the_one_that_waits() {
    let mut rig = Rig::ready(|config| {
        config.ping_interval = Some(secs(2));
        config.pong_timeout = secs(3);
        config.write_timeout = secs(60);
    });
    rig.room(false);
    rig.pass(secs(50));
    assert!(!rig.saw("Disconnected"));
    rig.room(true);
    rig.pass(Duration::from_millis(2_999));
    assert!(!rig.saw("Disconnected"));
    rig.pass(Duration::from_millis(1));
    assert!(rig.saw("Disconnected(1, Timeout)"));
}

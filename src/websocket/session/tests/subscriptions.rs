//! What the peer is told of topics.

use super::rig::{Rig, secs};
use crate::websocket::session::port::LinkEvent;

#[test]
fn a_topic_is_told_after_authentication_and_before_queued_sends() {
    let mut rig = Rig::new(|_| {});
    rig.send("order");
    rig.desire("a", true);
    rig.up_with_auth();
    rig.link(LinkEvent::AuthAccepted);
    assert_eq!(rig.wire(), ["hello", "auth", "SUB a", "order"]);
    let lines = rig.take_transcript();
    let place = |part: &str| lines.iter().position(|line| line.contains(part)).expect(part);
    assert!(place("SUB a") < place("Connected(1)") && place("Connected(1)") < place("write order"));
}

#[test]
fn every_link_is_told_of_every_live_topic_once() {
    let mut rig = Rig::ready(|_| {});
    for topic in ["a", "b"] {
        rig.desire(topic, true);
    }
    rig.down();
    rig.desire("c", true);
    rig.desire("a", false);
    rig.pass(secs(1));
    rig.up();
    assert_eq!(rig.wire(), ["SUB b c"]);
}

#[test]
fn failure_mode_13_long_sets_are_split_into_messages() {
    let mut rig = Rig::new(|_| {});
    for topic in ["a", "b", "c", "d", "e", "f", "g"] {
        rig.desire(topic, true);
    }
    rig.up();
    assert_eq!(rig.wire(), ["SUB a b c", "SUB d e f", "SUB g"]);
}

#[test]
fn failure_mode_11_drop_and_subscribe_at_once_leaves_a_live_feed() {
    let mut rig = Rig::ready(|_| {});
    rig.desire("a", true);
    rig.desire_all(&[("a", false), ("a", true)]);
    assert_eq!(rig.wire(), ["SUB a"]);
    assert!(rig.session.told("a").is_some());
    rig.desire("a", false);
    rig.desire("a", true);
    assert_eq!(rig.wire(), ["SUB a", "UNSUB a", "SUB a"]);
}

#[test]
fn failure_mode_12_unsubscribe_is_told_however_full_the_queue_and_before_it() {
    let mut rig = Rig::ready(|_| {});
    rig.desire("a", true);
    rig.room(false);
    for text in ["x", "y", "z"] {
        rig.send(text);
    }
    for _ in 0..1000 {
        rig.desire("a", false);
        rig.desire("b", true);
        rig.desire("b", false);
    }
    rig.room(true);
    assert_eq!(rig.wire(), ["SUB a", "UNSUB a", "x", "y", "z"]);
}

#[test]
fn a_topic_wanted_and_dropped_while_down_is_never_told() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..100 {
        rig.desire("a", true);
        rig.desire("a", false);
    }
    rig.up();
    assert!(rig.wire().is_empty());
}

#[test]
fn messages_of_a_topic_go_to_its_guards_only_while_it_is_told() {
    let mut rig = Rig::ready(|_| {});
    rig.desire("a", true);
    assert!(rig.session.told("a").is_some());
    rig.down();
    assert!(rig.session.told("a").is_none());
}

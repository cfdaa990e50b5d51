//! What becomes of requests and sends.

use std::time::Duration;

use super::rig::{Rig, secs};
use crate::websocket::{message::RequestId, protocol::RouteId, session::port::LinkEvent};

#[test]
fn a_request_is_written_once_and_answered_once() {
    let mut rig = Rig::ready(|_| {});
    let key = rig.request(0, secs(30));
    assert_eq!(rig.wire(), ["request 1"]);
    assert!(rig.reply(key));
    assert!(!rig.reply(key), "answered twice");
    rig.pass(secs(60));
    assert!(!rig.saw("answer"), "an answered request expired");
}

#[test]
fn failure_mode_07_an_expired_request_is_never_written() {
    let mut rig = Rig::new(|_| {});
    rig.request(0, secs(2));
    rig.pass(secs(3));
    assert!(rig.saw("answer 1: Timeout, NotSent"));
    rig.up();
    assert!(rig.wire().is_empty());
}

#[test]
fn failure_mode_07_a_request_whose_slot_was_taken_anew_is_never_written() {
    let mut rig = Rig::new(|_| {});
    rig.request(0, secs(30));
    // The caller went away, and its slot went to another.
    rig.request(0, secs(30));
    rig.up();
    assert_eq!(rig.wire(), ["request 2"]);
}

#[test]
fn failure_mode_08_written_requests_fail_at_once_on_loss_and_queued_ones_wait() {
    let mut rig = Rig::ready(|_| {});
    rig.request(0, secs(30));
    rig.room(false);
    rig.request(1, secs(30));
    rig.down();
    assert!(rig.saw("answer 1: Io, MaybeSent") && !rig.saw("answer 2"));
    rig.pass(secs(1));
    rig.up();
    assert_eq!(rig.wire(), ["request 2"]);
}

#[test]
fn a_reply_of_an_earlier_link_answers_nothing() {
    let mut rig = Rig::ready(|_| {});
    let lost = rig.request(0, secs(30));
    rig.down();
    rig.pass(secs(1));
    rig.up();
    assert!(!rig.reply(lost));
    let fresh = rig.request(0, secs(30));
    assert!(!rig.reply(lost), "the old reply took the slot's new request");
    assert!(rig.reply(fresh));
}

#[test]
fn a_reply_to_a_request_that_was_not_written_answers_nothing() {
    let mut rig = Rig::new(|_| {});
    let key = rig.request(0, secs(30));
    assert!(!rig.reply(key));
}

#[test]
fn a_reply_at_the_deadline_wins_and_one_after_it_is_late() {
    let mut rig = Rig::ready(|_| {});
    let prompt = rig.request(0, secs(5));
    let late = rig.request(1, secs(5));
    rig.pass(Duration::from_millis(4_999));
    // The driver reads the link before it looks at deadlines.
    assert!(rig.reply(prompt));
    rig.pass(Duration::from_millis(1));
    assert!(rig.saw("answer 2: Timeout, MaybeSent") && !rig.saw("answer 1"));
    assert!(!rig.reply(late));
}

#[test]
fn timeouts_are_each_request_s_own() {
    let mut rig = Rig::ready(|_| {});
    for (index, seconds) in [(0, 9), (1, 3), (2, 6)] {
        rig.request(index, secs(seconds));
    }
    rig.pass(secs(10));
    let answers: Vec<String> = rig
        .take_transcript()
        .into_iter()
        .filter(|line| line.contains("answer"))
        .map(|l| l.trim().to_owned())
        .collect();
    let expected = [
        "3.000  answer 2: Timeout, MaybeSent",
        "6.000  answer 3: Timeout, MaybeSent",
        "9.000  answer 1: Timeout, MaybeSent",
    ];
    assert_eq!(answers, expected);
}

#[test]
fn sends_wait_for_a_link_and_keep_their_order() {
    let mut rig = Rig::new(|_| {});
    for text in ["a", "b", "c"] {
        rig.send(text);
    }
    rig.up_with_auth();
    assert_eq!(rig.wire(), ["hello", "auth"]);
    rig.link(LinkEvent::AuthAccepted);
    assert_eq!(rig.wire(), ["hello", "auth", "a", "b", "c"]);
    assert!(rig.saw("release 3"));
}

#[test]
fn a_full_write_buffer_holds_data_back_and_room_lets_it_go() {
    let mut rig = Rig::ready(|_| {});
    rig.room(false);
    rig.send("a");
    rig.request(0, secs(30));
    assert!(rig.wire().is_empty());
    rig.room(true);
    assert_eq!(rig.wire(), ["a", "request 1"]);
}

#[test]
fn a_confirmed_send_waits_for_a_link_and_expires_unsent() {
    let mut rig = Rig::new(|_| {});
    rig.confirm(0, secs(2));
    rig.confirm(1, secs(20));
    rig.pass(secs(3));
    assert!(rig.saw("answer 1: Timeout, NotSent"));
    rig.up();
    assert_eq!(rig.wire(), ["confirm 2"]);
}

#[test]
fn keys_of_callers_who_are_gone_do_not_pile_up() {
    let mut rig = Rig::new(|_| {});
    for _ in 0..10_000 {
        rig.request(0, secs(3600));
    }
    assert!(rig.session.outbox.len() <= 33, "{} places for one caller", rig.session.outbox.len());
}

#[test]
fn a_text_id_and_a_number_of_the_same_digits_are_different_ids() {
    let mut rig = Rig::ready(|_| {});
    let key = rig.request(0, secs(30));
    rig.session.handle_named(key, RequestId::text("7"));
    let sequence = RouteId::Number(key.sequence());
    assert_eq!(rig.session.handle_reply(&sequence), None, "it goes by its name now");
    assert_eq!(rig.session.handle_reply(&RouteId::Number(7)), None);
    assert_eq!(rig.session.handle_reply(&RouteId::Text("7".into())), Some(key));
}

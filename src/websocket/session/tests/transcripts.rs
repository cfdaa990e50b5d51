//! Named scenarios, as transcripts.

use super::rig::{Rig, secs};
use crate::websocket::session::port::LinkEvent;

fn check(name: &str, mut rig: Rig) {
    let transcript = rig.take_transcript().join("\n");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/session"));
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, transcript));
}

#[test]
fn a_life_with_authentication_subscriptions_a_loss_and_an_end() {
    let mut rig = Rig::new(|config| config.ping_interval = Some(secs(30)));
    rig.desire("trades", true);
    rig.send("early");
    rig.up_with_auth();
    rig.link(LinkEvent::AuthAccepted);
    rig.request(0, secs(30));
    rig.pass(secs(12));
    rig.down();
    rig.pass(secs(1));
    rig.up_with_auth();
    rig.link(LinkEvent::AuthAccepted);
    rig.desire("trades", false);
    rig.close();
    rig.down();
    check("whole_life", rig);
}

#[test]
fn an_outage_with_requests_of_every_fate() {
    let mut rig = Rig::ready(|config| config.max_attempts = Some(2));
    rig.request(0, secs(30));
    rig.down();
    rig.request(1, secs(2));
    rig.send("kept");
    rig.pass(secs(1));
    rig.down();
    rig.pass(secs(2));
    rig.down();
    check("outage", rig);
}

#[test]
fn a_peer_that_goes_silent() {
    let mut rig = Rig::ready(|config| {
        config.ping_interval = Some(secs(5));
        config.pong_timeout = secs(3);
    });
    rig.pass(secs(6));
    rig.link(LinkEvent::Alive);
    rig.pass(secs(20));
    check("silence", rig);
}

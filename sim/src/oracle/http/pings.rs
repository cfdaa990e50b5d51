//! What holds of HTTP/2's pings: few, in time, and never against a peer that is there.

use std::time::Duration;

use hpx_transport::{env::Timestamp, http::Event};

use super::{Judge, Observer, Rule, Scene, model::Link};
use crate::{
    plan::FaultKind,
    trace::{HttpLog, HttpOutcome, What},
};

const LIBRARY: Observer = Observer::Library;
const REGISTRY: Observer = Observer::Registry;

pub(super) const RULES: &[Rule] = &[
    Rule::of("K-1", "one ping at a time", &[LIBRARY]).each(pings_once),
    Rule::of("K-2", "a keep-alive ping comes after silence, and while it is asked for", &[LIBRARY, REGISTRY])
        .each(pings_after_silence),
    Rule::of("K-3", "a peer is given up on after silence alone", &[LIBRARY, REGISTRY]).each(judges_silence),
    Rule::of("K-4", "the last sign of life is what the socket gave", &[LIBRARY, REGISTRY]).each(hears),
    Rule::of("K-5", "a peer given up on fails all its requests at once", &[LIBRARY, Observer::Workload])
        .each(gives_up)
        .settled(fails_all),
    Rule::of("K-6", "the window grows, up to its limit", &[LIBRARY]).each(grows),
    Rule::of("K-7", "what is counted is what came", &[LIBRARY, REGISTRY]).each(counts),
    Rule::of("K-8", "a round trip is the time from a ping to its pong", &[LIBRARY]).each(measures),
    Rule::of("K-9", "a host that asked for calm is pinged half as often", &[LIBRARY]).each(calms_down),
    Rule::of("K-12", "no connection is open and silent for long", &[LIBRARY, REGISTRY]).settled(notices),
    Rule::of("K-13", "without keep-alive nobody is pinged for it", &[LIBRARY]).each(is_off),
    Rule::of("K-14", "a jump of the clock or a pause kills nothing", &[LIBRARY]).each(is_patient),
];

/// A ping that is sent now, of a connection that is known.
fn ping<'a>(scene: &'a Scene<'_>) -> Option<(u64, bool, Duration, &'a Link)> {
    let Some(HttpLog::Event(Event::PingSent { connection, keep_alive, silent })) = scene.log() else {
        return None;
    };
    Some((*connection, *keep_alive, *silent, scene.course.links.get(connection)?))
}

fn interval(scene: &Scene<'_>, complaints: u32) -> Option<Duration> {
    let interval = Duration::from_millis(scene.http.config.h2_keep_alive_interval_ms?);
    Some(interval.saturating_mul(1 << complaints.min(10)).min(Duration::from_secs(3600)))
}

fn pings_once(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((connection, _, _, link)) = ping(scene) else { return };
    judge.check(scene.at, link.pinged.is_none(), || {
        format!("client {}: connection {connection} is pinged while it owes a pong", scene.client)
    });
}

fn silent_for(link: &Link, at: Timestamp) -> Duration {
    link.heard.map_or(Duration::ZERO, |heard| at.since(heard))
}

fn pings_after_silence(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((connection, true, _, link)) = ping(scene) else { return };
    let Some(interval) = interval(scene, 0) else { return };
    let silent = silent_for(link, scene.at);
    judge.check(scene.at, silent + scene.slack(interval) >= interval, || {
        format!("client {}: connection {connection} is pinged after {silent:?}", scene.client)
    });
    judge.check(scene.at, link.held > 0 || scene.http.config.h2_keep_alive_while_idle, || {
        format!("client {}: connection {connection} is pinged though nobody uses it", scene.client)
    });
}

fn judges_silence(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Event(Event::Closed { connection, silent: true })) = scene.log() else { return };
    let Some(link) = scene.course.links.get(connection) else { return };
    let timeout = Duration::from_millis(scene.http.config.h2_keep_alive_timeout_ms);
    let heard = silent_for(link, scene.at);
    judge.check(scene.at, heard + scene.slack(timeout) >= timeout && link.pinged.is_some(), || {
        format!("client {}: connection {connection} is given up on, heard {heard:?} ago", scene.client)
    });
}

fn hears(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((connection, _, told, link)) = ping(scene) else { return };
    let seen = silent_for(link, scene.at);
    let slack = scene.slack(seen.max(told));
    judge.check(scene.at, told <= seen + slack && seen <= told + slack, || {
        format!("client {}: connection {connection} was silent for {seen:?}, and says {told:?}", scene.client)
    });
}

fn gives_up(scene: &Scene<'_>, judge: &mut Judge) {
    if let Some(HttpLog::Event(Event::Closed { silent: true, .. })) = scene.log() {
        judge.armed();
    }
}

fn fails_all(scene: &Scene<'_>, judge: &mut Judge) {
    if scene.may_pause() {
        return;
    }
    for call in
        scene.course.calls.values().filter(|call| !call.is_over() && !call.waiting && call.head.is_none())
    {
        let link = call.on.and_then(|on| scene.course.links.get(&on));
        if link.is_some_and(|link| link.h2 && link.is_over) {
            let text = format!("client {}: {} waits on a connection that is over", scene.client, call.label);
            judge.broken(scene.course.now, text);
        }
    }
}

fn grows(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Event(Event::WindowGrew { connection, window })) = scene.log() else { return };
    let Some(link) = scene.course.links.get(connection) else { return };
    judge.check(scene.at, *window > link.window && *window <= scene.http.config.h2_window_max, || {
        format!(
            "client {}: connection {connection} had a window of {}, and now {window}",
            scene.client, link.window
        )
    });
}

fn counts(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Event(Event::PongReceived { connection, received, .. })) = scene.log() else { return };
    let Some(link) = scene.course.links.get(connection) else { return };
    judge.check(scene.at, *received >= link.received && *received <= link.asked, || {
        format!(
            "client {}: connection {connection} counts {received} bytes after {}, of {} that were asked for",
            scene.client, link.received, link.asked
        )
    });
}

fn measures(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Event(Event::PongReceived { connection, round_trip, .. })) = scene.log() else {
        return;
    };
    let Some(pinged) = scene.course.links.get(connection).and_then(|link| link.pinged) else { return };
    let (seen, told) = (scene.at.since(pinged), *round_trip);
    let slack = scene.slack(seen.max(told));
    judge.check(scene.at, told <= seen + slack && seen <= told + slack, || {
        format!("client {}: connection {connection} measures {told:?}, it took {seen:?}", scene.client)
    });
}

fn calms_down(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((connection, true, _, link)) = ping(scene) else { return };
    if link.complaints == 0 {
        return;
    }
    let Some(interval) = interval(scene, link.complaints) else { return };
    let silent = silent_for(link, scene.at);
    judge.check(scene.at, silent + scene.slack(interval) >= interval, || {
        format!(
            "client {}: connection {connection} is pinged after {silent:?}, {} complaints notwithstanding",
            scene.client, link.complaints
        )
    });
}

fn notices(scene: &Scene<'_>, judge: &mut Judge) {
    for (connection, link) in scene.course.links.iter().filter(|(_, link)| link.h2 && !link.is_over) {
        let (Some(interval), Some(heard)) = (interval(scene, link.complaints), link.heard.max(link.busy))
        else {
            continue;
        };
        let waits = |call: &u64| {
            let entry = scene.course.calls.get(call);
            entry.is_some_and(|entry| !entry.is_over() && entry.on == Some(*connection))
        };
        let timeout = Duration::from_millis(scene.http.config.h2_keep_alive_timeout_ms);
        if let Some(pinged) = link.pinged {
            let by = heard.max(pinged) + timeout + scene.slack(timeout);
            judge.check(scene.at, scene.course.now <= by, || {
                format!(
                    "client {}: connection {connection} was pinged at {pinged:?}, and stands",
                    scene.client
                )
            });
        }
        if !link.calls.iter().any(waits) || link.opened.is_none() {
            continue;
        }
        // A ping to measure by may be out, and its time counts first.
        let most = interval + 2 * timeout;
        judge.check(scene.at, scene.course.now <= heard + most + scene.slack(most), || {
            format!("client {}: connection {connection} is silent since {heard:?}, and stands", scene.client)
        });
    }
}

fn is_off(scene: &Scene<'_>, judge: &mut Judge) {
    if scene.http.config.h2_keep_alive_interval_ms.is_some() {
        return;
    }
    match scene.log() {
        Some(HttpLog::Event(Event::PingSent { connection, keep_alive: true, .. })) => {
            judge.broken(scene.at, format!("client {}: connection {connection} is pinged", scene.client));
        }
        Some(HttpLog::Event(Event::Closed { connection, silent: true })) => {
            judge
                .broken(scene.at, format!("client {}: connection {connection} is given up on", scene.client));
        }
        Some(HttpLog::Ended { outcome: HttpOutcome::Whole, .. }) => judge.armed(),
        _ => {}
    }
}

fn is_patient(scene: &Scene<'_>, judge: &mut Judge) {
    let own = || scene.plan.faults.iter().filter(|fault| fault.concerns(scene.client));
    let is_mild = |kind: &FaultKind| matches!(kind, FaultKind::ClockJump { .. } | FaultKind::Pause);
    if !own().all(|fault| is_mild(&fault.kind)) {
        return;
    }
    if let What::Fault(_) = scene.entry.what
        && own().next().is_some()
    {
        judge.armed();
    }
    if let Some(HttpLog::Event(Event::Closed { connection, silent: true })) = scene.log() {
        judge.broken(scene.at, format!("client {}: connection {connection} is given up on", scene.client));
    }
}

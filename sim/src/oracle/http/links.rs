//! What holds of a connection: who may have it, and when.

use std::time::Duration;

use hpx_transport::http::Event;

use super::{Judge, Observer, Rule, Scene, model::behind};
use crate::trace::{HttpLog, WebLog, What};

const LIBRARY: Observer = Observer::Library;
const SERVER: Observer = Observer::Server;

pub(super) const RULES: &[Rule] = &[
    Rule::of("P-1", "an HTTP/1.1 connection has one user at a time", &[LIBRARY, SERVER]).each(is_exclusive),
    Rule::of("P-9", "nothing expired, used up or about to close is handed out", &[LIBRARY]).each(is_good),
    Rule::of("P-11", "the most recently used is handed out first", &[LIBRARY]).each(is_newest),
    Rule::of("P-14", "no more streams than the peer and the configuration allow", &[LIBRARY]).each(has_room),
    Rule::of("P-15", "after GOAWAY no new request comes", &[SERVER]).each(heeds_goaway),
    Rule::of("P-21", "a connection serves its own host alone", &[LIBRARY]).each(is_of_its_host),
];

/// The call and the connection of a checkout.
fn acquired<'a>(scene: &'a Scene<'_>) -> Option<(u64, u64, &'a super::model::Link)> {
    let Some(HttpLog::Event(Event::Acquired { call, connection, .. })) = scene.log() else { return None };
    Some((*call, *connection, scene.course.links.get(connection)?))
}

fn is_exclusive(scene: &Scene<'_>, judge: &mut Judge) {
    if let What::Web(WebLog::Pipelined { conn }) = &scene.entry.what {
        judge
            .broken(scene.at, format!("client {}: it asks on {conn} before it has its answer", scene.client));
    }
    let Some((call, connection, link)) = acquired(scene) else { return };
    if !link.h2 {
        judge.check(scene.at, link.held == 0, || {
            format!("client {}: call {call} was given connection {connection}, which is in use", scene.client)
        });
    }
}

fn is_good(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((_, connection, link)) = acquired(scene) else { return };
    let ms = Duration::from_millis;
    let (idle, life) = (ms(scene.http.config.idle_timeout_ms), ms(scene.http.config.lifetime_max_ms));
    let rested = link.free.filter(|_| link.held == 0).map_or(Duration::ZERO, |free| scene.at.since(free));
    let age = link.opened.map_or(Duration::ZERO, |opened| scene.at.since(opened));
    let is_young = (link.h2 || rested <= idle + scene.slack(idle)) && age <= life + scene.slack(life);
    judge.check(scene.at, is_young, || {
        format!("client {}: connection {connection} is {age:?} old and was idle for {rested:?}", scene.client)
    });
    // What was handed out in the same instant, before the news, is on its way.
    let is_leaving = link.leaving.is_some_and(|since| since < scene.at);
    judge.check(scene.at, !link.is_over && !is_leaving, || {
        format!("client {}: connection {connection} is over, or about to be", scene.client)
    });
}

fn is_newest(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((call, connection, link)) = acquired(scene) else { return };
    let waited = scene.course.calls.get(&call).is_none_or(|call| call.waiting);
    let Some(idle) = scene.course.idle.get(&link.port).filter(|idle| idle.len() > 1) else { return };
    // Those too old are passed over.
    let life = Duration::from_millis(scene.http.config.lifetime_max_ms);
    let is_young = |other: &&u64| {
        let opened = scene.course.links.get(other).and_then(|other| other.opened);
        opened.is_some_and(|opened| scene.at.since(opened) + scene.slack(life) < life)
    };
    // What was handed to a waiter never lay idle.
    if link.h2 || waited || !idle.contains(&connection) {
        return;
    }
    let newest = idle.iter().rfind(is_young).copied();
    let as_new = |other: u64| scene.course.links.get(&other).and_then(|link| link.free) == link.free;
    let is_last = idle.last() == Some(&connection);
    judge.check(
        scene.at,
        is_last || newest.is_none_or(|newest| newest == connection || as_new(newest)),
        || {
            format!(
                "client {}: connection {connection} was taken, {newest:?} is the most recently used",
                scene.client
            )
        },
    );
}

fn has_room(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((_, connection, link)) = acquired(scene) else { return };
    if !link.h2 {
        return;
    }
    let lately = if link.streams_now.0 == scene.at { link.streams_now.1 } else { 0 };
    let most = link.streams.max(lately).min(scene.http.config.h2_streams_max);
    judge.check(scene.at, link.held < most, || {
        format!(
            "client {}: connection {connection} has {} streams, and may have {most}",
            scene.client, link.held
        )
    });
}

fn heeds_goaway(scene: &Scene<'_>, judge: &mut Judge) {
    let What::Web(WebLog::Executed { conn, label, .. }) = &scene.entry.what else { return };
    let Some(seen) = scene.hosts.conns.get(conn) else { return };
    let Some(leaving) = seen.leaving else { return };
    // What was on its way then is not new, and a line that is held or slow takes its time.
    let is_troubled = scene.plan.faults.iter().any(|fault| fault.concerns(scene.client));
    if is_troubled && !scene.plan.faults.iter().all(|fault| fault.kind.name() == "serve") {
        return;
    }
    // The news lies behind the bodies that were out by then.
    let within = behind(scene.http, scene.http.config.h2_window_max.into());
    let latest = leaving + within + scene.slack(within);
    judge.check(scene.at, scene.at <= latest, || {
        format!("client {}: {label} came over {conn}, which was leaving since {leaving:?}", scene.client)
    });
}

fn is_of_its_host(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((call, connection, link)) = acquired(scene) else { return };
    let port = scene.course.calls.get(&call).map_or(0, |call| call.port);
    judge.check(scene.at, port == link.port, || {
        format!(
            "client {}: call {call} of port {port} was given connection {connection} of port {}",
            scene.client, link.port
        )
    });
}

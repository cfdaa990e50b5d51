//! What holds of the pool as a whole: its books, its limits, its line.

use hpx_transport::http::{Event, PoolStats};

use super::{Judge, Observer, Rule, Scene};
use crate::{
    plan::{Spoken, http::port_of},
    trace::HttpLog,
};

const LIBRARY: Observer = Observer::Library;
const REGISTRY: Observer = Observer::Registry;
const WORKLOAD: Observer = Observer::Workload;

pub(super) const RULES: &[Rule] = &[
    Rule::of("P-2", "the pool counts every dial and socket there is", &[LIBRARY, REGISTRY])
        .each(conserves)
        .settled(agrees),
    Rule::of("P-3", "a waiter that goes away loses no connection", &[LIBRARY, WORKLOAD])
        .settled(loses_nothing),
    Rule::of("P-4", "the longest waiting is served first", &[LIBRARY, WORKLOAD]).settled(is_fair),
    Rule::of("P-5", "nobody waits beside what is free, or may be dialed", &[LIBRARY]).settled(wakes),
    Rule::of("P-6", "what comes back while somebody waits is taken at once", &[LIBRARY])
        .each(is_taken)
        .settled(serves_at_once),
    Rule::of("P-7", "no limit is exceeded", &[LIBRARY, REGISTRY]).each(keeps_limits),
    Rule::of("P-8", "a full pool closes what is idle for who waits", &[LIBRARY]).settled(makes_room),
    Rule::of("P-10", "what is idle is closed when its time is up", &[LIBRARY]).settled(expires),
    Rule::of("P-12", "a failed dial fails one request", &[LIBRARY, WORKLOAD]).each(blames_one),
    Rule::of("P-13", "one dial at a time to who may speak HTTP/2", &[LIBRARY]).each(dials_once),
    Rule::of(
        "P-19",
        "close takes no more requests and returns with the last connection",
        &[LIBRARY, WORKLOAD],
    )
    .each(closes),
    Rule::of("P-20", "a client that is gone leaves nothing", &[REGISTRY, LIBRARY]).each(leaves_nothing),
];

fn conserves(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Books { hosts, census }) = scene.log() else { return };
    let open: usize = hosts.iter().map(|(_, stats)| stats.open).sum();
    judge.check(scene.at, census.sockets + census.dials <= open, || {
        format!("client {}: {census:?}, and the pool counts {open}", scene.client)
    });
}

fn agrees(scene: &Scene<'_>, judge: &mut Judge) {
    let course = scene.course;
    let (open, dialing) = (course.sum(|stats| stats.open), course.sum(|stats| stats.dialing));
    if dialing > 0 || scene.may_pause() || course.over {
        return;
    }
    judge.check(course.now, open == course.census.sockets, || {
        format!("client {}: {:?} at rest, and the pool counts {open}", scene.client, course.census)
    });
}

fn loses_nothing(scene: &Scene<'_>, judge: &mut Judge) {
    let course = scene.course;
    // An HTTP/2 connection that is let go of lives on until it has said so.
    if scene.may_pause() || course.over || course.links.values().any(|link| link.h2) {
        return;
    }
    for (port, stats) in &course.books {
        let of_port = course.links.values().filter(|link| link.port == *port && !link.is_over);
        let held = of_port.filter(|link| link.held > 0).count();
        let known = stats.dialing + stats.idle + held;
        judge.check(course.now, stats.open <= known, || {
            format!("client {}, port {port}: {stats:?} at rest, {held} of them in use", scene.client)
        });
    }
}

fn is_fair(scene: &Scene<'_>, judge: &mut Judge) {
    if scene.may_pause() {
        return;
    }
    if matches!(scene.course.lines.values().map(Vec::len).max(), Some(2..)) {
        judge.armed();
    }
    for call in &scene.course.passed {
        let Some(call) = scene.course.calls.get(call) else { continue };
        if !scene.course.died.contains(&call.port) {
            let text = format!("client {}: {} was passed over", scene.client, call.label);
            judge.broken(scene.course.now, text);
        }
    }
}

fn wakes(scene: &Scene<'_>, judge: &mut Judge) {
    let (course, config) = (scene.course, &scene.http.config);
    if scene.may_pause() {
        return;
    }
    let open = course.sum(|stats| stats.open);
    for (port, stats) in course.books.iter().filter(|(_, stats)| stats.waiting > 0) {
        let has_h2 = course.links.values().any(|link| link.port == *port && link.h2);
        let free = stats.idle > 0 && !has_h2;
        let may_dial =
            stats.dialing == 0 && stats.open < config.open_per_host_max && open < config.open_total_max;
        judge.check(course.now, !free && !may_dial, || {
            format!("client {}, port {port}: {stats:?} at rest", scene.client)
        });
    }
}

fn is_taken(scene: &Scene<'_>, judge: &mut Judge) {
    if let Some(HttpLog::Event(Event::Acquired { connection, .. })) = scene.log()
        && scene.course.owed.contains(connection)
    {
        judge.armed();
    }
}

fn serves_at_once(scene: &Scene<'_>, judge: &mut Judge) {
    if scene.may_pause() {
        return;
    }
    let is_waited_for = |connection: &&u64| {
        let port = scene.course.links.get(connection).map_or(0, |link| link.port);
        scene.course.lines.get(&port).is_some_and(|line| !line.is_empty())
    };
    for connection in scene.course.owed.iter().filter(is_waited_for) {
        judge.broken(
            scene.course.now,
            format!(
                "client {}: connection {connection} came back, somebody waits, and nobody took it",
                scene.client
            ),
        );
    }
}

fn keeps_limits(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Books { hosts, census }) = scene.log() else { return };
    let config = &scene.http.config;
    let (mut open, mut idle) = (0, 0);
    for (port, stats) in hosts {
        open += stats.open;
        idle += stats.idle;
        let holds = stats.open <= config.open_per_host_max && stats.idle <= config.idle_per_host_max;
        judge.check(scene.at, holds, || format!("client {}, port {port}: {stats:?}", scene.client));
    }
    let sockets = census.sockets + census.dials;
    let holds = open.max(sockets) <= config.open_total_max && idle <= config.idle_total_max;
    judge.check(scene.at, holds, || {
        format!("client {}: {open} open, {idle} idle, {sockets} sockets and dials in all", scene.client)
    });
}

fn makes_room(scene: &Scene<'_>, judge: &mut Judge) {
    let (course, config) = (scene.course, &scene.http.config);
    // Of HTTP/2 an idle connection may be on its way out.
    if scene.may_pause() || course.links.values().any(|link| link.h2 && !link.is_over) {
        return;
    }
    let open = course.sum(|stats| stats.open);
    let wants = |(port, stats): &(u16, PoolStats)| {
        // One dial at a time tells whether it is one for many.
        let at_once = if is_secure(scene, *port) || may_share(scene, *port) { 1 } else { stats.waiting };
        stats.waiting > 0 && stats.dialing < at_once && stats.open < config.open_per_host_max
    };
    if open < config.open_total_max || !course.books.iter().any(wants) {
        return;
    }
    let idle = course.sum(|stats| stats.idle);
    judge.check(course.now, idle == 0, || format!("client {}: {:?} at rest", scene.client, course.books));
}

fn expires(scene: &Scene<'_>, judge: &mut Judge) {
    let timeout = std::time::Duration::from_millis(scene.http.config.idle_timeout_ms);
    for (connection, link) in scene.course.links.iter().filter(|(_, link)| !link.is_over && !link.h2) {
        let Some(free) = link.free.filter(|_| link.held == 0 && link.opened.is_some()) else { continue };
        let latest = free + timeout + scene.slack(timeout);
        judge.check(scene.at, scene.course.now <= latest, || {
            format!("client {}: connection {connection} was idle since {free:?}", scene.client)
        });
    }
}

fn blames_one(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Ended { label, outcome }) = scene.log() else { return };
    if super::model::is_dial_error(outcome) {
        let (errors, failures) = (scene.course.dial_errors + 1, scene.course.dial_failures);
        judge.check(scene.at, errors <= failures, || {
            format!(
                "client {}: {label} is the {errors}. to fail by one of {failures} failed dials",
                scene.client
            )
        });
    }
}

fn is_secure(scene: &Scene<'_>, port: u16) -> bool {
    scene.http.origins.get(usize::from(port - port_of(0))).is_some_and(|origin| origin.tls)
}

/// True if a connection to this port may turn out to be one for many.
fn may_share(scene: &Scene<'_>, port: u16) -> bool {
    let origin = scene.http.origins.get(usize::from(port - port_of(0)));
    match scene.http.config.protocol {
        Spoken::Auto => origin.is_some_and(|origin| origin.tls) && !scene.course.first.contains(&port),
        Spoken::Http1 => false,
        Spoken::Http2 => true,
    }
}

fn dials_once(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Books { hosts, .. }) = scene.log() else { return };
    for (port, stats) in hosts {
        if may_share(scene, *port) && stats.dialing > 0 {
            judge.check(scene.at, stats.dialing <= 1, || {
                format!("client {}, port {port}: {} dials at once", scene.client, stats.dialing)
            });
        }
    }
}

fn closes(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(closed) = scene.course.close_called else { return };
    match scene.log() {
        Some(HttpLog::Event(Event::Acquired { call, .. })) => {
            let called = scene.course.calls.get(call).map(|call| call.called);
            judge.check(scene.at, called.is_none_or(|called| called <= closed), || {
                format!("client {}: call {call} came after close and was given a connection", scene.client)
            });
        }
        Some(HttpLog::CloseReturned { open }) => {
            judge.check(scene.at, *open == 0, || {
                format!("client {}: close returned with {open} connections open", scene.client)
            });
        }
        _ => {}
    }
}

fn leaves_nothing(scene: &Scene<'_>, judge: &mut Judge) {
    match scene.log() {
        Some(HttpLog::Residue(census)) if scene.course.over => {
            judge.check(scene.at, census.is_empty(), || {
                format!("client {}: still holds {census:?}", scene.client)
            });
        }
        Some(HttpLog::Residue(census)) => {
            judge.broken(
                scene.at,
                format!("client {}: its end has not come; it holds {census:?}", scene.client),
            );
        }
        _ => {}
    }
}

//! What holds of TLS sessions: each ticket once, the newest first, by its own host, and used wherever it can be.

use std::time::Duration;

use super::{Judge, Observer, Rule, Scene};
use crate::{
    plan::FaultKind,
    trace::{WebLog, What},
};

const SERVER: Observer = Observer::Server;

pub(super) const RULES: &[Rule] = &[
    Rule::of("T-1", "a ticket is offered once", &[SERVER]).each(offers_once),
    Rule::of("T-2", "a ticket is offered to the host it is from", &[SERVER]).each(stays_home),
    Rule::of("T-3", "the newest ticket is offered, and none that has expired", &[SERVER])
        .each(offers_the_newest),
    Rule::of("T-6", "a ticket that is turned down costs a full handshake and no more", &[SERVER])
        .each(survives_refusal),
    Rule::of("T-7", "where there is a ticket a session is resumed", &[SERVER, Observer::Workload])
        .each(resumes),
];

/// The ticket that is offered now, and over which connection.
fn offered(scene: &Scene<'_>) -> Option<(u64, u64)> {
    match &scene.entry.what {
        What::Web(WebLog::TicketOffered { conn, ticket: Some(ticket), .. }) => Some((*conn, *ticket)),
        _ => None,
    }
}

fn offers_once(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((_, ticket)) = offered(scene) else { return };
    let was = scene.hosts.tickets.get(&ticket).is_some_and(|ticket| ticket.offered);
    judge.check(scene.at, !was, || format!("client {}: ticket {ticket} comes again", scene.client));
}

fn stays_home(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((conn, ticket)) = offered(scene) else { return };
    let home = scene.hosts.tickets.get(&ticket).and_then(|ticket| scene.hosts.conns.get(&ticket.conn));
    let (Some(home), Some(here)) = (home, scene.hosts.conns.get(&conn)) else { return };
    judge.check(scene.at, (home.client, home.port) == (here.client, here.port), || {
        format!(
            "ticket {ticket} of client {} and port {} comes from client {} at port {}",
            home.client, home.port, here.client, here.port
        )
    });
}

/// A ticket of this client and port that it holds for sure as it dials this connection, and how old it is then.
fn held(scene: &Scene<'_>, conn: u64) -> Option<(u64, Duration)> {
    let here = scene.hosts.conns.get(&conn)?;
    let is_held = |ticket: &(&u64, &super::model::Ticket)| {
        let home = scene.hosts.conns.get(&ticket.1.conn);
        !ticket.1.offered
            && home.is_some_and(|home| {
                let heard = home.heard.is_some_and(|heard| heard < here.accepted);
                (home.client, home.port) == (here.client, here.port) && heard
            })
    };
    let (number, ticket) = scene.hosts.tickets.iter().rfind(is_held)?;
    Some((*number, scene.at.since(ticket.at)))
}

/// Of one host: more push the oldest out.
const TICKETS_KEPT: usize = 8;

/// True if no handshake of this client's can be lost on its way, and take a ticket with it, and its clock is right.
fn is_orderly(scene: &Scene<'_>) -> bool {
    let is_mild = |kind: &FaultKind| {
        matches!(kind, FaultKind::Serve { .. } | FaultKind::Refuse { .. } | FaultKind::ServerClose { .. })
    };
    scene.plan.faults.iter().filter(|fault| fault.concerns(scene.client)).all(|fault| is_mild(&fault.kind))
}

fn offers_the_newest(scene: &Scene<'_>, judge: &mut Judge) {
    let Some((conn, ticket)) = offered(scene) else { return };
    if let Some((newest, _)) = held(scene, conn)
        && is_orderly(scene)
    {
        judge.check(scene.at, ticket >= newest, || {
            format!("client {}: ticket {ticket} is offered, and {newest} is newer", scene.client)
        });
    }
    let jumps = |kind: &FaultKind| matches!(kind, FaultKind::ClockJump { .. });
    let Some(age) = scene.hosts.tickets.get(&ticket).map(|ticket| scene.at.since(ticket.at)) else { return };
    if scene.plan.faults.iter().any(|fault| fault.concerns(scene.client) && jumps(&fault.kind)) {
        return;
    }
    // The client counts in whole seconds from when it has it, and looks as it dials: handshakes may be slow.
    let most = Duration::from_secs(scene.http.config.session_lifetime_s + 1)
        + Duration::from_millis(scene.http.config.connect_timeout_ms)
        + Duration::from_millis(2 * scene.http.latency_ms);
    judge.check(scene.at, age <= most + scene.slack(most), || {
        format!("client {}: ticket {ticket} is {age:?} old", scene.client)
    });
}

fn survives_refusal(scene: &Scene<'_>, judge: &mut Judge) {
    let What::Web(WebLog::Secured { conn, resumed }) = &scene.entry.what else { return };
    let Some(seen) = scene.hosts.conns.get(conn).filter(|seen| seen.offered && !seen.accepts) else { return };
    judge.check(scene.at, !resumed, || {
        format!("connection {conn} of client {} is resumed, its ticket was turned down", seen.client)
    });
}

fn resumes(scene: &Scene<'_>, judge: &mut Judge) {
    let What::Web(WebLog::Secured { conn, resumed }) = &scene.entry.what else { return };
    if *resumed {
        judge.armed();
    }
    let Some(seen) = scene.hosts.conns.get(conn).filter(|seen| !seen.offered) else { return };
    let life = Duration::from_secs(scene.http.config.session_lifetime_s.saturating_sub(1));
    if let Some((ticket, age)) = held(scene, *conn)
        && scene.hosts.tickets.range(ticket + 1..).count() < TICKETS_KEPT
        && is_orderly(scene)
        && age < life
    {
        judge.broken(
            scene.at,
            format!("client {} shook hands in full over {conn}, and holds ticket {ticket}", seen.client),
        );
    }
}

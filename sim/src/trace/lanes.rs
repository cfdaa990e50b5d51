//! The picture of a run: one lane per client and one per fault, time from left to right.

use std::fmt::Write;

use hpx_transport::env::Timestamp;

use super::{Entry, FaultLog, HttpLog, Place, SocketLog, TaskLog, What, WorkLog};
use crate::plan::Plan;

/// Draws the lanes. `#` a socket is open, `~` dialing, `.` neither, blank before the start and after the end.
pub(crate) fn lanes(plan: &Plan, entries: &[Entry]) -> String {
    let end_ms = plan.end_ms().max(1);
    let column = |at: Timestamp| {
        let ms = u64::try_from(at.since_epoch().as_millis()).unwrap_or(u64::MAX);
        ((ms * WIDTH as u64 / end_ms) as usize).min(WIDTH - 1)
    };
    let mut out = String::new();
    // A String takes every write.
    let _ = writeln!(out, "{:<18}{}", "", axis(end_ms));
    for client in 0..plan.hosts() {
        let _ = writeln!(
            out,
            "{:<18}{}",
            format!("client {client}"),
            client_lane(client, plan.clients.len(), entries, &column)
        );
    }
    for name in crate::plan::FAULT_NAMES {
        let mut lane = vec![b' '; WIDTH];
        fault_lane(name, plan, entries, &column, &mut lane);
        mark_script(name, entries, &column, &mut lane);
        if lane.iter().any(|byte| *byte != b' ') {
            let _ = writeln!(out, "{name:<18}{}", text(&lane));
        }
    }
    let healed = entries.iter().find(|entry| matches!(entry.what, What::Fault(FaultLog::Healed)));
    if let Some(healed) = healed {
        let _ = writeln!(out, "{:<18}{:>width$}^ healed", "", "", width = column(healed.at));
    }
    out.push_str(
        "                  # socket open   ~ dialing   . waiting   = fault lasts   ! instant   x end\n",
    );
    out
}

/// From the beginning of each fault to its end, as they were.
fn fault_lane(
    name: &str,
    plan: &Plan,
    entries: &[Entry],
    column: &impl Fn(Timestamp) -> usize,
    lane: &mut [u8],
) {
    let mut running: Vec<(usize, usize)> = Vec::new();
    for entry in entries {
        match entry.what {
            What::Fault(FaultLog::Began { fault, .. }) if plan.faults[fault].kind.name() == name => {
                let from = column(entry.at);
                lane[from] = b'!';
                if !plan.faults[fault].kind.is_instant() {
                    running.push((fault, from));
                }
            }
            What::Fault(FaultLog::Ended { fault, .. }) => {
                if let Some(index) = running.iter().position(|(other, _)| *other == fault) {
                    let (_, from) = running.remove(index);
                    lane[from..=column(entry.at)].fill(b'=');
                }
            }
            _ => {}
        }
    }
    // What never ended lasts to the end of the picture.
    running.into_iter().for_each(|(_, from)| lane[from..].fill(b'='));
}

fn axis(end_ms: u64) -> String {
    let mut axis = vec![b'-'; WIDTH];
    let mut labels = String::new();
    for tenth in 0..8 {
        let at = tenth * WIDTH / 8;
        axis[at] = b'|';
        let seconds = end_ms as f64 / 1000.0 * tenth as f64 / 8.0;
        let _ = write!(labels, "{:<width$}", format!("{seconds:.1}s"), width = WIDTH / 8);
    }
    format!("{labels}\n{:<18}{}", "", text(&axis))
}

/// States in order of rank: what is rare wins its column. That is no socket where there is to be one, and one where they come and go.
fn client_lane(
    client: usize,
    clients: usize,
    entries: &[Entry],
    column: &impl Fn(Timestamp) -> usize,
) -> String {
    let mut lane = vec![b' '; WIDTH];
    let (mut state, mut from) = (b' ', 0);
    // An HTTP client has several of each.
    let (mut open, mut dials) = (0_usize, 0_usize);
    let is_http = client >= clients;
    let mut fill = |state: u8, from: usize, to: usize| {
        for cell in &mut lane[from..=to] {
            if rank(state, is_http) > rank(*cell, is_http) {
                *cell = state;
            }
        }
    };
    for entry in entries.iter().filter(|entry| entry.place == Place::Client(client)) {
        match &entry.what {
            What::Socket(SocketLog::Dialing { .. }) => dials += 1,
            What::Socket(SocketLog::Opened { .. }) => (open, dials) = (open + 1, dials.saturating_sub(1)),
            What::Socket(SocketLog::DialFailed { .. } | SocketLog::DialAbandoned { .. }) => {
                dials = dials.saturating_sub(1);
            }
            What::Socket(SocketLog::Closed { .. }) => open = open.saturating_sub(1),
            What::Work(WorkLog::Started) | What::Http(HttpLog::Started | HttpLog::Dropped) => {}
            What::Task(TaskLog::Ended { .. }) if !is_http => {}
            _ => continue,
        }
        let next = match &entry.what {
            What::Task(_) | What::Http(HttpLog::Dropped) => b'x',
            _ if open > 0 => b'#',
            _ if dials > 0 => b'~',
            _ => b'.',
        };
        let now = column(entry.at);
        fill(state, from, now);
        if next == b'x' {
            fill(b'x', now, now);
            state = b' ';
        } else {
            state = next;
        }
        from = now;
    }
    if state != b' ' {
        fill(state, from, WIDTH - 1);
    }
    text(&lane)
}

fn rank(state: u8, is_http: bool) -> u8 {
    match state {
        b'x' => 4,
        b'~' => 2,
        b'.' if is_http => 1,
        b'#' if is_http => 3,
        b'.' => 3,
        b'#' => 1,
        _ => 0,
    }
}

/// Faults that are steps of a script.
fn mark_script(name: &str, entries: &[Entry], column: &impl Fn(Timestamp) -> usize, lane: &mut [u8]) {
    for entry in entries {
        let hit = match &entry.what {
            What::Work(WorkLog::HandlesDropped) => name == "handle-drop",
            What::Work(WorkLog::CallEnded { outcome: super::Outcome::Cancelled { .. }, .. }) => {
                name == "cancelled-future"
            }
            _ => false,
        };
        if hit {
            lane[column(entry.at)] = b'!';
        }
    }
}

fn text(lane: &[u8]) -> String {
    String::from_utf8_lossy(lane).trim_end().to_owned()
}

/// Columns of the picture: with the names it fits 100.
const WIDTH: usize = 80;

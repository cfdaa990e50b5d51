//! What holds of a request: its answer is its own, in time, and what is said of its delivery is true.

use std::time::Duration;

use hpx_transport::Delivery;

use super::{Judge, Observer, Rule, Scene, model::behind};
use crate::{
    plan::FaultKind,
    trace::{HttpLog, HttpOutcome, TaskLog, What},
};

const SERVER: Observer = Observer::Server;
const WORKLOAD: Observer = Observer::Workload;

pub(super) const RULES: &[Rule] = &[
    Rule::of(
        "P-16",
        "nothing is executed twice that must not be, or that was called unsent",
        &[SERVER, WORKLOAD],
    )
    .each(is_sent_once),
    Rule::of("H-1", "a request ends in its time", &[WORKLOAD]).settled(is_in_time),
    Rule::of("H-2", "an answer is the request's own", &[SERVER, WORKLOAD]).each(is_its_own),
    Rule::of("H-3", "in a healthy world every request is answered", &[WORKLOAD]).each(succeeds),
    Rule::of("H-4", "no task panics or spins", &[Observer::Registry]).each(is_sound),
];

fn is_sent_once(scene: &Scene<'_>, judge: &mut Judge) {
    let executed = |label: u64| scene.hosts.executed.get(&(scene.client, label)).copied().unwrap_or(0);
    if let Some(HttpLog::Ended { label, outcome }) = scene.log() {
        let unsent = matches!(outcome, HttpOutcome::Failed { delivery: Delivery::NotSent, .. });
        judge.check(scene.at, !unsent || executed(*label) == 0, || {
            format!("client {}: {label} was called unsent, and was executed", scene.client)
        });
    }
    if let What::Web(crate::trace::WebLog::Executed { label, post, .. }) = &scene.entry.what {
        judge.check(scene.at, !post || executed(*label) == 0, || {
            format!("client {}: {label} must not be executed twice, and was", scene.client)
        });
        let call = scene.course.labels.get(label).and_then(|call| scene.course.calls.get(call));
        let was_unsent = call.is_some_and(|call| call.is_over() && call.on.is_none());
        judge.check(scene.at, !was_unsent, || {
            format!("client {}: {label} was never given a connection, and was executed", scene.client)
        });
    }
}

fn is_in_time(scene: &Scene<'_>, judge: &mut Judge) {
    let timeout = Duration::from_millis(scene.http.config.request_timeout_ms);
    for call in scene.course.calls.values().filter(|call| !call.is_over() && call.head.is_none()) {
        judge.check(scene.at, scene.course.now <= call.called + timeout + scene.slack(timeout), || {
            format!("client {}: {} has waited for its head since {:?}", scene.client, call.label, call.called)
        });
    }
}

fn is_its_own(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Ended { label, outcome }) = scene.log() else { return };
    let lied_to = scene.plan.is_corrupted(scene.client)
        || scene.plan.faults.iter().any(|fault| fault.concerns(scene.client) && lies(&fault.kind));
    match outcome {
        HttpOutcome::Wrong { .. } if lied_to => {}
        HttpOutcome::Wrong { text } => {
            judge.broken(scene.at, format!("client {}: {label}: {text}", scene.client));
        }
        HttpOutcome::Whole => {
            let executed = scene.hosts.executed.contains_key(&(scene.client, *label));
            judge.check(scene.at, executed, || {
                format!("client {}: {label} was answered, and never executed", scene.client)
            });
        }
        _ => {}
    }
}

/// True for what makes a whole body of another length.
fn lies(kind: &FaultKind) -> bool {
    use crate::plan::HttpBehaviour::{Garbage, GiantHead, LongBody, ShortBody};
    matches!(kind, FaultKind::Serve { how: LongBody | ShortBody | Garbage | GiantHead, .. })
}

fn succeeds(scene: &Scene<'_>, judge: &mut Judge) {
    let Some(HttpLog::Ended { label, outcome: HttpOutcome::Failed { kind, in_body, .. } }) = scene.log()
    else {
        if let Some(HttpLog::Ended { outcome: HttpOutcome::Whole, .. }) = scene.log() {
            judge.armed();
        }
        return;
    };
    let settled = Duration::from_millis(scene.plan.settle_ms);
    let call = scene.course.labels.get(label).and_then(|call| scene.course.calls.get(call));
    let Some(call) = call.filter(|call| call.called.since_epoch() >= settled) else { return };
    // A line longer than the pool is wide takes its time, as the configuration has it.
    let waited = call.has_waited && *kind == hpx_transport::ErrorKind::Timeout;
    // A body takes turns with those beside it, and a head stands behind what of them is on its way.
    let config = &scene.http.config;
    let timeout_ms = if *in_body { config.body_timeout_ms } else { config.request_timeout_ms };
    let turn = behind(scene.http, scene.course.bytes_beside(call));
    let has_turns = *kind == hpx_transport::ErrorKind::Timeout && turn >= Duration::from_millis(timeout_ms);
    if waited || has_turns || !scene.plan.is_core(scene.client) || scene.course.close_called.is_some() {
        return;
    }
    judge.check(scene.at, false, || {
        format!(
            "client {}: {label} failed in a healthy world: {kind:?}, in its body: {in_body}",
            scene.client
        )
    });
}

fn is_sound(scene: &Scene<'_>, judge: &mut Judge) {
    match &scene.entry.what {
        What::Task(TaskLog::Panicked { name, text }) => {
            judge.broken(scene.at, format!("client {}: task {name} panicked: {text}", scene.client));
        }
        What::Task(TaskLog::Spun { polls }) => {
            judge.broken(scene.at, format!("client {}: {polls} polls for nothing", scene.client));
        }
        What::Task(TaskLog::Ended { .. }) => judge.armed(),
        _ => {}
    }
}

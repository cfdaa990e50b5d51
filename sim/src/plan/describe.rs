//! A plan in words.

use std::fmt::Write;

use super::{Op, Plan, Reader};
use crate::world;

/// The plan as a few readable lines: who, with which settings, and what will happen to them.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    // A String takes every write.
    let _ = writeln!(
        out,
        "plan of seed {}: {} client(s), {} fault(s); healed at {:.1} s, standing by {:.1} s, over at {:.1} s; tick {} ms",
        plan.seed,
        plan.clients.len(),
        plan.faults.len(),
        seconds(plan.heal_ms),
        seconds(plan.settle_ms),
        seconds(plan.end_ms()),
        plan.tick_ms
    );
    for (index, client) in plan.clients.iter().enumerate() {
        let config = &client.config;
        let reader = match client.reader {
            Reader::Prompt => "reads events at once".to_owned(),
            Reader::Slow { every_ms } => format!("reads an event every {every_ms} ms"),
            Reader::Absent => "never reads events".to_owned(),
        };
        let count = |kind: fn(&Op) -> bool| client.script.iter().filter(|step| kind(&step.op)).count();
        let last = client.script.last().map_or(0, |step| step.at_ms);
        let end = match client.script.last().map(|step| &step.op) {
            Some(Op::Close) => "closes",
            _ => "drops its handle",
        };
        let _ = writeln!(
            out,
            "  client {index}: from {:.1} s, {} ms away, {reader}; {} requests, {} sends, {} guards; {end} at {:.1} s",
            seconds(client.start_ms),
            client.latency_ms,
            count(|op| matches!(op, Op::Request { .. })),
            count(|op| matches!(op, Op::Send { .. })),
            count(|op| matches!(op, Op::Subscribe { .. })),
            seconds(last),
        );
        let most = config
            .reconnect_max_attempts
            .map_or_else(String::new, |most| format!(", at most {most} attempts"));
        let _ = writeln!(
            out,
            "    backoff {}..{} ms x{} jitter {}{most}, stable after {} ms; ping {}/{} ms; timeouts: request {}, \
             connect {}, auth {}, write {}, close {} ms",
            config.reconnect_initial_delay_ms,
            config.reconnect_max_delay_ms,
            config.reconnect_backoff_factor,
            config.reconnect_jitter,
            config.stable_after_ms,
            config.ping_interval_ms,
            config.pong_timeout_ms,
            config.request_timeout_ms,
            config.connect_timeout_ms,
            config.auth_timeout_ms,
            config.write_timeout_ms,
            config.close_timeout_ms
        );
    }
    for fault in &plan.faults {
        let length = if fault.kind.is_instant() {
            "at once    ".to_owned()
        } else {
            format!("for {:>5.2} s", seconds(fault.for_ms))
        };
        let _ = writeln!(out, "  {:>6.2} s {length}  {}", seconds(fault.at_ms), world::describe(fault));
    }
    out
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

//! What a client does.

use super::Draw;
use crate::plan::{Cancel, Fault, Op, Step};

/// When the faults begin, and how long they last, as far as that is known.
fn times(faults: &[Fault]) -> impl Iterator<Item = (u64, u64)> {
    faults.iter().filter_map(|fault| Some((fault.begins_ms()?, fault.length_ms().unwrap_or(0))))
}

/// The times that bound a client's script.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) heal_ms: u64,
    pub(super) settle_ms: u64,
    pub(super) start_ms: u64,
    /// The mean time between two steps, at least and at most.
    pub(super) pace_ms: (u64, u64),
}

pub(super) fn draw_script(draw: &mut Draw, span: Span, faults: &[Fault], label: &mut u64) -> Vec<Step> {
    let mut script = Vec::new();
    let mut guards = 0;
    let mut live = Vec::new();
    let pace = draw.between(span.pace_ms.0, span.pace_ms.1);
    let mut at_ms = span.start_ms + draw.between(0, 200);
    // Quiet before the settling time: what the exchange knows must have caught up by then.
    while at_ms + 1000 < span.settle_ms {
        for _ in 0..draw.pick(&[1, 1, 1, 2, 6]) {
            let op = match draw_op(draw, &mut guards, &mut live, label) {
                // Whoever asks for a new link in the calm has himself to thank for being down.
                Op::Reconnect if at_ms >= span.heal_ms => continue,
                op => op,
            };
            script.push(Step { at_ms, op });
        }
        at_ms += draw.between(1, 2 * pace);
    }
    // Bursts just before and during trouble: queued, written and lost requests are all of them.
    for (begins_ms, length_ms) in times(faults).filter(|(begins_ms, _)| *begins_ms > span.start_ms) {
        for _ in 0..draw.between(0, 4) {
            *label += 1;
            let at_ms = (begins_ms + draw.between(0, length_ms + 120)).saturating_sub(60).max(span.start_ms);
            let cancel = draw.chance(50).then(|| draw_cancel(draw));
            let op = Op::Request { label: *label, reply_after_ms: draw.between(0, 300), cancel };
            script.push(Step { at_ms, op });
        }
    }
    let end = draw_end(draw, span, faults);
    script.retain(|step| step.at_ms < end.at_ms);
    script.sort_by_key(|step| step.at_ms);
    script.push(end);
    script
}

fn draw_op(draw: &mut Draw, guards: &mut u32, live: &mut Vec<u32>, label: &mut u64) -> Op {
    match draw.between(1, 100) {
        1..=40 => {
            *label += 1;
            let cancel = draw.chance(20).then(|| draw_cancel(draw));
            Op::Request { label: *label, reply_after_ms: draw.pick(&[0, 0, 0, 20, 200, 900]), cancel }
        }
        41..=58 => {
            *label += 1;
            let cancel = draw.chance(20).then(|| draw_cancel(draw));
            Op::Send { label: *label, confirmed: draw.chance(40), cancel }
        }
        59..=78 => {
            *guards += 1;
            live.push(*guards);
            Op::Subscribe { guard: *guards, topic: format!("t{}", draw.between(1, 5)) }
        }
        79..=93 if !live.is_empty() => {
            let index = draw.between(0, live.len() as u64 - 1) as usize;
            Op::DropGuard { guard: live.swap_remove(index) }
        }
        94..=97 => Op::Unsubscribe { topic: format!("t{}", draw.between(1, 5)) },
        98..=99 => Op::Reconnect,
        _ => {
            *label += 1;
            Op::Send { label: *label, confirmed: false, cancel: None }
        }
    }
}

fn draw_cancel(draw: &mut Draw) -> Cancel {
    Cancel { poll: draw.between(1, 6) as u32, every_ms: draw.between(2, 60) }
}

/// A connection ends by `close` or by the drop of its handles; some in the storm, the rest after it.
fn draw_end(draw: &mut Draw, span: Span, faults: &[Fault]) -> Step {
    let op = if draw.chance(50) { Op::Close } else { Op::DropHandle };
    let early = draw.chance(35) && span.start_ms + 1500 < span.heal_ms;
    let late: Vec<(u64, u64)> =
        times(faults).filter(|(begins_ms, _)| *begins_ms > span.start_ms + 300).collect();
    let at_ms = if !early {
        span.settle_ms + draw.between(50, 400)
    } else if draw.chance(70) && !late.is_empty() {
        let (begins_ms, length_ms) = draw.pick(&late);
        begins_ms + draw.between(1, length_ms.max(300))
    } else {
        draw.between(span.start_ms + 500, span.heal_ms)
    };
    Step { at_ms, op }
}

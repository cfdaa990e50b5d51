//! What a client does.

use super::Draw;
use crate::plan::{Cancel, Fault, FaultKind, Op, Step};

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

/// A byte at a time, a hundred thousand of them would be all there is to the run.
pub(super) fn crawls(fault: &Fault) -> bool {
    matches!(
        fault.kind,
        FaultKind::Dribble { .. } | FaultKind::PartialWrites { .. } | FaultKind::Throttle { .. }
    )
}

pub(super) fn draw_script(draw: &mut Draw, span: Span, faults: &[Fault], label: &mut u64) -> Vec<Step> {
    let mut script = Vec::new();
    let bytes_max = if faults.iter().any(crawls) { 2000 } else { 100_000 };
    let mut hands = Hands { guards: 0, live: Vec::new(), label, bytes_max };
    let pace = draw.between(span.pace_ms.0, span.pace_ms.1);
    let mut at_ms = span.start_ms + draw.between(0, 200);
    // Quiet before the settling time: what the exchange knows must have caught up by then.
    while at_ms + 1000 < span.settle_ms {
        for _ in 0..draw.pick(&[1, 1, 1, 2, 6]) {
            let ops = hands.draw_ops(draw);
            // Whoever asks for a new link in the calm has himself to thank for being down.
            let ops = ops.into_iter().filter(|op| *op != Op::Reconnect || at_ms < span.heal_ms);
            script.extend(ops.map(|op| Step { at_ms, op }));
        }
        at_ms += draw.between(1, 2 * pace);
    }
    // Bursts just before and during trouble: queued, written and lost messages are all of them.
    for (begins_ms, length_ms) in times(faults).filter(|(begins_ms, _)| *begins_ms > span.start_ms) {
        let at_ms = (begins_ms + draw.between(0, length_ms + 120)).saturating_sub(60).max(span.start_ms);
        for _ in 0..draw.between(0, 4) {
            let at_ms = at_ms + draw.between(0, length_ms / 4 + 1);
            script.push(Step { at_ms, op: hands.request(draw, 50, 300) });
        }
        if draw.chance(40) {
            for _ in 0..draw.between(2, 12) {
                script.push(Step { at_ms, op: hands.send(draw) });
            }
        }
    }
    let ends = draw_ends(draw, span, faults);
    let last = ends.last().map_or(0, |step| step.at_ms);
    script.retain(|step| step.at_ms < last);
    if let Some(first) = ends.first()
        && draw.chance(30)
    {
        // Last words, in the breath of the goodbye.
        let speech = draw.chance(30);
        for _ in 0..if speech { draw.between(5, 8) } else { draw.between(1, 4) } {
            let op = if speech { hands.send_of(draw, hands.bytes_max) } else { hands.send(draw) };
            script.push(Step { at_ms: first.at_ms, op });
        }
    }
    script.extend(ends);
    // Stable: what comes last at one time ends the script.
    script.sort_by_key(|step| step.at_ms);
    script
}

/// What a client has in its hands while its script is drawn.
struct Hands<'a> {
    guards: u32,
    live: Vec<u32>,
    label: &'a mut u64,
    /// Of a message.
    bytes_max: u64,
}

impl Hands<'_> {
    fn draw_ops(&mut self, draw: &mut Draw) -> Vec<Op> {
        match draw.between(1, 100) {
            1..=38 => vec![self.request(draw, 20, 0)],
            39..=56 => vec![self.send(draw)],
            57..=70 => vec![self.subscribe(draw)],
            71..=73 => vec![self.subscribe_many(draw)],
            74..=86 if !self.live.is_empty() => vec![self.drop_guard(draw)],
            87..=89 => self.storm(draw),
            90..=92 => vec![Op::Unsubscribe { topic: topic(draw) }],
            93..=94 => vec![Op::Reconnect],
            95..=97 => vec![Op::Ready { cancel: draw.chance(50).then(|| draw_cancel(draw)) }],
            98 if draw.chance(20) => vec![Op::DropStream],
            _ => vec![self.send(draw)],
        }
    }

    fn request(&mut self, draw: &mut Draw, cancel_percent: u64, reply_max_ms: u64) -> Op {
        *self.label += 1;
        let cancel = draw.chance(cancel_percent).then(|| draw_cancel(draw));
        let reply_after_ms = match reply_max_ms {
            0 => draw.pick(&[0, 0, 0, 20, 200, 900]),
            most => draw.between(0, most),
        };
        Op::Request { label: *self.label, reply_after_ms, cancel }
    }

    fn send_of(&mut self, draw: &mut Draw, bytes: u64) -> Op {
        *self.label += 1;
        Op::Send { label: *self.label, confirmed: draw.chance(20), bytes, cancel: None }
    }

    fn send(&mut self, draw: &mut Draw) -> Op {
        *self.label += 1;
        let cancel = draw.chance(15).then(|| draw_cancel(draw));
        let bytes = match draw.between(1, 20) {
            1 => draw.between(self.bytes_max / 5, self.bytes_max),
            2..=4 => draw.between(100, self.bytes_max / 20 + 100),
            _ => 0,
        };
        Op::Send { label: *self.label, confirmed: draw.chance(30), bytes, cancel }
    }

    fn subscribe(&mut self, draw: &mut Draw) -> Op {
        self.guards += 1;
        self.live.push(self.guards);
        Op::Subscribe { guard: self.guards, topic: topic(draw) }
    }

    fn subscribe_many(&mut self, draw: &mut Draw) -> Op {
        let topics: Vec<String> = (0..draw.between(2, 6)).map(|_| topic(draw)).collect();
        let first_guard = self.guards + 1;
        for _ in &topics {
            self.guards += 1;
            self.live.push(self.guards);
        }
        Op::SubscribeMany { first_guard, topics }
    }

    fn drop_guard(&mut self, draw: &mut Draw) -> Op {
        let index = draw.between(0, self.live.len() as u64 - 1) as usize;
        Op::DropGuard { guard: self.live.swap_remove(index) }
    }

    /// Takes and drops guards of few topics in one instant.
    fn storm(&mut self, draw: &mut Draw) -> Vec<Op> {
        let turns = draw.between(3, 12);
        let turn = |_| match self.live.is_empty() || draw.chance(50) {
            true => self.subscribe(draw),
            false => self.drop_guard(draw),
        };
        (0..turns).map(turn).collect()
    }
}

fn topic(draw: &mut Draw) -> String {
    format!("t{}", draw.between(1, 5))
}

pub(super) fn draw_cancel(draw: &mut Draw) -> Cancel {
    Cancel { poll: draw.between(1, 6) as u32, every_ms: draw.between(2, 60) }
}

/// A connection ends by `close` or by the drop of its handles, and some by both; some in the storm, the rest after it.
fn draw_ends(draw: &mut Draw, span: Span, faults: &[Fault]) -> Vec<Step> {
    let last = draw_end(draw, span, faults);
    let first = match draw.between(1, 10) {
        1 => Op::Close,
        2..=3 => Op::CloseAndCancel { cancel: draw_cancel(draw) },
        _ => return vec![last],
    };
    let at_ms = last.at_ms;
    vec![Step { at_ms, op: first }, Step { at_ms: at_ms + draw.between(0, 60), op: last.op }]
}

/// In the storm, or after it.
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

//! What happens to the world.

use super::Draw;
use crate::plan::{Fault, FaultKind, Stage, Target, Until, When};

/// Each seed has its own mix: some kinds not at all, others often.
pub(super) fn draw_faults(draw: &mut Draw, heal_ms: u64, clients: usize) -> Vec<Fault> {
    let mut kinds = Vec::new();
    for name in 0..7 {
        let weight = if draw.chance(45) { draw.between(1, 3) } else { 0 };
        kinds.extend(std::iter::repeat_n(name, weight as usize));
    }
    let mut faults: Vec<Fault> = Vec::new();
    // One seed in sixteen has a calm sea: it is its own control.
    if kinds.is_empty() || draw.chance(6) {
        return faults;
    }
    let mut at_ms = draw.between(200, 2500);
    while at_ms + 300 < heal_ms {
        let kind = draw_kind(draw, &kinds);
        let for_ms = if kind.is_instant() { 0 } else { draw.between(50, 3000).min(heal_ms - at_ms - 100) };
        let whole_world =
            matches!(kind, FaultKind::Crash | FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. });
        let target = if !whole_world && draw.chance(70) {
            Target::Client(draw.between(0, clients as u64 - 1) as usize)
        } else {
            Target::All
        };
        let fault = Fault { at: When::At(at_ms), until: Until::ForMs(for_ms), target, kind };
        // An exchange that misbehaves towards new connections only is not noticed until an old one is lost.
        if matches!(fault.kind, FaultKind::AcceptThenClose { .. } | FaultKind::Refuse { .. }) {
            let kind = FaultKind::ServerClose { code: 1012, reason: "restarting".to_owned() };
            let (at, until) = (When::At(at_ms + 1), Until::default());
            faults.push(Fault { at, until, target: Target::All, kind });
        }
        // Faults follow each other: two at once on one link would not add up in turmoil.
        at_ms += for_ms + draw.between(20, 2500);
        faults.push(fault);
    }
    faults.sort_by_key(Fault::begins_ms);
    faults
}

fn draw_kind(draw: &mut Draw, kinds: &[u64]) -> FaultKind {
    match draw.pick(kinds) {
        0 => FaultKind::Partition,
        1 => FaultKind::Hold,
        2 => FaultKind::Crash,
        3 => {
            let (code, reason) =
                draw.pick(&[(1000, "bye"), (1001, "going away"), (1011, "oops"), (4000, "tired")]);
            FaultKind::ServerClose { code, reason: reason.to_owned() }
        }
        4 => FaultKind::AcceptThenClose { stage: draw.pick(&[Stage::Accept, Stage::Upgrade, Stage::Auth]) },
        5 => FaultKind::Refuse { status: 503, retry_after_s: Some(draw.between(0, 2)) },
        _ => FaultKind::Dribble { bytes: draw.between(1, 3) as usize },
    }
}

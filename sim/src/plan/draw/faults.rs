//! What happens to the world.

use super::{
    Draw, Purpose, Springs,
    presets::{Preset, Sea},
};
use crate::plan::{
    Anchor, Behaviour, ConnectFault, CutHow, DnsFault, Fault, FaultKind, Moment, Stage, Target, TlsFault,
    Until, Way, When,
};

/// A kind of fault before its magnitude is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Mould {
    Partition,
    Hold,
    ShortHold,
    Crash,
    PowerLoss,
    ServerClose,
    AcceptThenClose,
    Refuse,
    RefuseForGood,
    Misbehave,
    Dribble,
    PartialWrites,
    Throttle,
    Stall,
    Cut,
    Reset,
    HalfOpen,
    Corrupt,
    Connect,
    SlowConnect,
    Dns,
    ClockJump,
    ClockSkew,
    Pause,
}

/// What a healthy connection survives.
const CALM: [Mould; 6] = [
    Mould::ShortHold,
    Mould::Dribble,
    Mould::PartialWrites,
    Mould::SlowConnect,
    Mould::ClockJump,
    Mould::ClockSkew,
];

const STORMY: [Mould; 20] = [
    Mould::Partition,
    Mould::Hold,
    Mould::Crash,
    Mould::PowerLoss,
    Mould::ServerClose,
    Mould::AcceptThenClose,
    Mould::Refuse,
    Mould::Dribble,
    Mould::PartialWrites,
    Mould::Throttle,
    Mould::Stall,
    Mould::Cut,
    Mould::Reset,
    Mould::HalfOpen,
    Mould::Connect,
    Mould::SlowConnect,
    Mould::Dns,
    Mould::ClockJump,
    Mould::ClockSkew,
    Mould::Pause,
];

/// Beside those of the storm.
const HOSTILE: [Mould; 3] = [Mould::Misbehave, Mould::Corrupt, Mould::RefuseForGood];

/// Each seed has its own mix: some kinds not at all, others often.
pub(super) fn draw_faults(draw: &mut Draw, sea: &Sea) -> Vec<Fault> {
    let moulds = draw_mix(draw, sea.preset);
    let mut faults = Vec::new();
    // One seed in sixteen has a flat sea: it is its own control.
    if sea.preset == Preset::Fleet {
        return restart(draw);
    }
    if moulds.is_empty() || draw.chance(6) {
        return faults;
    }
    let mut at_ms = draw.between(200, sea.lull_ms.1);
    while at_ms + 300 < sea.heal_ms {
        let mould = draw.pick(&moulds);
        let for_ms = draw.between(sea.length_ms.0, sea.length_ms.1).min(sea.heal_ms - at_ms - 100);
        faults.extend(draw_fault(draw, sea, mould, (at_ms, for_ms)));
        // Mostly one after the other; some while the last goes on.
        let waits = if draw.chance(25) { 0 } else { for_ms };
        at_ms += waits + draw.between(sea.lull_ms.0, sea.lull_ms.1);
    }
    if sea.preset != Preset::Calm {
        faults.extend(draw_for_good(draw, sea));
    }
    // Anchored ones have no time and come first.
    faults.sort_by_key(Fault::begins_ms);
    faults
}

/// What goes wrong with the handshakes of clients that dial `wss://`. Each has its own: whoever is shown a bad certificate
/// ends for good.
pub(super) fn draw_tls_faults(draw: &mut Draw, sea: &Sea, secure: impl Iterator<Item = usize>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for client in secure {
        if matches!(sea.preset, Preset::Calm | Preset::Fleet) || !draw.chance(60) {
            continue;
        }
        let at_ms = draw.between(300, sea.heal_ms - 1000);
        let (at, target) = (When::At(at_ms), Target::Client(client));
        let for_ms = draw.between(100, 3000).min(sea.heal_ms - at_ms - 100);
        let cut = TlsFault::CutMidHandshake { after_bytes: draw.between(0, 900) as usize };
        let kind = match draw.between(1, 4) {
            1 if sea.preset == Preset::Hostile => FaultKind::Tls(TlsFault::BadCertificate),
            2 if sea.preset == Preset::Hostile => {
                let by_ms = (draw.between(40, 400) * 24 * 3_600_000) as i64;
                FaultKind::ClockJump { by_ms: if draw.chance(50) { by_ms } else { -by_ms } }
            }
            _ => FaultKind::Tls(cut),
        };
        let until = if kind.is_instant() { Until::default() } else { Until::ForMs(for_ms) };
        faults.push(Fault { at, until, target, kind });
        // Not noticed until the old connection is lost.
        faults.push(Fault {
            at: When::At(at_ms + 1),
            until: Until::default(),
            target,
            kind: FaultKind::Reset,
        });
    }
    faults
}

/// What a preset can draw.
fn pool(preset: Preset) -> Vec<Mould> {
    match preset {
        Preset::Calm => CALM.to_vec(),
        Preset::Stormy | Preset::LongHaul | Preset::Fleet => STORMY.to_vec(),
        Preset::Hostile => HOSTILE.iter().chain(&STORMY).copied().collect(),
    }
}

/// The names of what a preset can draw, once each.
pub(super) fn names(preset: Preset) -> Vec<&'static str> {
    let (seed, words) = (0, &[][..]);
    let mut draw = Springs { seed, words }.of(Purpose::Faults);
    let mut names: Vec<&str> =
        pool(preset).into_iter().map(|mould| draw_kind(&mut draw, mould).name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn draw_mix(draw: &mut Draw, preset: Preset) -> Vec<Mould> {
    let mut moulds = Vec::new();
    for mould in pool(preset) {
        // What is hostile is what a hostile plan is for.
        let percent = if HOSTILE.contains(&mould) { 70 } else { 30 };
        let weight = if draw.chance(percent) { draw.between(1, 3) } else { 0 };
        moulds.extend(std::iter::repeat_n(mould, weight as usize));
    }
    moulds
}

/// One fault, and what makes it felt.
fn draw_fault(draw: &mut Draw, sea: &Sea, mould: Mould, (at_ms, for_ms): (u64, u64)) -> Vec<Fault> {
    let kind = draw_kind(draw, mould);
    let for_ms = if mould == Mould::ShortHold { for_ms.min(100) } else { for_ms };
    let until = if kind.is_instant() { Until::default() } else { Until::ForMs(for_ms) };
    let client = draw.between(0, sea.clients as u64 - 1) as usize;
    let alone = !kind.is_of_the_machine() && draw.chance(70);
    let target = if alone { Target::Client(client) } else { Target::All };
    // A refusal for good ends the connection it meets: one of several must be left to be watched.
    let target = if mould == Mould::RefuseForGood { Target::Client(client) } else { target };
    let at = if sea.preset != Preset::Calm && draw.chance(25) {
        When::On(draw_anchor(draw, client))
    } else {
        When::At(at_ms)
    };
    let mut faults = Vec::new();
    // What befalls new connections only is not noticed until an old one is lost.
    let needs_a_dial = matches!(
        mould,
        Mould::AcceptThenClose
            | Mould::Refuse
            | Mould::RefuseForGood
            | Mould::Misbehave
            | Mould::Cut
            | Mould::Corrupt
            | Mould::Connect
            | Mould::SlowConnect
            | Mould::Dns
    );
    if needs_a_dial && sea.preset != Preset::Calm {
        let kind = if draw.chance(50) {
            FaultKind::Reset
        } else {
            FaultKind::ServerClose { code: 1012, reason: "restarting".to_owned() }
        };
        let at = match at {
            When::At(ms) => When::At(ms + 1),
            When::On(anchor) => When::On(Anchor { plus_ms: anchor.plus_ms + 1, ..anchor }),
        };
        faults.push(Fault { at, until: Until::default(), target, kind });
    }
    faults.push(Fault { at, until, target, kind });
    faults
}

fn draw_anchor(draw: &mut Draw, client: usize) -> Anchor {
    let event = match draw.between(1, 7) {
        1 => Moment::Dialing(draw.between(1, 4)),
        2 => Moment::Opened(draw.between(1, 4)),
        3 => Moment::UpgradeByte { dial: draw.between(1, 3), byte: draw.between(0, 140) as usize },
        4 => Moment::Connected(draw.between(1, 3)),
        5 => Moment::Disconnected(draw.between(1, 3)),
        6 => Moment::PingSent(draw.between(1, 5)),
        _ => Moment::MessageSent(draw.between(1, 40)),
    };
    let plus_ms = if draw.chance(50) { 0 } else { draw.between(1, 120) };
    Anchor { event, client, plus_ms }
}

/// What stays when the world heals: a client out of the core, or a name whose first address is dead.
fn draw_for_good(draw: &mut Draw, sea: &Sea) -> Option<Fault> {
    if !draw.chance(15) {
        return None;
    }
    let client = draw.between(0, sea.clients as u64 - 1) as usize;
    let at = When::At(draw.between(0, sea.heal_ms - 1));
    let dead_first = FaultKind::Dns(DnsFault::DeadFirst { refuses: draw.chance(50) });
    let kind = if sea.clients == 1 {
        dead_first
    } else {
        draw.pick(&[
            dead_first,
            FaultKind::Partition,
            FaultKind::Hold,
            FaultKind::HalfOpen,
            FaultKind::Stall { after_bytes: 0 },
            FaultKind::Connect(ConnectFault::Silent),
            FaultKind::Connect(ConnectFault::Refused),
            FaultKind::Dns(DnsFault::NxDomain),
        ])
    };
    Some(Fault { at, until: Until::Never, target: Target::Client(client), kind })
}

/// What befalls a fleet: its one exchange is gone for a moment.
fn restart(draw: &mut Draw) -> Vec<Fault> {
    let at = When::At(draw.between(4000, 6000));
    let reason = "restarting".to_owned();
    let kind = if draw.chance(50) { FaultKind::Crash } else { FaultKind::ServerClose { code: 1012, reason } };
    let until = if kind.is_instant() { Until::default() } else { Until::ForMs(draw.between(10, 200)) };
    vec![Fault { at, until, target: Target::All, kind }]
}

fn draw_kind(draw: &mut Draw, mould: Mould) -> FaultKind {
    match mould {
        Mould::Partition => FaultKind::Partition,
        Mould::Hold | Mould::ShortHold => FaultKind::Hold,
        Mould::Crash => FaultKind::Crash,
        Mould::PowerLoss => FaultKind::PowerLoss,
        Mould::ServerClose => {
            let (code, reason) =
                draw.pick(&[(1000, "bye"), (1001, "going away"), (1011, "oops"), (4000, "tired")]);
            FaultKind::ServerClose { code, reason: reason.to_owned() }
        }
        Mould::AcceptThenClose => {
            FaultKind::AcceptThenClose { stage: draw.pick(&[Stage::Accept, Stage::Upgrade, Stage::Auth]) }
        }
        Mould::Refuse => FaultKind::Refuse {
            status: draw.pick(&[503, 503, 429, 500, 502]),
            retry_after_s: draw.chance(60).then(|| draw.between(0, 2)),
        },
        Mould::RefuseForGood => {
            FaultKind::Refuse { status: draw.pick(&[401, 403, 404]), retry_after_s: None }
        }
        Mould::Misbehave => FaultKind::Misbehave(draw_behaviour(draw)),
        Mould::Dribble => FaultKind::Dribble { bytes: draw.between(1, 3) as usize },
        Mould::PartialWrites => FaultKind::PartialWrites { bytes: draw.between(1, 40) as usize },
        Mould::Throttle => FaultKind::Throttle { bytes_per_s: draw.pick(&[100, 1000, 10_000]) },
        Mould::Stall => FaultKind::Stall { after_bytes: draw.pick(&[0, 1, 100]) },
        Mould::Cut => FaultKind::Cut {
            way: draw.pick(&[Way::Read, Way::Write]),
            // In the upgrade, or in the frames after it.
            byte: if draw.chance(50) { draw.between(0, 260) } else { draw.between(0, 3000) } as usize,
            how: draw.pick(&[CutHow::Reset, CutHow::End]),
        },
        Mould::Reset => FaultKind::Reset,
        Mould::HalfOpen => FaultKind::HalfOpen,
        Mould::Corrupt => FaultKind::Corrupt {
            byte: if draw.chance(50) { draw.between(0, 160) } else { draw.between(0, 2000) } as usize,
            mask: draw.between(1, 255) as u8,
        },
        Mould::Connect => FaultKind::Connect(draw.pick(&[ConnectFault::Refused, ConnectFault::Silent])),
        Mould::SlowConnect => FaultKind::Connect(ConnectFault::Slow { by_ms: draw.between(1, 300) }),
        Mould::Dns => FaultKind::Dns(match draw.between(1, 4) {
            1 => DnsFault::NxDomain,
            2 => DnsFault::Slow { by_ms: draw.between(1, 3000) },
            3 => DnsFault::DeadFirst { refuses: true },
            _ => DnsFault::DeadFirst { refuses: false },
        }),
        Mould::ClockJump => {
            let by_ms = draw.between(1, 7_200_000) as i64;
            FaultKind::ClockJump { by_ms: if draw.chance(50) { by_ms } else { -by_ms } }
        }
        Mould::ClockSkew => FaultKind::ClockSkew { ppm: draw.pick(&[-50_000, -200, 200, 50_000]) },
        Mould::Pause => FaultKind::Pause,
    }
}

fn draw_behaviour(draw: &mut Draw) -> Behaviour {
    match draw.between(1, 18) {
        1 => Behaviour::SilentAfterUpgrade,
        2 => Behaviour::RejectAuth,
        3 => Behaviour::IgnoreAuth,
        4 => Behaviour::OversizeMessage,
        5 => Behaviour::BadUtf8,
        6 => Behaviour::BadAcceptKey,
        7 => Behaviour::MaskedFrames,
        8 => Behaviour::FragmentBomb,
        9 => Behaviour::PingFlood,
        10 => Behaviour::Slowloris { every_ms: draw.between(1, 60) },
        11 => Behaviour::DuplicateReplies,
        12 => Behaviour::LateReplies { by_ms: draw.between(100, 5000) },
        13 => Behaviour::UnknownReplies,
        14 => Behaviour::UnknownTopics,
        15 => Behaviour::IgnorePings,
        16 => Behaviour::StaleReplies,
        _ => Behaviour::CloseCode(draw.pick(&[
            1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015,
            3000, 4999,
        ])),
    }
}

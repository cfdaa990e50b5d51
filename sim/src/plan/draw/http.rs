//! HTTP clients, what they ask for, and hosts that misbehave.

use super::{
    Draw, Purpose, Springs,
    faults::draw_faults,
    presets::{Preset, Sea},
    script::{crawls, draw_cancel},
};
use crate::plan::{
    Fault, FaultKind, HttpBehaviour, HttpConfigPlan, HttpOp, HttpPlan, HttpStep, OriginPlan, Plan, Spoken,
    Target, TlsFault, Until, When,
};

/// A plan of HTTP clients alone.
pub(super) fn draw(springs: &Springs<'_>, preset: Preset) -> Plan {
    let mut draw = springs.of(Purpose::Http);
    let sea = Sea { clients: draw.pick(&[1, 1, 2]), ..Sea::draw(&mut springs.of(Purpose::Shape), preset) };
    let mut http: Vec<HttpPlan> = (0..sea.clients).map(|_| draw_client(&mut draw)).collect();
    let mut own = springs.of(Purpose::HttpFaults);
    let mut faults = draw_faults(&mut own, &sea);
    // They strike the WebSocket endpoint alone.
    faults.retain(|fault| !matches!(fault.kind, FaultKind::Misbehave(_)));
    let bytes_max = if faults.iter().any(crawls) { 1000 } else { 200_000 };
    let settle_ms = sea.settle_ms(http.iter().map(|client| (client.recovery_ms(), client.latency_ms)));
    for client in &mut http {
        client.script = draw_script(&mut draw, &sea, settle_ms, (client.origins.len(), bytes_max));
    }
    if preset != Preset::Calm {
        let secure = |client: usize| http[client].origins.iter().any(|origin| origin.tls);
        faults.extend(draw_behaviours(&mut own, &sea, secure));
    }
    faults.sort_by_key(Fault::begins_ms);
    Plan {
        version: Plan::VERSION,
        seed: springs.seed,
        tick_ms: sea.tick_ms,
        heal_ms: sea.heal_ms,
        settle_ms,
        push_every_ms: sea.push_every_ms,
        clients: Vec::new(),
        http,
        faults,
    }
}

/// Both kinds of client on one machine's doorstep: what befalls everybody befalls all.
pub(super) fn join(websocket: Plan, http: Plan) -> Plan {
    let first = websocket.clients.len();
    let moved = http.faults.into_iter().map(|mut fault| {
        if let Target::Client(client) = &mut fault.target {
            *client += first;
        }
        if let When::On(anchor) = &mut fault.at {
            anchor.client += first;
        }
        fault
    });
    let mut faults = websocket.faults;
    faults.extend(moved);
    faults.sort_by_key(Fault::begins_ms);
    // Drawn on the same sea, which heals once.
    Plan { http: http.http, faults, ..websocket }
}

fn draw_client(draw: &mut Draw) -> HttpPlan {
    let protocol = draw.pick(&[Spoken::Auto, Spoken::Http1, Spoken::Http1, Spoken::Http2, Spoken::Http2]);
    let origins = (0..draw.pick(&[1, 1, 2, 3]))
        .map(|_| {
            let tls = draw.chance(if protocol == Spoken::Auto { 80 } else { 20 });
            let h2 = match protocol {
                Spoken::Auto => tls && draw.chance(60),
                Spoken::Http1 => false,
                Spoken::Http2 => true,
            };
            let streams_max = (h2 && draw.chance(50)).then(|| draw.between(1, 5) as u32);
            OriginPlan { tls, h2, streams_max }
        })
        .collect();
    let open_per_host_max = draw.pick(&[1, 1, 2, 3, 6]);
    let window = draw.pick(&[65_535, 65_535, 1 << 20]);
    // Who waits for long hears nothing for long: keep-alive is for such, also where a host has asked for calm.
    let patient = if draw.chance(15) { 3 } else { 1 };
    HttpPlan {
        start_ms: draw.between(0, 300),
        latency_ms: draw.between(1, 30),
        origins,
        config: HttpConfigPlan {
            protocol,
            shards: draw.pick(&[1, 2, 16]),
            open_per_host_max,
            open_total_max: draw.pick(&[1, 2, 3, 5, 100]),
            idle_per_host_max: draw.between(0, 4) as usize,
            idle_total_max: draw.pick(&[1, 2, 4, 100]),
            idle_timeout_ms: patient * draw.between(100, 3000),
            lifetime_max_ms: draw.between(400, 8000),
            connect_timeout_ms: draw.between(300, 1500),
            request_timeout_ms: patient * draw.between(500, 3000),
            body_timeout_ms: draw.between(300, 1500),
            h2_window: window,
            h2_window_max: window.max(draw.pick(&[65_535, 1 << 20, 4 << 20])),
            h2_streams_max: draw.pick(&[1, 3, 100, 100]),
            h2_keep_alive_interval_ms: draw.chance(70).then(|| draw.between(1000, 2000)),
            h2_keep_alive_timeout_ms: draw.between(200, 1200),
            h2_keep_alive_while_idle: draw.chance(50),
            session_lifetime_s: draw.pick(&[2, 5, 3600]),
        },
        script: Vec::new(),
    }
}

fn draw_script(
    draw: &mut Draw,
    sea: &Sea,
    settle_ms: u64,
    (origins, bytes_max): (usize, u64),
) -> Vec<HttpStep> {
    let mut script = Vec::new();
    let (mut label, pace) = (0, draw.between(sea.pace_ms.0, sea.pace_ms.1));
    let mut at_ms = draw.between(300, 600);
    while at_ms < settle_ms + 2000 {
        for _ in 0..draw.pick(&[1, 1, 2, 3, 8]) {
            label += 1;
            let cancel = draw.chance(12).then(|| draw_cancel(draw));
            let op = HttpOp::Request {
                label,
                origin: draw.between(0, origins as u64 - 1) as usize,
                post: draw.chance(35),
                reply_after_ms: draw.pick(&[0, 0, 5, 30, 120]),
                bytes: draw.pick(&[0, 10, 1000, 20_000, 20_000, 200_000]).min(bytes_max) as usize,
                drop_body: draw.chance(6),
                cancel,
            };
            script.push(HttpStep { at_ms, op });
        }
        if draw.chance(2) {
            script.push(HttpStep { at_ms, op: HttpOp::Drain });
        }
        // Now and then a rest in which what is idle grows old.
        at_ms += if draw.chance(10) { draw.between(500, 4000) } else { draw.between(1, 2 * pace) };
    }
    let end_ms =
        if draw.chance(20) { draw.between(1000, sea.heal_ms) } else { at_ms + draw.between(0, 1500) };
    script.retain(|step| step.at_ms < end_ms);
    let op = if draw.chance(60) { HttpOp::Close } else { HttpOp::DropClient };
    script.push(HttpStep { at_ms: end_ms, op });
    script
}

fn draw_behaviours(draw: &mut Draw, sea: &Sea, secure: impl Fn(usize) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut at_ms = draw.between(200, 1500);
    while at_ms + 500 < sea.heal_ms {
        let for_ms = draw.between(200, 2500).min(sea.heal_ms - at_ms - 100);
        let client = draw.between(0, sea.clients as u64 - 1) as usize;
        let target = if draw.chance(60) { Target::Client(client) } else { Target::All };
        let kind = if secure(client) && draw.chance(15) {
            FaultKind::Tls(TlsFault::CutMidHandshake { after_bytes: draw.between(0, 900) as usize })
        } else {
            let nth = draw.pick(&[1, 2, 3, 5]);
            FaultKind::Serve { how: draw_behaviour(draw, sea.preset), nth }
        };
        let target = if matches!(kind, FaultKind::Tls(_)) { Target::Client(client) } else { target };
        if let FaultKind::Serve { how: HttpBehaviour::Calm, .. } = kind {
            // Then a silence: how long is it borne by who was asked for calm?
            let (at_ms, kind) = (at_ms + for_ms, FaultKind::Serve { how: HttpBehaviour::Hang, nth: 1 });
            let until = Until::ForMs(draw.between(1000, 6000).min(sea.heal_ms.saturating_sub(at_ms + 50)));
            if at_ms + 500 < sea.heal_ms {
                faults.push(Fault { at: When::At(at_ms), until, target, kind });
            }
        }
        faults.push(Fault { at: When::At(at_ms), until: Until::ForMs(for_ms), target, kind });
        at_ms += draw.between(100, 2500);
    }
    faults
}

fn draw_behaviour(draw: &mut Draw, preset: Preset) -> HttpBehaviour {
    let most = if preset == Preset::Hostile { 17 } else { 13 };
    match draw.between(1, most) {
        1 => HttpBehaviour::Hang,
        2 => HttpBehaviour::Drop,
        3 => HttpBehaviour::SlowBody { by_ms: draw.between(10, 1500) },
        4 => HttpBehaviour::HalfBody,
        5 => HttpBehaviour::EarlyHints,
        6 => HttpBehaviour::Refuse,
        7 => HttpBehaviour::GoAway,
        8 => HttpBehaviour::Abrupt,
        9 => HttpBehaviour::Reset,
        10 => HttpBehaviour::Settings { window: draw.pick(&[1000, 65_535, 200_000]) },
        11 => HttpBehaviour::CloseBehind,
        12 => HttpBehaviour::Calm,
        13 => HttpBehaviour::ForgetTickets,
        14 => HttpBehaviour::ShortBody,
        15 => HttpBehaviour::LongBody,
        16 => HttpBehaviour::Garbage,
        _ => HttpBehaviour::GiantHead,
    }
}

//! A plan in words.

use std::fmt::Write;

use super::{
    Anchor, ConnectFault, CutHow, DnsFault, Fault, FaultKind, Moment, Op, Plan, Reader, Target, TlsFault,
    Until, Way, When,
};

/// The plan as a few readable lines: who, with which settings, and what will happen to them.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    // A String takes every write.
    let _ = writeln!(
        out,
        "plan of seed {}: {} client(s), {} fault(s); healed at {:.1} s, standing by {:.1} s, over at {:.1} s; tick {} ms",
        plan.seed,
        plan.hosts(),
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
        let secure = if client.tls { ", over TLS" } else { "" };
        let count = |kind: fn(&Op) -> bool| client.script.iter().filter(|step| kind(&step.op)).count();
        let last = client.script.last().map_or(0, |step| step.at_ms);
        let end = match client.script.last().map(|step| &step.op) {
            Some(Op::Close) => "closes",
            _ => "drops its handle",
        };
        let _ = writeln!(
            out,
            "  client {index}: from {:.1} s, {} ms away{secure}, {reader}; {} requests, {} sends, {} guards; {end} at {:.1} s",
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
    for (index, client) in plan.http.iter().enumerate() {
        let config = &client.config;
        let _ = writeln!(
            out,
            "  client {}: HTTP from {:.1} s, {} ms away, {:?}, {} host(s); {} steps, over at {:.1} s; {} connections, {} to a \
             host, idle {} ms",
            plan.clients.len() + index,
            seconds(client.start_ms),
            client.latency_ms,
            config.protocol,
            client.origins.len(),
            client.script.len(),
            seconds(client.script.last().map_or(0, |step| step.at_ms)),
            config.open_total_max,
            config.open_per_host_max,
            config.idle_timeout_ms,
        );
    }
    for fault in &plan.faults {
        let _ = writeln!(out, "  {:<28} {:<12} {}", begins(fault), lasts(fault), describe_fault(fault));
    }
    out
}

fn begins(fault: &Fault) -> String {
    let Anchor { event, client, plus_ms } = match fault.at {
        When::At(ms) => return format!("at {:.2} s", seconds(ms)),
        When::On(anchor) => anchor,
    };
    let event = match event {
        Moment::Dialing(n) => format!("dial {n}"),
        Moment::Opened(n) => format!("socket {n} open"),
        Moment::UpgradeByte { dial, byte } => format!("byte {byte} of upgrade {dial}"),
        Moment::Connected(n) => format!("connected {n}"),
        Moment::Disconnected(n) => format!("disconnected {n}"),
        Moment::PingSent(n) => format!("ping {n} sent"),
        Moment::MessageSent(n) => format!("message {n} sent"),
    };
    format!("client {client}, {event} + {plus_ms} ms")
}

fn lasts(fault: &Fault) -> String {
    match fault.until {
        _ if fault.kind.is_instant() => "at once".to_owned(),
        Until::ForMs(ms) => format!("for {:.2} s", seconds(ms)),
        Until::Heal => "until healed".to_owned(),
        Until::Never => "for good".to_owned(),
    }
}

/// A fault in words, without its times.
pub(crate) fn describe_fault(fault: &Fault) -> String {
    let whom = match fault.target {
        Target::All => "all clients".to_owned(),
        Target::Client(client) => format!("client {client}"),
    };
    let what = match &fault.kind {
        FaultKind::Partition => format!("the network drops everything of {whom}"),
        FaultKind::Hold => format!("the network keeps back everything of {whom}"),
        FaultKind::Crash => "the exchange's process is down".to_owned(),
        FaultKind::PowerLoss => "the exchange's machine is down, without a word".to_owned(),
        FaultKind::ServerClose { code, reason } => format!("{whom}, code {code} ({reason})"),
        FaultKind::AcceptThenClose { stage } => {
            let stage = format!("{stage:?}").to_lowercase();
            format!("the exchange ends every new connection of {whom} after the {stage}")
        }
        FaultKind::Refuse { status, retry_after_s } => {
            let hint = retry_after_s.map_or_else(String::new, |seconds| format!(", retry-after {seconds} s"));
            format!("the exchange answers upgrades of {whom} with {status}{hint}")
        }
        FaultKind::Misbehave(behaviour) => format!("the exchange, towards {whom}: {behaviour:?}"),
        FaultKind::Serve { how, nth } => format!("HTTP hosts, towards {whom}, each {nth}. request: {how:?}"),
        FaultKind::Dribble { bytes } => format!("sockets of {whom} move {bytes} byte(s) at a time"),
        FaultKind::PartialWrites { bytes } => format!("sockets of {whom} take {bytes} byte(s) at a time"),
        FaultKind::Throttle { bytes_per_s } => format!("sockets of {whom} move {bytes_per_s} bytes a second"),
        FaultKind::Stall { after_bytes } => {
            format!("the peer of {whom} stops reading after {after_bytes} bytes")
        }
        FaultKind::Cut { way, byte, how } => {
            let how = if *how == CutHow::Reset { "reset" } else { "ended" };
            let way = if *way == Way::Read { "read" } else { "written" };
            format!("new sockets of {whom} are {how} after {byte} bytes {way}")
        }
        FaultKind::Reset => format!("sockets of {whom} are reset"),
        FaultKind::HalfOpen => format!("sockets of {whom} lose their peer unnoticed"),
        FaultKind::Corrupt { byte, mask } => {
            format!("byte {byte} that new sockets of {whom} read is changed by {mask:#04x}")
        }
        FaultKind::Connect(ConnectFault::Refused) => format!("dials of {whom} are refused"),
        FaultKind::Connect(ConnectFault::Silent) => format!("dials of {whom} are not answered"),
        FaultKind::Connect(ConnectFault::Slow { by_ms }) => format!("dials of {whom} take {by_ms} ms longer"),
        FaultKind::Dns(DnsFault::NxDomain) => format!("{whom}: the name is unknown"),
        FaultKind::Dns(DnsFault::Slow { by_ms }) => format!("{whom}: the name resolves {by_ms} ms late"),
        FaultKind::Dns(DnsFault::DeadFirst { refuses }) => {
            let how = if *refuses { "refuses" } else { "is silent" };
            format!("{whom}: of two addresses the first {how}")
        }
        FaultKind::Tls(TlsFault::BadCertificate) => format!("nobody vouches for what {whom} are shown"),
        FaultKind::Tls(TlsFault::CutMidHandshake { after_bytes }) => {
            format!("handshakes of {whom} are cut after {after_bytes} bytes")
        }
        FaultKind::ClockJump { by_ms } => format!("the wall clock of {whom} jumps by {by_ms} ms"),
        FaultKind::ClockSkew { ppm } => format!("the clock of {whom} is off by {ppm} ppm"),
        FaultKind::Pause => format!("the process of {whom} stands still"),
    };
    format!("{}: {what}", fault.kind.name())
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

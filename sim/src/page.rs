//! A run as a page to look at: one file of HTML, without a script and without anything from elsewhere.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use hpx_transport::{env::Timestamp, http::PoolStats};

use crate::{
    Report,
    oracle::Verdict,
    trace::{Entry, FaultLog, HttpLog, Place, SocketLog, TaskLog, What},
};

/// Writes the page of a run.
pub(crate) fn page(report: &Report) -> String {
    let mut out = String::new();
    // A String takes every write.
    let _ = write_page(&mut out, report);
    out
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let plan = report.plan();
    let word = if report.is_green() { "GREEN" } else { "RED" };
    let title = format!("seed {} on {}: {word}", plan.seed, report.backend().name());
    writeln!(out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>")?;
    writeln!(out, "<style>{STYLE}</style></head>\n<body class=\"{}\"><h1>{title}</h1>", word.to_lowercase())?;
    write_broken(out, report)?;
    write_picture(out, report)?;
    writeln!(out, "<h2>Invariants</h2><table><tr><th>id</th><th></th><th>armed</th><th>rule</th></tr>")?;
    for verdict in report.verdicts() {
        write_verdict(out, verdict)?;
    }
    writeln!(out, "</table>\n<h2>What happened</h2><pre>{}</pre>", escape(&report.story()))?;
    writeln!(out, "<h2>Plan</h2><pre>{}</pre>", escape(&crate::plan::describe(plan)))?;
    writeln!(out, "<details><summary>as JSON</summary><pre>{}</pre></details>", escape(&plan.to_json()))?;
    writeln!(out, "<p>digest {}</p></body></html>", report.digests())
}

/// What broke comes first: it is why the page is read.
fn write_broken(out: &mut String, report: &Report) -> fmt::Result {
    for verdict in report.verdicts() {
        for violation in &verdict.violations {
            let text = escape(&violation.text);
            writeln!(
                out,
                "<p class=\"broken\"><b>{}</b> at {:?}: {text}</p>",
                verdict.card.id, violation.at
            )?;
        }
    }
    match report.failure() {
        Some(failure) => writeln!(out, "<p class=\"broken\">{}</p>", escape(failure)),
        None => Ok(()),
    }
}

fn write_verdict(out: &mut String, verdict: &Verdict) -> fmt::Result {
    let word = match (verdict.violations.is_empty(), verdict.armed) {
        (false, _) => "BROKEN",
        (true, 0) => "not armed",
        (true, _) => "holds",
    };
    let class = if verdict.violations.is_empty() { "" } else { " class=\"broken\"" };
    let (id, rule) = (verdict.card.id, escape(verdict.card.rule));
    writeln!(out, "<tr{class}><td>{id}</td><td>{word}</td><td>{}</td><td>{rule}</td></tr>", verdict.armed)
}

/// One bar of the picture.
struct Span {
    lane: String,
    class: &'static str,
    from: Timestamp,
    /// `None`: an instant.
    to: Option<Timestamp>,
    text: String,
}

fn write_picture(out: &mut String, report: &Report) -> fmt::Result {
    let plan = report.plan();
    let end = plan.end_ms().max(1) as f64 / 1000.0;
    let shown = plan.clients.len().min(LANES_MAX);
    let mut spans: Vec<Span> = (0..shown).flat_map(|client| client_spans(report, client)).collect();
    let pools = plan.clients.len()..plan.clients.len() + plan.http.len();
    spans.extend(pools.flat_map(|client| pool_spans(report, client)));
    spans.extend(fault_spans(report));
    let mut lanes: Vec<&str> = Vec::new();
    for span in &spans {
        if !lanes.contains(&span.lane.as_str()) {
            lanes.push(&span.lane);
        }
    }
    let x = |at: Timestamp| LABEL + at.since_epoch().as_secs_f64() / end * WIDTH;
    let height = (lanes.len() + 1) * LANE;
    writeln!(out, "<svg viewBox=\"0 0 {} {height}\" role=\"img\">", LABEL + WIDTH)?;
    for (row, lane) in lanes.iter().enumerate() {
        writeln!(out, "<text x=\"0\" y=\"{}\">{}</text>", row * LANE + 14, escape(lane))?;
    }
    for span in &spans {
        let row = lanes.iter().position(|lane| *lane == span.lane).unwrap_or(0) * LANE + 3;
        let (from, class) = (x(span.from), span.class);
        let width = span.to.map_or(2.0, |to| (x(to) - from).max(1.0));
        let title = escape(&format!("{:?} {}", span.from, span.text));
        let bar = format!("x=\"{from:.1}\" y=\"{row}\" width=\"{width:.1}\" height=\"14\" class=\"{class}\"");
        writeln!(out, "<rect {bar}><title>{title}</title></rect>")?;
    }
    let healed = x(Timestamp::ZERO + std::time::Duration::from_millis(plan.heal_ms));
    writeln!(out, "<line x1=\"{healed:.1}\" x2=\"{healed:.1}\" y1=\"0\" y2=\"{height}\" class=\"healed\"/>")?;
    for violation in report.verdicts().iter().flat_map(|verdict| &verdict.violations) {
        let at = x(violation.at);
        writeln!(out, "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"0\" y2=\"{height}\" class=\"violation\"/>")?;
    }
    for tenth in 0..=10 {
        let (at, seconds) = (LABEL + WIDTH * f64::from(tenth) / 10.0, end * f64::from(tenth) / 10.0);
        writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" class=\"axis\">{seconds:.1} s</text>", height - 6)?;
    }
    writeln!(
        out,
        "</svg><p class=\"key\">blue: a socket is open, of a pool in use; amber: dialing; grey: waiting; violet: requests wait for a \
             connection; pale: connections are idle; rose: a fault; \
             the green line: the world has healed; red lines: what broke</p>"
    )
}

/// The life of one client's connection, in bars.
fn client_spans(report: &Report, client: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let own = |entry: &&Entry| entry.place == Place::Client(client);
    for entry in report.entries().iter().filter(own) {
        let (class, text) = match &entry.what {
            What::Socket(SocketLog::Dialing { socket }) => ("dialing", format!("dial {socket}")),
            What::Socket(SocketLog::Opened { socket, .. }) => ("open", format!("socket {socket} open")),
            What::Socket(
                SocketLog::DialFailed { .. } | SocketLog::DialAbandoned { .. } | SocketLog::Closed { .. },
            ) => ("waiting", "no socket".to_owned()),
            What::Task(TaskLog::Ended { name }) => ("ended", format!("task {name} ended")),
            _ => continue,
        };
        if let Some(last) = spans.last_mut() {
            last.to.get_or_insert(entry.at);
        }
        let to = (class == "ended").then_some(entry.at);
        spans.push(Span { lane: format!("client {client}"), class, from: entry.at, to, text });
    }
    spans
}

/// What an HTTP client has of each host, in bars: by what is rarest of waiting, dialing, in use and idle.
fn pool_spans(report: &Report, client: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut running: BTreeMap<u16, (PoolStats, usize)> = BTreeMap::new();
    for entry in report.entries().iter().filter(|entry| entry.place == Place::Client(client)) {
        let hosts = match &entry.what {
            What::Http(HttpLog::Books { hosts, .. }) => hosts.as_slice(),
            What::Http(HttpLog::Dropped) => &[],
            _ => continue,
        };
        let gone = |(port, _): (&u16, _)| (!hosts.iter().any(|(other, _)| other == port)).then_some(*port);
        let gone: Vec<u16> = running.iter().filter_map(gone).collect();
        for (_, span) in gone.iter().filter_map(|port| running.remove(port)) {
            spans[span].to = Some(entry.at);
        }
        for (port, stats) in hosts {
            if running.get(port).is_some_and(|(before, _)| before == stats) {
                continue;
            }
            if let Some((_, span)) = running.insert(*port, (*stats, spans.len())) {
                spans[span].to = Some(entry.at);
            }
            let PoolStats { open, dialing, idle, waiting, .. } = *stats;
            let class = match () {
                () if waiting > 0 => "queued",
                () if dialing > 0 => "dialing",
                () if open > idle => "open",
                () if idle > 0 => "idle",
                () => "waiting",
            };
            let text = format!("open {open}, dialing {dialing}, idle {idle}, waiting {waiting}");
            let lane = format!("client {client} :{port}");
            spans.push(Span { lane, class, from: entry.at, to: None, text });
        }
    }
    spans
}

fn fault_spans(report: &Report) -> Vec<Span> {
    let mut spans: Vec<(usize, Span)> = Vec::new();
    let end = Timestamp::ZERO + std::time::Duration::from_millis(report.plan().end_ms());
    for entry in report.entries() {
        match &entry.what {
            What::Fault(FaultLog::Began { fault, text }) => {
                let kind = &report.plan().faults[*fault].kind;
                let to = (!kind.is_instant()).then_some(end);
                let (lane, text) = (kind.name().to_owned(), text.clone());
                spans.push((*fault, Span { lane, class: "fault", from: entry.at, to, text }));
            }
            What::Fault(FaultLog::Ended { fault, .. }) => {
                if let Some((_, span)) = spans.iter_mut().find(|(index, _)| index == fault) {
                    span.to = Some(entry.at);
                }
            }
            _ => {}
        }
    }
    spans.into_iter().map(|(_, span)| span).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// More lanes than this nobody reads.
const LANES_MAX: usize = 20;
/// In units of the picture: a lane's height, its label's width, and the width of all time.
const LANE: usize = 20;
const LABEL: f64 = 130.0;
const WIDTH: f64 = 1000.0;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em;max-width:75em;color:#222}\
    h1{border-left:.4em solid #2a7;padding-left:.4em}.red h1{border-color:#c22}pre{font-size:12px;overflow-x:auto}\
    svg{width:100%;font:11px system-ui}.open{fill:#38c}.dialing{fill:#e90}.waiting{fill:#ccc}.queued{fill:#84c}.idle{fill:#bdf}.ended{fill:#222}\
    .fault{fill:#d68}.healed{stroke:#2a7;stroke-width:2}.violation{stroke:#c22;stroke-dasharray:3 3}\
    .axis,.key{fill:#777;color:#777}.broken{color:#c22}td,th{text-align:left;padding:0 1em 0 0}\
    @media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}text{fill:#ccc}.ended{fill:#eee}}";

#[cfg(test)]
mod tests {
    use crate::{Backend, Plan, Preset, Simulation, plan::Work, trace::What};

    #[test]
    fn a_page_shows_every_client_every_fault_and_every_oracle() {
        let report = Simulation::new(42).run();
        let page = report.page();
        for client in 0..report.plan().clients.len() {
            assert!(page.contains(&format!(">client {client}</text>")));
        }
        for entry in report.entries() {
            if let What::Fault(crate::trace::FaultLog::Began { fault, .. }) = &entry.what {
                let name = report.plan().faults[*fault].kind.name();
                assert!(page.contains(&format!(">{name}</text>")), "{name}");
            }
        }
        for verdict in report.verdicts() {
            assert!(page.contains(&format!("<td>{}</td>", verdict.card.id)));
        }
        // Well formed as far as it matters: what is opened is closed.
        for tag in ["svg", "table", "pre", "rect", "title", "text", "p", "tr"] {
            let opened =
                page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_page_shows_the_pool_of_an_http_client_host_by_host() {
        let plan = Plan::draw_for(Work::Http, Preset::Calm, 2);
        let report = Simulation::of(plan).backend(Backend::Memory).run();
        let (page, first) = (report.page(), report.plan().clients.len());
        for (client, http) in report.plan().http.iter().enumerate() {
            let lane = format!(">client {} :", first + client);
            let lanes = page.matches(&lane).count();
            assert!((1..=http.origins.len()).contains(&lanes), "{lanes} of {}", http.origins.len());
        }
        for class in ["open", "idle", "dialing"] {
            assert!(page.contains(&format!("class=\"{class}\"><title>")), "{class}");
        }
    }

    #[test]
    fn what_is_written_by_others_is_text_and_not_markup() {
        assert_eq!(super::escape("<b a=\"x\">&"), "&lt;b a=&quot;x&quot;&gt;&amp;");
    }
}

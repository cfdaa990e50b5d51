//! The trace as lines that a newcomer understands.

use std::fmt::Write;

use hpx_transport::{env::Timestamp, websocket::Event};

use super::{
    Entry, FaultLog, HttpLog, HttpOutcome, Outcome, Place, ServerLog, SocketLog, TaskLog, WebLog, What,
    WorkLog,
};

/// The lines of what matters: events, faults, outcomes, the exchange's doings.
pub(crate) fn story(entries: &[Entry]) -> String {
    let mut out = String::new();
    // What repeats within one place is told once, with its count.
    let mut repeated: Option<(Place, String, Timestamp, u64)> = None;
    for entry in entries {
        let Some(line) = line(entry) else { continue };
        match &mut repeated {
            Some((place, same, _, count)) if *place == entry.place && *same == line => *count += 1,
            _ => {
                flush(&mut out, repeated.take());
                repeated = Some((entry.place, line, entry.at, 1));
            }
        }
    }
    flush(&mut out, repeated);
    out
}

/// Everything about one entry in one line: its exact time, which digest it is part of, where and what.
pub(crate) fn whole_line(entry: &Entry) -> String {
    let nanos = entry.at.as_nanos();
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let digest = if entry.is_wire() { "frame" } else { "semantic" };
    // Strings in it are escaped: it stays one line.
    format!("{seconds:>6}.{nanos:09} {digest:<8} {:<9} {:?}", name(entry.place), entry.what)
}

fn flush(out: &mut String, line: Option<(Place, String, Timestamp, u64)>) {
    let Some((place, line, at, count)) = line else { return };
    let times = if count > 1 { format!(" (x{count})") } else { String::new() };
    // A String takes every write.
    let _ = writeln!(out, "{} {:<9} {line}{times}", seconds(at), name(place));
}

pub(crate) fn seconds(at: Timestamp) -> String {
    format!("{:>9.3}s", at.since_epoch().as_secs_f64())
}

pub(crate) fn name(place: Place) -> String {
    match place {
        Place::World => "world".to_owned(),
        Place::Exchange => "exchange".to_owned(),
        Place::Client(client) => format!("client {client}"),
    }
}

fn line(entry: &Entry) -> Option<String> {
    Some(match &entry.what {
        What::Event(event) => event_line(event),
        What::Fault(FaultLog::Began { text, .. }) => format!("FAULT {text}"),
        What::Fault(FaultLog::Ended { text, .. }) => {
            format!("over  {}", text.split(':').next().unwrap_or_default())
        }
        What::Fault(FaultLog::Healed) => "healed: no faults from here on".to_owned(),
        What::Server(log) => server_line(log)?,
        What::Work(log) => work_line(log)?,
        What::Task(TaskLog::Panicked { name, text }) => format!("task {name} PANICKED: {text}"),
        What::Task(TaskLog::Spun { polls }) => format!("SPINS: {polls} polls for nothing"),
        What::Task(TaskLog::Ended { name }) => format!("task {name} has ended"),
        What::Task(_) => return None,
        What::Http(log) => http_line(log)?,
        What::Web(log) => web_line(log)?,
        What::Socket(SocketLog::DialFailed { socket, error }) => format!("dial {socket} failed: {error}"),
        What::Socket(SocketLog::DialAbandoned { socket }) => format!("dial {socket} was given up"),
        What::Socket(SocketLog::Dialing { socket }) => format!("dial {socket}"),
        What::Socket(_) => return None,
    })
}

fn event_line(event: &Event) -> String {
    match event {
        Event::Connected { epoch } => format!("* Connected, epoch {epoch}"),
        Event::Disconnected { epoch, reason } => format!("* Disconnected, epoch {epoch}: {reason}"),
        Event::Retrying { attempt, delay, cause } => {
            format!("* Retrying, attempt {attempt} in {:.3}s: {cause}", delay.as_secs_f64())
        }
        Event::Message(message) => format!("* Message, {:?}", message.kind),
        Event::Skipped { events } => format!("* Skipped {events} events"),
        Event::Closed { cause, unsent } => format!("* Closed: {cause}; {unsent} unsent"),
        other => format!("* {other:?}"),
    }
}

fn server_line(log: &ServerLog) -> Option<String> {
    Some(match log {
        ServerLog::Listening => "listening".to_owned(),
        ServerLog::BadCertificate { conn } => format!("shows connection {conn} a bad certificate"),
        ServerLog::Authenticated { conn } => format!("connection {conn} is authenticated"),
        ServerLog::Refused { conn, status } => format!("refuses connection {conn} with {status}"),
        ServerLog::Closing { conn, code, reason } => {
            let code = code.map_or_else(|| "no code".to_owned(), |code| format!("code {code}"));
            format!("closes connection {conn}, {code}: {reason}")
        }
        ServerLog::Misbehaved { conn, behaviour } => {
            format!("misbehaves on connection {conn}: {behaviour:?}")
        }
        ServerLog::Frozen { conn } => format!("connection {conn} is cut off"),
        ServerLog::Gone { conn, why } => format!("connection {conn} is over: {why}"),
        _ => return None,
    })
}

fn http_line(log: &HttpLog) -> Option<String> {
    Some(match log {
        HttpLog::Called { label, origin } => format!("asks host {origin} for {label}"),
        HttpLog::Head { label, conn, status } => format!("{label}: {status} over connection {conn}"),
        HttpLog::Ended { label, outcome: HttpOutcome::Failed { kind, delivery, .. } } => {
            format!("{label} failed: {kind:?}, {delivery:?}")
        }
        HttpLog::Ended { label, outcome } => format!("{label} is over: {outcome:?}"),
        HttpLog::Event(event) => format!("* {event:?}"),
        HttpLog::Drained => "drains its pool".to_owned(),
        HttpLog::CloseCalled => "calls close".to_owned(),
        HttpLog::CloseReturned { .. } => "close has returned".to_owned(),
        HttpLog::Dropped => "drops its client".to_owned(),
        HttpLog::Residue(census) if census.is_empty() => "nothing is left".to_owned(),
        HttpLog::Residue(census) => format!("LEFT OVER: {census:?}"),
        HttpLog::Started | HttpLog::Owns { .. } | HttpLog::Books { .. } => return None,
    })
}

fn web_line(log: &WebLog) -> Option<String> {
    Some(match log {
        WebLog::Accepted { conn, client, port } => format!("port {port} accepts {conn} of client {client}"),
        WebLog::Executed { conn, label, .. } => format!("{conn} executes {label}"),
        WebLog::Answered { conn, label } => format!("{conn} has answered {label}"),
        WebLog::Pipelined { conn } => format!("{conn} is asked before it has answered"),
        WebLog::Leaving { conn, why } => format!("{conn} takes no more: {why}"),
        WebLog::Secured { conn, resumed: true } => format!("{conn} has resumed a session"),
        WebLog::Gone { conn } => format!("{conn} is over"),
        _ => return None,
    })
}

fn work_line(log: &WorkLog) -> Option<String> {
    Some(match log {
        WorkLog::Started => "connects".to_owned(),
        WorkLog::StartFailed { text } => format!("did not start: {text}"),
        WorkLog::RequestStarted { label, .. } => format!("request {label}"),
        WorkLog::CallEnded { label, request, outcome, .. } => {
            let call = if *request { "request" } else { "send" };
            match outcome {
                Outcome::Answered { conn, .. } => format!("{call} {label} answered over connection {conn}"),
                Outcome::Taken => return None,
                Outcome::Failed { kind, delivery } => {
                    format!("{call} {label} failed: {kind:?}, {delivery:?}")
                }
                Outcome::Cancelled { polls } => format!("{call} {label} dropped at poll {polls}"),
            }
        }
        WorkLog::GuardOpened { guard, topic } => format!("guard {guard} of {topic}"),
        WorkLog::GuardDropped { guard, topic } => format!("guard {guard} of {topic} dropped"),
        WorkLog::GuardEnded { guard, topic } => format!("guard {guard} of {topic} ended"),
        WorkLog::GuardLagged { guard, count } => format!("guard {guard}: lagged by {count}"),
        WorkLog::GuardGap { guard, from, to } => format!("guard {guard}: gap from epoch {from} to {to}"),
        WorkLog::Unsubscribed { topic } => format!("unsubscribes {topic}"),
        WorkLog::ReconnectCalled => "calls reconnect".to_owned(),
        WorkLog::CloseCalled => "calls close".to_owned(),
        WorkLog::CloseReturned => "close has returned".to_owned(),
        WorkLog::CloseCancelled { polls } => format!("close dropped at poll {polls}"),
        WorkLog::HandlesDropped => "drops its last handle".to_owned(),
        WorkLog::Snapshot { state, pending, topics, .. } => {
            format!("stands at {state:?}, {pending} pending, topics {}", topics.join(" "))
        }
        WorkLog::Residue(census) if census.is_empty() => "nothing is left".to_owned(),
        WorkLog::Residue(census) => format!("LEFT OVER: {census:?}"),
        _ => return None,
    })
}

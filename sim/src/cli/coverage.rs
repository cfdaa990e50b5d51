//! What the faults struck: kind of fault x phase of the connection x what became of it, as the trace shows it.
//!
//! A strike waits for the first thing that decides about the connection it struck:
//!
//! | outcome | the first of |
//! |---|---|
//! | survived | the link, or dial, of that moment still stands when a silent one would have been given up |
//! | reconnected | it was lost, or there was none, and a later one stood |
//! | closed | the user closed it or dropped its handles |
//! | terminal | the driver ended by itself |
//!
//! Two faults that strike one link share what becomes of it: the matrix says what was tried, and not who is to blame.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, time::Duration};

use hpx_transport::env::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    plan::{FAULT_NAMES, Plan},
    trace::{Entry, FaultLog, Outcome as CallOutcome, Place, ServerLog, SocketLog, TaskLog, What, WorkLog},
};

/// Where a connection stands, as sockets, the exchange and the client's calls show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Idle,
    Dialing,
    Authenticating,
    Ready,
    Backoff,
    Closing,
    Closed,
}

/// What became of a connection that was struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Survived,
    Reconnected,
    Closed,
    Terminal,
}

const PHASES: [(Phase, &str); 7] = [
    (Phase::Idle, "idle"),
    (Phase::Dialing, "dialing"),
    (Phase::Authenticating, "authing"),
    (Phase::Ready, "ready"),
    (Phase::Backoff, "backoff"),
    (Phase::Closing, "closing"),
    (Phase::Closed, "closed"),
];

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Survived, "survived"),
    (Outcome::Reconnected, "reconnected"),
    (Outcome::Closed, "closed"),
    (Outcome::Terminal, "terminal"),
];

/// False for a cell that no run can fill: it is no hole.
fn is_possible(fault: &str, phase: Phase, outcome: Outcome) -> bool {
    match (phase, outcome) {
        (Phase::Closing, outcome) => outcome == Outcome::Closed,
        (Phase::Closed, outcome) => matches!(outcome, Outcome::Closed | Outcome::Terminal),
        // To drop the handles is to close.
        _ if fault == HANDLE_DROP => outcome == Outcome::Closed,
        // There is no link that could survive.
        (Phase::Idle | Phase::Backoff, outcome) => outcome != Outcome::Survived,
        _ => true,
    }
}

/// The matrix of one run, or of many.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    cells: BTreeMap<(&'static str, Phase, Outcome), u64>,
}

impl Coverage {
    pub(super) fn of(plan: &Plan, entries: &[Entry]) -> Self {
        let mut watch = Watch::new(plan);
        for entry in entries {
            watch.observe(entry);
        }
        watch.coverage
    }

    pub(super) fn add(&mut self, other: Self) {
        for (cell, count) in other.cells {
            *self.cells.entry(cell).or_default() += count;
        }
    }

    fn count(&self, fault: &'static str, phase: Phase, outcome: Outcome) -> u64 {
        self.cells.get(&(fault, phase, outcome)).copied().unwrap_or_default()
    }

    /// The cells that a run could fill, as (fault, phase, outcome, count).
    fn possible(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        FAULT_NAMES.iter().flat_map(move |fault| {
            PHASES.iter().flat_map(move |(phase, phase_name)| {
                let filled = move |(outcome, name): &(Outcome, &'static str)| {
                    is_possible(fault, *phase, *outcome)
                        .then(|| (*fault, *phase_name, *name, self.count(fault, *phase, *outcome)))
                };
                OUTCOMES.iter().filter_map(filled)
            })
        })
    }

    /// How many cells are empty, and how many there are.
    pub(super) fn holes(&self) -> (usize, usize) {
        let empty = self.possible().filter(|cell| cell.3 == 0).count();
        (empty, self.possible().count())
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18} {:<11}", "struck", "outcome")?;
        PHASES.iter().try_for_each(|(_, name)| write!(f, " {name:>8}"))?;
        writeln!(f)?;
        for fault in FAULT_NAMES {
            let mut label = fault;
            for (outcome, name) in OUTCOMES {
                if !PHASES.iter().any(|(phase, _)| is_possible(fault, *phase, outcome)) {
                    continue;
                }
                let mut line = format!("{:<18} {name:<11}", std::mem::take(&mut label));
                for (phase, _) in PHASES {
                    let cell = match self.count(fault, phase, outcome) {
                        0 if !is_possible(fault, phase, outcome) => String::new(),
                        0 => "-".to_owned(),
                        count => count.to_string(),
                    };
                    line.push_str(&format!(" {cell:>8}"));
                }
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        let (empty, all) = self.holes();
        writeln!(f, "{empty} of {all} cells are holes (-)")
    }
}

impl Serialize for Coverage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Cell {
            fault: &'static str,
            phase: &'static str,
            outcome: &'static str,
            count: u64,
        }
        let cell = |(fault, phase, outcome, count)| Cell { fault, phase, outcome, count };
        let cells: Vec<Cell> = self.possible().map(cell).collect();
        let mut form = serializer.serialize_struct("Coverage", 2)?;
        form.serialize_field("holes", &self.holes().0)?;
        form.serialize_field("cells", &cells)?;
        form.end()
    }
}

/// Follows the trace of one run.
struct Watch<'a> {
    plan: &'a Plan,
    lives: Vec<Life>,
    /// Whose a connection of the exchange is.
    conns: BTreeMap<u64, usize>,
    coverage: Coverage,
}

/// One client's connection.
struct Life {
    phase: Phase,
    /// The dial or socket of now.
    link: Option<u64>,
    /// The exchange's number of the latest one.
    conn: Option<u64>,
    by_will: bool,
    /// After so much silence a link is given up.
    patience: Duration,
    reads_slowly: bool,
    /// Phases in which the slow reader was counted.
    read_slowly_in: Vec<Phase>,
    strikes: Vec<Strike>,
}

/// A fault that struck, undecided.
struct Strike {
    fault: &'static str,
    phase: Phase,
    /// What it struck, until that is lost.
    link: Option<u64>,
    /// The fault's index in the plan, while it lasts.
    lasts: Option<usize>,
    /// From when on what still stands has survived. Known when the fault is over.
    survived_at: Option<Timestamp>,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan) -> Self {
        let life = |client: &crate::plan::ClientPlan| Life {
            phase: Phase::Idle,
            link: None,
            conn: None,
            by_will: false,
            // WS-L1's bound, but for the wait before the retry.
            patience: Duration::from_millis(
                client.config.recovery_ms() - client.config.reconnect_max_delay_ms,
            ) + plan.slack(),
            reads_slowly: !client.is_read_promptly(),
            read_slowly_in: Vec::new(),
            strikes: Vec::new(),
        };
        let lives = plan.clients.iter().map(life).collect();
        Self { plan, lives, conns: BTreeMap::new(), coverage: Coverage::default() }
    }

    fn observe(&mut self, entry: &Entry) {
        for client in 0..self.lives.len() {
            let survived = |strike: &Strike| {
                strike.link.is_some() && strike.survived_at.is_some_and(|survived| entry.at >= survived)
            };
            self.decide(client, Outcome::Survived, survived);
        }
        if matches!(entry.place, Place::Client(client) if client >= self.lives.len()) {
            return;
        }
        match &entry.what {
            What::Fault(log) => self.fault(log, entry.at),
            What::Server(log) => self.server(log, entry.at),
            What::Socket(log) => {
                if let Place::Client(client) = entry.place {
                    self.socket(client, log, entry.at);
                }
            }
            What::Work(log) => {
                if let Place::Client(client) = entry.place {
                    self.work(client, log, entry.at);
                }
            }
            What::Task(TaskLog::Ended { .. }) => {
                if let Place::Client(client) = entry.place {
                    self.enter(client, Phase::Closed, entry.at);
                }
            }
            What::Task(_) | What::Event(_) | What::Http(_) | What::Web(_) => {}
        }
    }

    fn fault(&mut self, log: &FaultLog, at: Timestamp) {
        match log {
            FaultLog::Began { fault: index, .. } => {
                let Some(fault) = self.plan.faults.get(*index) else { return };
                let lasts = (!fault.kind.is_instant()).then_some(*index);
                for client in 0..self.lives.len() {
                    if fault.concerns(client) {
                        self.strike(client, fault.kind.name(), lasts, at);
                    }
                }
            }
            FaultLog::Ended { fault: index, .. } => {
                for life in &mut self.lives {
                    for strike in life.strikes.iter_mut().filter(|strike| strike.lasts == Some(*index)) {
                        strike.lasts = None;
                        strike.survived_at = Some(at + life.patience);
                    }
                }
            }
            FaultLog::Healed => {}
        }
    }

    fn server(&mut self, log: &ServerLog, at: Timestamp) {
        let (conn, phase) = match log {
            ServerLog::Accepted { conn, client, .. } => {
                self.conns.insert(*conn, *client);
                if let Some(life) = self.lives.get_mut(*client) {
                    life.conn = Some(*conn);
                }
                return;
            }
            ServerLog::Upgraded { conn } => (conn, Phase::Authenticating),
            ServerLog::Authenticated { conn } => (conn, Phase::Ready),
            _ => return,
        };
        let Some(client) = self.conns.get(conn).copied() else { return };
        // What the exchange says of a link that the client has given up is late.
        let Some(life) = self.lives.get(client).filter(|life| life.conn == Some(*conn)) else { return };
        if matches!(life.phase, Phase::Dialing | Phase::Authenticating) {
            self.enter(client, phase, at);
        }
    }

    fn socket(&mut self, client: usize, log: &SocketLog, at: Timestamp) {
        let Some(life) = self.lives.get_mut(client) else { return };
        match log {
            SocketLog::Dialing { socket } => {
                life.link = Some(*socket);
                self.enter(client, Phase::Dialing, at);
            }
            SocketLog::DialFailed { socket, .. }
            | SocketLog::DialAbandoned { socket }
            | SocketLog::Closed { socket }
                if life.link == Some(*socket) =>
            {
                life.link = None;
                for strike in life.strikes.iter_mut().filter(|strike| strike.link == Some(*socket)) {
                    strike.link = None;
                }
                self.enter(client, Phase::Backoff, at);
            }
            _ => {}
        }
    }

    fn work(&mut self, client: usize, log: &WorkLog, at: Timestamp) {
        match log {
            // A slow reader is slow from the start.
            WorkLog::Started => self.enter(client, Phase::Idle, at),
            WorkLog::CallEnded { outcome: CallOutcome::Cancelled { .. }, .. } => {
                self.strike(client, "cancelled-future", None, at);
            }
            WorkLog::HandlesDropped => {
                self.strike(client, HANDLE_DROP, None, at);
                self.enter(client, Phase::Closing, at);
            }
            WorkLog::CloseCalled => self.enter(client, Phase::Closing, at),
            _ => {}
        }
    }

    fn strike(&mut self, client: usize, fault: &'static str, lasts: Option<usize>, at: Timestamp) {
        let Some(life) = self.lives.get_mut(client) else { return };
        let survived_at = lasts.is_none().then_some(at + life.patience);
        let strike = Strike { fault, phase: life.phase, link: life.link, lasts, survived_at };
        life.strikes.push(strike);
        match life.phase {
            Phase::Closing => self.decide(client, Outcome::Closed, |_| true),
            Phase::Closed => self.decide_closed(client),
            _ => {}
        }
    }

    /// Moves on, where the order of phases lets it, and decides what that decides.
    fn enter(&mut self, client: usize, phase: Phase, at: Timestamp) {
        let Some(life) = self.lives.get_mut(client) else { return };
        let ending = matches!(life.phase, Phase::Closing | Phase::Closed);
        if life.phase == Phase::Closed || (ending && phase != Phase::Closed) {
            return;
        }
        life.phase = phase;
        if life.reads_slowly && !life.read_slowly_in.contains(&phase) {
            life.read_slowly_in.push(phase);
            self.strike(client, "slow-reader", None, at);
        }
        match phase {
            Phase::Ready => self.decide(client, Outcome::Reconnected, |strike| strike.link.is_none()),
            Phase::Closing => {
                self.lives[client].by_will = true;
                self.decide(client, Outcome::Closed, |_| true);
            }
            Phase::Closed => self.decide_closed(client),
            _ => {}
        }
    }

    fn decide_closed(&mut self, client: usize) {
        let outcome = if self.lives[client].by_will { Outcome::Closed } else { Outcome::Terminal };
        self.decide(client, outcome, |_| true);
    }

    /// Counts the strikes that are `decided` and forgets them.
    fn decide(&mut self, client: usize, outcome: Outcome, decided: impl Fn(&Strike) -> bool) {
        let cells = &mut self.coverage.cells;
        self.lives[client].strikes.retain(|strike| {
            let decided = decided(strike);
            if decided {
                *cells.entry((strike.fault, strike.phase, outcome)).or_default() += 1;
            }
            !decided
        });
    }
}

const HANDLE_DROP: &str = "handle-drop";

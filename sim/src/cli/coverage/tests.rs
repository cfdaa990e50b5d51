//! The coverage matrix, over traces made by hand and runs.

use super::*;
use crate::plan::{Fault, Target, Until, When};

/// A plan of one prompt client and one fault, and a trace to write into.
struct Tale {
    plan: Plan,
    entries: Vec<Entry>,
}

impl Tale {
    fn new(kind: crate::plan::FaultKind) -> Self {
        let mut plan = Plan::draw(42);
        plan.clients.truncate(1);
        plan.clients[0].reader = crate::plan::Reader::Prompt;
        plan.faults =
            vec![Fault { at: When::At(0), until: Until::default(), target: Target::Client(0), kind }];
        Self { plan, entries: Vec::new() }
    }

    fn at(mut self, second: u64, what: What) -> Self {
        let place = match what {
            What::Server(_) => Place::Exchange,
            What::Fault(_) => Place::World,
            _ => Place::Client(0),
        };
        let at = Timestamp::ZERO + Duration::from_secs(second);
        self.entries.push(Entry { at, place, what });
        self
    }

    /// The dial and link of this number, up at once.
    fn stands(self, second: u64, link: u64) -> Self {
        let peer = std::net::SocketAddr::from(([10, 0, 0, 1], 1));
        self.at(second, What::Socket(SocketLog::Dialing { socket: link }))
            .at(second, What::Server(ServerLog::Accepted { conn: link, client: 0, peer }))
            .at(second, What::Server(ServerLog::Upgraded { conn: link }))
            .at(second, What::Server(ServerLog::Authenticated { conn: link }))
    }

    fn lost(self, second: u64, link: u64) -> Self {
        self.at(second, What::Socket(SocketLog::Closed { socket: link }))
    }

    fn begins(self, second: u64) -> Self {
        self.at(second, What::Fault(FaultLog::Began { fault: 0, text: String::new() }))
    }

    fn ends(self, second: u64) -> Self {
        self.at(second, What::Fault(FaultLog::Ended { fault: 0, text: String::new() }))
    }

    fn work(self, second: u64, log: WorkLog) -> Self {
        self.at(second, What::Work(log))
    }

    fn driver_ends(self, second: u64) -> Self {
        self.at(second, What::Task(TaskLog::Ended { name: "hpx-websocket" }))
    }

    fn told(self) -> Vec<(&'static str, Phase, Outcome)> {
        Coverage::of(&self.plan, &self.entries).cells.into_keys().collect()
    }
}

const HOLD: crate::plan::FaultKind = crate::plan::FaultKind::Hold;

#[test]
fn a_link_that_outlasts_the_fault_has_survived_it() {
    let tale = Tale::new(HOLD).stands(1, 1).begins(2).ends(3).work(1000, WorkLog::CloseCalled);
    assert_eq!(tale.told(), [("hold", Phase::Ready, Outcome::Survived)]);
}

#[test]
fn a_link_is_not_said_to_survive_while_the_fault_lasts() {
    let tale = Tale::new(HOLD).stands(1, 1).begins(2).work(1000, WorkLog::CloseCalled);
    assert_eq!(tale.told(), [("hold", Phase::Ready, Outcome::Closed)]);
}

#[test]
fn a_link_that_is_lost_and_replaced_was_reconnected() {
    let tale = Tale::new(HOLD).stands(1, 1).begins(2).lost(3, 1).ends(4).stands(5, 2);
    assert_eq!(tale.told(), [("hold", Phase::Ready, Outcome::Reconnected)]);
    let waiting = Tale::new(HOLD).stands(1, 1).lost(2, 1).begins(3).ends(4).stands(5, 2);
    assert_eq!(waiting.told(), [("hold", Phase::Backoff, Outcome::Reconnected)]);
}

#[test]
fn a_driver_that_ends_by_itself_is_terminal_and_by_the_user_closed() {
    let tale = || Tale::new(HOLD).begins(0).at(1, What::Socket(SocketLog::Dialing { socket: 1 }));
    assert_eq!(tale().driver_ends(2).told(), [("hold", Phase::Idle, Outcome::Terminal)]);
    let closed = tale().work(2, WorkLog::CloseCalled).driver_ends(3).told();
    assert_eq!(closed, [("hold", Phase::Idle, Outcome::Closed)]);
    let late = Tale::new(HOLD).stands(1, 1).driver_ends(2).begins(3).told();
    assert_eq!(late, [("hold", Phase::Closed, Outcome::Terminal)]);
    let drop = Tale::new(HOLD).stands(1, 1).work(2, WorkLog::HandlesDropped).begins(3).told();
    let expected =
        [("handle-drop", Phase::Ready, Outcome::Closed), ("hold", Phase::Closing, Outcome::Closed)];
    assert_eq!(drop, expected);
}

#[test]
fn every_strike_of_a_run_is_decided_in_a_cell_that_is_possible() {
    for seed in 0..20 {
        let report = crate::Simulation::new(seed).run();
        let mut watch = Watch::new(report.plan());
        report.entries().iter().for_each(|entry| watch.observe(entry));
        assert!(watch.lives.iter().all(|life| life.strikes.is_empty()), "seed {seed}");
        for (fault, phase, outcome) in watch.coverage.cells.keys() {
            assert!(is_possible(fault, *phase, *outcome), "seed {seed}: {fault} {phase:?} {outcome:?}");
        }
    }
}

#[test]
fn holes_are_shown_and_counted() {
    let coverage = Coverage::default();
    let (empty, all) = coverage.holes();
    assert!(empty == all && all > 0);
    let text = coverage.to_string();
    // One dash stands in the last line, and those of the names of kinds are within words.
    assert_eq!(text.matches(" -").count(), all, "{text}");
}

//! One plan, two backends: what a run comes to must not depend on the network it ran on.

use std::fmt;

use hpx_transport::websocket::{CloseCause, ConnectionState, Event};

use crate::{
    plan::{ClientPlan, Fault, FaultKind, Plan, Reader, Until},
    report::Report,
    trace::{Place, What, WorkLog},
};

/// What a run comes to, without times: a pure projection of its report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The oracles that fired, by id.
    pub broken: Vec<&'static str>,
    /// Why the simulation itself broke, if it did.
    pub failure: Option<String>,
    /// By client.
    pub clients: Vec<ClientSummary>,
}

/// What a run comes to for one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientSummary {
    /// How its connection ended, as far as its reader was told.
    pub cause: Option<&'static str>,
    /// How it stood when all had settled, and to what it was subscribed; not if it had left before.
    pub settled: Option<(&'static str, Vec<String>)>,
}

impl Summary {
    /// The summary of a run.
    pub fn of(report: &Report) -> Self {
        let fired = report.verdicts().iter().filter(|verdict| !verdict.violations.is_empty());
        let mut clients = vec![ClientSummary::default(); report.plan().clients.len()];
        for entry in report.entries() {
            let Place::Client(client) = entry.place else { continue };
            match &entry.what {
                What::Event(Event::Closed { cause, .. }) => clients[client].cause = Some(name(cause)),
                What::Work(WorkLog::Snapshot { state, topics, .. }) => {
                    clients[client].settled = Some((state_name(state), topics.clone()));
                }
                _ => {}
            }
        }
        let failure = report.failure().map(str::to_owned);
        Self { broken: fired.map(|verdict| verdict.card.id).collect(), failure, clients }
    }

    /// What is not the same in another, in words; empty if they are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        let mut compare = |what: &str, one: &dyn fmt::Debug, two: &dyn fmt::Debug| {
            let (one, two) = (format!("{one:?}"), format!("{two:?}"));
            if one != two {
                out.push(format!("{what}: {one} and {two}"));
            }
        };
        compare("oracles that fired", &self.broken, &other.broken);
        compare("failure", &self.failure, &other.failure);
        for (index, (one, two)) in self.clients.iter().zip(&other.clients).enumerate() {
            compare(&format!("client {index}, terminal cause"), &one.cause, &two.cause);
            compare(&format!("client {index}, state and topics"), &one.settled, &two.settled);
        }
        out
    }
}

/// Without the number of the attempt, which is a matter of milliseconds.
fn state_name(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::Ready => "ready",
        ConnectionState::Closed => "closed",
        _ => "on its way",
    }
}

fn name(cause: &CloseCause) -> &'static str {
    match cause {
        CloseCause::CloseCalled => "close called",
        CloseCause::HandlesDropped => "handles dropped",
        CloseCause::RetriesExhausted { .. } => "retries exhausted",
        CloseCause::Refused(_) => "refused",
        CloseCause::Failed(_) => "failed",
        _ => "another",
    }
}

/// The plan without what the backends are known to differ in. Each rule has its reason beside it.
pub fn common(mut plan: Plan) -> Plan {
    let clients = &plan.clients;
    plan.faults.retain(|fault| is_common(fault, clients));
    for client in &mut plan.clients {
        // How many attempts fit into a fault is a matter of milliseconds, and the last of them ends the connection.
        client.config.reconnect_max_attempts = None;
        // A slow reader may not come to the last event before the run is over: which one it sees last is a matter of the
        // times of all before it.
        client.reader = Reader::Prompt;
    }
    plan
}

fn is_common(fault: &Fault, clients: &[ClientPlan]) -> bool {
    match fault.kind {
        // turmoil sends nothing twice: streams that live through silence are dead for good there, and go on in memory.
        FaultKind::Partition | FaultKind::PowerLoss => false,
        // A refusal for good ends whoever dials in that moment: it must last so long that everybody does, and nobody may
        // leave meanwhile.
        FaultKind::Refuse { status, .. } if status < 500 && status != 429 => {
            let times = fault.begins_ms().zip(fault.length_ms());
            times.is_some_and(|(begins_ms, length_ms)| {
                let longest_ms = clients.iter().map(longest_dial_ms).max().unwrap_or_default();
                let ends = clients.iter().filter_map(|client| client.script.last());
                let mut ends = ends.map(|step| step.at_ms);
                length_ms > longest_ms
                    && !ends.any(|end_ms| (begins_ms..begins_ms + longest_ms).contains(&end_ms))
            })
        }
        // Dials that fail for good keep whoever has just lost its link from ever standing again. Whether it has is a matter
        // of how bytes are cut: turmoil hands over a write at a time, and the exchange takes an upgrade in many small pieces
        // for an attack; in memory what has arrived is read at once.
        FaultKind::Connect(_) | FaultKind::Dns(_) => fault.until != Until::Never,
        _ => true,
    }
}

/// The longest wait of this client, and the way to the exchange after it.
fn longest_dial_ms(client: &ClientPlan) -> u64 {
    client.config.reconnect_max_delay_ms + 6 * client.latency_ms + 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ConnectFault, Target, When};

    #[test]
    fn a_plan_keeps_what_both_backends_can_do_and_loses_the_rest() {
        let mut plan = Plan::draw(1);
        let fault = |kind, until| Fault { at: When::At(100), until, target: Target::All, kind };
        let refuse = |status, ms| fault(FaultKind::Refuse { status, retry_after_s: None }, Until::ForMs(ms));
        let refused = FaultKind::Connect(ConnectFault::Refused);
        let kept = [
            fault(FaultKind::Hold, Until::ForMs(50)),
            fault(FaultKind::Crash, Until::ForMs(50)),
            fault(refused.clone(), Until::ForMs(50)),
            refuse(503, 50),
            refuse(403, 60_000),
        ];
        let lost = [
            fault(FaultKind::Partition, Until::ForMs(50)),
            fault(FaultKind::PowerLoss, Until::ForMs(50)),
            fault(refused, Until::Never),
            refuse(403, 50),
        ];
        plan.faults = kept.iter().chain(&lost).cloned().collect();
        assert_eq!(common(plan).faults, kept);
    }
}

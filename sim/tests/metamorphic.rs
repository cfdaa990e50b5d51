//! What must not matter does not: how the bytes are split (WS-18).

use std::collections::BTreeMap;

use hpx_sim::{
    Backend, Plan, Preset, Report, Simulation,
    plan::{Fault, FaultKind, Op, Reader, Target, Until, When},
    trace::{Outcome, Place, What, WorkLog},
};

fn run(plan: &Plan) -> Report {
    // Read back: a plan made by hand is as valid as one that was drawn.
    let plan = Plan::from_json(&plan.to_json()).expect("the plan is valid");
    let report = Simulation::of(plan).backend(Backend::Memory).run();
    assert!(report.is_green(), "{report}");
    report
}

/// What one client was told and what came of each of its calls: every stream in its own order, without the times.
fn told(report: &Report, client: usize) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tell = |whom: String, what: String| told.entry(whom).or_default().push(what);
    for entry in report.entries().iter().filter(|entry| entry.place == Place::Client(client)) {
        match &entry.what {
            What::Event(event) => tell("events".to_owned(), format!("{event:?}")),
            What::Work(WorkLog::CallEnded { label, outcome, .. }) => {
                let outcome = match outcome {
                    Outcome::Cancelled { .. } => "dropped with the handles".to_owned(),
                    outcome => format!("{outcome:?}"),
                };
                tell(format!("call {label}"), outcome);
            }
            What::Work(log @ (WorkLog::GuardMessage { guard, .. } | WorkLog::GuardEnded { guard, .. })) => {
                tell(format!("guard {guard}"), format!("{log:?}"));
            }
            _ => {}
        }
    }
    told
}

/// No fault but the split, and nobody who gives up: what is left must not depend on it.
fn without_faults(seed: u64) -> Plan {
    let mut plan = Plan::draw_as(Preset::Calm, seed);
    plan.faults.clear();
    for client in &mut plan.clients {
        (client.reader, client.guard_reader) = (Reader::Prompt, Reader::Prompt);
        // A future is polled more often where bytes come one by one, and a large message is a blocked socket.
        client
            .script
            .retain(|step| !matches!(step.op, Op::Send { bytes: 2000.., .. } | Op::CloseAndCancel { .. }));
        for step in &mut client.script {
            if let Op::Request { cancel, .. } | Op::Send { cancel, .. } | Op::Ready { cancel } = &mut step.op
            {
                *cancel = None;
            }
        }
    }
    plan
}

#[test]
fn any_split_of_the_bytes_gives_the_same_events() {
    for seed in 0..60 {
        let whole = without_faults(seed);
        let mut split = whole.clone();
        let bytes = 1 + (seed % 3) as usize;
        let kind = FaultKind::Dribble { bytes };
        split.faults = vec![Fault { at: When::At(0), until: Until::Heal, target: Target::All, kind }];
        let (whole, split) = (run(&whole), run(&split));
        for client in 0..whole.plan().clients.len() {
            assert_eq!(told(&whole, client), told(&split, client), "seed {seed}, client {client}");
        }
    }
}

//! What a run comes to does not depend on the network it ran on.
//!
//! `cargo sim differential` does this for 500 seeds.

use hpx_sim::{
    Backend, Plan, Preset, SimHandler, Simulation,
    differential::{Summary, common},
    plan::{Fault, FaultKind, Target, Until, When},
};
use hpx_transport::websocket::{MessageKind, ProtocolHandler, RequestId, Topic, WsMessage};

fn on(backend: Backend, plan: &Plan) -> Summary {
    Summary::of(&Simulation::of(plan.clone()).backend(backend).run())
}

#[test]
fn both_backends_come_to_the_same() {
    let (mut settled, mut faults) = (0, 0);
    for (preset, seeds) in [(Preset::Stormy, 0..40), (Preset::Hostile, 0..20)] {
        for seed in seeds {
            let plan = common(Plan::draw_as(preset, seed));
            let (turmoil, memory) = (on(Backend::Turmoil, &plan), on(Backend::Memory, &plan));
            let differences = turmoil.differences(&memory);
            assert!(differences.is_empty(), "{} seed {seed}: {differences:?}", preset.name());
            faults += plan.faults.len();
            settled += turmoil.clients.iter().filter(|client| client.settled.is_some()).count();
        }
    }
    // A filter that takes everything away would make any two networks equal.
    assert!(faults > 150 && settled > 50, "{faults} faults, {settled} clients settled");
}

/// A plan without faults, whose clients all stay until it has settled.
fn lasting() -> Plan {
    let stay = |plan: &Plan| {
        let ends = plan.clients.iter().filter_map(|client| client.script.last());
        ends.map(|step| step.at_ms).all(|end_ms| end_ms > plan.settle_ms)
    };
    let mut plan = (0..).map(Plan::draw).find(stay).expect("most clients stay");
    plan.faults.clear();
    common(plan)
}

/// One side's network never heals: it must show.
#[test]
fn a_network_that_never_lets_go_differs() {
    let plan = lasting();
    let mut broken = plan.clone();
    let (at, until) = (When::At(plan.heal_ms - 1), Until::Never);
    broken.faults.push(Fault { at, until, target: Target::All, kind: FaultKind::Hold });
    assert_eq!(on(Backend::Turmoil, &plan).differences(&on(Backend::Memory, &plan)), [""; 0]);
    let differences = on(Backend::Turmoil, &plan).differences(&on(Backend::Memory, &broken));
    assert!(differences.iter().any(|text| text.contains("state and topics")), "{differences:?}");
}

/// Never hears that it is let in.
struct Deaf(SimHandler);

impl ProtocolHandler for Deaf {
    fn classify_message(&self, text: &str) -> MessageKind {
        self.0.classify_message(text)
    }
    fn extract_request_id(&self, text: &str) -> Option<RequestId> {
        self.0.extract_request_id(text)
    }
    fn extract_topic(&self, text: &str) -> Option<Topic> {
        self.0.extract_topic(text)
    }
    fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.0.build_subscribe(topics, id)
    }
    fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
        self.0.build_unsubscribe(topics, id)
    }
    fn build_auth_message(&self) -> Option<WsMessage> {
        self.0.build_auth_message()
    }
    fn is_auth_success(&self, _: &str) -> bool {
        false
    }
}

#[test]
fn a_client_that_is_broken_on_one_side_only_differs() {
    let plan = lasting();
    let deaf = Simulation::of(plan.clone()).backend(Backend::Memory).handler(|| Deaf(SimHandler)).run();
    let differences = on(Backend::Turmoil, &plan).differences(&Summary::of(&deaf));
    assert!(differences.iter().any(|text| text.contains("oracles that fired")), "{differences:?}");
}

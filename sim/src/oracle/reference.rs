//! The reference model, in lock-step with what a prompt reader is told: each event is one that the model allows, and the
//! handle says what the model says.

use std::sync::Arc;

use crate::{
    model::{Call, Model},
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, What, WorkLog},
};

pub(super) struct Reference {
    models: Vec<Model>,
}

impl Reference {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let model = |client: &crate::plan::ClientPlan| Model::new(client.config.reconnect_max_attempts);
        Self { models: plan.clients.iter().map(model).collect() }
    }
}

impl Oracle for Reference {
    fn card(&self) -> Card {
        Card {
            id: "MODEL",
            rule: "events and states are those of the reference model",
            observers: &[Observer::Library, Observer::Workload],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let Place::Client(client) = entry.place else { return };
        let model = &mut self.models[client];
        let (fault, what) = match &entry.what {
            What::Event(event) => (model.step(event).err(), format!("{event:?}")),
            What::Work(WorkLog::Stands { state, epoch }) => {
                (model.agrees(*state, *epoch).err(), "its handle".to_owned())
            }
            What::Work(WorkLog::CloseCalled) => return model.call(Call::Close),
            What::Work(WorkLog::HandlesDropped) => return model.call(Call::DropHandles),
            What::Work(WorkLog::ReconnectCalled) => return model.call(Call::Reconnect),
            _ => return,
        };
        judge.check(entry.at, fault.is_none(), || {
            format!("client {client}: {what}: {}", fault.unwrap_or_default())
        });
    }
}

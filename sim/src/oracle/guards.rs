//! WS-15, guards: they end with the driver and not before, what they miss is counted, and the end of a link shows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hpx_transport::env::Timestamp;

use crate::{
    dialect::Dialect,
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, ServerLog, TaskLog, What, WorkLog},
};

pub(super) struct Guards {
    plan: Arc<Plan>,
    dialect: Arc<dyn Dialect>,
    clients: Vec<Driver>,
    guards: BTreeMap<(usize, u32), Guard>,
    /// What the exchange pushed: by connection and topic, in order.
    pushed: BTreeMap<(u64, String), Vec<u64>>,
}

#[derive(Clone, Default)]
struct Driver {
    tasks: usize,
    ended: Option<Timestamp>,
}

#[derive(Default)]
struct Guard {
    topic: String,
    /// The topic was given up: it may end.
    given_up: bool,
    /// The last push it yielded: of which connection, and its number.
    last: Option<(u64, u64)>,
    /// What it said it missed since then, and whether it told of a new link.
    lagged: u64,
    gap: bool,
    epoch: u64,
}

impl Guards {
    pub(super) fn new(plan: &Arc<Plan>, dialect: &Arc<dyn Dialect>) -> Self {
        Self {
            plan: Arc::clone(plan),
            dialect: Arc::clone(dialect),
            clients: vec![Driver::default(); plan.clients.len()],
            guards: BTreeMap::new(),
            pushed: BTreeMap::new(),
        }
    }

    fn said(&mut self, conn: u64, text: &str) {
        let Some((sequence, _)) = self.dialect.read_push(text) else { return };
        // The dialect's handler side knows topics; the exchange's number is unique within one.
        let Some(topic) = self.dialect.read_topic(text) else { return };
        self.pushed.entry((conn, topic)).or_default().push(sequence);
    }

    fn yielded(&mut self, at: Timestamp, key: (usize, u32), sequence: u64, conn: u64, judge: &mut Judge) {
        let Some(guard) = self.guards.get_mut(&key) else { return };
        let (client, number) = key;
        if self.plan.is_corrupted(client) {
            return;
        }
        let pushed = self.pushed.get(&(conn, guard.topic.clone())).map_or(&[][..], Vec::as_slice);
        let place = |sequence: u64| pushed.binary_search(&sequence).ok();
        judge.check(at, place(sequence).is_some(), || {
            format!("client {client}: guard {number} yielded push {sequence} of connection {conn}, which was not made")
        });
        match guard.last {
            Some((of, last)) if of == conn => {
                let missed = place(sequence).zip(place(last)).map(|(now, then)| now as i64 - then as i64 - 1);
                let counted = guard.lagged;
                judge.check(at, missed == i64::try_from(counted).ok(), || {
                    format!(
                        "client {client}: guard {number} yielded push {sequence} after {last}, {missed:?} between them are missing, {counted} were counted"
                    )
                });
            }
            Some((of, _)) => judge.check(at, guard.gap, || {
                format!("client {client}: guard {number} went from connection {of} to {conn} without a gap")
            }),
            None => {}
        }
        guard.last = Some((conn, sequence));
        (guard.lagged, guard.gap) = (0, false);
    }

    fn ended(&mut self, at: Timestamp, client: usize, number: u32, judge: &mut Judge) {
        let Some(guard) = self.guards.remove(&(client, number)) else { return };
        let may = guard.given_up || self.clients[client].tasks == 0;
        judge.check(at, may, || {
            format!("client {client}: guard {number} of {} ended, and its driver runs", guard.topic)
        });
    }

    fn work(&mut self, at: Timestamp, client: usize, log: &WorkLog, judge: &mut Judge) {
        match log {
            WorkLog::GuardOpened { guard, topic } => {
                self.guards.insert((client, *guard), Guard { topic: topic.clone(), ..Guard::default() });
            }
            WorkLog::GuardDropped { guard, .. } => drop(self.guards.remove(&(client, *guard))),
            WorkLog::GuardEnded { guard, .. } => self.ended(at, client, *guard, judge),
            WorkLog::Unsubscribed { topic } => {
                let own =
                    self.guards.iter_mut().filter(|((of, _), guard)| *of == client && guard.topic == *topic);
                own.for_each(|(_, guard)| guard.given_up = true);
            }
            WorkLog::GuardLagged { guard: number, count } => {
                if let Some(guard) = self.guards.get_mut(&(client, *number)) {
                    guard.lagged += count;
                    judge.check(at, *count > 0, || {
                        format!("client {client}: guard {number} lagged by nothing")
                    });
                }
            }
            WorkLog::GuardGap { guard: number, from, to } => {
                if let Some(guard) = self.guards.get_mut(&(client, *number)) {
                    let rises = from < to && *from >= guard.epoch;
                    (guard.gap, guard.epoch) = (true, *to);
                    judge.check(at, rises, || {
                        format!("client {client}: guard {number} tells of a gap from epoch {from} to {to}")
                    });
                }
            }
            WorkLog::GuardMessage { guard, sequence, conn, .. } => {
                self.yielded(at, (client, *guard), *sequence, *conn, judge);
            }
            _ => {}
        }
    }
}

impl Oracle for Guards {
    fn card(&self) -> Card {
        Card {
            id: "WS-15",
            rule: "guards end with the driver; what they miss is counted, a new link shows",
            observers: &[Observer::Workload, Observer::Server, Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        match (&entry.what, entry.place) {
            (What::Server(ServerLog::Said { conn, text }), _) => self.said(*conn, text),
            (What::Task(TaskLog::Spawned { .. }), Place::Client(client)) => self.clients[client].tasks += 1,
            (What::Task(TaskLog::Ended { .. }), Place::Client(client)) => {
                let driver = &mut self.clients[client];
                driver.tasks = driver.tasks.saturating_sub(1);
                driver.ended = Some(entry.at);
            }
            (What::Work(log), Place::Client(client)) => self.work(entry.at, client, log, judge),
            _ => {}
        }
    }

    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        for ((client, number), guard) in &self.guards {
            let driver = &self.clients[*client];
            let (Some(ended), 0) = (driver.ended, driver.tasks) else { continue };
            // Once the handles are gone, by the last step and the end that it asks for, everybody reads at once.
            let client_plan = &self.plan.clients[*client];
            let last = client_plan.script.last().map_or(0, |step| step.at_ms);
            let last = Timestamp::ZERO + Duration::from_millis(last + client_plan.config.close_timeout_ms);
            let closing = Duration::from_millis(client_plan.config.close_timeout_ms);
            let due = ended.max(last) + self.plan.slack_for(*client, closing);
            judge.check(end, due >= end, || {
                format!(
                    "client {client}: guard {number} of {} did not end with its driver at {ended:?}",
                    guard.topic
                )
            });
        }
    }
}

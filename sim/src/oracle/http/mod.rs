//! The oracles of HTTP clients. All share one model of what a client did, made of what its observer was told, what its calls came
//! to, its sockets and the hosts' log; each is a rule over it.

mod links;
mod model;
mod pings;
mod pool;
mod requests;
mod sessions;

use std::{collections::BTreeMap, sync::Arc};

use hpx_transport::env::Timestamp;

use self::model::{Course, Hosts};
use super::{Card, Judge, Observer};
use crate::{
    plan::{HttpPlan, Plan},
    trace::{Entry, HttpLog, Place, What},
};

/// What a rule looks at: an entry, and the model as it was before it.
struct Scene<'a> {
    plan: &'a Plan,
    /// The client's number among all of the plan.
    client: usize,
    http: &'a HttpPlan,
    course: &'a Course,
    hosts: &'a Hosts,
    entry: &'a Entry,
    at: Timestamp,
}

impl Scene<'_> {
    /// What an HTTP client wrote.
    fn log(&self) -> Option<&HttpLog> {
        match &self.entry.what {
            What::Http(log) => Some(log),
            _ => None,
        }
    }

    /// What a time bound of this client's may be off by.
    fn slack(&self, span: std::time::Duration) -> std::time::Duration {
        self.plan.slack_for(self.client, span)
    }

    /// True if its process stands still at times: then an instant may last.
    fn may_pause(&self) -> bool {
        self.plan.is_out_of_time(self.client)
    }
}

/// One invariant: what is judged at each entry, and once an instant is over, when all that was woken in it has run.
#[derive(Clone, Copy)]
struct Rule {
    card: Card,
    each: fn(&Scene<'_>, &mut Judge),
    settled: fn(&Scene<'_>, &mut Judge),
}

impl Rule {
    const fn of(id: &'static str, rule: &'static str, observers: &'static [Observer]) -> Self {
        Self { card: Card { id, rule, observers }, each: |_, _| {}, settled: |_, _| {} }
    }

    const fn each(mut self, each: fn(&Scene<'_>, &mut Judge)) -> Self {
        self.each = each;
        self
    }

    const fn settled(mut self, settled: fn(&Scene<'_>, &mut Judge)) -> Self {
        self.settled = settled;
        self
    }
}

/// All rules, and the model they share.
pub(super) struct HttpBench {
    plan: Arc<Plan>,
    seats: Vec<(Rule, Judge)>,
    courses: BTreeMap<usize, Course>,
    hosts: Hosts,
}

impl HttpBench {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let rules = [pool::RULES, links::RULES, requests::RULES, pings::RULES, sessions::RULES];
        let seats = rules.into_iter().flatten().map(|rule| (*rule, Judge::default()));
        let courses = (plan.clients.len()..plan.hosts()).map(|client| (client, Course::default()));
        Self {
            plan: Arc::clone(plan),
            seats: seats.collect(),
            courses: courses.collect(),
            hosts: Hosts::default(),
        }
    }

    pub(super) fn observe(&mut self, entry: &Entry) {
        match (entry.place, &entry.what) {
            (Place::Client(client), _) => self.see(client, entry),
            (_, What::Web(log)) => {
                if let Some(client) = self.hosts.client_of(log) {
                    self.see(client, entry);
                }
            }
            // What befalls the world befalls everybody.
            (_, What::Fault(_)) => {
                (self.plan.clients.len()..self.plan.hosts()).for_each(|client| self.see(client, entry));
            }
            _ => {}
        }
        match &entry.what {
            What::Web(log) => self.hosts.observe(log, entry.at),
            What::Http(HttpLog::Head { conn, .. }) => self.hosts.was_heard(*conn, entry.at),
            _ => {}
        }
    }

    fn see(&mut self, client: usize, entry: &Entry) {
        let (Some(http), Some(course)) = (self.plan.http_client(client), self.courses.get_mut(&client))
        else {
            return;
        };
        // A host's time may be a step ahead of the client's, and the world's one behind.
        let is_own = matches!(entry.place, Place::Client(_));
        let is_over = is_own && entry.at > course.now;
        let scene = Scene { plan: &self.plan, client, http, course, hosts: &self.hosts, entry, at: entry.at };
        for (rule, judge) in &mut self.seats {
            if is_over {
                (rule.settled)(&scene, judge);
            }
            (rule.each)(&scene, judge);
        }
        course.observe(entry, http, is_own);
    }

    pub(super) fn seats(&self) -> impl Iterator<Item = (Card, &Judge)> {
        self.seats.iter().map(|(rule, judge)| (rule.card, judge))
    }
}

//! The smallest plan that is red for the same reason: delta debugging over clients, faults, script steps and durations.
//!
//! Pure: what "red for the same reason" means is the caller's, who runs the candidates. A candidate is always a valid plan,
//! and keeps the time that the world has between its healing and the verdict on it: a plan that gives a connection less time
//! than it needs would be red for a reason of its own.

use crate::plan::{Fault, HandlerPlan, HttpOp, HttpStep, Op, Plan, Reader, Step, Target, Until, When};

/// What became of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Shrunk {
    pub(crate) plan: Plan,
    /// Candidates that were run.
    pub(crate) runs: u32,
    /// The runs were used up: it may be possible to go on.
    pub(crate) stopped_early: bool,
}

/// Makes a plan smaller for as long as it `still_fails`, in at most `runs_max` runs.
pub(crate) fn shrink(plan: &Plan, runs_max: u32, still_fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let mut search = Search { best: plan.clone(), runs: 0, runs_max, still_fails };
    // Ends: each further round needs one that made the plan smaller, and the runs are bounded.
    while search.round() && search.has_runs() {}
    let stopped_early = !search.has_runs();
    Shrunk { plan: search.best, runs: search.runs, stopped_early }
}

struct Search<F> {
    /// The smallest plan that fails.
    best: Plan,
    runs: u32,
    runs_max: u32,
    still_fails: F,
}

impl<F: FnMut(&Plan) -> bool> Search<F> {
    fn has_runs(&self) -> bool {
        self.runs < self.runs_max
    }

    /// Takes the candidate if it is another plan, a valid one, and fails.
    fn offer(&mut self, candidate: Plan) -> bool {
        if candidate == self.best || candidate.check().is_err() || !self.has_runs() {
            return false;
        }
        self.runs += 1;
        let fails = (self.still_fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    /// Tries everything once, what removes most first. True if the plan has become smaller.
    fn round(&mut self) -> bool {
        let before = self.best.clone();
        self.drop_clients();
        self.drop_parts(|plan| &mut plan.faults, 0);
        for client in 0..self.best.clients.len() {
            // The last step ends the connection, and every script must end it.
            self.drop_parts(move |plan| &mut plan.clients[client].script, 1);
        }
        for client in 0..self.best.http.len() {
            self.drop_parts(move |plan| &mut plan.http[client].script, 1);
        }
        self.calm_down();
        self.calm_down_http();
        self.shorten_faults();
        self.end_sooner();
        self.best != before
    }

    fn drop_clients(&mut self) {
        let mut client = 0;
        while client < self.best.hosts() {
            if self.best.hosts() == 1 || !self.offer(without_client(&self.best, client)) {
                client += 1;
            }
        }
    }

    /// Removes runs of elements from a list of the plan: halves, quarters, and in the end single ones. The last `kept` stay.
    fn drop_parts<T: Clone>(&mut self, list: impl Fn(&mut Plan) -> &mut Vec<T>, kept: usize) {
        let length = |plan: &mut Plan| list(plan).len().saturating_sub(kept);
        let mut size = length(&mut self.best);
        while size > 0 {
            let mut at = 0;
            while at < length(&mut self.best) {
                let end = (at + size).min(length(&mut self.best));
                let mut candidate = self.best.clone();
                list(&mut candidate).drain(at..end);
                if !self.offer(candidate) {
                    at = end;
                }
            }
            size /= 2;
        }
    }

    /// Readers that read, futures that are awaited, replies at once.
    fn calm_down(&mut self) {
        for client in 0..self.best.clients.len() {
            let mut candidate = self.best.clone();
            candidate.clients[client].reader = Reader::Prompt;
            self.offer(candidate);
            let mut candidate = self.best.clone();
            candidate.clients[client].guard_reader = Reader::Prompt;
            self.offer(candidate);
            let mut candidate = self.best.clone();
            candidate.clients[client].handler = HandlerPlan::default();
            self.offer(candidate);
            for step in 0..self.best.clients[client].script.len() {
                let mut candidate = self.best.clone();
                match &mut candidate.clients[client].script[step].op {
                    Op::Request { cancel, .. } | Op::Send { cancel, .. } | Op::Ready { cancel } => {
                        *cancel = None
                    }
                    _ => continue,
                }
                self.offer(candidate);
                let mut candidate = self.best.clone();
                if let Op::Request { reply_after_ms, .. } = &mut candidate.clients[client].script[step].op {
                    *reply_after_ms = 0;
                }
                self.offer(candidate);
            }
        }
    }

    /// Calls that are awaited, answers at once and short, hosts that somebody asks.
    fn calm_down_http(&mut self) {
        for client in 0..self.best.http.len() {
            for step in 0..self.best.http[client].script.len() {
                for calm in CALMER {
                    let mut candidate = self.best.clone();
                    calm(&mut candidate.http[client].script[step].op);
                    self.offer(candidate);
                }
            }
            let mut candidate = self.best.clone();
            let http = &mut candidate.http[client];
            // Hosts are known by their places: the last ones can go.
            let last = http.script.iter().filter_map(|step| step.op.origin()).max().unwrap_or(0);
            http.origins.truncate(last + 1);
            self.offer(candidate);
        }
    }

    fn shorten_faults(&mut self) {
        for index in 0..self.best.faults.len() {
            // Down to a round number at once, then by halves.
            let length = |plan: &Plan| plan.faults[index].length_ms().unwrap_or(u64::MAX);
            for short in [0, 10, 100, 1000] {
                if short < length(&self.best) && self.offer(with_length(&self.best, index, short)) {
                    break;
                }
            }
            while (SHORT_ENOUGH_MS + 1..u64::MAX).contains(&length(&self.best)) {
                let half = length(&self.best) / 2;
                if !self.offer(with_length(&self.best, index, half)) {
                    break;
                }
            }
        }
    }

    /// Lets the world heal sooner: when the last fault is over, or half way there.
    fn end_sooner(&mut self) {
        loop {
            // Of a fault that waits for an event only its length is known.
            let over = |fault: &Fault| fault.begins_ms().unwrap_or(0) + fault.length_ms().unwrap_or(0);
            let last_fault = self.best.faults.iter().map(over).max().unwrap_or(0);
            let start = self.best.clients.iter().map(|client| client.start_ms).max().unwrap_or(0);
            let soonest = last_fault.max(start) + 1;
            let spare = self.best.heal_ms.saturating_sub(soonest);
            let sooner = |by| healed_sooner(&self.best, by);
            let (all, half) = (sooner(spare), sooner(spare / 2));
            if spare == 0 || !(self.offer(all) || self.offer(half)) {
                return;
            }
        }
    }
}

fn without_client(plan: &Plan, gone: usize) -> Plan {
    let mut plan = plan.clone();
    match gone.checked_sub(plan.clients.len()) {
        None => drop(plan.clients.remove(gone)),
        Some(gone) => drop(plan.http.remove(gone)),
    }
    let goes_too = |fault: &Fault| {
        fault.target == Target::Client(gone) || matches!(fault.at, When::On(anchor) if anchor.client == gone)
    };
    plan.faults.retain(|fault| !goes_too(fault));
    let renumber = |client: &mut usize| *client -= usize::from(*client > gone);
    for fault in &mut plan.faults {
        if let Target::Client(client) = &mut fault.target {
            renumber(client);
        }
        if let When::On(anchor) = &mut fault.at {
            renumber(&mut anchor.client);
        }
    }
    plan
}

fn with_length(plan: &Plan, fault: usize, for_ms: u64) -> Plan {
    let mut plan = plan.clone();
    plan.faults[fault].until = Until::ForMs(for_ms);
    plan
}

/// The plan with its end moved ahead by `by_ms`, and with it the steps after the healing; those just before it come earlier.
fn healed_sooner(plan: &Plan, by_ms: u64) -> Plan {
    let mut plan = plan.clone();
    let healed = plan.heal_ms;
    plan.heal_ms -= by_ms;
    plan.settle_ms -= by_ms;
    let steps = plan.clients.iter_mut().flat_map(|client| &mut client.script);
    let times = steps.map(|Step { at_ms, .. }| at_ms);
    let http = plan.http.iter_mut().flat_map(|client| &mut client.script);
    for at_ms in times.chain(http.map(|HttpStep { at_ms, .. }| at_ms)) {
        // A step of the storm stays one.
        *at_ms = if *at_ms >= healed { *at_ms - by_ms } else { (*at_ms).min(plan.heal_ms.saturating_sub(1)) };
    }
    plan
}

/// What makes a request simpler, each for itself.
const CALMER: [fn(&mut HttpOp); 4] = [
    |op| {
        if let HttpOp::Request { cancel, .. } = op {
            *cancel = None;
        }
    },
    |op| {
        if let HttpOp::Request { drop_body, .. } = op {
            *drop_body = false;
        }
    },
    |op| {
        if let HttpOp::Request { reply_after_ms, .. } = op {
            *reply_after_ms = 0;
        }
    },
    |op| {
        if let HttpOp::Request { bytes, .. } = op {
            *bytes = 0;
        }
    },
];

/// A fault this short is no longer worth a run.
const SHORT_ENOUGH_MS: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FaultKind, Preset, Work};

    /// A seed with three clients and faults of several kinds.
    fn rich() -> Plan {
        (0..500)
            .map(Plan::draw)
            .find(|plan| {
                let crashes = plan.faults.iter().any(|fault| fault.kind == FaultKind::Crash);
                let own = plan.faults.iter().any(|fault| fault.target == Target::Client(2));
                plan.clients.len() == 3 && crashes && own && plan.faults.len() >= 5
            })
            .expect("one seed in so many is rich")
    }

    fn has_crash(plan: &Plan) -> bool {
        plan.faults.iter().any(|fault| fault.kind == FaultKind::Crash)
    }

    fn requests(plan: &Plan) -> usize {
        let steps = plan.clients.iter().flat_map(|client| &client.script);
        steps.filter(|step| matches!(step.op, Op::Request { .. })).count()
    }

    #[test]
    fn what_has_nothing_to_do_with_the_failure_is_gone() {
        let plan = rich();
        let shrunk = shrink(&plan, 10_000, |plan| has_crash(plan) && requests(plan) >= 2);
        let small = shrunk.plan;
        assert!(!shrunk.stopped_early && shrunk.runs > 0);
        assert_eq!((small.clients.len(), small.faults.len(), requests(&small)), (1, 1, 2));
        assert_eq!(small.clients[0].script.len(), 3, "two requests and the end");
        assert_eq!((small.faults[0].length_ms(), small.clients[0].reader), (Some(0), Reader::Prompt));
        assert!(small.heal_ms <= plan.heal_ms && small.check().is_ok());
        let grace = |plan: &Plan| plan.settle_ms - plan.heal_ms;
        assert_eq!(grace(&small), grace(&plan), "the time to recover is not shortened");
    }

    #[test]
    fn of_http_clients_what_has_nothing_to_do_with_the_failure_is_gone_too() {
        let rich = |plan: &Plan| plan.http.len() == 2 && posts(plan) >= 5 && plan.http[1].origins.len() > 1;
        let drawn = (0..500).map(|seed| Plan::draw_for(Work::Both, Preset::Stormy, seed));
        let plan = drawn.into_iter().find(rich).expect("one seed in so many is rich");
        let shrunk = shrink(&plan, 10_000, |plan| posts(plan) >= 2);
        let small = shrunk.plan;
        assert!(!shrunk.stopped_early && small.check().is_ok());
        assert_eq!((small.hosts(), small.http.len(), small.faults.len()), (1, 1, 0));
        assert_eq!(small.http[0].script.len(), 3, "two requests and the end");
        let is_plain = |step: &HttpStep| match step.op {
            HttpOp::Request { bytes, reply_after_ms, drop_body, cancel, .. } => {
                (bytes, reply_after_ms, drop_body, cancel) == (0, 0, false, None)
            }
            _ => true,
        };
        assert!(small.http[0].script.iter().all(is_plain));
        assert!(small.heal_ms < plan.heal_ms, "the world heals sooner");
    }

    fn posts(plan: &Plan) -> usize {
        let steps = plan.http.iter().flat_map(|client| &client.script);
        steps.filter(|step| matches!(step.op, HttpOp::Request { post: true, .. })).count()
    }

    #[test]
    fn a_fault_follows_its_client_when_others_go() {
        let plan = rich();
        let (latency, own) = (plan.clients[2].latency_ms, |plan: &Plan, client| {
            plan.faults.iter().any(|fault| fault.target == Target::Client(client))
        });
        let fails = |plan: &Plan| {
            let last = plan.clients.len() - 1;
            plan.clients[last].latency_ms == latency && own(plan, last)
        };
        let small = shrink(&plan, 10_000, fails).plan;
        assert_eq!((small.clients.len(), small.faults.len()), (1, 1));
        assert_eq!(small.faults[0].target, Target::Client(0));
    }

    #[test]
    fn a_fault_is_as_short_as_the_failure_allows() {
        let mut plan = rich();
        plan.faults.retain(|fault| fault.kind == FaultKind::Crash);
        plan.faults[0].at = When::At(1000);
        plan.faults.truncate(1);
        let begins_ms = plan.faults[0].begins_ms().expect("it has a time");
        plan.faults[0].until = Until::ForMs(plan.heal_ms - begins_ms);
        let small =
            shrink(&plan, 10_000, |plan| plan.faults.iter().any(|fault| fault.length_ms() >= Some(70))).plan;
        assert_eq!(small.faults[0].length_ms(), Some(100));
    }

    #[test]
    fn every_candidate_is_a_valid_plan_and_the_runs_are_bounded() {
        let mut runs = 0;
        let shrunk = shrink(&rich(), 25, |plan| {
            runs += 1;
            assert_eq!(plan.check(), Ok(()));
            runs % 3 == 0
        });
        assert_eq!((runs, shrunk.runs, shrunk.stopped_early), (25, 25, true));
    }

    #[test]
    fn a_plan_of_which_everything_is_needed_stays_as_it_is() {
        let plan = rich();
        let shrunk = shrink(&plan, 10_000, |_| false);
        assert_eq!(shrunk.plan, plan);
    }
}

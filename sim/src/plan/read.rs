//! A plan from a file, with errors that name the line and the field.

use std::fmt;

use serde_json::Value;

use super::{Behaviour, FaultKind, Op, Plan, Target, Until, When};

/// The longest time a plan may name: 31 days.
const LONGEST_MS: u64 = 31 * 24 * 3_600_000;
/// The furthest a clock may jump: about a hundred years.
const FURTHEST_MS: u64 = 100 * 12 * LONGEST_MS;
/// The longest message a plan may send.
const SEND_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a plan can't be read or run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError {
    /// The line, counted from 1.
    pub line: usize,
    /// The field, with its path where that is known.
    pub field: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, field {}: {}", self.line, self.field, self.text)
    }
}

impl std::error::Error for PlanError {}

impl Plan {
    /// Reads a plan from JSON and checks it.
    ///
    /// # Errors
    ///
    /// Names the line and the field.
    pub fn from_json(json: &str) -> Result<Self, PlanError> {
        let plan = parse(json)?;
        let found =
            |(path, text): (String, String)| PlanError { line: line_of(json, &path), field: path, text };
        // Of the plan itself, by the names of its fields: what is checked is what would run.
        check_times(&serde_json::to_value(&plan).unwrap_or_default(), "", "").map_err(found)?;
        plan.check().map_err(found)?;
        Ok(plan)
    }

    /// The rules between fields. An error is a path and what is wrong there.
    pub(crate) fn check(&self) -> Result<(), (String, String)> {
        let rule = |holds: bool, path: &str, text: &str| {
            if holds { Ok(()) } else { Err((path.to_owned(), text.to_owned())) }
        };
        rule(self.version == Self::VERSION, "version", "must be 2, the only version there is")?;
        rule((1..=60_000).contains(&self.tick_ms), "tick_ms", "must lie between 1 and 60000")?;
        rule(self.push_every_ms >= 1, "push_every_ms", "must be at least 1")?;
        rule(self.settle_ms >= self.heal_ms, "settle_ms", "must not lie before heal_ms")?;
        rule(
            (1..=1024).contains(&self.hosts()),
            "clients",
            "must name 1 to 1024 clients, with those of http",
        )?;
        for (index, client) in self.http.iter().enumerate() {
            client.check().map_err(|(path, text)| (format!("http[{index}].{path}"), text))?;
        }
        for (index, client) in self.clients.iter().enumerate() {
            let path = format!("clients[{index}]");
            let moves = |bytes: Option<u64>, field: &str| {
                rule(bytes != Some(0), &format!("{path}.{field}"), "must be at least 1, or left out")
            };
            moves(client.bandwidth_bytes_per_s, "bandwidth_bytes_per_s")?;
            moves(client.window_bytes, "window_bytes")?;
            let validity = client.config.to_config("ws://exchange:9000/").validate();
            if let Err(error) = validity {
                return Err((format!("{path}.config"), error.to_string()));
            }
            let names = client.handler.topics_per_message >= 1;
            rule(names, &format!("{path}.handler.topics_per_message"), "must be at least 1")?;
            let sorted = client.script.is_sorted_by_key(|step| step.at_ms);
            rule(sorted, &format!("{path}.script"), "must be in order of at_ms")?;
            let ends = matches!(client.script.last().map(|step| &step.op), Some(Op::Close | Op::DropHandle));
            rule(ends, &format!("{path}.script"), "must end with close or drop_handle")?;
            for (step, op) in client.script.iter().map(|step| &step.op).enumerate() {
                check_op(op).map_err(|(field, text)| (format!("{path}.script[{step}].do.{field}"), text))?;
            }
        }
        for (index, fault) in self.faults.iter().enumerate() {
            let path = format!("faults[{index}]");
            let known = |client: usize| client < self.hosts();
            if let Target::Client(client) = fault.target {
                rule(known(client), &format!("{path}.target"), "names no client of this plan")?;
            }
            if let When::On(anchor) = fault.at {
                rule(known(anchor.client), &format!("{path}.at"), "names no client of this plan")?;
            }
            if let Some(begins_ms) = fault.begins_ms() {
                rule(begins_ms < self.heal_ms, &format!("{path}.at"), "must lie before heal_ms")?;
                let over = begins_ms.saturating_add(fault.length_ms().unwrap_or(0)) <= self.heal_ms;
                rule(over, &format!("{path}.until"), "must be over by heal_ms")?;
            }
            let forever = fault.until == Until::Never && !fault.kind.is_instant();
            let own = matches!(fault.target, Target::Client(_)) && !fault.kind.is_of_the_machine();
            rule(!forever || own, &format!("{path}.until"), "must end, unless it strikes one client alone")?;
            let of_http = |client: &super::HttpPlan| client.origins.iter().any(|origin| origin.tls);
            let tls = self.clients.iter().map(|client| client.tls).chain(self.http.iter().map(of_http));
            let secure = tls.enumerate().any(|(client, tls)| tls && fault.concerns(client));
            let strikes = secure || !matches!(fault.kind, FaultKind::Tls(_));
            rule(
                strikes,
                &format!("{path}.target"),
                "names no client with tls: true, which a tls fault needs",
            )?;
            check_kind(&fault.kind).map_err(|text| (format!("{path}.fault"), text.to_owned()))?;
        }
        Ok(())
    }
}

/// No time is longer than [`LONGEST_MS`]: no sum of a few of them overflows a clock.
fn check_times(value: &Value, path: &str, key: &str) -> Result<(), (String, String)> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            check_times(value, &path, name)
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| check_times(item, &format!("{path}[{index}]"), key)),
        Value::Number(number) if key == "at" || key.ends_with("_ms") => {
            let most = if key == "by_ms" { FURTHEST_MS } else { LONGEST_MS };
            let within = number.as_i64().is_some_and(|ms| ms.unsigned_abs() <= most);
            let too_long = || (path.to_owned(), format!("must be at most {most}"));
            within.then_some(()).ok_or_else(too_long)
        }
        _ => Ok(()),
    }
}

/// The bounds within which a step can be taken.
fn check_op(op: &Op) -> Result<(), (&'static str, String)> {
    match op {
        Op::Send { bytes, .. } if *bytes > SEND_BYTES_MAX => {
            Err(("send.bytes", format!("must be at most {SEND_BYTES_MAX}")))
        }
        Op::SubscribeMany { first_guard, topics }
            if u32::try_from(topics.len()).ok().and_then(|more| first_guard.checked_add(more)).is_none() =>
        {
            Err(("subscribe_many.first_guard", "must leave room for a guard a topic".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The bounds within which a fault means something.
fn check_kind(kind: &FaultKind) -> Result<(), &'static str> {
    let rule = |holds: bool, text| if holds { Ok(()) } else { Err(text) };
    match *kind {
        FaultKind::Dribble { bytes } | FaultKind::PartialWrites { bytes } => {
            rule(bytes >= 1, "must move at least 1 byte at a time")
        }
        FaultKind::Throttle { bytes_per_s } => rule(bytes_per_s >= 1, "must move at least 1 byte a second"),
        FaultKind::Corrupt { mask, .. } => rule(mask != 0, "must flip a bit: mask is not 0"),
        FaultKind::Refuse { status, .. } => {
            rule((300..600).contains(&status), "must refuse with a status from 300 to 599")
        }
        FaultKind::Misbehave(Behaviour::Slowloris { every_ms }) => {
            rule(every_ms >= 1, "must wait at least 1 ms between bytes")
        }
        FaultKind::Serve { nth, .. } => rule(nth >= 1, "must strike with each nth request: nth is not 0"),
        FaultKind::ClockSkew { ppm } => {
            rule((-500_000..=1_000_000).contains(&ppm), "must lie between half and twice the speed")
        }
        _ => Ok(()),
    }
}

/// The plan as it is written, its rules aside.
fn parse(json: &str) -> Result<Plan, PlanError> {
    let mut parser = serde_json::Deserializer::from_str(json);
    let plan = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let text = cause.to_string();
        let text = text.split(" at line ").next().unwrap_or_default().to_owned();
        // What is missing stands nowhere: the line is where its parent begins.
        let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match missing {
            Some(name) if path == "." => PlanError { line: 1, field: name.to_owned(), text },
            Some(name) => PlanError { line: line_of(json, &path), field: format!("{path}.{name}"), text },
            None => PlanError { line: cause.line(), field: path, text },
        }
    })?;
    parser.end().map_err(|error| PlanError {
        line: error.line(),
        field: "(none)".to_owned(),
        text: "something stands behind the plan".to_owned(),
    })?;
    Ok(plan)
}

/// The line on which the value at `path` begins, such as `faults[2].client`. Falls back to the nearest parent.
fn line_of(json: &str, path: &str) -> usize {
    let mut at = 0;
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse().unwrap_or(0)),
            None => (part, 0),
        };
        let Some(found) = json[at..].find(&format!("\"{name}\"")) else { break };
        at += found + name.len() + 2;
        if part.contains('[') {
            at = element(json, at, index).unwrap_or(at);
        }
    }
    1 + json[..at].matches('\n').count()
}

/// Where element `index` of the first array after `from` begins.
fn element(json: &str, from: usize, index: usize) -> Option<usize> {
    let start = from + json[from..].find('[')? + 1;
    let (mut depth, mut seen, mut text, mut escaped) = (0, 0, false, false);
    for (offset, byte) in json[start..].bytes().enumerate() {
        if depth == 0 && seen == index && !byte.is_ascii_whitespace() && byte != b',' {
            return Some(start + offset);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            _ if text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return None,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => seen += 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Preset, Work},
        *,
    };

    #[test]
    fn a_drawn_plan_survives_its_json_and_its_own_rules() {
        for seed in 0..300 {
            let plan = Plan::draw(seed);
            let read =
                Plan::from_json(&plan.to_json()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(read, plan, "seed {seed}");
        }
    }

    #[test]
    fn a_malformed_plan_is_answered_with_line_and_field() {
        let json = Plan::draw(1).to_json();
        let error = |from: &str, to: &str| {
            let broken = json.replacen(from, to, 1);
            assert_ne!(broken, json, "{from} is not in the plan");
            Plan::from_json(&broken).expect_err("a broken plan was read").to_string()
        };
        let cases = [
            error("\"version\": 2", "\"version\": 1"),
            error("\"tick_ms\": ", "\"tick_ms\": -"),
            error("\"heal_ms\"", "\"heel_ms\""),
            error("\"latency_ms\": ", "\"latency_ms\": \"x\", \"y\": "),
            error("\"pong_timeout_ms\": ", "\"pong_timeout_ms\": 0, \"z\": "),
        ];
        let fields = ["version", "tick_ms", "heel_ms", "clients[0].latency_ms", "clients[0].config.z"];
        for (case, field) in cases.iter().zip(fields) {
            assert!(case.contains(&format!("field {field}:")), "{case}");
            assert!(case.starts_with("line "), "{case}");
        }
        let behind = Plan::from_json(&format!("{json} 1")).expect_err("there is more");
        assert_eq!(behind.text, "something stands behind the plan");
    }

    #[test]
    fn what_is_missing_is_named_with_its_path_and_the_line_its_parent_begins_on() {
        let plan = Plan::draw_for(Work::Http, Preset::Calm, 3);
        let mut whole: Value = serde_json::from_str(&plan.to_json()).expect("a plan is JSON");
        let origin = whole.pointer_mut("/http/0/origins/0").and_then(Value::as_object_mut);
        origin.expect("a client asks a host").remove("tls");
        let json = serde_json::to_string_pretty(&whole).expect("it can be written");
        let error = Plan::from_json(&json).expect_err("it is not whole");
        assert_eq!(error.field, "http[0].origins[0].tls");
        let lines: Vec<&str> = json.lines().collect();
        assert!(lines[error.line - 2].contains("\"origins\""), "{error}");
        let mut whole: Value = serde_json::from_str(&plan.to_json()).expect("a plan is JSON");
        whole.as_object_mut().expect("a plan is an object").remove("seed");
        let error = Plan::from_json(&whole.to_string()).expect_err("it is not whole");
        assert_eq!((error.field.as_str(), error.line), ("seed", 1));
    }

    /// Every field of a plan that is a number in turn, far too large.
    #[test]
    fn a_number_beyond_all_measure_is_refused_or_run_and_never_panics() {
        fn each(value: &mut Value, path: &str, try_it: &mut impl FnMut(&str, &dyn Fn(&mut Value))) {
            match value {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        each(value, &format!("{path}/{name}"), try_it);
                    }
                }
                Value::Array(items) => {
                    for (index, item) in items.iter_mut().enumerate() {
                        each(item, &format!("{path}/{index}"), try_it);
                    }
                }
                Value::Number(_) => {
                    for huge in [u64::MAX, u64::from(u32::MAX), 65_535] {
                        let put = move |place: &mut Value| *place = huge.into();
                        try_it(path, &put);
                    }
                }
                _ => {}
            }
        }
        let mut done = std::collections::BTreeSet::new();
        let http = |seed| Plan::draw_for(Work::Http, Preset::Hostile, seed);
        for plan in [Plan::draw(3), Plan::draw(11), http(3), http(11)] {
            let whole: Value = serde_json::from_str(&plan.to_json()).expect("a plan is JSON");
            each(&mut whole.clone(), "", &mut |path, put| {
                let (parent, key) = path.rsplit_once('/').unwrap_or_default();
                let parent = parent.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '/');
                let mut broken = whole.clone();
                put(broken.pointer_mut(path).expect("a path of the same plan"));
                // One element of a list stands for all.
                let parent = parent.rsplit('/').next().unwrap_or_default().to_owned();
                if !done.insert((parent, key.to_owned(), broken.pointer(path).map(Value::to_string))) {
                    return;
                }
                let is_long = path.ends_with("_ms") || path.ends_with("/at");
                match Plan::from_json(&broken.to_string()) {
                    Err(error) => assert!(!error.field.is_empty() && error.line >= 1, "{path}: {error}"),
                    // Long times are for runs that are meant to be long.
                    Ok(_) if is_long => {}
                    Ok(plan) => {
                        // A run catches its own panics, and says so.
                        let report = crate::Simulation::of(plan).backend(crate::Backend::Memory).run();
                        assert_eq!(report.failure(), None, "{path}");
                    }
                }
            });
        }
    }

    #[test]
    fn what_no_run_could_do_is_refused_by_its_field() {
        let field = |change: &dyn Fn(&mut Plan)| {
            let mut plan = Plan::draw(3);
            change(&mut plan);
            Plan::from_json(&plan.to_json()).expect_err("it was taken").field
        };
        let first = |op: Op| {
            move |plan: &mut Plan| {
                plan.clients[0].script.insert(0, super::super::Step { at_ms: 0, op: op.clone() })
            }
        };
        let huge = Op::Send { label: 1, confirmed: false, bytes: 1_000_000_000_000_000_000, cancel: None };
        assert_eq!(field(&first(huge)), "clients[0].script[0].do.send.bytes");
        let many = Op::SubscribeMany { first_guard: u32::MAX, topics: vec!["a".into(), "b".into()] };
        assert_eq!(field(&first(many)), "clients[0].script[0].do.subscribe_many.first_guard");
        let again = |plan: &mut Plan| {
            *plan = Plan::draw_for(Work::Http, Preset::Calm, 3);
            let first = plan.http[0].script[0].clone();
            plan.http[0].script.insert(0, first);
        };
        assert_eq!(field(&again), "http[0].script[1].do.request.label");
        let plain = |plan: &mut Plan| {
            plan.clients.iter_mut().for_each(|client| client.tls = false);
            let kind = FaultKind::Tls(super::super::TlsFault::BadCertificate);
            let fault =
                super::super::Fault { at: When::At(0), until: Until::Heal, target: Target::All, kind };
            plan.faults = vec![fault];
        };
        assert_eq!(field(&plain), "faults[0].target");
        assert_eq!(field(&|plan: &mut Plan| plan.push_every_ms = u64::MAX), "push_every_ms");
    }

    #[test]
    fn a_rule_between_fields_names_the_line_of_its_value() {
        let mut plan = Plan::draw(3);
        plan.faults.push(super::super::Fault {
            at: When::At(0),
            until: Until::ForMs(10),
            target: Target::Client(9),
            kind: FaultKind::Partition,
        });
        let index = plan.faults.len() - 1;
        let json = plan.to_json();
        let error = Plan::from_json(&json).expect_err("a client that is not there was taken");
        assert_eq!(error.field, format!("faults[{index}].target"));
        assert!(json.lines().nth(error.line - 1).is_some_and(|line| line.contains("\"target\"")), "{error}");
    }
}

//! What a red run leaves: its plan, the smallest plan that is red for the same reason, and a test to paste.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

use super::{
    args::{One, Source},
    failure::{Cause, write_file},
};
use crate::{Backend, Plan, Report, shrink};

/// Saves the plan of a red run, shrinks it unless told not to, and prints what to do with it.
pub(super) fn after(report: &Report, cause: &Cause, task: &One) {
    println!("cause  {cause}");
    let name = match &task.source {
        Source::Seed(seed) => format!("seed-{seed}"),
        Source::File(path) => Path::new(path)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .trim_end_matches(".min")
            .to_owned(),
    };
    // A plan that came from a file is in one.
    if matches!(task.source, Source::Seed(_)) {
        save("plan", &format!("{}/{name}.json", task.out), report.plan());
    }
    save_page(&format!("{}/{name}.html", task.out), report);
    if !task.shrink {
        return;
    }
    let small = smallest(report.plan(), cause, task);
    let path = format!("{}/{name}.min.json", task.out);
    save("small", &path, &small);
    save_page(&format!("{}/{name}.min.html", task.out), &task.setup.simulation(small).run());
    println!("replay cargo sim PLAN={path}{}", task.setup);
    println!("\nTo keep it, save the small plan and paste the test:\n");
    let kept = format!("{name}-{}", cause.oracle.to_lowercase());
    println!("  cp {path} sim/plans/{kept}.json\n");
    print!("{}", test(&kept, task.setup.backend()));
}

fn save(what: &str, path: &str, plan: &Plan) {
    match write_file(Path::new(path), &plan.to_json()) {
        Ok(()) => println!("{what:<6} {path}"),
        Err(text) => eprintln!("error: the plan is lost: {text}"),
    }
}

fn save_page(path: &str, report: &Report) {
    match write_file(Path::new(path), &report.page()) {
        Ok(()) => println!("page   {path}"),
        Err(text) => eprintln!("error: the page is lost: {text}"),
    }
}

fn smallest(plan: &Plan, cause: &Cause, task: &One) -> Plan {
    let terminal = io::stderr().is_terminal();
    let mut runs = 0;
    let mut size = Size::of(plan);
    let show = |runs: u32, size: Size| {
        let (begin, end) = if terminal { ("\r\x1b[2K", "") } else { ("", "\n") };
        // Whoever closed stderr doesn't want to know.
        let _ = write!(io::stderr(), "{begin}shrinking: {runs} of at most {RUNS_MAX} runs, {size}{end}");
    };
    show(runs, size);
    let shrunk = shrink::shrink(plan, RUNS_MAX, |candidate| {
        let fails = cause.is_in(&task.setup.simulation(candidate.clone()).run());
        runs += 1;
        if fails {
            size = Size::of(candidate);
        }
        if terminal || runs.is_multiple_of(RUNS_A_LINE) {
            show(runs, size);
        }
        fails
    });
    if terminal {
        let _ = write!(io::stderr(), "\r\x1b[2K");
    }
    let early = if shrunk.stopped_early { ", and it may get smaller" } else { "" };
    println!("shrunk from {} to {} in {} runs{early}", Size::of(plan), Size::of(&shrunk.plan), shrunk.runs);
    shrunk.plan
}

/// How large a plan is, in words.
#[derive(Clone, Copy)]
struct Size {
    clients: usize,
    faults: usize,
    steps: usize,
    end_ms: u64,
}

impl Size {
    fn of(plan: &Plan) -> Self {
        let steps: usize = plan.clients.iter().map(|client| client.script.len()).sum();
        let steps = steps + plan.http.iter().map(|client| client.script.len()).sum::<usize>();
        Self {
            clients: plan.clients.len() + plan.http.len(),
            faults: plan.faults.len(),
            steps,
            end_ms: plan.end_ms(),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { clients, faults, steps, end_ms } = self;
        write!(f, "{clients} client(s), {faults} fault(s), {steps} step(s), {:.1} s", *end_ms as f64 / 1000.0)
    }
}

/// A test that reads the plan and asserts that it is green.
fn test(plan: &str, backend: Backend) -> String {
    let name = plan.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_");
    let backend = match backend {
        Backend::Turmoil => "",
        Backend::Memory => ".backend(hpx_sim::Backend::Memory)",
    };
    format!(
        "#[test]\n\
         fn {name}_stays_green() {{\n    \
             let json = include_str!(\"../plans/{plan}.json\");\n    \
             let plan = hpx_sim::Plan::from_json(json).expect(\"the plan is well formed\");\n    \
             let report = hpx_sim::Simulation::of(plan){backend}.run();\n    \
             assert!(report.is_green(), \"{{report}}\");\n\
         }}\n"
    )
}

/// A run takes 10 to 200 ms: a minute at most, and a plan of a seed is small after some two hundred.
const RUNS_MAX: u32 = 600;
/// Where nobody watches.
const RUNS_A_LINE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_to_paste_reads_the_plan_and_asserts_that_it_is_green() {
        let expected = r#"#[test]
fn seed_7_ws_11_stays_green() {
    let json = include_str!("../plans/seed-7-ws-11.json");
    let plan = hpx_sim::Plan::from_json(json).expect("the plan is well formed");
    let report = hpx_sim::Simulation::of(plan).backend(hpx_sim::Backend::Memory).run();
    assert!(report.is_green(), "{report}");
}
"#;
        assert_eq!(test("seed-7-ws-11", Backend::Memory), expected);
        let on_turmoil = expected.replace(".backend(hpx_sim::Backend::Memory)", "");
        assert_eq!(test("seed-7-ws-11", Backend::Turmoil), on_turmoil);
    }
}

//! The differential: both backends on the plans they have in common, seed by seed.

use std::sync::atomic::AtomicBool;

use super::{args::Differential, failure::write_file};
use crate::{
    Backend,
    differential::{Summary, common},
};

/// Runs the seeds, prints those on which the backends differ and a line at the end. Returns the exit code.
pub(super) fn differential(task: &Differential) -> u8 {
    let never = AtomicBool::new(false);
    let both = |seed| {
        let plan = common(task.setup.draw(seed));
        let run = |backend| Summary::of(&task.setup.simulation(plan.clone()).backend(backend).run());
        let differences = run(Backend::Turmoil).differences(&run(Backend::Memory));
        (plan.faults.len(), differences, plan)
    };
    let (mut equal, mut different, mut faults) = (0, 0, 0);
    super::pool::in_order(task.seeds.clone(), task.jobs, &never, both, |seed, (count, differences, plan)| {
        faults += count;
        if differences.is_empty() {
            equal += 1;
            return;
        }
        different += 1;
        println!("seed {seed:>6}  DIFFERS, on turmoil and in memory");
        for difference in differences {
            println!("  {difference}");
        }
        let path = std::path::PathBuf::from(&task.out).join(format!("seed-{seed}.common.json"));
        match write_file(&path, &plan.to_json()) {
            Ok(()) => println!("  plan: {}", path.display()),
            Err(text) => println!("  plan: not written, {text}"),
        }
    });
    println!(
        "\n{equal} seeds come to the same on both backends, {different} differ; {faults} faults planned"
    );
    println!("{}", if different == 0 { "GREEN" } else { "RED" });
    u8::from(different > 0)
}

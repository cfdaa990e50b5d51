//! What a red run leaves: its plan, and later the smallest plan that is red for the same reason.

use super::{
    args::{One, Source},
    failure::{Cause, write_file},
};
use crate::Report;

/// Saves the plan of a red run.
pub(super) fn after(report: &Report, cause: Cause, task: &One) {
    println!("cause  {cause}");
    if let Source::Seed(seed) = task.source {
        let path = std::path::Path::new(&task.out).join(format!("seed-{seed}.json"));
        match write_file(&path, &report.plan().to_json()) {
            Ok(()) => println!("plan   {}", path.display()),
            Err(text) => eprintln!("error: the plan is lost: {text}"),
        }
    }
}

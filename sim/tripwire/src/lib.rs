//! Stands between a simulated run and its C library: every read of entropy or wall time on the run's thread is reported with
//! its backtrace (*trip*), or fed from the seed (*supply*).
//!
//! A program that links this has its `getrandom`, `syscall`, `clock_gettime`, `gettimeofday` and `time`; a thread that is in
//! no mode is passed on to the C library's own.
#![cfg(target_os = "linux")]

pub mod allow;
pub mod cli;
mod interpose;

use std::sync::{Arc, Mutex, PoisonError};

use hpx_sim::{Report, Simulation};

pub use self::interpose::Read;

/// Runs a simulation, and gives back what its thread has read beside.
pub fn trip(simulation: Simulation) -> (Report, Vec<Read>) {
    let reads: Arc<Mutex<Vec<Read>>> = Arc::default();
    let found = Arc::clone(&reads);
    let after = move |_| found.lock().unwrap_or_else(PoisonError::into_inner).extend(interpose::off());
    let report = simulation.around(|_| interpose::trip(), after).run();
    let reads = std::mem::take(&mut *reads.lock().unwrap_or_else(PoisonError::into_inner));
    (report, reads)
}

/// Runs a simulation with entropy and wall time fed from its seed: its byte digest is that of any such run.
pub fn supply(simulation: Simulation) -> Report {
    simulation.around(interpose::supply, |_| drop(interpose::off())).byte_digest().run()
}

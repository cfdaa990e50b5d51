//! Which core a thread runs on, and how long it ran: on Linux; elsewhere nothing is bound and no time is known.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

/// Binds the calling thread to one core, by the `taskset` program where there is one. Threads it starts inherit that.
pub(crate) fn bind(core: usize) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let Some(thread) = thread.as_ref().and_then(|path| path.file_name()) else { return };
    if core < cores {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", "--pid", &core.to_string()]).arg(thread);
        // Unbound is noisier, not wrong.
        let _ = taskset.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// Processor time of the calling thread so far: unlike the clock, it doesn't count what else runs on the machine.
pub(crate) fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

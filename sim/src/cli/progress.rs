//! How far it is: a bar that is drawn anew where somebody watches, a line now and then in a log.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Progress on stderr.
pub(super) struct Progress {
    total: u64,
    began: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    pub(super) fn start(total: u64) -> Self {
        let now = Instant::now();
        let progress = Self { total, began: now, shown: now, terminal: io::stderr().is_terminal() };
        progress.show(0, 0);
        progress
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// So many are done, so many of them red.
    pub(super) fn step(&mut self, done: u64, red: u64) {
        let pause = if self.terminal { PAUSE_TERMINAL } else { PAUSE_LOG };
        if self.shown.elapsed() >= pause {
            self.shown = Instant::now();
            self.show(done, red);
        }
    }

    fn show(&self, done: u64, red: u64) {
        let line = line(done, self.total, self.elapsed(), red);
        let mut stderr = io::stderr().lock();
        // Whoever closed stderr doesn't want to know.
        let _ = if self.terminal {
            write!(stderr, "\r\x1b[2K{} {line}", bar(done, self.total)).and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    /// Makes room for other text, which stays.
    pub(super) fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(done: u64, total: u64, elapsed: Duration, red: u64) -> String {
    let seconds = elapsed.as_secs_f64();
    let left = if done == 0 {
        "-".to_owned()
    } else {
        let left = (seconds * total.saturating_sub(done) as f64 / done as f64).round() as u64;
        format!("{}:{:02}:{:02}", left / 3600, left / 60 % 60, left % 60)
    };
    let rate = if seconds > 0.0 { done as f64 * 60.0 / seconds } else { 0.0 };
    format!("{done}/{total} seeds, {rate:.0} a minute, {left} left, {red} red")
}

fn bar(done: u64, total: u64) -> String {
    let filled = (done * BAR_WIDTH).checked_div(total).unwrap_or(BAR_WIDTH).min(BAR_WIDTH) as usize;
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR_WIDTH as usize - filled))
}

const BAR_WIDTH: u64 = 30;
/// Ten pictures a second look alive.
const PAUSE_TERMINAL: Duration = Duration::from_millis(100);
/// A log of ten minutes gets sixty lines.
const PAUSE_LOG: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_rate_and_what_is_left() {
        let line = |done, seconds| line(done, 10_000, Duration::from_secs(seconds), 2);
        assert_eq!(line(0, 0), "0/10000 seeds, 0 a minute, - left, 2 red");
        assert_eq!(line(2_500, 3_600), "2500/10000 seeds, 42 a minute, 3:00:00 left, 2 red");
        assert_eq!(line(10_000, 60), "10000/10000 seeds, 10000 a minute, 0:00:00 left, 2 red");
    }

    #[test]
    fn a_bar_fills_from_empty_to_full() {
        assert_eq!(bar(0, 9), format!("[{}]", "-".repeat(30)));
        assert_eq!(bar(3, 9), format!("[{}{}]", "#".repeat(10), "-".repeat(20)));
        assert_eq!(bar(9, 9), format!("[{}]", "#".repeat(30)));
        assert_eq!(bar(0, 0), bar(9, 9));
    }
}

//! Futures of a client's process: they stand still while it does, and are stopped when they run hot.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use hpx_transport::env::Timestamp;

use super::SimEnv;
use crate::trace::{TaskLog, What};

/// A future of the client's. It is not polled while the process is paused, and is woken whenever the world changes for it.
pub(crate) struct OfProcess<F> {
    env: SimEnv,
    number: u64,
    future: F,
    /// The trace as it was at the last poll, and how often it was polled since without a change.
    seen: (Timestamp, u64),
    polls: u32,
}

impl<F> OfProcess<F> {
    pub(super) fn new(env: SimEnv, future: F) -> Self {
        let number = env.registry().next_future();
        Self { env, number, future, seen: (Timestamp::ZERO, 0), polls: 0 }
    }
}

impl<F: Future + Unpin> Future for OfProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let paused = {
            let mut registry = this.env.registry();
            registry.wakers.insert(this.number, cx.waker().clone());
            registry.running = this.number;
            registry.conditions.paused
        };
        if paused || this.spins() {
            return Poll::Pending;
        }
        let poll = Pin::new(&mut this.future).poll(cx);
        this.env.audit();
        poll
    }
}

impl<F> OfProcess<F> {
    /// True if it was polled without end in one instant and nothing came of it: whoever wakes itself stops the time.
    fn spins(&mut self) -> bool {
        let written = self.env.inner.recorder.written();
        if written != self.seen.1 {
            (self.seen.1, self.polls) = (written, 0);
            return false;
        }
        self.polls += 1;
        // Now and then is enough, and the clock is what a poll costs.
        if self.polls.is_multiple_of(POLLS_MAX / 10) {
            let now = self.env.world_now();
            if now != self.seen.0 {
                (self.seen.0, self.polls) = (now, 0);
                return false;
            }
        }
        if self.polls == POLLS_MAX {
            self.env.record(What::Task(TaskLog::Spun { polls: self.polls }));
            self.seen.1 = self.env.inner.recorder.written();
        }
        self.polls >= POLLS_MAX
    }
}

/// Polls of one future in one instant without anything to show for them (WS-13). A dribble takes two a byte, and shows it.
const POLLS_MAX: u32 = 1000;

impl<F> Drop for OfProcess<F> {
    fn drop(&mut self) {
        let mut registry = self.env.registry();
        registry.wakers.remove(&self.number);
        registry.opened.remove(&self.number);
    }
}

//! Futures of a client's process: they stand still while it does.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use super::SimEnv;

/// A future of the client's. It is not polled while the process is paused, and is woken whenever the world changes for it.
pub(crate) struct OfProcess<F> {
    env: SimEnv,
    number: u64,
    future: F,
}

impl<F> OfProcess<F> {
    pub(super) fn new(env: SimEnv, future: F) -> Self {
        let number = env.registry().next_future();
        Self { env, number, future }
    }
}

impl<F: Future + Unpin> Future for OfProcess<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let paused = {
            let mut registry = this.env.registry();
            registry.wakers.insert(this.number, cx.waker().clone());
            registry.conditions.paused
        };
        if paused {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(cx)
    }
}

impl<F> Drop for OfProcess<F> {
    fn drop(&mut self) {
        self.env.registry().wakers.remove(&self.number);
    }
}

//! One deadline for everything that is idle.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use super::{Connection, Inner, PoolKey};
use crate::{
    env::{Clock, Timer, Timestamp},
    sync::{Ordering, Weak},
};

/// When it is to look where nothing is idle.
pub(super) const NEVER: u64 = u64::MAX;

/// Closes what has been idle for too long, when it is time. While nothing is idle it has no timer; it ends with the pool.
pub(crate) struct Reaper<K: PoolKey, C: Connection> {
    inner: Weak<Inner<K, C>>,
}

impl<K: PoolKey, C: Connection> Reaper<K, C> {
    pub(super) fn new(inner: Weak<Inner<K, C>>) -> Self {
        Self { inner }
    }

    /// Runs until the pool is closed.
    pub(crate) async fn run<E: Clock>(self, clock: E) {
        let mut timer = pin!(clock.timer());
        poll_fn(|cx| self.poll(cx, &clock, timer.as_mut())).await;
    }

    fn poll<E: Clock>(&self, cx: &mut Context<'_>, clock: &E, mut timer: Pin<&mut E::Timer>) -> Poll<()> {
        // Order matters: the waker first. Whoever asks for an earlier look, or closes the pool, after the look below finds it.
        let Some(inner) = self.inner.upgrade() else { return Poll::Ready(()) };
        let waker = cx.waker().clone();
        let old = inner.reaper.lock().replace(waker);
        drop(old);
        // Bounded: a time that has come is replaced by a later one.
        loop {
            if inner.is_closed() {
                return Poll::Ready(());
            }
            let at = inner.reaps_at.load(Ordering::SeqCst);
            if at == NEVER {
                return Poll::Pending;
            }
            let now = clock.now();
            if now.as_nanos() >= at {
                // Order matters: what becomes idle during the look asks for the next, and the earliest is kept.
                inner.reaps_at.store(NEVER, Ordering::SeqCst);
                if let Some(next) = inner.expire(now) {
                    inner.reaps_at.fetch_min(next.as_nanos(), Ordering::SeqCst);
                }
                continue;
            }
            timer.as_mut().arm(Timestamp::from_nanos(at));
            if timer.as_mut().poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

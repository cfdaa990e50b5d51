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
        let mut deadline = None;
        poll_fn(|cx| self.poll(cx, &clock, timer.as_mut(), &mut deadline)).await;
    }

    fn poll<E: Clock>(
        &self,
        cx: &mut Context<'_>,
        clock: &E,
        mut timer: Pin<&mut E::Timer>,
        deadline: &mut Option<Timestamp>,
    ) -> Poll<()> {
        // Order matters: the waker first. Whoever makes something idle, or closes the pool, after the look below finds it.
        let Some(inner) = self.inner.upgrade() else { return Poll::Ready(()) };
        let old = inner.reaper.lock().replace(cx.waker().clone());
        drop(old);
        // Bounded: a deadline that has come is replaced by a later one.
        loop {
            if inner.is_closed() {
                return Poll::Ready(());
            }
            let now = clock.now();
            if deadline.is_none_or(|at| now >= at) {
                inner.reaper_sleeps.store(true, Ordering::SeqCst);
                *deadline = inner.expire(now);
                if deadline.is_some() {
                    inner.reaper_sleeps.store(false, Ordering::SeqCst);
                }
            }
            let Some(at) = *deadline else { return Poll::Pending };
            timer.as_mut().arm(at);
            if timer.as_mut().poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

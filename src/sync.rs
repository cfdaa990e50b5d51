//! Locks and atomics: parking_lot's and the standard library's in production, loom's under `--cfg hpx_loom`.
//!
//! What is shared between threads is written against this module, so that loom runs the very code that ships. A lock has no
//! poison: nothing that can panic runs under one. No lock is held across an await, or while foreign code runs (wakers,
//! `Drop` of what users put in, connectors).

#[cfg(not(hpx_loom))]
pub(crate) use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(not(hpx_loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(hpx_loom)]
pub(crate) use self::modelled::{Mutex, MutexGuard};
#[cfg(hpx_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(hpx_loom)]
pub(crate) use std::sync::{Arc, Weak};

/// Something with a cache line, and its neighbour that the processor fetches with it, to itself.
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// loom's lock with the signature of parking_lot's.
#[cfg(hpx_loom)]
mod modelled {
    pub(crate) use loom::sync::MutexGuard;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

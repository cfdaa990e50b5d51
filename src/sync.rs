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
pub(crate) use self::modelled::Mutex;
#[cfg(hpx_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
#[cfg(hpx_loom)]
pub(crate) use std::sync::{Arc, Weak};

/// A number for the calling thread: another for each until they wrap around. For what threads keep apart, and may share.
#[cfg(not(hpx_loom))]
pub(crate) fn thread_number() -> usize {
    // A thread that is about to end has none any more.
    NUMBER.try_with(std::cell::Cell::get).unwrap_or(0)
}

/// Makes the calling thread pass for another.
#[cfg(test)]
pub(crate) fn pass_for_thread(number: usize) {
    NUMBER.with(|own| own.set(number));
}

#[cfg(not(hpx_loom))]
static NEXT_NUMBER: AtomicUsize = AtomicUsize::new(0);

#[cfg(not(hpx_loom))]
thread_local! {
    static NUMBER: std::cell::Cell<usize> =
        std::cell::Cell::new(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed));
}

/// The same in a model: zero, but for threads that [pass for another](pass_for_thread). What loom itself calls them is another
/// each time.
#[cfg(hpx_loom)]
pub(crate) fn thread_number() -> usize {
    NUMBER.with(std::cell::Cell::get)
}

#[cfg(hpx_loom)]
loom::thread_local! {
    static NUMBER: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

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

//! A place at hand for each thread, in which the connection lies that the thread gave back last: whoever takes and gives back
//! without a rival touches nothing that another processor has touched.
//!
//! A seat is lent by the shard, under its lock, and counts as an idle connection there whether one lies in it or not: no limit is
//! exceeded. Before the shard looks at what is idle it calls the seats in, so what lies in them is hidden from nobody. The order of
//! locks is shard, then seat; who takes and gives back holds the seat's alone.

use super::shard::{Reference, Stored};
use crate::sync::{self, Mutex, Padded};

/// The seats of one host.
pub(super) struct Seats<C, H> {
    seats: Box<[OwnLine<C, H>]>,
}

type OwnLine<C, H> = Padded<Mutex<Seat<C, H>>>;

struct Seat<C, H> {
    /// The epoch of the connections it is lent for. One that isn't lent stays empty.
    lent: Option<u64>,
    stored: Option<Box<Stored<C, H>>>,
}

/// What became of a connection that the shard put on a seat.
pub(super) enum Seated<C, H> {
    /// The seat is lent from now on.
    Lent,
    /// It was, and was empty.
    Filled,
    /// It was, and another lay there.
    InPlaceOf(Box<Stored<C, H>>),
}

impl<C, H: Reference> Seats<C, H> {
    pub(super) fn new() -> Self {
        let seat = || Padded(Mutex::new(Seat { lent: None, stored: None }));
        Self { seats: (0..SEATS).map(|_| seat()).collect() }
    }

    /// The number of the calling thread's.
    pub(super) fn own() -> usize {
        sync::thread_number() % SEATS
    }

    /// What lies on a seat, if it passes.
    pub(super) fn take(
        &self,
        seat: usize,
        passes: impl FnOnce(&Stored<C, H>) -> bool,
    ) -> Option<Box<Stored<C, H>>> {
        self.seats[seat].0.lock().stored.take_if(|stored| passes(stored))
    }

    /// Lays a connection on a seat, if that is lent for the likes of it and empty; else gives it back.
    pub(super) fn put(&self, seat: usize, stored: Box<Stored<C, H>>) -> Option<Box<Stored<C, H>>> {
        let mut seat = self.seats[seat].0.lock();
        // Whoever ends a socket says so before it calls the seats in: what is laid down unknowingly is found.
        if seat.lent != Some(stored.epoch) || seat.stored.is_some() || stored.host.is_gone() {
            return Some(stored);
        }
        seat.stored = Some(stored);
        None
    }

    /// The same by the shard, which lends the seat for it if need be.
    pub(super) fn lend(&self, seat: usize, stored: Box<Stored<C, H>>) -> Seated<C, H> {
        let mut seat = self.seats[seat].0.lock();
        let was_lent = seat.lent.replace(stored.epoch).is_some();
        match seat.stored.replace(stored) {
            Some(other) => Seated::InPlaceOf(other),
            None if was_lent => Seated::Filled,
            None => Seated::Lent,
        }
    }

    /// Ends the loan of a seat. What lay there.
    pub(super) fn call_in(&self, seat: usize) -> Option<Box<Stored<C, H>>> {
        let mut seat = self.seats[seat].0.lock();
        seat.lent = None;
        seat.stored.take()
    }

    /// True if a connection lies there.
    pub(super) fn is_taken(&self, seat: usize) -> bool {
        self.seats[seat].0.lock().stored.is_some()
    }
}

/// A set of seats.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lent(u32);

impl Lent {
    pub(super) fn insert(&mut self, seat: usize) {
        self.0 |= 1 << seat;
    }

    pub(super) fn contains(self, seat: usize) -> bool {
        self.0 & (1 << seat) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..SEATS).filter(move |seat| self.contains(*seat))
    }
}

/// Of each host: threads that share one take turns. In a model each further one multiplies what is to be tried.
const SEATS: usize = if cfg!(hpx_loom) { 2 } else { 16 };

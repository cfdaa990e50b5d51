//! Where callers wait: a slot with a generation. Answering takes the waiter, so twice is impossible; dropping the future
//! frees the slot and its capacity at once, and what is still on its way for the old generation finds nobody.

use std::task::Waker;

use crate::{
    error::TransportResult,
    websocket::session::port::{INDEX_MASK, Key, Reply},
};

/// The slots of one connection. Bounded by its callers: `max_pending_requests` and the queue of sends.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    requests: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Free,
    Waiting { waker: Waker, request: bool },
    Done(TransportResult<Reply>),
}

/// What a waiter finds.
pub(super) enum Look {
    Pending,
    /// Pending, and somebody else than the one who looks would be woken.
    OtherWaker,
    Done(TransportResult<Reply>),
}

impl Slots {
    /// Requests that wait for their reply.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    /// True if no index is left.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= INDEX_MASK as usize
    }

    pub(super) fn insert(&mut self, waker: Waker, request: bool) -> Key {
        let state = State::Waiting { waker, request };
        self.requests += usize::from(request);
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.generation = Key::next_generation(slot.generation);
                slot.state = state;
                Key { index, generation: slot.generation }
            }
            None => {
                // Bounded by the callers, whose limits fit 20 bits.
                let index = self.slots.len() as u32;
                self.slots.push(Slot { generation: 1, state });
                Key { index, generation: 1 }
            }
        }
    }

    /// True while the caller waits.
    pub(super) fn is_waiting(&self, key: Key) -> bool {
        self.slots.get(key.index as usize).is_some_and(|slot| {
            slot.generation == key.generation && matches!(slot.state, State::Waiting { .. })
        })
    }

    /// Leaves the answer for the caller. Gives back whom to wake, or the answer if nobody waits.
    pub(super) fn answer(
        &mut self,
        key: Key,
        answer: TransportResult<Reply>,
    ) -> Result<Waker, TransportResult<Reply>> {
        if !self.is_waiting(key) {
            return Err(answer);
        }
        let slot = &mut self.slots[key.index as usize];
        match std::mem::replace(&mut slot.state, State::Done(answer)) {
            State::Waiting { waker, request } => {
                self.requests -= usize::from(request);
                Ok(waker)
            }
            // `is_waiting` has just said otherwise.
            State::Free | State::Done(_) => Ok(Waker::noop().clone()),
        }
    }

    /// Looks for the answer. If there is none yet, says whether `waker` is the one that will be woken.
    pub(super) fn look(&mut self, key: Key, waker: &Waker) -> Look {
        let slot = &mut self.slots[key.index as usize];
        debug_assert_eq!(slot.generation, key.generation);
        match &slot.state {
            State::Waiting { waker: present, .. } if present.will_wake(waker) => Look::Pending,
            State::Waiting { .. } => Look::OtherWaker,
            State::Done(_) | State::Free => self.take(key),
        }
    }

    /// Looks once more, and swaps in `waker` if there is no answer yet.
    pub(super) fn set_waker(&mut self, key: Key, waker: &mut Waker) -> Look {
        match &mut self.slots[key.index as usize].state {
            State::Waiting { waker: present, .. } => {
                std::mem::swap(present, waker);
                Look::Pending
            }
            State::Done(_) | State::Free => self.take(key),
        }
    }

    fn take(&mut self, key: Key) -> Look {
        match std::mem::replace(&mut self.slots[key.index as usize].state, State::Free) {
            State::Done(answer) => {
                self.free.push(key.index);
                Look::Done(answer)
            }
            State::Free | State::Waiting { .. } => Look::Pending,
        }
    }

    /// The caller is gone. Gives back what the slot held, to be dropped outside the lock.
    pub(super) fn release(&mut self, key: Key) -> impl Sized + use<> {
        let slot = &mut self.slots[key.index as usize];
        if slot.generation != key.generation || matches!(slot.state, State::Free) {
            return None;
        }
        if let State::Waiting { request, .. } = slot.state {
            self.requests -= usize::from(request);
        }
        self.free.push(key.index);
        Some(std::mem::replace(&mut slot.state, State::Free))
    }

    /// The keys of everybody who waits.
    pub(super) fn waiting(&self) -> Vec<Key> {
        let keys = self.slots.iter().enumerate();
        keys.filter(|(_, slot)| matches!(slot.state, State::Waiting { .. }))
            .map(|(index, slot)| Key { index: index as u32, generation: slot.generation })
            .collect()
    }
}

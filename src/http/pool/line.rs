//! The line of a host: who stands in it, looks, and leaves. Pure, like the [shard](super::shard) it is in.

use std::task::Waker;

use super::{
    host::{Dial, Given, Waiter},
    permits::Permits,
    shard::{Effects, Handed, Reference, Shard},
};
use crate::{
    error::TransportError,
    planted::{self, Bug},
};

/// What a waiter finds.
pub(super) enum Found<C, H> {
    Nothing,
    Connection(Handed<C, H>),
    /// It is to dial, and goes on waiting.
    Dial,
    /// Its dial has failed.
    Failed(TransportError),
    Closed,
}

impl<K, C, H: Reference, A: Clone> Shard<K, C, H, A> {
    /// Stands in line: at the end, or where it stood before. [`pump`](Self::pump) and [`look`](Self::look) come next.
    pub(super) fn wait(&mut self, host: usize, before: Option<u64>) -> u64 {
        let host = &mut self.hosts[host];
        let ticket = before.unwrap_or(host.next_ticket);
        host.next_ticket = host.next_ticket.max(ticket + 1);
        host.line.insert(ticket, Waiter { waker: None, dial: Dial::No, given: None });
        ticket
    }

    /// What a waiter finds when it looks. It is out of the books once it finds anything but a dial.
    pub(super) fn look(
        &mut self,
        host: usize,
        ticket: u64,
        waker: Waker,
        effects: &mut Effects<C, H, A>,
    ) -> Found<C, H> {
        let host = &mut self.hosts[host];
        if let Some(waiter) = host.given.remove(&ticket) {
            effects.drop_wakers.push(waker);
            return match waiter.given {
                Some(Given::Connection(handed)) => Found::Connection(handed),
                Some(Given::Failed(error)) => Found::Failed(error),
                Some(Given::Closed) | None => Found::Closed,
            };
        }
        let Some(waiter) = host.line.get_mut(&ticket) else {
            effects.drop_wakers.push(waker);
            return Found::Closed;
        };
        effects.drop_wakers.extend(waiter.waker.replace(waker));
        if waiter.dial == Dial::Allowed {
            waiter.dial = Dial::Begun;
            return Found::Dial;
        }
        Found::Nothing
    }

    /// A waiter is gone. What it was given goes to the next.
    pub(super) fn leave(
        &mut self,
        host: usize,
        ticket: u64,
        permits: &Permits,
        effects: &mut Effects<C, H, A>,
    ) {
        let entry = &mut self.hosts[host];
        let waiter = entry.line.remove(&ticket).or_else(|| entry.given.remove(&ticket));
        let Some(mut waiter) = waiter else { return };
        entry.withdraw(&mut waiter, permits);
        effects.drop_wakers.extend(waiter.waker);
        match waiter.given {
            Some(Given::Connection(Handed::Own(stored))) if planted::alive(Bug::WaiterLosesConnection) => {
                std::mem::forget(stored);
            }
            Some(Given::Connection(Handed::Own(stored))) => self.give_back(host, stored, permits, effects),
            Some(Given::Connection(Handed::Stream { conn, host: reference, id })) => {
                effects.drop_shared.push((conn, reference));
                self.end_stream(host, id, self.now, permits, effects);
            }
            _ => self.pump(host, permits, effects),
        }
    }
}

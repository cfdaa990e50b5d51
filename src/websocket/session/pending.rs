//! Callers who wait: what is queued for them, what was written, and until when.
//!
//! | state | leaves by |
//! |---|---|
//! | queued (holds the message) | `release`: written or done; deadline; clear |
//! | written | its reply; deadline; loss of the link |

use std::time::Duration;

use hashbrown::HashMap;

use super::port::{INDEX_MASK, Key};
use crate::{
    env::Timestamp,
    planted::{self, Bug},
    websocket::{
        message::{RequestId, WsMessage},
        protocol::RouteId,
    },
};

/// One entry per slot of the shared table, at the same index.
///
/// A slot whose caller is gone may be used anew before its entry was cleared: the newer use replaces it.
#[derive(Debug)]
pub(super) struct PendingRequestStore {
    entries: Vec<Option<Entry>>,
    live: usize,
    /// No deadline is earlier. It may be too early, since answered entries don't move it; then one scan corrects it.
    next_deadline: Timestamp,
    /// Ids the handler made that are not the sequence number itself.
    named: HashMap<RequestId, Key, foldhash::fast::FixedState>,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    deadline: Timestamp,
    state: State,
    name: Option<RequestId>,
}

#[derive(Debug)]
enum State {
    Queued { message: WsMessage, kind: Kind },
    Written,
}

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    Confirmation,
}

/// What an expired or lost entry had come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Queued,
    Written,
}

impl PendingRequestStore {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            live: 0,
            next_deadline: Timestamp::MAX,
            named: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(hash_seed)),
        }
    }

    pub(super) fn insert(&mut self, key: Key, message: WsMessage, kind: Kind, deadline: Timestamp) {
        let index = key.index as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.remove(index);
        self.entries[index] = Some(Entry {
            generation: key.generation,
            deadline,
            state: State::Queued { message, kind },
            name: None,
        });
        self.live += 1;
        self.next_deadline = self.next_deadline.min(deadline);
    }

    /// True if this use of the slot is still known here.
    pub(super) fn contains(&self, key: Key) -> bool {
        self.entry(key).is_some()
    }

    /// Takes the message out for writing. A request stays, as written; a confirmation is done.
    pub(super) fn release(&mut self, key: Key) -> Option<(WsMessage, Kind)> {
        let entry = self.entries.get_mut(key.index as usize)?.as_mut()?;
        if entry.generation != key.generation {
            return None;
        }
        match std::mem::replace(&mut entry.state, State::Written) {
            State::Queued { message, kind } => {
                if kind == Kind::Confirmation {
                    self.remove(key.index as usize);
                }
                Some((message, kind))
            }
            State::Written => None,
        }
    }

    /// Notes that `key` goes by another name on the wire.
    pub(super) fn name(&mut self, key: Key, id: RequestId) {
        if let Some(Some(entry)) = self.entries.get_mut(key.index as usize)
            && entry.generation == key.generation
        {
            entry.name = Some(id.clone());
            self.named.insert(id, key);
        }
    }

    /// Takes the caller that a reply of this id answers, if it was written and still waits.
    pub(super) fn answer(&mut self, id: &RouteId<'_>) -> Option<Key> {
        let key = match id {
            RouteId::Number(number) if self.named.is_empty() => Key::from_sequence(*number),
            RouteId::Number(number) => match RequestId::number(*number).and_then(|id| self.named.get(&id)) {
                Some(key) => *key,
                None => Key::from_sequence(*number),
            },
            RouteId::Text(text) => *self.named.get(&RequestId::text(text.as_ref()))?,
        };
        #[cfg(hpx_planted)]
        let key = self.careless(key);
        let entry = self.entry(key)?;
        let named = match id {
            RouteId::Number(number) => {
                entry.name.as_ref().is_none_or(|name| name.as_number() == Some(*number))
            }
            RouteId::Text(_) => true,
        };
        if !named || !matches!(entry.state, State::Written) {
            return None;
        }
        self.remove(key.index as usize);
        Some(key)
    }

    /// The key of whoever is in that place now.
    #[cfg(hpx_planted)]
    fn careless(&self, key: Key) -> Key {
        let entry = self.entries.get(key.index as usize).and_then(Option::as_ref);
        match entry.filter(|_| planted::alive(Bug::StaleReplyAccepted)) {
            Some(entry) => Key { index: key.index, generation: entry.generation },
            None => key,
        }
    }

    /// Takes every entry whose deadline has come.
    pub(super) fn expire(&mut self, now: Timestamp, mut expired: impl FnMut(Key, Progress, Kind)) {
        if now < self.next_deadline {
            return;
        }
        let mut next = Timestamp::MAX;
        for index in 0..self.entries.len() {
            let Some(entry) = &self.entries[index] else { continue };
            if entry.deadline > now {
                next = next.min(entry.deadline);
                continue;
            }
            let key = Key { index: index as u32, generation: entry.generation };
            let (progress, kind) = entry.progress();
            if planted::alive(Bug::ExpiredStillWritten) && progress == Progress::Queued {
                expired(key, progress, kind);
                continue;
            }
            self.remove(index);
            expired(key, progress, kind);
        }
        // At most one scan per tick, so that many deadlines close together don't cost a scan each.
        self.next_deadline = if next == Timestamp::MAX { next } else { next.max(now + SCAN_INTERVAL) };
    }

    /// Takes every entry that was written: its link is lost.
    pub(super) fn lose_written(&mut self, mut lost: impl FnMut(Key)) {
        if planted::alive(Bug::StaleEpochAccepted) {
            return;
        }
        for index in 0..self.entries.len() {
            if let Some(Entry { generation, state: State::Written, .. }) = &self.entries[index] {
                let key = Key { index: index as u32, generation: *generation };
                self.remove(index);
                lost(key);
            }
        }
    }

    /// Takes every request, and leaves the confirmations.
    pub(super) fn fail_requests(&mut self, mut failed: impl FnMut(Key, Progress)) {
        for index in 0..self.entries.len() {
            if let Some(entry) = &self.entries[index]
                && let (progress, Kind::Reply) = entry.progress()
            {
                let key = Key { index: index as u32, generation: entry.generation };
                self.remove(index);
                failed(key, progress);
            }
        }
    }

    /// Takes every entry.
    pub(super) fn clear(&mut self, mut cleared: impl FnMut(Key, Progress)) {
        for index in 0..self.entries.len() {
            if let Some(entry) = &self.entries[index] {
                let key = Key { index: index as u32, generation: entry.generation };
                let (progress, _) = entry.progress();
                self.remove(index);
                cleared(key, progress);
            }
        }
    }

    /// When the next entry may expire.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        (self.live > 0 && self.next_deadline < Timestamp::MAX).then_some(self.next_deadline)
    }

    fn entry(&self, key: Key) -> Option<&Entry> {
        debug_assert!(key.index <= INDEX_MASK);
        let entry = self.entries.get(key.index as usize)?.as_ref()?;
        (entry.generation == key.generation).then_some(entry)
    }

    fn remove(&mut self, index: usize) {
        let Some(entry) = self.entries[index].take() else { return };
        self.live -= 1;
        if let Some(name) = entry.name {
            self.named.remove(&name);
        }
    }
}

impl Entry {
    fn progress(&self) -> (Progress, Kind) {
        match self.state {
            State::Queued { kind, .. } => (Progress::Queued, kind),
            State::Written => (Progress::Written, Kind::Reply),
        }
    }
}

/// Deadlines are exact when they are further apart than this, and late by at most as much when they are not.
const SCAN_INTERVAL: Duration = Duration::from_millis(1);

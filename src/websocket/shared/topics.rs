//! The desired set: which topics the live guards want.
//!
//! A guard is a member of its topic's list. Dropping it removes it and marks the topic; `unsubscribe` empties the list, so
//! the guards that were in it find nothing to remove later: a later subscribe is a new generation. The driver takes the
//! marked topics and makes the wire follow.

use std::sync::Arc;

use hashbrown::HashMap;

use super::feed::FeedQueue;
use crate::{
    planted::{self, Bug},
    websocket::message::Topic,
};

#[derive(Debug)]
pub(super) struct Topics {
    entries: HashMap<Topic, Entry, foldhash::fast::FixedState>,
    /// Topics whose guards changed since the driver last looked, each once.
    marked: Vec<Topic>,
    /// Topics with a guard.
    live: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Entry {
    guards: Vec<Arc<FeedQueue>>,
    marked: bool,
    /// Its last guard was dropped since the driver looked. Asked by a planted bug alone.
    emptied: bool,
}

impl Topics {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(hash_seed)),
            marked: Vec::new(),
            live: 0,
            ended: false,
        }
    }

    /// Adds a guard, unless the connection has ended.
    pub(super) fn add(&mut self, topic: &Topic, guard: Arc<FeedQueue>) -> bool {
        if self.ended {
            return false;
        }
        let entry = self.entries.entry_ref(topic).or_default();
        self.live += usize::from(entry.guards.is_empty());
        entry.guards.push(guard);
        self.mark(topic);
        true
    }

    /// Removes a guard. False if it was not a member any more.
    pub(super) fn remove(&mut self, topic: &Topic, guard: &Arc<FeedQueue>) -> bool {
        let Some(entry) = self.entries.get_mut(topic) else { return false };
        let stranger = planted::alive(Bug::UnsubscribeStaleGeneration) && !entry.guards.is_empty();
        let Some(index) =
            entry.guards.iter().position(|other| Arc::ptr_eq(other, guard)).or(stranger.then_some(0))
        else {
            return false;
        };
        entry.guards.swap_remove(index);
        entry.emptied |= entry.guards.is_empty();
        self.live -= usize::from(entry.guards.is_empty());
        self.mark(topic);
        true
    }

    /// Takes all guards of a topic.
    pub(super) fn clear(&mut self, topic: &Topic) -> Vec<Arc<FeedQueue>> {
        let Some(entry) = self.entries.get_mut(topic) else { return Vec::new() };
        let guards = std::mem::take(&mut entry.guards);
        if !guards.is_empty() {
            self.live -= 1;
            self.mark(topic);
        }
        guards
    }

    /// Takes the marked topics with the guards each has now, for the driver.
    pub(super) fn take_marked(&mut self) -> Vec<(Topic, Vec<Arc<FeedQueue>>)> {
        let mut taken = Vec::with_capacity(self.marked.len());
        for topic in std::mem::take(&mut self.marked) {
            let Some(entry) = self.entries.get_mut(&topic) else { continue };
            entry.marked = false;
            let emptied = std::mem::take(&mut entry.emptied) && planted::alive(Bug::DropAndResubscribe);
            let guards = if emptied { Vec::new() } else { entry.guards.clone() };
            if emptied && !entry.guards.is_empty() {
                taken.push((topic, guards));
                continue;
            }
            if guards.is_empty() {
                self.entries.remove(&topic);
            }
            taken.push((topic, guards));
        }
        taken
    }

    /// Nothing can be added any more. Takes all guards.
    pub(super) fn end(&mut self) -> Vec<Arc<FeedQueue>> {
        self.ended = true;
        self.live = 0;
        self.marked.clear();
        let mut guards = Vec::new();
        for (_, entry) in self.entries.drain() {
            guards.extend(entry.guards);
        }
        guards
    }

    /// Topics with a guard.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Topics with a guard, sorted.
    pub(super) fn names(&self) -> Vec<Topic> {
        let live = self.entries.iter().filter(|(_, entry)| !entry.guards.is_empty());
        let mut names: Vec<Topic> = live.map(|(topic, _)| topic.clone()).collect();
        names.sort();
        names
    }

    fn mark(&mut self, topic: &Topic) {
        if let Some(entry) = self.entries.get_mut(topic)
            && !std::mem::replace(&mut entry.marked, true)
        {
            self.marked.push(topic.clone());
        }
    }
}

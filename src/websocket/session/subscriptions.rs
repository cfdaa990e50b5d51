//! What the guards want against what the peer has been told.
//!
//! Subscriptions are reconciled, not commanded: the store holds a desired flag and a told flag per topic and yields the
//! difference. Whatever storm of subscribes and drops came before, told converges to desired.
//!
//! | desired | told | difference |
//! |---|---|---|
//! | yes | no | subscribe |
//! | no | yes | unsubscribe, then forget |
//! | no | no | forget |

use hashbrown::HashMap;

use crate::{
    planted::{self, Bug},
    websocket::message::Topic,
};

/// A topic's place in the store. Reused after the topic is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TopicId(pub(crate) usize);

#[derive(Debug)]
pub(super) struct SubscriptionStore {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    index: HashMap<Topic, usize, foldhash::fast::FixedState>,
    /// Places whose flags may differ. Bounded by the places: each stands here once, see `in_changed`.
    changed: Vec<usize>,
    /// Per place, whether it stands in `changed`.
    in_changed: Vec<bool>,
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    desired: bool,
    told: bool,
}

/// What is to be said to the peer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) subscribe: Vec<(TopicId, Topic)>,
    pub(super) unsubscribe: Vec<Topic>,
}

impl SubscriptionStore {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(hash_seed)),
            changed: Vec::new(),
            in_changed: Vec::new(),
        }
    }

    /// Sets whether anybody wants `topic`. One that nobody wants and the peer was not told of is forgotten at once.
    pub(super) fn set_desired(&mut self, topic: &Topic, desired: bool) -> TopicId {
        let index = match self.index.get(topic) {
            Some(index) => *index,
            None => self.add(topic.clone()),
        };
        if planted::alive(Bug::DoubleSub)
            && desired
            && let Some(entry) = &mut self.entries[index]
        {
            entry.told = false;
        }
        let told = self.entries[index].as_ref().is_some_and(|entry| entry.told);
        match &mut self.entries[index] {
            Some(_) if !desired && !told => self.remove(index),
            Some(entry) => {
                entry.desired = desired;
                self.mark_changed(index);
            }
            None => {}
        }
        TopicId(index)
    }

    fn mark_changed(&mut self, index: usize) {
        if !std::mem::replace(&mut self.in_changed[index], true) {
            self.changed.push(index);
        }
    }

    /// The topic's place, if the peer has been told of it on this link.
    pub(super) fn told(&self, topic: &str) -> Option<TopicId> {
        let index = *self.index.get(topic)?;
        self.is_told(TopicId(index)).then_some(TopicId(index))
    }

    pub(super) fn is_told(&self, id: TopicId) -> bool {
        self.entries.get(id.0).and_then(Option::as_ref).is_some_and(|entry| entry.told)
    }

    /// A new link: the peer knows nothing.
    pub(super) fn forget_told(&mut self) {
        for index in 0..self.entries.len() {
            let Some(entry) = &mut self.entries[index] else { continue };
            entry.told = false;
            if entry.desired {
                self.mark_changed(index);
            } else {
                self.remove(index);
            }
        }
    }

    /// Takes what is to be said so that told becomes desired, and takes it as said.
    pub(super) fn reconcile(&mut self) -> Difference {
        let mut difference = Difference::default();
        for index in std::mem::take(&mut self.changed) {
            self.in_changed[index] = false;
            let Some(entry) = &mut self.entries[index] else { continue };
            match (entry.desired, entry.told) {
                (true, false) => {
                    entry.told = true;
                    difference.subscribe.push((TopicId(index), entry.topic.clone()));
                }
                (false, told) => {
                    if told {
                        difference.unsubscribe.push(entry.topic.clone());
                    }
                    self.remove(index);
                }
                (true, true) => {}
            }
        }
        difference
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    fn add(&mut self, topic: Topic) -> usize {
        let entry = Some(Entry { topic: topic.clone(), desired: false, told: false });
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.in_changed.push(false);
                self.entries.len() - 1
            }
        };
        self.index.insert(topic, index);
        index
    }

    fn remove(&mut self, index: usize) {
        if let Some(entry) = self.entries[index].take() {
            self.index.remove(&entry.topic);
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(topics: &[(TopicId, Topic)]) -> Vec<&str> {
        topics.iter().map(|(_, topic)| topic.as_str()).collect()
    }

    #[test]
    fn told_converges_to_desired_whatever_came_between() {
        let mut store = SubscriptionStore::new(1);
        let topic = Topic::from("a");
        for desired in [true, false, true, false, true] {
            store.set_desired(&topic, desired);
        }
        let difference = store.reconcile();
        assert_eq!(names(&difference.subscribe), ["a"]);
        assert!(difference.unsubscribe.is_empty());
        assert_eq!(store.reconcile(), Difference::default());
    }

    #[test]
    fn a_topic_is_unsubscribed_only_if_it_was_told() {
        let mut store = SubscriptionStore::new(1);
        let topic = Topic::from("a");
        store.set_desired(&topic, true);
        store.set_desired(&topic, false);
        assert_eq!(store.reconcile(), Difference::default());
        store.set_desired(&topic, true);
        store.reconcile();
        store.set_desired(&topic, false);
        assert_eq!(store.reconcile().unsubscribe, std::slice::from_ref(&topic));
        assert!(store.told("a").is_none());
    }

    #[test]
    fn a_new_link_is_told_of_the_desired_topics_and_of_no_others() {
        let mut store = SubscriptionStore::new(1);
        for name in ["a", "b", "c"] {
            store.set_desired(&Topic::from(name), true);
        }
        store.reconcile();
        store.set_desired(&Topic::from("b"), false);
        store.forget_told();
        let difference = store.reconcile();
        assert_eq!(names(&difference.subscribe), ["a", "c"]);
        assert!(difference.unsubscribe.is_empty());
    }
}

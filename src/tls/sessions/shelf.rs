//! The sessions of some servers: newest first, each ticket once, none past its time, the server longest unused goes first.
//!
//! Pure: `now` is the wall clock's, as tickets count their age (RFC 8446, section 4.6.1), and `turn` numbers the uses.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::planted::{self, Bug};

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) tickets_max: usize,
    pub(super) lifetime: Duration,
}

/// Sessions by server. `T` is a ticket, used once; `S` a session that may be used again; `H` what else is known of a server.
pub(super) struct Shelf<K, T, S, H> {
    servers: BTreeMap<K, Server<T, S, H>>,
    /// Every server, by the turn of its last use.
    order: BTreeMap<u64, K>,
}

/// What is kept of one server.
pub(super) struct Server<T, S, H> {
    /// Oldest first.
    tickets: VecDeque<Kept<T>>,
    session: Option<Kept<S>>,
    hint: Option<H>,
    used: u64,
}

struct Kept<T> {
    value: T,
    since: Duration,
}

impl<T> Kept<T> {
    /// False once it is too old. One from the future is new: the clock was set back, most often by less than a second.
    fn is_fresh(&self, now: Duration, lifetime: Duration) -> bool {
        now.saturating_sub(self.since) < lifetime || planted::alive(Bug::ExpiredTicketOffered)
    }
}

/// What a look for a ticket found.
pub(super) struct Taken<T> {
    pub(super) ticket: Option<T>,
    /// So many were too old.
    pub(super) expired: usize,
}

impl<K: Ord + Clone, T, S: Clone, H: Copy> Shelf<K, T, S, H> {
    pub(super) fn new() -> Self {
        Self { servers: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// How many servers it knows.
    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// How many tickets it holds.
    pub(super) fn tickets(&self) -> usize {
        self.servers.values().map(|server| server.tickets.len()).sum()
    }

    /// Keeps a ticket. True if the server is a new one.
    pub(super) fn insert(&mut self, key: &K, ticket: T, now: Duration, turn: u64, rules: Rules) -> bool {
        let (server, is_new) = self.touch(key, turn);
        server.tickets.push_back(Kept { value: ticket, since: now });
        // Bounded: the newest is the likeliest to be taken.
        while server.tickets.len() > rules.tickets_max {
            server.tickets.pop_front();
        }
        is_new
    }

    /// Takes the newest ticket out. What is too old goes with it.
    pub(super) fn take(&mut self, key: &K, now: Duration, turn: u64, rules: Rules) -> Taken<T> {
        let mut expired = 0;
        if self.servers.contains_key(key) {
            let (server, _) = self.touch(key, turn);
            if planted::alive(Bug::OldestTicketFirst) {
                server.tickets.make_contiguous().reverse();
            }
            while let Some(kept) = server.tickets.pop_back() {
                if kept.is_fresh(now, rules.lifetime) {
                    return Taken { ticket: Some(kept.value), expired };
                }
                expired += 1;
            }
        }
        Taken { ticket: None, expired }
    }

    /// Keeps the session to come back to, in place of an earlier one. True if the server is a new one.
    pub(super) fn set_session(&mut self, key: &K, session: S, now: Duration, turn: u64) -> bool {
        let (server, is_new) = self.touch(key, turn);
        server.session = Some(Kept { value: session, since: now });
        is_new
    }

    /// The session to come back to. It stays.
    pub(super) fn session(&mut self, key: &K, now: Duration, turn: u64, rules: Rules) -> Option<S> {
        self.servers.get(key)?.session.as_ref()?;
        let (server, _) = self.touch(key, turn);
        server.session.take_if(|kept| !kept.is_fresh(now, rules.lifetime));
        server.session.as_ref().map(|kept| kept.value.clone())
    }

    pub(super) fn remove_session(&mut self, key: &K) {
        if let Some(server) = self.servers.get_mut(key) {
            server.session = None;
        }
    }

    /// True if the server is a new one.
    pub(super) fn set_hint(&mut self, key: &K, hint: H, turn: u64) -> bool {
        let (server, is_new) = self.touch(key, turn);
        server.hint = Some(hint);
        is_new
    }

    pub(super) fn hint(&self, key: &K) -> Option<H> {
        self.servers.get(key)?.hint
    }

    /// When the server longest unused was last used.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.order.first_key_value().map(|(turn, _)| *turn)
    }

    /// Forgets the server that was last used in this turn, and gives what was kept of it: to be dropped when the lock is gone.
    pub(super) fn evict(&mut self, turn: u64) -> Option<Server<T, S, H>> {
        let key = self.order.remove(&turn)?;
        self.servers.remove(&key)
    }

    /// The server, now the one most recently used, and whether it is new.
    fn touch(&mut self, key: &K, turn: u64) -> (&mut Server<T, S, H>, bool) {
        let is_new = !self.servers.contains_key(key);
        let empty = || Server { tickets: VecDeque::new(), session: None, hint: None, used: turn };
        let server = self.servers.entry(key.clone()).or_insert_with(empty);
        self.order.remove(&server.used);
        server.used = turn;
        self.order.insert(turn, key.clone());
        (server, is_new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { tickets_max: 3, lifetime: Duration::from_secs(100) };

    fn shelf() -> Shelf<&'static str, u32, u32, u8> {
        Shelf::new()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_ticket_is_taken_first_and_each_only_once() {
        let mut shelf = shelf();
        for ticket in 1..=3 {
            shelf.insert(&"a", ticket, at(u64::from(ticket)), u64::from(ticket), RULES);
        }
        let taken: Vec<_> = (0..4).map(|turn| shelf.take(&"a", at(4), 10 + turn, RULES).ticket).collect();
        assert_eq!(taken, [Some(3), Some(2), Some(1), None]);
    }

    #[test]
    fn a_ticket_over_the_limit_costs_the_oldest_its_place() {
        let mut shelf = shelf();
        for ticket in 1..=5 {
            shelf.insert(&"a", ticket, at(1), u64::from(ticket), RULES);
        }
        assert_eq!(shelf.tickets(), 3);
        let taken: Vec<_> = (0..4).map(|turn| shelf.take(&"a", at(2), 10 + turn, RULES).ticket).collect();
        assert_eq!(taken, [Some(5), Some(4), Some(3), None]);
    }

    #[test]
    fn an_expired_ticket_is_never_taken() {
        let mut shelf = shelf();
        shelf.insert(&"a", 1, at(0), 0, RULES);
        shelf.insert(&"a", 2, at(50), 1, RULES);
        let taken = shelf.take(&"a", at(149), 2, RULES);
        assert_eq!((taken.ticket, taken.expired), (Some(2), 0));
        let taken = shelf.take(&"a", at(149), 3, RULES);
        assert_eq!((taken.ticket, taken.expired), (None, 1));
        shelf.insert(&"a", 3, at(200), 4, RULES);
        assert_eq!(shelf.take(&"a", at(300), 5, RULES).ticket, None, "exactly its lifetime old");
    }

    #[test]
    fn a_ticket_from_the_future_is_as_good_as_new() {
        let mut shelf = shelf();
        shelf.insert(&"a", 1, at(1000), 0, RULES);
        shelf.set_session(&"a", 7, at(1000), 1);
        assert_eq!(shelf.session(&"a", at(999), 2, RULES), Some(7));
        assert_eq!(shelf.take(&"a", at(10), 3, RULES).ticket, Some(1));
    }

    #[test]
    fn a_session_may_be_used_again_until_it_expires_or_is_removed() {
        let mut shelf = shelf();
        shelf.set_session(&"a", 7, at(0), 0);
        assert_eq!(shelf.session(&"a", at(1), 1, RULES), Some(7));
        assert_eq!(shelf.session(&"a", at(99), 2, RULES), Some(7));
        assert_eq!(shelf.session(&"a", at(100), 3, RULES), None);
        shelf.set_session(&"a", 8, at(100), 4);
        shelf.remove_session(&"a");
        assert_eq!(shelf.session(&"a", at(101), 5, RULES), None);
    }

    #[test]
    fn a_hint_outlives_the_tickets() {
        let mut shelf = shelf();
        assert!(shelf.set_hint(&"a", 29, 0));
        assert!(!shelf.insert(&"a", 1, at(0), 1, RULES));
        assert_eq!(shelf.take(&"a", at(1), 2, RULES).ticket, Some(1));
        assert_eq!(shelf.hint(&"a"), Some(29));
        assert_eq!(shelf.hint(&"b"), None);
    }

    #[test]
    fn the_server_longest_unused_goes_first() {
        let mut shelf = shelf();
        for (turn, server) in ["a", "b", "c"].into_iter().enumerate() {
            assert!(shelf.insert(&server, 1, at(0), turn as u64, RULES));
        }
        // A look for a ticket is a use.
        shelf.take(&"a", at(1), 3, RULES);
        assert_eq!(shelf.oldest(), Some(1));
        assert!(shelf.evict(1).is_some());
        assert!(shelf.evict(1).is_none(), "nobody was last used in that turn");
        assert_eq!(shelf.take(&"b", at(1), 4, RULES).ticket, None);
        assert_eq!(shelf.take(&"c", at(1), 5, RULES).ticket, Some(1));
        assert_eq!(shelf.len(), 2);
    }

    #[test]
    fn a_look_for_what_is_not_there_leaves_no_trace() {
        let mut shelf = shelf();
        assert_eq!(shelf.take(&"a", at(0), 0, RULES).ticket, None);
        assert_eq!(shelf.session(&"a", at(0), 1, RULES), None);
        assert_eq!((shelf.len(), shelf.oldest()), (0, None));
    }
}

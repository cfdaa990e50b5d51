//! TLS 1.3 tickets, numbered as they go out and known when they come back.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::server::StoresServerSessions;

use crate::trace::{Recorder, WebLog};

/// The tickets of all hosts.
#[derive(Clone)]
pub(super) struct Tickets {
    recorder: Recorder,
    issued: Arc<Mutex<BTreeMap<Vec<u8>, Ticket>>>,
}

struct Ticket {
    number: u64,
    session: Vec<u8>,
}

impl Tickets {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, issued: Arc::default() }
    }

    /// As one connection's handshake sees them; one that forgets accepts none.
    pub(super) fn of(&self, conn: u64, forgets: bool) -> Arc<dyn StoresServerSessions> {
        Arc::new(OfConn { tickets: self.clone(), conn, forgets })
    }
}

struct OfConn {
    tickets: Tickets,
    conn: u64,
    forgets: bool,
}

impl StoresServerSessions for OfConn {
    fn put(&self, key: Vec<u8>, session: Vec<u8>) -> bool {
        let ticket = {
            let mut issued = self.tickets.issued.lock().unwrap_or_else(PoisonError::into_inner);
            let number = issued.len() as u64 + 1;
            issued.insert(key, Ticket { number, session });
            number
        };
        self.tickets.recorder.web(WebLog::TicketIssued { conn: self.conn, ticket });
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.take(key)
    }

    /// Given again however often it comes back: that it comes once is the client's duty, which an oracle watches.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = {
            let issued = self.tickets.issued.lock().unwrap_or_else(PoisonError::into_inner);
            issued.get(key).map(|ticket| (ticket.number, ticket.session.clone()))
        };
        let accepted = found.is_some() && !self.forgets;
        let ticket = found.as_ref().map(|(number, _)| *number);
        self.tickets.recorder.web(WebLog::TicketOffered { conn: self.conn, ticket, accepted });
        found.filter(|_| accepted).map(|(_, session)| session)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for OfConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfConn").field("conn", &self.conn).finish_non_exhaustive()
    }
}

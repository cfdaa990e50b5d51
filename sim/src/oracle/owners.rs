//! Whose a connection of the exchange is.

use crate::trace::{Entry, ServerLog, What};

/// The owners of the exchange's connections, which it numbers from 1 in the order in which it accepts them.
#[derive(Default)]
pub(super) struct Owners(Vec<usize>);

impl Owners {
    pub(super) fn observe(&mut self, entry: &Entry) {
        if let What::Server(ServerLog::Accepted { client, .. }) = entry.what {
            self.0.push(client);
        }
    }

    /// What is kept of the client whose connection this is.
    pub(super) fn of<'a, T>(&self, conn: u64, clients: &'a mut [T]) -> Option<&'a mut T> {
        let place = usize::try_from(conn).ok()?.checked_sub(1)?;
        clients.get_mut(*self.0.get(place)?)
    }
}

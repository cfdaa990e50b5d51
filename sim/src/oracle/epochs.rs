//! WS-2: nothing is written to an old link once a new one was spoken on.

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, SocketLog, What},
};

pub(super) struct OneAtATime {
    /// The newest socket that each client has spoken on.
    newest: Vec<u64>,
}

impl OneAtATime {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { newest: vec![0; plan.clients.len()] }
    }
}

impl Oracle for OneAtATime {
    fn card(&self) -> Card {
        Card {
            id: "WS-2",
            rule: "no message goes to a link after the first one of the next",
            observers: &[Observer::Registry],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let (Place::Client(client), What::Socket(SocketLog::Frame { socket, frame })) =
            (entry.place, &entry.what)
        else {
            return;
        };
        if frame.text().is_none() {
            return;
        }
        let newest = &mut self.newest[client];
        judge.check(entry.at, socket >= newest, || {
            format!("client {client}: wrote to socket {socket} after it had written to {newest}")
        });
        *newest = (*newest).max(*socket);
    }
}

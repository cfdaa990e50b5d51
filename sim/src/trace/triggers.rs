//! Faults that begin at an event: whoever writes the trace tells, entry by entry, which of them have been set off.

use std::time::Duration;

use hpx_transport::env::Timestamp;

use super::{Entry, Place, ServerLog, SocketLog, What};
use crate::plan::{Moment, Plan, When};

/// The anchored faults of a plan, and how far each client has come.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    anchors: Vec<Waiting>,
    clients: Vec<Course>,
    /// Whose a connection of the exchange is.
    owners: Vec<usize>,
}

#[derive(Debug)]
struct Waiting {
    fault: usize,
    client: usize,
    event: Moment,
    plus: Duration,
    gone_off: bool,
}

/// What has happened to one client so far.
#[derive(Debug, Default, Clone)]
struct Course {
    opened: u64,
    connected: u64,
    disconnected: u64,
    pings: u64,
    messages: u64,
}

impl Triggers {
    pub(super) fn new(plan: &Plan) -> Self {
        let anchors = plan.faults.iter().enumerate().filter_map(|(fault, entry)| match entry.at {
            When::At(_) => None,
            When::On(anchor) => {
                let plus = Duration::from_millis(anchor.plus_ms);
                Some(Waiting { fault, client: anchor.client, event: anchor.event, plus, gone_off: false })
            }
        });
        Self {
            anchors: anchors.collect(),
            clients: vec![Course::default(); plan.hosts()],
            owners: Vec::new(),
        }
    }

    /// The faults that this entry sets off, and when they begin.
    pub(super) fn observe(&mut self, entry: &Entry, begin: &mut impl FnMut(Timestamp, usize)) {
        if self.anchors.is_empty() {
            return;
        }
        let Some((client, moment)) = self.moment(entry) else { return };
        for anchor in &mut self.anchors {
            if !anchor.gone_off && anchor.client == client && anchor.event == moment {
                anchor.gone_off = true;
                begin(entry.at + anchor.plus, anchor.fault);
            }
        }
    }

    /// What this entry means for whom.
    fn moment(&mut self, entry: &Entry) -> Option<(usize, Moment)> {
        match (&entry.what, entry.place) {
            (What::Socket(log), Place::Client(client)) => {
                let course = self.clients.get_mut(client)?;
                let moment = match log {
                    SocketLog::Dialing { socket } => Moment::Dialing(*socket),
                    SocketLog::Opened { .. } => Moment::Opened(next(&mut course.opened)),
                    SocketLog::Closed { .. } => Moment::Disconnected(next(&mut course.disconnected)),
                    SocketLog::UpgradeByte { socket, byte } => {
                        Moment::UpgradeByte { dial: *socket, byte: *byte }
                    }
                    SocketLog::Frame { frame, .. } if frame.opcode == PING => {
                        Moment::PingSent(next(&mut course.pings))
                    }
                    SocketLog::Frame { frame, .. } if frame.opcode == TEXT => {
                        Moment::MessageSent(next(&mut course.messages))
                    }
                    _ => return None,
                };
                Some((client, moment))
            }
            // The exchange numbers its connections from 1, without a gap.
            (What::Server(ServerLog::Accepted { client, .. }), _) => {
                self.owners.push(*client);
                None
            }
            (What::Server(ServerLog::Authenticated { conn }), _) => {
                let client = *self.owners.get(usize::try_from(conn.checked_sub(1)?).ok()?)?;
                let course = self.clients.get_mut(client)?;
                Some((client, Moment::Connected(next(&mut course.connected))))
            }
            _ => None,
        }
    }
}

fn next(count: &mut u64) -> u64 {
    *count += 1;
    *count
}

const TEXT: u8 = 1;
const PING: u8 = 9;

//! The reference model: what a connection may tell its user, step by step. Pure, and small enough to be read as the
//! specification.
//!
//! ```text
//! Starting --Connected--> Up --Disconnected--> Down --Retrying--> Waiting --Connected--> Up
//!    |                                          |                  |  ^
//!    +--Retrying--> Waiting                     +----- Closed -----+  +--Retrying (the attempt failed)
//! ```
//!
//! It is stepped by the events a user reads and by the user's own calls, and asked what the handle must say.

use hpx_transport::{
    ErrorKind,
    websocket::{CloseCause, ConnectionState, Event},
};

/// One connection, as its user must see it.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    phase: Phase,
    /// Of the last link.
    epoch: u64,
    /// Retries since the growth last began.
    attempt: u32,
    attempts_max: Option<u32>,
    /// What the user has asked for.
    close_called: bool,
    handles_dropped: bool,
    reconnects: u64,
    /// Events were skipped: the next one may begin anywhere.
    lost_sight: bool,
    /// And some may be missing further on: retries can't be counted any more.
    lost_count: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first attempt.
    Starting,
    Up,
    /// A link was lost, and what follows is not told yet.
    Down,
    /// A retry is waited for, or made.
    Waiting,
    Over,
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Close,
    DropHandles,
    Reconnect,
}

impl Model {
    pub(crate) fn new(attempts_max: Option<u32>) -> Self {
        Self {
            phase: Phase::Starting,
            epoch: 0,
            attempt: 0,
            attempts_max,
            close_called: false,
            handles_dropped: false,
            reconnects: 0,
            lost_sight: false,
            lost_count: false,
        }
    }

    /// The user calls.
    pub(crate) fn call(&mut self, call: Call) {
        match call {
            Call::Close => self.close_called = true,
            Call::DropHandles => self.handles_dropped = true,
            Call::Reconnect => self.reconnects += 1,
        }
    }

    /// The user reads an event.
    ///
    /// # Errors
    ///
    /// Why no connection could have told it here.
    pub(crate) fn step(&mut self, event: &Event) -> Result<(), String> {
        if self.phase == Phase::Over {
            return Err("an event came after Closed".to_owned());
        }
        match event {
            Event::Connected { epoch } => {
                self.expect(&[Phase::Starting, Phase::Waiting])?;
                if epoch.0 <= self.epoch {
                    return Err(format!("epoch {epoch} after {}", self.epoch));
                }
                (self.phase, self.epoch) = (Phase::Up, epoch.0);
            }
            Event::Message(_) => self.expect(&[Phase::Up])?,
            Event::Disconnected { epoch, reason } => {
                self.expect(&[Phase::Up])?;
                if epoch.0 != self.epoch && !self.lost_sight {
                    return Err(format!("epoch {epoch} was lost, and {} was up", self.epoch));
                }
                self.explain(reason.kind())?;
                (self.phase, self.epoch) = (Phase::Down, epoch.0);
            }
            Event::Retrying { attempt, cause, .. } => {
                self.expect(&[Phase::Starting, Phase::Down, Phase::Waiting])?;
                // Only a link that stood makes the growth begin anew.
                let anew = *attempt == 1 && self.phase == Phase::Down;
                let counts = self.lost_count || *attempt == self.attempt + 1;
                if !counts && !anew {
                    return Err(format!("retry {attempt} after retry {}", self.attempt));
                }
                if self.attempts_max.is_some_and(|most| *attempt > most) {
                    return Err(format!("retry {attempt} of at most {:?}", self.attempts_max));
                }
                self.explain(cause.kind())?;
                (self.phase, self.attempt) = (Phase::Waiting, *attempt);
            }
            Event::Skipped { .. } => {
                (self.lost_sight, self.lost_count) = (true, true);
                return Ok(());
            }
            Event::Closed { cause, .. } => {
                self.expect(&[Phase::Starting, Phase::Down, Phase::Waiting])?;
                self.explain_end(cause)?;
                self.phase = Phase::Over;
            }
            _ => {}
        }
        self.lost_sight = false;
        Ok(())
    }

    /// What the handle may say when every event has been read.
    ///
    /// # Errors
    ///
    /// Why it may not say this.
    pub(crate) fn agrees(&self, state: ConnectionState, epoch: u64) -> Result<(), String> {
        use ConnectionState as S;
        let ending = self.close_called || self.handles_dropped;
        let may = match (self.phase, state) {
            (Phase::Over, S::Closed) => true,
            (Phase::Over, _) => false,
            (_, S::Closing | S::Closed) => ending,
            (Phase::Up, S::Ready) => epoch == self.epoch,
            (Phase::Starting, S::Disconnected | S::Connecting) => true,
            (Phase::Starting | Phase::Waiting, S::Connected | S::Authenticating) => true,
            (Phase::Waiting, S::Reconnecting { attempt }) => attempt == self.attempt,
            _ => false,
        };
        if may { Ok(()) } else { Err(format!("it says {state:?}, epoch {epoch}, in {self:?}")) }
    }

    fn expect(&self, phases: &[Phase]) -> Result<(), String> {
        match self.lost_sight || phases.contains(&self.phase) {
            true => Ok(()),
            false => Err(format!("it came in {:?}, and belongs in {phases:?}", self.phase)),
        }
    }

    /// A loss that the user asked for was asked for.
    fn explain(&self, kind: ErrorKind) -> Result<(), String> {
        let asked = match kind {
            ErrorKind::ReconnectRequested => self.reconnects > 0,
            ErrorKind::Closed => self.close_called || self.handles_dropped,
            // These end a connection, or never a link.
            ErrorKind::Config | ErrorKind::CapacityExceeded | ErrorKind::Encode | ErrorKind::Decode => false,
            ErrorKind::Rejected | ErrorKind::DriverDropped => false,
            _ => true,
        };
        if asked { Ok(()) } else { Err(format!("nobody gave cause for {kind:?}")) }
    }

    fn explain_end(&self, cause: &CloseCause) -> Result<(), String> {
        let true_word = match cause {
            CloseCause::CloseCalled => self.close_called,
            CloseCause::HandlesDropped => self.handles_dropped,
            CloseCause::RetriesExhausted { attempts, .. } => {
                self.attempts_max == Some(*attempts) && (self.attempt == *attempts || self.lost_count)
            }
            CloseCause::Refused(error) => !error.may_retry(),
            _ => false,
        };
        if true_word { Ok(()) } else { Err(format!("it ended by {cause}, in {self:?}")) }
    }
}

#[cfg(test)]
mod tests {
    use hpx_transport::websocket::ConnectionEpoch;

    use super::*;

    fn up(epoch: u64) -> Event {
        Event::Connected { epoch: ConnectionEpoch(epoch) }
    }

    #[test]
    fn a_link_comes_up_once_and_agrees_with_its_handle() {
        let mut model = Model::new(None);
        assert_eq!(model.agrees(ConnectionState::Connecting, 0), Ok(()));
        assert_eq!(model.step(&up(1)), Ok(()));
        assert_eq!(model.agrees(ConnectionState::Ready, 1), Ok(()));
        assert!(model.agrees(ConnectionState::Ready, 2).is_err());
        assert!(model.agrees(ConnectionState::Closing, 1).is_err());
        assert!(model.step(&up(2)).is_err());
    }

    #[test]
    fn an_end_needs_its_cause() {
        let end = Event::Closed { cause: CloseCause::CloseCalled, unsent: 0 };
        let mut model = Model::new(None);
        assert!(model.step(&end).is_err());
        model.call(Call::Close);
        assert_eq!(model.step(&end), Ok(()));
        assert!(model.step(&end).is_err());
        assert!(model.agrees(ConnectionState::Ready, 0).is_err());
    }
}

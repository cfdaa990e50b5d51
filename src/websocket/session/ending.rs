//! How links and sessions end: by loss, by wish, for good.

use super::{
    Session, closing,
    pending::Progress,
    phase::Phase,
    port::{Action, Key, Outgoing},
};
use crate::{
    env::Timestamp,
    error::{Delivery, ErrorKind, TransportError},
    planted::{self, Bug},
    websocket::event::{CloseCause, Event},
};

impl Session {
    /// The dial failed or the link is gone.
    pub(super) fn lose(&mut self, now: Timestamp, cause: TransportError) {
        match &self.phase {
            Phase::Closing { cause, .. } => {
                let cause = cause.clone();
                self.end(cause);
            }
            Phase::Idle | Phase::Backoff { .. } | Phase::Closed => {}
            Phase::Dialing { .. } | Phase::Authenticating { .. } | Phase::Ready { .. } => {
                if (self.judge)(&cause) {
                    self.retry_after(now, cause);
                } else {
                    self.drop_link(now, &cause);
                    self.end(CloseCause::Refused(cause));
                }
            }
        }
    }

    pub(super) fn retry_after(&mut self, now: Timestamp, cause: TransportError) {
        self.drop_link(now, &cause);
        let attempts = self.backoff.attempt();
        let extra = u32::from(planted::alive(Bug::MaxAttemptsOffByOne));
        if self.config.max_attempts.is_some_and(|max| attempts >= max + extra) {
            self.end(CloseCause::RetriesExhausted { attempts, last: cause });
            return;
        }
        let hint = cause.retry_after().filter(|_| !planted::alive(Bug::RetryAfterIgnored));
        let delay = self.backoff.next_delay(hint);
        self.enter(Phase::Backoff { until: now + delay });
        self.actions.push(Action::Emit(Event::Retrying { attempt: self.backoff.attempt(), delay, cause }));
    }

    /// Ends the link, whatever it was doing. Written requests fail at once: no reply of this link will be taken any more.
    fn drop_link(&mut self, now: Timestamp, cause: &TransportError) {
        self.heartbeat = None;
        self.write_blocked_since = None;
        self.early.clear();
        self.actions.push(Action::Hangup { say_goodbye: self.phase.link_is_up() });
        #[cfg(hpx_planted)]
        self.write_again();
        let actions = &mut self.actions;
        self.pending.lose_written(|key| {
            let error = TransportError::with_source(
                ErrorKind::Io,
                "the link was lost before the reply came",
                cause.clone(),
            );
            actions.push(Action::Answer(key, Err(error.with_delivery(Delivery::MaybeSent))));
        });
        self.topics.forget_told();
        if let Phase::Ready { since } = self.phase {
            if now - since >= self.config.stable_after {
                self.backoff.reset();
            }
            self.actions.push(Action::Emit(Event::Disconnected { epoch: self.epoch, reason: cause.clone() }));
        }
    }

    /// What a careless author does who wants nothing to be lost.
    #[cfg(hpx_planted)]
    fn write_again(&mut self) {
        let written = std::mem::take(&mut self.written);
        if planted::alive(Bug::ReplayedWrite) {
            self.outbox.extend(written.into_iter().map(super::Queued::Plain));
        }
    }

    pub(super) fn close(&mut self, now: Timestamp, cause: CloseCause) {
        match self.phase {
            Phase::Closing { .. } | Phase::Closed => {}
            // The driver goes on asking.
            Phase::Dialing { .. } if planted::alive(Bug::CloseReconnectsFirst) && self.unheard.is_some() => {}
            Phase::Backoff { .. } if planted::alive(Bug::DeafBackoff) => self.unheard = Some(cause),
            Phase::Backoff { .. } if planted::alive(Bug::CloseReconnectsFirst) => {
                self.dial(now);
                self.unheard = Some(cause);
            }
            Phase::Idle | Phase::Dialing { .. } | Phase::Backoff { .. } => {
                self.actions.push(Action::Hangup { say_goodbye: false });
                self.end(cause);
            }
            Phase::Authenticating { .. } | Phase::Ready { .. } => self.start_closing(now, cause),
        }
    }

    fn start_closing(&mut self, now: Timestamp, cause: CloseCause) {
        // Before authentication nothing of the callers' may be written: the Close frame goes alone, what waits is counted.
        let was_ready = matches!(self.phase, Phase::Ready { .. });
        if was_ready {
            let reason = cause.to_error();
            self.actions.push(Action::Emit(Event::Disconnected { epoch: self.epoch, reason }));
        } else {
            self.actions.push(Action::Write(Outgoing::Close));
        }
        self.heartbeat = None;
        let deadline = now + self.config.close_timeout;
        self.enter(Phase::Closing { deadline, cause, said: !was_ready });
        let actions = &mut self.actions;
        let pending = &mut self.pending;
        if planted::alive(Bug::PendingHangsAtClose) {
            return;
        }
        pending.fail_requests(|key, progress| {
            let delivery =
                if progress == Progress::Written { Delivery::MaybeSent } else { Delivery::NotSent };
            actions.push(Action::Answer(key, Err(closing().with_delivery(delivery))));
        });
    }

    pub(super) fn end(&mut self, cause: CloseCause) {
        if self.phase.link_is_up() {
            self.actions.push(Action::Hangup { say_goodbye: false });
        }
        let error = cause.to_error();
        let actions = &mut self.actions;
        self.pending.clear(|key, progress| {
            let delivery =
                if progress == Progress::Written { Delivery::MaybeSent } else { Delivery::NotSent };
            if !planted::alive(Bug::PendingHangsAtClose) {
                actions.push(Action::Answer(key, Err(error.clone().with_delivery(delivery))));
            }
        });
        self.heartbeat = None;
        self.write_blocked_since = None;
        self.enter(Phase::Closed);
        self.ending = Some(cause);
    }

    /// The driver is lost: takes every caller, with what became of its message.
    pub(crate) fn abandon(&mut self, mut abandoned: impl FnMut(Key, Delivery)) {
        self.pending.clear(|key, progress| {
            abandoned(
                key,
                if progress == Progress::Written { Delivery::MaybeSent } else { Delivery::NotSent },
            );
        });
    }
}

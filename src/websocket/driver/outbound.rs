//! From the session's decisions to the socket and to those who wait.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Waker},
};

use rand_chacha::rand_core::Rng;
use tracing::{debug, info};

use super::{Dialing, Driver, Wire, mark_epoch};
#[cfg(hpx_planted)]
use crate::planted::{self, Bug};
use crate::{
    dial::dial,
    env::Env,
    websocket::{
        event::{CloseCause, ConnectionState, Event},
        message::{RequestId, WsMessage},
        protocol::{ProtocolHandler, numeric},
        session::port::{Action, Key, Outgoing},
        upgrade::Draws,
    },
};

impl<E: Env, H: ProtocolHandler> Driver<E, H> {
    /// Carries out what the session decided. True at the end of all.
    pub(super) fn perform(&mut self, cx: &mut Context<'_>) -> bool {
        let mut actions = Vec::from(std::mem::take(&mut self.scratch.actions));
        self.session.take_actions(&mut actions);
        self.shared.settle(&mut actions, &mut self.scratch.answers);
        let mut ended = false;
        // Order matters: whoever hears of an event finds the state it tells of.
        if self.session.state() != ConnectionState::Closed {
            self.shared.show(self.session.state(), self.session.epoch());
        }
        // Taken one by one from where a panic of the handler leaves the rest to be counted. Neither conversion copies.
        self.scratch.actions = VecDeque::from(actions);
        while let Some(action) = self.scratch.actions.pop_front() {
            match action {
                Action::Dial { attempt } => self.dial(attempt),
                Action::Write(outgoing) => {
                    self.write(outgoing);
                    if let Wire::Up(link) = &mut self.wire {
                        link.flush_early(cx);
                    }
                }
                Action::Hangup { say_goodbye } => self.hang_up(say_goodbye),
                Action::Answer(key, answer) => self.shared.answer(key, answer),
                Action::Told(id, epoch) => {
                    if let Some(feed) = self.feeds.get(id.0) {
                        mark_epoch(&feed.guards, epoch, &mut self.scratch.wakers);
                    }
                }
                Action::Release { sends } => self.shared.release_sends(sends),
                Action::Emit(event) => self.emit(event),
                Action::Discard => self.shared.discard(),
                Action::End { cause, unsent } => {
                    // What came in before the end still reaches the guards.
                    self.deliver(false);
                    self.end(cause, unsent);
                    ended = true;
                }
            }
        }
        ended
    }

    fn dial(&mut self, attempt: u32) {
        debug!(target: "hpx_transport", attempt, "dialing");
        self.wire = Wire::Dialing(self.open(attempt));
        self.unpolled = true;
        #[cfg(hpx_planted)]
        if planted::alive(Bug::ErrorAndCloseReconnect) && attempt > 0 {
            let dialing = self.open(attempt);
            self.stray.keep_dialing(dialing, Vec::new());
        }
    }

    fn open(&mut self, attempt: u32) -> Dialing<E::Stream> {
        let mut draws = Draws { nonce: [0; 16], masks: [0; 32] };
        self.draws.fill_bytes(&mut draws.nonce);
        self.draws.fill_bytes(&mut draws.masks);
        let (env, target, upgrade) = (self.env.clone(), self.target.clone(), Arc::clone(&self.upgrade));
        let budget = self.config.connect_timeout;
        Box::pin(async move {
            let stream = dial(&env, &target, attempt, budget).await?;
            upgrade.perform(stream, draws).await
        })
    }

    fn hang_up(&mut self, say_goodbye: bool) {
        let wire = std::mem::replace(&mut self.wire, Wire::Down);
        #[cfg(hpx_planted)]
        if planted::alive(Bug::DoubleConnection) {
            match wire {
                Wire::Down => {}
                Wire::Dialing(dialing) => self.stray.keep_dialing(dialing, Vec::new()),
                Wire::Up(link) => self.stray.keep_link(*link),
            }
            return;
        }
        if let Wire::Up(mut link) = wire
            && say_goodbye
        {
            link.write_close(1000);
            // Nobody waits for it: what the socket takes at once is said.
            let _ = link.flush(&mut Context::from_waker(Waker::noop()));
        }
    }

    fn write(&mut self, outgoing: Outgoing) {
        #[cfg(hpx_planted)]
        if planted::alive(Bug::ResubscribeElsewhere)
            && self.session.epoch().0 > 1
            && let Outgoing::Subscribe { topics, sequence } = &outgoing
        {
            let message = self.handler.build_subscribe(topics, numeric(*sequence));
            let dialing = self.open(0);
            self.stray.keep_dialing(dialing, vec![message]);
            return;
        }
        let Wire::Up(link) = &mut self.wire else { return };
        match outgoing {
            Outgoing::Own(message) | Outgoing::Send(message) | Outgoing::Confirmed { message, .. } => {
                link.write_message(&message)
            }
            Outgoing::Request { key, message } => self.write_request(key, &message),
            Outgoing::Subscribe { topics, sequence } => {
                self.calling = Some("build_subscribe");
                let message = self.handler.build_subscribe(&topics, numeric(sequence));
                link.write_message(&message);
            }
            Outgoing::Unsubscribe { topics, sequence } => {
                self.calling = Some("build_unsubscribe");
                let message = self.handler.build_unsubscribe(&topics, numeric(sequence));
                link.write_message(&message);
            }
            Outgoing::Ping => {
                self.calling = Some("build_ping");
                match if self.config.use_websocket_ping { None } else { self.handler.build_ping() } {
                    Some(ping) => link.write_message(&ping),
                    None => link.write_ping(),
                }
                link.watch_ping();
            }
            Outgoing::Close => link.write_close(1000),
        }
        self.calling = None;
    }

    fn write_request(&mut self, key: Key, message: &WsMessage) {
        let Wire::Up(link) = &mut self.wire else { return };
        let sequence = key.sequence();
        self.calling = Some("generate_request_id");
        let id: RequestId = self.handler.generate_request_id(sequence);
        self.scratch.encoded.clear();
        self.calling = Some("encode_request");
        let encoded = self.handler.encode_request(&id, message, &mut self.scratch.encoded);
        self.calling = None;
        match encoded {
            Ok(()) if message.is_text() => link.write_text(&self.scratch.encoded),
            Ok(()) => link.write_binary(&self.scratch.encoded),
            Err(error) => {
                self.shared.answer(key, Err(error));
                return;
            }
        }
        if id.as_number() != Some(sequence) {
            self.session.handle_named(key, id);
        }
    }

    fn emit(&mut self, event: Event) {
        match &event {
            Event::Connected { epoch } => info!(target: "hpx_transport", %epoch, "connected"),
            Event::Disconnected { epoch, reason } => {
                info!(target: "hpx_transport", %epoch, %reason, kind = ?reason.kind(), "disconnected");
            }
            Event::Retrying { attempt, delay, cause } => {
                info!(target: "hpx_transport", attempt, ?delay, %cause, "retrying");
            }
            Event::Message(_) | Event::Skipped { .. } | Event::Closed { .. } => {}
        }
        self.shared.emit(event);
    }

    pub(super) fn end(&mut self, cause: CloseCause, unsent: u64) {
        // Order matters: whoever hears of the end finds the socket closed.
        self.wire = Wire::Down;
        info!(target: "hpx_transport", %cause, unsent, "closed");
        self.shared.end(cause, unsent);
    }
}

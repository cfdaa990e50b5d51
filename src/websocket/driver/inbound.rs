//! From the socket to whom it concerns: reading, routing, handing over.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tracing::{debug, trace, warn};

use super::{Awaited, Driver, Wire};
use crate::{
    env::{Env, Timestamp},
    error::{ErrorKind, TransportError},
    planted::{self, Bug},
    websocket::{
        event::{IncomingMessage, MessageKind},
        link::{Inbound, Link},
        message::{Topic, WsMessage},
        protocol::{ProtocolHandler, ResponseBody, Route},
        session::{
            Session,
            port::{Key, LinkEvent, Reply, ReplyBody},
            subscriptions::TopicId,
        },
    },
};

/// Whose a message is.
enum Claim {
    Feed(TopicId),
    Caller(Key, ReplyBody),
    TopicReply,
    Ping,
    Event(MessageKind, Option<Topic>),
    Nobody,
}

impl<E: Env, H: ProtocolHandler> Driver<E, H> {
    /// Reads until there is nothing more or a burst is full. True if there may be more.
    pub(super) fn read(&mut self, now: Timestamp, cx: &mut Context<'_>) -> bool {
        #[cfg(hpx_planted)]
        self.stray.poll(cx);
        if !self.session.wants_link() {
            return false;
        }
        if let Wire::Dialing(dialing) = &mut self.wire {
            match dialing.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(Ok(link)) => self.link_up(now, link),
                Poll::Ready(Err(error)) => {
                    self.wire = Wire::Down;
                    self.lose(now, error);
                }
            }
        }
        if self.holds_back(now) {
            return true;
        }
        let mut more = true;
        let mut bytes = 0;
        let mut beats = false;
        for _ in 0..READ_BURST {
            let Wire::Up(link) = &mut self.wire else { return false };
            let full = self.full_feed || self.events.count >= self.config.event_burst;
            if bytes >= READ_BURST_BYTES || full || !self.session.wants_link() {
                break;
            }
            let Poll::Ready(inbound) = link.poll_next(cx) else {
                more = false;
                break;
            };
            match inbound {
                Inbound::Message(message) => {
                    bytes += message.as_bytes().len();
                    self.receive(now, message);
                }
                Inbound::Heartbeat => beats = true,
                Inbound::Lost { cause, code } => {
                    if let Some(code) = code {
                        link.write_close(code);
                        // What the socket takes now, it takes: the link is dropped either way.
                        let _ = link.flush(cx);
                    }
                    self.wire = Wire::Down;
                    self.lose(now, cause);
                    return false;
                }
            }
        }
        if let Wire::Up(link) = &mut self.wire
            && link.take_received()
            && (beats || !planted::alive(Bug::DataIsNoLiveness))
        {
            self.session.handle_link(now, LinkEvent::Alive);
        }
        more
    }

    /// True while a reader, of a guard or of the events, gets its turn before more is read. A runtime may poll a task many times before it polls
    /// the reader it woke; without this the queue would overflow though the reader is prompt, and the read buffer would be
    /// pinned instead of reused. Bounded by [`PATIENCE_TURNS`]: a slow reader holds up nothing.
    fn holds_back(&mut self, now: Timestamp) -> bool {
        let Some((reader, patience)) = &mut self.awaited else { return false };
        let is_taken = match reader {
            Awaited::Guard(guard) => guard.is_taken(),
            Awaited::Events => self.shared.events_are_taken(),
        };
        // No verdict before what is readable was read.
        let verdict_due = self.session.poll_timeout().is_some_and(|at| at <= now);
        if *patience == 0 || verdict_due || is_taken {
            self.awaited = None;
            return false;
        }
        *patience -= 1;
        true
    }

    fn link_up(&mut self, now: Timestamp, link: Link<E::Stream>) {
        self.wire = Wire::Up(Box::new(link));
        self.calling = Some("on_connect");
        let greetings = self.handler.on_connect();
        self.calling = Some("build_auth_message");
        let auth = if self.config.auth_on_connect { self.handler.build_auth_message() } else { None };
        self.calling = None;
        debug!(target: "hpx_transport", authenticating = auth.is_some(), "link up");
        self.session.handle_link(now, LinkEvent::Up { greetings, auth });
    }

    /// Routes one message.
    fn receive(&mut self, now: Timestamp, message: WsMessage) {
        let mut message = message;
        let mut raw = None;
        if let WsMessage::Binary(bytes) = &message {
            self.calling = Some("decode_binary");
            if let Some(text) = self.handler.decode_binary(bytes) {
                raw = Some(std::mem::replace(&mut message, WsMessage::text(text)));
            }
        }
        if self.session.awaits_auth() && self.authenticate(now, &message) {
            return;
        }
        match self.claim(&message) {
            Claim::Feed(id) => self.stage(id, message),
            Claim::Caller(key, body) => {
                self.scratch.answers.push((key, Ok(Reply::Message { message, body })));
            }
            Claim::TopicReply => self.topic_reply(now, message, raw),
            Claim::Ping => self.answer_ping(now, &message),
            Claim::Event(kind, topic) => self.incoming(now, message, raw, kind, topic),
            Claim::Nobody => {}
        }
    }

    /// Whose a message is.
    fn claim(&mut self, message: &WsMessage) -> Claim {
        self.calling = Some("route");
        let route = self.handler.route(message);
        self.calling = None;
        match route {
            Route::Update { topic } => match self.session.told(&topic) {
                Some(id) => Claim::Feed(id),
                None => Claim::Event(MessageKind::Update, Some(Topic::from(topic.as_ref()))),
            },
            Route::Response { id, body } => match self.session.handle_reply(&id) {
                Some(key) => Claim::Caller(key, reply_body(message, body)),
                None if Session::is_topic_message(&id) => Claim::TopicReply,
                None => {
                    trace!(target: "hpx_transport", "a reply that no request waits for was dropped");
                    Claim::Nobody
                }
            },
            Route::Ping => Claim::Ping,
            Route::Pong => Claim::Nobody,
            Route::Event(kind) => Claim::Event(kind, None),
        }
    }

    fn answer_ping(&mut self, now: Timestamp, ping: &WsMessage) {
        self.calling = Some("build_pong");
        let pong = self.handler.build_pong(ping.as_bytes());
        self.calling = None;
        if let Some(pong) = pong {
            self.session.handle_link(now, LinkEvent::PongDue(pong));
        }
    }

    /// True if `message` was the peer's verdict.
    fn authenticate(&mut self, now: Timestamp, message: &WsMessage) -> bool {
        let Some(text) = message.as_text() else { return false };
        self.calling = Some("is_auth_success");
        let accepted = self.handler.is_auth_success(text);
        self.calling = Some("is_auth_failure");
        let rejected = !accepted && self.handler.is_auth_failure(text);
        self.calling = None;
        if accepted {
            self.session.handle_link(now, LinkEvent::AuthAccepted);
        } else if rejected {
            let error = TransportError::new(ErrorKind::AuthRejected, "the peer rejected the authentication");
            self.calling = Some("should_reconnect");
            self.session.handle_link(now, LinkEvent::AuthRejected(error));
            self.calling = None;
        }
        accepted || rejected
    }

    /// The reply to a subscribe or unsubscribe message.
    fn topic_reply(&mut self, now: Timestamp, message: WsMessage, raw: Option<WsMessage>) {
        self.calling = Some("is_subscription_success");
        let accepted = message.as_text().is_none_or(|text| self.handler.is_subscription_success(text));
        self.calling = None;
        if !accepted {
            warn!(target: "hpx_transport", "the peer rejected a subscribe or unsubscribe message");
            self.incoming(now, message, raw, MessageKind::System, None);
        }
    }

    fn incoming(
        &mut self,
        now: Timestamp,
        message: WsMessage,
        raw: Option<WsMessage>,
        kind: MessageKind,
        topic: Option<Topic>,
    ) {
        if self.events.count == 0 {
            self.events.reader_is_prompt = self.shared.events_are_taken();
        }
        self.events.count += 1;
        let text = match &message {
            WsMessage::Text(text) => Some(text.clone()),
            WsMessage::Binary(_) => None,
        };
        let message = IncomingMessage { raw: raw.unwrap_or(message), text, kind, topic };
        self.session.handle_link(now, LinkEvent::Incoming(message));
    }

    fn stage(&mut self, id: TopicId, message: WsMessage) {
        let feed = &mut self.feeds[id.0];
        if feed.batch.is_empty() {
            self.touched.push(id);
        }
        feed.batch.push(message);
        self.full_feed |= feed.batch.len() >= self.config.feed_burst;
    }

    /// Hands the turn's messages to the guards. `more` tells that there are more to read.
    pub(super) fn deliver(&mut self, more: bool) {
        self.full_feed = false;
        let events = std::mem::take(&mut self.events);
        if more && events.reader_is_prompt {
            self.awaited = Some((Awaited::Events, PATIENCE_TURNS));
        }
        for id in self.touched.drain(..) {
            let feed = &mut self.feeds[id.0];
            let last = feed.guards.len().saturating_sub(1);
            for (place, guard) in feed.guards.iter().enumerate() {
                let lagged = guard.lagged();
                // Whoever has not taken what it was given before is not waited for: every burst would cost the whole patience.
                let is_prompt = more && self.awaited.is_none() && guard.is_taken();
                // The payload is shared by all guards; the last one gets the messages themselves.
                let reader = match place == last {
                    true => guard.append(feed.batch.drain(..)),
                    false => guard.append(feed.batch.iter().cloned()),
                };
                self.scratch.wakers.extend(reader);
                if is_prompt {
                    self.awaited = Some((Awaited::Guard(Arc::clone(guard)), PATIENCE_TURNS));
                }
                if lagged == 0 && guard.lagged() > 0 {
                    warn!(target: "hpx_transport", topic = ?feed.topic, "a guard is not read fast enough and loses messages");
                }
            }
            feed.batch.clear();
        }
        for waker in self.scratch.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// Where in the message the answer lies. A slice that isn't of the message stands for all of it.
fn reply_body(message: &WsMessage, body: ResponseBody<'_>) -> ReplyBody {
    let range = |part: &str| {
        let whole = message.as_bytes().as_ptr() as usize;
        let start = (part.as_ptr() as usize).checked_sub(whole)?;
        let end = start.checked_add(part.len())?;
        (end <= message.as_bytes().len()).then_some(start..end)
    };
    match body {
        ResponseBody::Whole => ReplyBody::Whole,
        ResponseBody::Result(part) => range(part).map_or(ReplyBody::Whole, ReplyBody::Result),
        ResponseBody::Error(part) => ReplyBody::Error(range(part).unwrap_or(0..message.as_bytes().len())),
    }
}

/// Messages read in one turn: few enough that commands, timers and other tasks get theirs.
const READ_BURST: usize = 1024;
/// Bytes of messages read in one turn: they are still in the cache when their readers get them.
const READ_BURST_BYTES: usize = 512 << 10;
/// As many turns as tokio's current-thread runtime gives other tasks between two polls of its main future (61), and a few.
const PATIENCE_TURNS: u32 = 64;

//! The driver: one task that owns the socket and does what the session decides.
//!
//! One loop, one await. A turn takes in everything that has happened, in the order control, data, link, deadline; lets the
//! session decide; carries the decisions out; and flushes once. Every step is synchronous, reads are bounded per turn, and
//! nothing a caller, a reader or the peer does or leaves undone can block it.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use rand_chacha::{ChaCha12Rng, rand_core::Rng};
use rustls::pki_types::ServerName;
use tracing::{Span, debug, info, trace, warn};

use super::{
    config::{Endpoint, WsConfig},
    event::{CloseCause, ConnectionEpoch, Event, IncomingMessage, MessageKind},
    link::{Inbound, Link},
    message::{RequestId, Topic, WsMessage},
    protocol::{ProtocolHandler, ResponseBody, Route, numeric},
    session::{
        Session, SessionConfig,
        port::{Action, ControlCommand, DataCommand, Key, LinkEvent, Outgoing, Reply, ReplyBody},
        subscriptions::TopicId,
    },
    shared::{Limits, Shared, feed::FeedQueue},
    upgrade::{Draws, Upgrade},
};
use crate::{
    backoff::{Purpose, stream},
    dial::{Target, dial},
    env::{Env, Timer, Timestamp},
    error::{ErrorKind, TransportError, TransportResult},
    planted::{self, Bug},
};

/// A dial under way: one box per link.
type Dialing<S> = Pin<Box<dyn Future<Output = TransportResult<Link<S>>> + Send>>;

pub(crate) struct Driver<E: Env, H> {
    env: E,
    handler: Arc<H>,
    shared: Arc<Shared>,
    session: Session,
    target: Target,
    upgrade: Arc<Upgrade>,
    config: DriverConfig,
    /// Draws nonces and mask seeds.
    draws: ChaCha12Rng,
    wire: Wire<E::Stream>,
    /// The guards of each topic, by its place in the session's store.
    feeds: Vec<Feed>,
    /// Places with messages in this turn.
    touched: Vec<TopicId>,
    timer: Pin<Box<E::Timer>>,
    armed: Option<Timestamp>,
    span: Span,
    /// What of the handler is being called, so that a panic can be laid at its door.
    calling: Option<&'static str>,
    scratch: Scratch,
    #[cfg(hpx_planted)]
    stray: super::stray::Stray<E::Stream>,
}

#[derive(Debug, Clone, Copy)]
struct DriverConfig {
    connect_timeout: std::time::Duration,
    auth_on_connect: bool,
    use_websocket_ping: bool,
    read_burst: usize,
}

/// The one socket.
enum Wire<S> {
    Down,
    Dialing(Dialing<S>),
    Up(Box<Link<S>>),
}

/// Where a topic's messages go.
#[derive(Default)]
struct Feed {
    topic: Option<Topic>,
    guards: Vec<Arc<FeedQueue>>,
    /// Messages of this turn: appended to each guard's queue at its end, under one lock.
    batch: Vec<WsMessage>,
}

/// Buffers kept from turn to turn.
#[derive(Default)]
struct Scratch {
    data: Vec<DataCommand>,
    actions: Vec<Action>,
    answers: Vec<(Key, TransportResult<Reply>)>,
    encoded: Vec<u8>,
    wakers: Vec<Waker>,
}

/// Whose a message is.
enum Claim {
    Feed(TopicId),
    Caller(Key, ReplyBody),
    TopicReply,
    Ping,
    Event(MessageKind, Option<Topic>),
    Nobody,
}

/// How a turn ended.
enum Turn {
    /// Nothing is left to do until something wakes the driver.
    Rest,
    /// There is more to read: the others get their turn first.
    Yield,
    /// Something new is to be done at once.
    Again,
    Ended,
}

impl<E: Env, H: ProtocolHandler> Driver<E, H> {
    /// # Errors
    ///
    /// `Config`, for what only shows when the parts are put together.
    pub(crate) fn new(
        env: E,
        handler: H,
        config: &WsConfig,
        seed: [u8; 32],
        shared: Arc<Shared>,
    ) -> TransportResult<Self> {
        let endpoint = Endpoint::parse(&config.url)?;
        let handler = Arc::new(handler);
        let tls = match endpoint.tls {
            false => None,
            true => {
                let name = ServerName::try_from(endpoint.host.clone())
                    .map_err(|_| TransportError::config("url", "has a host that no certificate can name"))?;
                Some((config.tls.client_config(&env)?, name))
            }
        };
        let judge = {
            let handler = Arc::clone(&handler);
            Box::new(move |cause: &TransportError| handler.should_reconnect(cause))
        };
        let session_config = SessionConfig {
            backoff: config.backoff,
            max_attempts: config.reconnect_max_attempts,
            stable_after: config.stable_after,
            ping_interval: config.ping_interval,
            pong_timeout: config.pong_timeout,
            connect_timeout: config.connect_timeout,
            auth_timeout: config.auth_timeout,
            write_timeout: config.write_timeout,
            close_timeout: config.close_timeout,
            callers_max: Limits::of(config).callers_max(),
            topics_per_message: handler.topics_per_message(),
        };
        let hash_seed = stream(seed, Purpose::Hasher).next_u64();
        let span = tracing::info_span!(target: "hpx_transport", "connection", url = %endpoint.redacted());
        Ok(Self {
            timer: Box::pin(env.timer()),
            session: Session::new(session_config, judge, seed, hash_seed),
            target: Target { host: endpoint.host.clone(), port: endpoint.port, tls },
            upgrade: Upgrade::new(config, &endpoint),
            config: DriverConfig {
                connect_timeout: config.connect_timeout,
                auth_on_connect: config.auth_on_connect,
                use_websocket_ping: config.use_websocket_ping,
                read_burst: config.subscription_channel_capacity.clamp(1, READ_BURST_MAX),
            },
            draws: stream(seed, Purpose::Links),
            env,
            handler,
            shared,
            wire: Wire::Down,
            feeds: Vec::new(),
            touched: Vec::new(),
            armed: None,
            span,
            calling: None,
            scratch: Scratch::default(),
            #[cfg(hpx_planted)]
            stray: super::stray::Stray::default(),
        })
    }

    /// Runs the connection to its end.
    pub(crate) async fn run(mut self) {
        let now = self.env.now();
        self.session.start(now);
        poll_fn(|cx| {
            // After a panic nothing of the driver is used but its end.
            match catch_unwind(AssertUnwindSafe(|| self.poll_turns(cx))) {
                Ok(poll) => poll,
                Err(_) => {
                    self.fail();
                    Poll::Ready(())
                }
            }
        })
        .await;
    }

    fn poll_turns(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let span = self.span.clone();
        let _entered = span.enter();
        for _ in 0..TURNS_MAX {
            match self.turn(cx) {
                Turn::Again => {}
                Turn::Rest => return Poll::Pending,
                Turn::Ended => return Poll::Ready(()),
                Turn::Yield => break,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = self.env.now();
        self.take_commands(now, cx);
        let more = self.read(now, cx);
        self.session.handle_timeout(now);
        if self.perform() {
            return Turn::Ended;
        }
        self.deliver();
        self.flush(now, cx);
        if more {
            return Turn::Yield;
        }
        self.arm(cx)
    }

    /// Control, then data.
    fn take_commands(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let mut data = std::mem::take(&mut self.scratch.data);
        let wanted = self.shared.take_commands(&mut data, cx.waker());
        if wanted.topics_marked {
            self.follow_topics();
        }
        if let Some(command) = wanted.reconnect {
            self.session.handle_control(now, command);
        }
        if let Some(command) = wanted.close {
            let deaf = planted::alive(Bug::DriverOutlivesHandles)
                && matches!(command, ControlCommand::Close(CloseCause::HandlesDropped));
            if !deaf {
                self.session.handle_control(now, command);
            }
        }
        for command in data.drain(..) {
            self.session.handle_command(now, command);
        }
        self.scratch.data = data;
    }

    /// Makes feeds and session follow what the guards want.
    fn follow_topics(&mut self) {
        for (topic, guards) in self.shared.take_marked_topics() {
            let id = self.session.handle_topic(&topic, !guards.is_empty());
            if self.feeds.len() <= id.0 {
                self.feeds.resize_with(id.0 + 1, Feed::default);
            }
            if self.session.is_told(id) {
                mark_epoch(&guards, self.session.epoch(), &mut self.scratch.wakers);
            }
            let feed = &mut self.feeds[id.0];
            feed.guards = guards;
            feed.topic = Some(topic);
            // Messages of this turn that were meant for guards now gone.
            if feed.guards.is_empty() {
                feed.batch.clear();
            }
        }
    }

    /// Reads until there is nothing more or a burst is full. True if there may be more.
    fn read(&mut self, now: Timestamp, cx: &mut Context<'_>) -> bool {
        #[cfg(hpx_planted)]
        self.stray.poll(cx);
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
        let mut more = true;
        for _ in 0..self.config.read_burst {
            let Wire::Up(link) = &mut self.wire else { return false };
            let Poll::Ready(inbound) = link.poll_next(cx) else {
                more = false;
                break;
            };
            match inbound {
                Inbound::Message(message) => self.receive(now, message),
                Inbound::Heartbeat => {}
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
        {
            self.session.handle_link(now, LinkEvent::Alive);
        }
        more
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

    fn lose(&mut self, now: Timestamp, cause: TransportError) {
        self.calling = Some("should_reconnect");
        self.session.handle_link(now, LinkEvent::Down(cause));
        self.calling = None;
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
            self.session.handle_link(now, LinkEvent::AuthRejected(error));
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
    }

    /// Hands the turn's messages to the guards.
    fn deliver(&mut self) {
        for id in self.touched.drain(..) {
            let feed = &mut self.feeds[id.0];
            for guard in &feed.guards {
                let lagged = guard.lagged();
                self.scratch.wakers.extend(guard.append(&feed.batch));
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

    /// Carries out what the session decided. True at the end of all.
    fn perform(&mut self) -> bool {
        let mut actions = std::mem::take(&mut self.scratch.actions);
        self.session.take_actions(&mut actions);
        self.shared.settle(&mut actions, &mut self.scratch.answers);
        let mut ended = false;
        for action in actions.drain(..) {
            match action {
                Action::Dial { attempt } => self.dial(attempt),
                Action::Write(outgoing) => self.write(outgoing),
                Action::Hangup { say_goodbye } => self.hang_up(say_goodbye),
                Action::Answer(key, answer) => self.shared.answer(key, answer),
                Action::Told(id, epoch) => {
                    if let Some(feed) = self.feeds.get(id.0) {
                        mark_epoch(&feed.guards, epoch, &mut self.scratch.wakers);
                    }
                }
                Action::Release { sends } => self.shared.release_sends(sends),
                Action::Emit(event) => self.emit(event),
                Action::End { cause, unsent } => {
                    self.end(cause, unsent);
                    ended = true;
                }
            }
        }
        self.scratch.actions = actions;
        if !ended {
            self.shared.show(self.session.state(), self.session.epoch());
        }
        ended
    }

    fn dial(&mut self, attempt: u32) {
        debug!(target: "hpx_transport", attempt, "dialing");
        self.wire = Wire::Dialing(self.open(attempt));
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
            Outgoing::Plain(message) | Outgoing::Confirmed { message, .. } => link.write_message(&message),
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

    fn flush(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let Wire::Up(link) = &mut self.wire else { return };
        match link.flush(cx) {
            Ok(flush) => {
                let room = link.has_room();
                let (pending, progressed) = (flush.pending, flush.progressed);
                self.session.handle_link(now, LinkEvent::Flushed { pending, progressed, room });
            }
            Err(cause) => {
                self.wire = Wire::Down;
                self.lose(now, cause);
            }
        }
    }

    /// Sets the alarm, and looks whether something is left to do.
    fn arm(&mut self, cx: &mut Context<'_>) -> Turn {
        if self.session.has_work() {
            return Turn::Again;
        }
        let Some(at) = self.session.poll_timeout() else { return Turn::Rest };
        if self.armed != Some(at) {
            self.timer.as_mut().arm(at);
            self.armed = Some(at);
        }
        match self.timer.as_mut().poll_expired(cx) {
            Poll::Pending => Turn::Rest,
            Poll::Ready(()) => {
                // The clock decides, not the alarm: rung early, it is set again.
                self.armed = None;
                Turn::Again
            }
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

    fn end(&mut self, cause: CloseCause, unsent: u64) {
        // Order matters: whoever hears of the end finds the socket closed.
        self.wire = Wire::Down;
        info!(target: "hpx_transport", %cause, unsent, "closed");
        self.shared.end(cause, unsent);
    }

    /// A panic came up through the driver.
    fn fail(&mut self) {
        let error = match self.calling {
            Some(method) => {
                let text = format!("the protocol handler panicked in {method}");
                TransportError::new(ErrorKind::HandlerPanicked, text)
            }
            None => TransportError::new(ErrorKind::DriverDropped, "the driver of the connection panicked"),
        };
        self.end(CloseCause::Failed(error), 0);
    }
}

impl<E: Env, H> Drop for Driver<E, H> {
    /// The runtime shut down, or the task was dropped: everybody who waits is told.
    fn drop(&mut self) {
        self.wire = Wire::Down;
        let error =
            TransportError::new(ErrorKind::DriverDropped, "the runtime dropped the driver of the connection");
        self.shared.end(CloseCause::Failed(error), 0);
    }
}

fn mark_epoch(guards: &[Arc<FeedQueue>], epoch: ConnectionEpoch, wakers: &mut Vec<Waker>) {
    for guard in guards {
        if let Some(waker) = guard.mark_epoch(epoch) {
            debug!(target: "hpx_transport", %epoch, "a guard was told of a gap");
            wakers.push(waker);
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

/// Messages read in one turn: few enough that commands, timers and other tasks get theirs, and never more than a guard's
/// queue holds, so that a guard read after every turn loses nothing.
const READ_BURST_MAX: usize = 256;
/// Turns in one poll; each but the last had something new to do.
const TURNS_MAX: usize = 16;

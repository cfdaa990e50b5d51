//! The driver: one task that owns the socket and does what the session decides.
//!
//! One loop, one await. A turn takes in everything that has happened, in the order control, data, link, deadline; lets the
//! session decide; carries the decisions out; and flushes once, a large batch in parts. Every step is synchronous, reads are bounded per turn, and
//! nothing a caller, a reader or the peer does or leaves undone can block it.

mod inbound;
mod outbound;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rand_chacha::{ChaCha12Rng, rand_core::Rng};
use rustls::pki_types::ServerName;
use tracing::{Span, debug};

use super::{
    config::{Endpoint, WsConfig},
    event::{CloseCause, ConnectionEpoch},
    link::{Flush, Link},
    message::{Topic, WsMessage},
    protocol::ProtocolHandler,
    session::{
        Session, SessionConfig,
        port::{Action, ControlCommand, DataCommand, Key, LinkEvent, Outgoing, Reply},
        subscriptions::TopicId,
    },
    shared::{Limits, Shared, feed::FeedQueue},
    upgrade::Upgrade,
};
use crate::{
    backoff::{Purpose, stream},
    dial::Target,
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
    /// The dial was made in this turn, after the link had its poll.
    unpolled: bool,
    /// The guards of each topic, by its place in the session's store.
    feeds: Vec<Feed>,
    /// A topic has as many messages in this turn as a guard's queue holds.
    full_feed: bool,
    /// Places with messages in this turn.
    touched: Vec<TopicId>,
    /// Whoever was given part of a full burst, and for how many turns the reader is still waited for.
    awaited: Option<(Awaited, u32)>,
    events: EventBurst,
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
    connect_timeout: Duration,
    auth_on_connect: bool,
    use_websocket_ping: bool,
    /// Messages of one topic read in one turn: no more than a guard's queue holds, so that a guard read after every turn
    /// loses nothing.
    feed_burst: usize,
    /// Messages for the event stream read in one turn, likewise.
    event_burst: usize,
}

/// Whose reader gets its turn before more is read.
enum Awaited {
    Guard(Arc<FeedQueue>),
    Events,
}

/// Messages of this turn for the event stream.
#[derive(Debug, Default)]
struct EventBurst {
    count: usize,
    /// The reader had taken all there was before them. One that hadn't is not waited for.
    reader_is_prompt: bool,
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
    actions: VecDeque<Action>,
    answers: Vec<(Key, TransportResult<Reply>)>,
    encoded: Vec<u8>,
    wakers: Vec<Waker>,
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
    /// `Config`, for what only shows when the parts are put together; `HandlerPanicked`.
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
                Some((config.tls.secure(&env, &endpoint.host, endpoint.port, &[])?, name))
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
            topics_per_message: catch_unwind(AssertUnwindSafe(|| handler.topics_per_message()))
                .map_err(|_| handler_panicked("topics_per_message"))?,
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
                feed_burst: config.subscription_channel_capacity,
                event_burst: config.event_channel_capacity,
            },
            draws: stream(seed, Purpose::Links),
            env,
            handler,
            shared,
            wire: Wire::Down,
            unpolled: false,
            feeds: Vec::new(),
            full_feed: false,
            touched: Vec::new(),
            awaited: None,
            events: EventBurst::default(),
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
                Turn::Rest => {
                    if planted::alive(Bug::BusyLoop) {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
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
        self.calling = Some("should_reconnect");
        self.session.handle_timeout(now);
        self.calling = None;
        if self.perform(cx) {
            return Turn::Ended;
        }
        self.deliver(more);
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

    fn lose(&mut self, now: Timestamp, cause: TransportError) {
        self.calling = Some("should_reconnect");
        self.session.handle_link(now, LinkEvent::Down(cause));
        self.calling = None;
    }

    fn flush(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let Wire::Up(link) = &mut self.wire else { return };
        match link.flush(cx) {
            Ok(flush) => {
                let room = link.has_room();
                let Flush { pending, progressed, ping_left } = flush;
                self.session.handle_link(now, LinkEvent::Flushed { pending, progressed, room, ping_left });
            }
            Err(cause) => {
                self.wire = Wire::Down;
                self.lose(now, cause);
            }
        }
    }

    /// Sets the alarm, and looks whether something is left to do.
    fn arm(&mut self, cx: &mut Context<'_>) -> Turn {
        if std::mem::take(&mut self.unpolled) || self.session.has_work() {
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

    /// A panic came up through the driver.
    fn fail(&mut self) {
        let error = match self.calling {
            Some(method) => handler_panicked(method),
            None => TransportError::new(ErrorKind::DriverDropped, "the driver of the connection panicked"),
        };
        self.abandon(error);
    }
}

impl<E: Env, H> Driver<E, H> {
    /// Ends without the session's help: callers are told what became of their messages, as far as it is known here.
    fn abandon(&mut self, error: TransportError) {
        self.wire = Wire::Down;
        for (key, answer) in self.scratch.answers.drain(..) {
            self.shared.answer(key, answer);
        }
        let unsent = self.unsent();
        let shared = &self.shared;
        self.session.abandon(|key, delivery| shared.answer(key, Err(error.clone().with_delivery(delivery))));
        self.shared.end(CloseCause::Failed(error), unsent);
    }

    /// Sends that the driver has taken and not written.
    fn unsent(&self) -> u64 {
        let taken = self.scratch.data.iter().filter(|command| matches!(command, DataCommand::Send { .. }));
        let released =
            self.scratch.actions.iter().filter(|action| matches!(action, Action::Write(Outgoing::Send(_))));
        self.session.unsent() + taken.count() as u64 + released.count() as u64
    }
}

impl<E: Env, H> Drop for Driver<E, H> {
    /// The runtime shut down, or the task was dropped: everybody who waits is told. After an ordinary end nobody does.
    fn drop(&mut self) {
        let text = "the runtime dropped the driver of the connection";
        self.abandon(TransportError::new(ErrorKind::DriverDropped, text));
    }
}

fn handler_panicked(method: &str) -> TransportError {
    TransportError::new(ErrorKind::HandlerPanicked, format!("the protocol handler panicked in {method}"))
}

fn mark_epoch(guards: &[Arc<FeedQueue>], epoch: ConnectionEpoch, wakers: &mut Vec<Waker>) {
    for guard in guards {
        if let Some(reader) = guard.mark_epoch(epoch) {
            debug!(target: "hpx_transport", %epoch, "a guard was told of a gap");
            wakers.extend(reader);
        }
    }
}

/// Turns in one poll; each but the last had something new to do.
const TURNS_MAX: usize = 16;

//! A client of the plan: does what its script says, reads what comes, and writes down the outcomes.
//!
//! One actor owns every future it has started and polls them itself, so that dropping one, or all of them with the last
//! handle, happens at an exact place in the order of things.

pub(crate) mod http;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use hpx_transport::{
    TransportError, TransportResult,
    env::Timestamp,
    websocket::{ConnectionHandle, ConnectionStream, SubscriptionGuard, Topic, Update, WsConfig, WsMessage},
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    dialect::Dialect,
    env::SimEnv,
    peers::tls,
    plan::{Cancel, ClientPlan, HandlerPlan, Op, Reader},
    trace::{Outcome, What, WorkLog},
};

/// Starts a connection with the handler under test. The handler's type ends here.
pub(crate) type Connector = Arc<
    dyn Fn(
            SimEnv,
            WsConfig,
            HandlerPlan,
        )
            -> Pin<Box<dyn Future<Output = TransportResult<(ConnectionHandle, ConnectionStream)>> + Send>>
        + Send
        + Sync,
>;

/// What every client of a run shares.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) connector: Connector,
    pub(crate) dialect: Arc<dyn Dialect>,
}

/// Runs one client to the end of the simulation.
pub(crate) async fn run(env: SimEnv, plan: ClientPlan, settle_ms: u64, url: String, kit: Kit) {
    let start = at(plan.start_ms);
    sleep_until(instant(&env, start)).await;
    let mut config = plan.config.to_config(&url);
    if plan.tls {
        config = config.tls(tls::trust());
    }
    let (handle, stream) = match (kit.connector)(env.clone(), config, plan.handler).await {
        Ok(parts) => parts,
        Err(error) => {
            env.record(What::Work(WorkLog::StartFailed { text: error.to_string() }));
            return std::future::pending().await;
        }
    };
    env.record(What::Work(WorkLog::Started));
    let mut actor = Actor {
        alarm: Box::pin(sleep_until(instant(&env, start))),
        settle: Some(at(settle_ms)),
        next_read: start,
        next_guard_read: start,
        ended_guards: BTreeSet::new(),
        read: false,
        handle: Some(handle),
        stream: Some(stream),
        env,
        plan,
        dialect: kit.dialect,
        step: 0,
        calls: Vec::new(),
        guards: BTreeMap::new(),
    };
    poll_fn(|cx| actor.poll(cx)).await
}

struct Actor {
    env: SimEnv,
    plan: ClientPlan,
    dialect: Arc<dyn Dialect>,
    handle: Option<ConnectionHandle>,
    stream: Option<ConnectionStream>,
    /// The next step of the script.
    step: usize,
    calls: Vec<Call>,
    guards: BTreeMap<u32, SubscriptionGuard>,
    /// Those whose topic was given up by `unsubscribe`, and that have more to yield.
    ended_guards: BTreeSet<u32>,
    /// When to take the snapshot.
    settle: Option<Timestamp>,
    /// When a slow reader looks again.
    next_read: Timestamp,
    /// When a slow reader of guards looks again.
    next_guard_read: Timestamp,
    /// Events were read since the handle was last asked how it stands.
    read: bool,
    alarm: Pin<Box<Sleep>>,
}

/// A future of the library's that the client has started.
struct Call {
    kind: CallKind,
    future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    polls: u32,
    cancel: Option<Cancel>,
    /// When a call that is to be cancelled is polled again.
    next_poll: Timestamp,
}

#[derive(Clone, Copy, PartialEq)]
enum CallKind {
    Request(u64),
    Send(u64),
    Ready,
    Close,
}

impl Actor {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.env.world_now();
        while let Some(step) = self.plan.script.get(self.step)
            && at(step.at_ms) <= now
        {
            let op = step.op.clone();
            self.step += 1;
            self.perform(now, op);
        }
        self.poll_calls(now, cx);
        self.poll_guards(now, cx);
        self.poll_stream(now, cx);
        self.ask_state();
        if self.settle.is_some_and(|settle| settle <= now) {
            self.settle = None;
            self.snapshot();
        }
        self.arm(now, cx);
        Poll::Pending
    }

    fn perform(&mut self, now: Timestamp, op: Op) {
        let Some(handle) = self.handle.clone() else { return };
        match op {
            Op::Request { label, reply_after_ms, cancel } => {
                let payload = WsMessage::text(self.dialect.request(label, reply_after_ms));
                let dialect = Arc::clone(&self.dialect);
                let timeout = Duration::from_millis(self.plan.config.request_timeout_ms);
                self.log(WorkLog::RequestStarted { label, timeout });
                let future = async move {
                    match handle.request_raw(payload).await {
                        Ok(reply) => {
                            let (label, conn) = dialect.read_reply(&reply).unwrap_or_default();
                            Outcome::Answered { label, conn }
                        }
                        Err(error) => failed(&error),
                    }
                };
                self.start(now, CallKind::Request(label), future.boxed(), cancel);
            }
            Op::Send { label, confirmed, bytes, cancel } => {
                let mut text = self.dialect.message(label);
                let blanks = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(text.len());
                text.extend(std::iter::repeat_n(' ', blanks));
                let message = WsMessage::text(text);
                self.log(WorkLog::SendStarted { label, confirmed });
                let future = async move {
                    let result = if confirmed {
                        handle.send_confirmed(message).await
                    } else {
                        handle.send(message).await
                    };
                    taken(result)
                };
                self.start(now, CallKind::Send(label), future.boxed(), cancel);
            }
            Op::Subscribe { guard, topic } => self.subscribe(&handle, guard, topic),
            Op::SubscribeMany { first_guard, topics } => self.subscribe_many(&handle, first_guard, topics),
            Op::DropGuard { guard } => self.drop_guard(guard),
            Op::Unsubscribe { topic } => {
                if let Some(Ok(())) = handle.unsubscribe(topic.as_str()).now_or_never() {
                    let of_topic = self.guards.iter().filter(|(_, guard)| guard.topic().as_str() == topic);
                    self.ended_guards.extend(of_topic.map(|(guard, _)| *guard));
                    self.log(WorkLog::Unsubscribed { topic });
                }
            }
            Op::Reconnect => {
                if handle.reconnect("the script says so").is_ok() {
                    self.log(WorkLog::ReconnectCalled);
                }
            }
            Op::Ready { cancel } => {
                let future = async move { taken(handle.ready().await.map(drop)) };
                self.start(now, CallKind::Ready, future.boxed(), cancel);
            }
            Op::DropStream => {
                if self.stream.take().is_some() {
                    self.log(WorkLog::StreamDropped);
                }
            }
            Op::CloseAndCancel { cancel } => self.close(now, handle, Some(cancel)),
            Op::Close => self.close(now, handle, None),
            Op::DropHandle => {
                drop(handle);
                self.drop_handles();
            }
        }
    }

    fn close(&mut self, now: Timestamp, handle: ConnectionHandle, cancel: Option<Cancel>) {
        self.log(WorkLog::CloseCalled);
        let future = async move {
            handle.close().await;
            Outcome::Taken
        };
        self.start(now, CallKind::Close, future.boxed(), cancel);
    }

    fn start(
        &mut self,
        now: Timestamp,
        kind: CallKind,
        future: Pin<Box<dyn Future<Output = Outcome> + Send>>,
        cancel: Option<Cancel>,
    ) {
        self.calls.push(Call { kind, future, polls: 0, cancel, next_poll: now });
    }

    fn subscribe(&mut self, handle: &ConnectionHandle, guard: u32, topic: String) {
        // Specified to have no await point: it is done at its first poll.
        match handle.subscribe(topic.as_str()).now_or_never() {
            Some(Ok(subscription)) => {
                self.guards.insert(guard, subscription);
                self.log(WorkLog::GuardOpened { guard, topic });
            }
            Some(Err(_)) => {}
            None => self.log(WorkLog::SubscribeWaited { guard }),
        }
    }

    fn subscribe_many(&mut self, handle: &ConnectionHandle, first: u32, topics: Vec<String>) {
        match handle.subscribe_many(topics.iter().map(String::as_str)).now_or_never() {
            Some(Ok(subscriptions)) => {
                for ((guard, subscription), topic) in (first..).zip(subscriptions).zip(topics) {
                    self.guards.insert(guard, subscription);
                    self.log(WorkLog::GuardOpened { guard, topic });
                }
            }
            Some(Err(_)) => {}
            None => self.log(WorkLog::SubscribeWaited { guard: first }),
        }
    }

    fn drop_guard(&mut self, guard: u32) {
        if let Some(subscription) = self.guards.remove(&guard) {
            self.ended_guards.remove(&guard);
            let topic = subscription.topic().to_string();
            drop(subscription);
            self.log(WorkLog::GuardDropped { guard, topic });
        }
    }

    /// Calls hold handles: they go with it. Guards and the stream stay, and must not keep the connection alive.
    fn drop_handles(&mut self) {
        while !self.calls.is_empty() {
            let call = self.calls.remove(0);
            let (kind, polls) = (call.kind, call.polls);
            drop(call);
            self.ended(kind, Outcome::Cancelled { polls });
        }
        self.handle = None;
        self.log(WorkLog::HandlesDropped);
    }

    fn poll_calls(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let mut index = 0;
        while index < self.calls.len() {
            let call = &mut self.calls[index];
            call.polls += 1;
            match call.future.as_mut().poll(cx) {
                Poll::Ready(outcome) => {
                    let call = self.calls.remove(index);
                    let kind = call.kind;
                    drop(call);
                    self.ended(kind, outcome);
                }
                Poll::Pending if call.cancel.is_some_and(|cancel| call.polls >= cancel.poll) => {
                    let call = self.calls.remove(index);
                    let (kind, polls) = (call.kind, call.polls);
                    drop(call);
                    self.ended(kind, Outcome::Cancelled { polls });
                }
                Poll::Pending => {
                    if let Some(cancel) = call.cancel {
                        call.next_poll = now + Duration::from_millis(cancel.every_ms);
                    }
                    index += 1;
                }
            }
        }
    }

    fn ended(&mut self, kind: CallKind, outcome: Outcome) {
        let (live, pending) =
            (self.live_requests(), self.handle.as_ref().map_or(0, |handle| handle.pending_count()));
        match kind {
            CallKind::Request(label) | CallKind::Send(label) => {
                let request = matches!(kind, CallKind::Request(_));
                self.log(WorkLog::CallEnded { label, request, outcome, live, pending });
            }
            CallKind::Ready => self.log(WorkLog::ReadyEnded { outcome }),
            CallKind::Close => match outcome {
                Outcome::Cancelled { polls } => self.log(WorkLog::CloseCancelled { polls }),
                _ => {
                    self.log(WorkLog::CloseReturned);
                    self.handle = None;
                }
            },
        }
    }

    fn live_requests(&self) -> usize {
        self.calls.iter().filter(|call| matches!(call.kind, CallKind::Request(_))).count()
    }

    fn poll_guards(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let reader = self.reader(self.plan.guard_reader);
        if reader == Reader::Absent || (reader != Reader::Prompt && self.next_guard_read > now) {
            return;
        }
        if let Reader::Slow { every_ms } = reader {
            self.next_guard_read = now + Duration::from_millis(every_ms);
        }
        for guard in self.guards.keys().copied().collect::<Vec<_>>() {
            while let Some(subscription) = self.guards.get_mut(&guard) {
                let next = pin!(subscription.next_update()).poll(cx);
                let update = match next {
                    Poll::Pending => break,
                    Poll::Ready(update) => update,
                };
                let topic = subscription.topic().to_string();
                let log = match update {
                    Some(Update::Message(message)) => {
                        let push = message.as_text().and_then(|text| self.dialect.read_push(text));
                        let (sequence, conn) = push.unwrap_or_default();
                        WorkLog::GuardMessage { guard, topic, sequence, conn }
                    }
                    Some(Update::Lagged(count)) => WorkLog::GuardLagged { guard, count },
                    Some(Update::Gap { from, to }) => WorkLog::GuardGap { guard, from: from.0, to: to.0 },
                    None => {
                        self.guards.remove(&guard);
                        self.ended_guards.remove(&guard);
                        WorkLog::GuardEnded { guard, topic }
                    }
                };
                self.log(log);
                if reader != Reader::Prompt {
                    break;
                }
            }
        }
    }

    fn poll_stream(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let pause = match self.reader(self.plan.reader) {
            Reader::Absent => return,
            Reader::Prompt => None,
            Reader::Slow { every_ms } => Some(Duration::from_millis(every_ms)),
        };
        if pause.is_some() && self.next_read > now {
            return;
        }
        while let Some(stream) = &mut self.stream {
            let next = pin!(stream.recv()).poll(cx);
            match next {
                Poll::Pending => return,
                Poll::Ready(Some(event)) => {
                    self.read = true;
                    self.env.record(What::Event(event));
                }
                Poll::Ready(None) => {
                    self.stream = None;
                    self.log(WorkLog::StreamEnded);
                }
            }
            if let Some(pause) = pause {
                self.next_read = now + pause;
                return;
            }
        }
    }

    /// How the plan's reader reads now: once the handles are gone, everybody takes what is left.
    fn reader(&self, planned: Reader) -> Reader {
        if self.handle.is_some() { planned } else { Reader::Prompt }
    }

    /// Once the events have been read, the handle must agree with them.
    fn ask_state(&mut self) {
        if std::mem::take(&mut self.read)
            && self.plan.is_read_promptly()
            && let Some(handle) = &self.handle
        {
            let (state, epoch) = (handle.state(), handle.epoch().0);
            self.log(WorkLog::Stands { state, epoch });
        }
    }

    fn snapshot(&self) {
        let Some(handle) = &self.handle else { return };
        let topics: Vec<String> =
            handle.subscribed_topics().iter().map(|topic: &Topic| topic.to_string()).collect();
        let live = self.guards.iter().filter(|(guard, _)| !self.ended_guards.contains(guard));
        let mut guards: Vec<String> = live.map(|(_, guard)| guard.topic().to_string()).collect();
        guards.sort();
        guards.dedup();
        let (pending, live) = (handle.pending_count(), self.live_requests());
        self.log(WorkLog::Snapshot { state: handle.state(), pending, live, topics, guards });
    }

    /// Sleeps until the nearest of: step, snapshot, poll of a call to be cancelled, slow read.
    fn arm(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let step = self.plan.script.get(self.step).map(|step| at(step.at_ms));
        let cancel = self.calls.iter().filter(|call| call.cancel.is_some()).map(|call| call.next_poll).min();
        let slow = |reader, next| matches!(reader, Reader::Slow { .. }) && next > now;
        let read = slow(self.reader(self.plan.reader), self.next_read) && self.stream.is_some();
        let looks =
            slow(self.reader(self.plan.guard_reader), self.next_guard_read) && !self.guards.is_empty();
        let read = read.then_some(self.next_read);
        let looks = looks.then_some(self.next_guard_read);
        let Some(next) = [step, cancel, read, looks, self.settle].into_iter().flatten().min() else { return };
        self.alarm.as_mut().reset(instant(&self.env, next));
        if self.alarm.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn log(&self, log: WorkLog) {
        self.env.record(What::Work(log));
    }
}

fn taken(result: TransportResult<()>) -> Outcome {
    result.map_or_else(|error| failed(&error), |()| Outcome::Taken)
}

fn failed(error: &TransportError) -> Outcome {
    Outcome::Failed { kind: error.kind(), delivery: error.delivery() }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::ZERO + Duration::from_millis(ms)
}

fn instant(env: &SimEnv, at: Timestamp) -> Instant {
    Instant::now() + at.since(env.world_now())
}

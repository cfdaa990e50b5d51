//! An HTTP client of the plan: asks what its script says, reads what comes, and writes down the outcomes and what its observer
//! is told.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use hpx_transport::{
    TransportError,
    env::Timestamp,
    http::{Body, Client, Event, HttpConfig, Observer},
    tls::{SessionCache, SessionLimits},
};
use http::{Method, Request};
use tokio::time::{Sleep, sleep_until};

use super::{at, instant};
use crate::{
    env::SimEnv,
    peers::{
        tls,
        web::{CONN, UPLOAD, body_of, path},
    },
    plan::{Cancel, HttpOp, HttpPlan, http::port_of},
    trace::{HttpLog, HttpOutcome, What},
    world::EXCHANGE,
};

/// Runs one client to the end of the simulation. It is the world's client of this number.
pub(crate) async fn run(env: SimEnv, plan: HttpPlan, number: usize) {
    let start = at(plan.start_ms);
    sleep_until(instant(&env, start)).await;
    let lifetime_max = Duration::from_secs(plan.config.session_lifetime_s);
    let sessions = SessionCache::new(SessionLimits { lifetime_max, ..SessionLimits::default() });
    let config = HttpConfig {
        tls: tls::trust().sessions(sessions),
        observer: Some(Arc::new(Watcher { env: env.clone() })),
        ..plan.config.to_config()
    };
    // The plan's check has seen the configuration.
    let client = Client::new_in(env.clone(), config).expect("the plan was checked");
    env.record(What::Http(HttpLog::Started));
    env.set_audit(Some(audit(&client)));
    let mut actor = Actor {
        alarm: Box::pin(sleep_until(instant(&env, start))),
        env,
        plan,
        number,
        client: Some(client),
        step: 0,
        calls: Vec::new(),
    };
    poll_fn(|cx| actor.poll(cx)).await
}

/// Writes down what the client's observer is told.
struct Watcher {
    env: SimEnv,
}

impl Observer for Watcher {
    fn observe(&self, event: &Event) {
        self.env.record(What::Http(HttpLog::Event(event.clone())));
        if let Event::Opened { connection, .. } = event
            && let Some(socket) = self.env.socket_of_this_task()
        {
            self.env.record(What::Http(HttpLog::Owns { connection: *connection, socket }));
        }
    }
}

/// What the pool says it holds, by port.
fn audit(client: &Client) -> crate::env::Audit {
    let client = client.clone();
    Box::new(move || client.pool_by_host().into_iter().map(|host| (host.port, host.pool)).collect())
}

struct Actor {
    env: SimEnv,
    plan: HttpPlan,
    number: usize,
    client: Option<Client>,
    /// The next step of the script.
    step: usize,
    calls: Vec<Call>,
    alarm: Pin<Box<Sleep>>,
}

/// A future of the library's that the client has started.
struct Call {
    /// Of a request; else `close`.
    label: Option<u64>,
    future: Pin<Box<dyn Future<Output = HttpLog> + Send>>,
    polls: u32,
    cancel: Option<Cancel>,
    /// When a call that is to be cancelled is polled again.
    next_poll: Timestamp,
}

impl Actor {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.env.world_now();
        while let Some(step) = self.plan.script.get(self.step)
            && at(step.at_ms) <= now
        {
            let op = step.op;
            self.step += 1;
            self.perform(now, op, cx);
        }
        self.poll_calls(now, cx);
        self.arm(cx);
        Poll::Pending
    }

    fn perform(&mut self, now: Timestamp, op: HttpOp, cx: &mut Context<'_>) {
        let Some(client) = self.client.clone() else { return };
        match op {
            HttpOp::Request { label, origin, cancel, .. } => {
                self.log(HttpLog::Called { label, origin });
                let future = ask(self.env.clone(), client, self.number, self.plan.origins[origin].tls, op);
                self.calls.push(Call {
                    label: Some(label),
                    future: future.boxed(),
                    polls: 0,
                    cancel,
                    next_poll: now,
                });
                // In the order of the script: the library numbers its calls as they are first polled.
                let last = self.calls.len() - 1;
                self.poll_call(last, now, cx);
            }
            HttpOp::Drain => {
                self.log(HttpLog::Drained);
                client.drain();
            }
            HttpOp::Close => {
                self.log(HttpLog::CloseCalled);
                let future = async move {
                    client.close().await;
                    HttpLog::CloseReturned { open: client.pool().open }
                };
                let future = future.boxed();
                self.calls.push(Call { label: None, future, polls: 0, cancel: None, next_poll: now });
            }
            HttpOp::DropClient => {
                drop(client);
                while let Some(call) = self.calls.pop() {
                    drop(call.future);
                    if let Some(label) = call.label {
                        self.log(HttpLog::Ended { label, outcome: HttpOutcome::Cancelled });
                    }
                }
                self.drop_client();
            }
        }
    }

    fn drop_client(&mut self) {
        self.env.set_audit(None);
        self.client = None;
        self.log(HttpLog::Dropped);
    }

    fn poll_calls(&mut self, now: Timestamp, cx: &mut Context<'_>) {
        let mut index = 0;
        while index < self.calls.len() {
            if !self.poll_call(index, now, cx) {
                index += 1;
            }
        }
    }

    /// True if it is over.
    fn poll_call(&mut self, index: usize, now: Timestamp, cx: &mut Context<'_>) -> bool {
        let call = &mut self.calls[index];
        // Dropped unpolled, with whatever it was woken for: what it was given and never saw must not be lost.
        let is_cancelled = call.cancel.is_some_and(|cancel| call.polls >= cancel.poll);
        call.polls += 1;
        let log = match (!is_cancelled).then(|| call.future.as_mut().poll(cx)) {
            None => {
                let label = call.label.unwrap_or_default();
                HttpLog::Ended { label, outcome: HttpOutcome::Cancelled }
            }
            Some(Poll::Ready(log)) => log,
            Some(Poll::Pending) => {
                if let Some(cancel) = call.cancel {
                    call.next_poll = now + Duration::from_millis(cancel.every_ms);
                }
                return false;
            }
        };
        let closes = matches!(log, HttpLog::CloseReturned { .. });
        // Dropped first: what the library does of it comes before the word.
        drop(self.calls.remove(index));
        self.log(log);
        if closes {
            self.drop_client();
        }
        true
    }

    /// Sleeps until the nearest of: step, poll of a call to be cancelled.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let step = self.plan.script.get(self.step).map(|step| at(step.at_ms));
        let cancel = self.calls.iter().filter(|call| call.cancel.is_some()).map(|call| call.next_poll).min();
        let Some(next) = [step, cancel].into_iter().flatten().min() else { return };
        self.alarm.as_mut().reset(instant(&self.env, next));
        if self.alarm.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn log(&self, log: HttpLog) {
        self.env.record(What::Http(log));
    }
}

/// One request, to the end of its response's body.
async fn ask(env: SimEnv, client: Client, number: usize, tls: bool, op: HttpOp) -> HttpLog {
    let HttpOp::Request { label, origin, post, reply_after_ms, bytes, drop_body, .. } = op else {
        return HttpLog::Ended { label: 0, outcome: HttpOutcome::Left };
    };
    let outcome = exchange(&env, &client, (number, label, bytes), drop_body, {
        let scheme = if tls { "https" } else { "http" };
        let uri = format!("{scheme}://{EXCHANGE}:{}{}", port_of(origin), path(label, reply_after_ms, bytes));
        let (method, body) =
            if post { (Method::POST, Body::from(UPLOAD)) } else { (Method::GET, Body::empty()) };
        // A path of numbers is a URI.
        Request::builder().method(method).uri(uri).body(body).expect("a well-formed request")
    });
    HttpLog::Ended { label, outcome: outcome.await }
}

async fn exchange(
    env: &SimEnv,
    client: &Client,
    (number, label, bytes): (usize, u64, usize),
    drop_body: bool,
    request: Request<Body>,
) -> HttpOutcome {
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return failed(&error, false),
    };
    let conn = response.headers().get(CONN).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    env.record(What::Http(HttpLog::Head { label, conn, status: response.status().as_u16() }));
    let expected = body_of(number, label, bytes);
    let (mut body, mut read) = (response.into_body(), 0);
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => {
                let is_own = expected.get(read..read + chunk.len()) == Some(&chunk[..]);
                read += chunk.len();
                if !is_own {
                    return HttpOutcome::Wrong { text: format!("its {read} bytes are not its own") };
                }
            }
            Ok(None) if read < bytes => {
                return HttpOutcome::Wrong { text: format!("{read} of {bytes} bytes, and no error") };
            }
            Ok(None) => return HttpOutcome::Whole,
            Err(error) => return failed(&error, true),
        }
        if drop_body {
            return HttpOutcome::Left;
        }
    }
}

fn failed(error: &TransportError, in_body: bool) -> HttpOutcome {
    HttpOutcome::Failed { kind: error.kind(), delivery: error.delivery(), in_body }
}

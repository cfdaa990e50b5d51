//! The simulated environment: what the library under test sees of the world.
//!
//! Time is tokio's virtual time, sockets are those of the backend behind [`stream::SimStream`], randomness is one seed per
//! connection drawn from the plan. Every task, timer, dial and socket is counted in the [`Registry`], so that "nothing is left" is one
//! assertion.

mod clock;
mod conditions;
mod fault_io;
pub(crate) mod frames;
mod pace;
mod pause;
mod registry;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use hpx_transport::env::{Clock, Entropy, Net, Spawn, Timer, Timestamp};
use hpx_transport::http::PoolStats;
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use self::registry::Registry;
pub(crate) use self::{conditions::Conditions, pause::OfProcess};

/// What a client's pool says it holds, by port.
pub(crate) type Audit = Box<dyn Fn() -> Vec<(u16, PoolStats)> + Send>;
type Books = (Vec<(u16, PoolStats)>, Census);
pub use self::{registry::Census, stream::SimStream};
use crate::{
    net::Wire,
    plan::{ConnectFault, DnsFault},
    trace::{HttpLog, Recorder, SocketLog, TaskLog, What},
};

/// The environment of one simulated client: [`Clock`], [`Net`], [`Entropy`] and [`Spawn`] on either backend.
///
/// Clones share everything. A clone handed to another connection would share its registry: make one per connection.
#[derive(Clone)]
pub struct SimEnv {
    inner: Arc<Inner>,
}

struct Inner {
    client: usize,
    recorder: Recorder,
    wire: Wire,
    /// What it writes is ciphertext: there are no frames to be seen.
    secure: bool,
    seeds: Mutex<ChaCha12Rng>,
    registry: Mutex<Registry>,
    /// What is written down after each run of a task, and what was.
    audit: Mutex<Option<(Audit, Books)>>,
}

impl SimEnv {
    /// An environment of its own, outside any plan: to run the conformance suite, or a hand-made turmoil simulation.
    pub fn standalone(seed: u64) -> Self {
        Self::new(0, seed, Recorder::default(), Wire::Turmoil, false)
    }

    pub(crate) fn new(client: usize, seed: u64, recorder: Recorder, wire: Wire, secure: bool) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(STREAM_BASE + client as u64);
        let inner = Inner {
            client,
            recorder,
            wire,
            secure,
            seeds: Mutex::new(rng),
            registry: Mutex::default(),
            audit: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What is alive now: tasks, timers, dials, sockets.
    pub fn census(&self) -> Census {
        self.registry().census()
    }

    /// What is asked after each run of a task, from now on.
    pub(crate) fn set_audit(&self, audit: Option<Audit>) {
        let audit = audit.map(|audit| (audit, Books::default()));
        let old = std::mem::replace(&mut *self.audited(), audit);
        // It may hold the last of a client, whose end is not for under a lock.
        drop(old);
    }

    /// A task has run: writes down what has changed in the books.
    pub(crate) fn audit(&self) {
        let mut audited = self.audited();
        let Some((audit, before)) = &mut *audited else { return };
        let books = (audit(), self.census());
        if books != *before {
            before.clone_from(&books);
            let (hosts, census) = books;
            drop(audited);
            self.record(What::Http(HttpLog::Books { hosts, census }));
        }
    }

    fn audited(&self) -> MutexGuard<'_, Option<(Audit, Books)>> {
        self.inner.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket that the task of the moment has opened last.
    pub(crate) fn socket_of_this_task(&self) -> Option<u64> {
        let registry = self.registry();
        registry.opened.get(&registry.running).copied()
    }

    /// What the world is like for this client from now on.
    pub(crate) fn set_conditions(&self, conditions: Conditions) {
        let now = self.inner.recorder.world_time();
        self.registry().set_conditions(now, conditions);
        self.wake_all();
    }

    /// Resets its open sockets.
    pub(crate) fn reset_sockets(&self) {
        self.registry().resets += 1;
        self.wake_all();
    }

    /// Moves its wall clock.
    pub(crate) fn jump(&self, by_ms: i64) {
        let mut registry = self.registry();
        registry.jumped_ms = registry.jumped_ms.saturating_add(by_ms);
    }

    /// Where the upgrade response of a dial stops being read until the world has taken note.
    pub(crate) fn set_stops(&self, stops: Vec<(u64, usize)>) {
        self.registry().stops = stops;
    }

    /// A future of this client's process: it stands still while that is paused.
    pub(crate) fn of_process<F>(&self, future: F) -> OfProcess<F> {
        OfProcess::new(self.clone(), future)
    }

    fn stops_at_bytes(&self) -> bool {
        !self.registry().stops.is_empty()
    }

    /// The world's time, whatever the client's clock shows.
    pub(crate) fn world_now(&self) -> Timestamp {
        self.inner.recorder.clock().now().unwrap_or_default()
    }

    /// When the client's clock will show `at`.
    fn deadline(&self, at: Timestamp) -> tokio::time::Instant {
        // tokio's clock can't add a wait of centuries.
        let wait = self.registry().clock.wait(self.world_now(), at).min(WAIT_MAX);
        tokio::time::Instant::now() + wait
    }

    /// Everybody looks again at a world that has changed.
    fn wake_all(&self) {
        let wakers: Vec<_> = self.registry().wakers.values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self, what: What) {
        self.inner.recorder.client(self.inner.client, what);
    }
}

impl fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimEnv").field("client", &self.inner.client).field("census", &self.census()).finish()
    }
}

impl Clock for SimEnv {
    type Timer = SimTimer;

    /// Outside the simulation there is no time, and it stands at zero.
    fn now(&self) -> Timestamp {
        let world = self.world_now();
        self.registry().clock.now(world)
    }

    fn unix_time(&self) -> Duration {
        let jumped = self.registry().jumped_ms;
        let by = Duration::from_millis(jumped.unsigned_abs());
        let time = EPOCH + self.now().since_epoch();
        if jumped < 0 { time.saturating_sub(by) } else { time + by }
    }

    fn timer(&self) -> SimTimer {
        self.registry().timers += 1;
        SimTimer { env: self.clone(), at: Timestamp::ZERO, sleep: None, rung: false }
    }
}

/// A timer over tokio's virtual time, counted while it lives.
#[derive(Debug)]
pub struct SimTimer {
    env: SimEnv,
    /// When it rings, by the client's clock.
    at: Timestamp,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    rung: bool,
}

impl Timer for SimTimer {
    fn arm(mut self: Pin<&mut Self>, at: Timestamp) {
        let deadline = self.env.deadline(at);
        self.at = at;
        self.rung = false;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => {
                self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline)));
                self.env.registry().timers_armed += 1;
            }
        }
    }

    fn poll_expired(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.rung {
            return Poll::Ready(());
        }
        let this = &mut *self;
        let Some(sleep) = &mut this.sleep else { return Poll::Pending };
        // The clock may run at another speed than when this was armed.
        let deadline = this.env.deadline(this.at);
        if this.env.registry().clock_was_set && sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        let poll = sleep.as_mut().poll(cx);
        this.rung = poll.is_ready();
        poll
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        let mut registry = self.env.registry();
        registry.timers -= 1;
        registry.timers_armed -= usize::from(self.sleep.is_some());
    }
}

impl Net for SimEnv {
    type Stream = SimStream;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.record(What::Socket(SocketLog::Resolving));
        let fault = self.registry().conditions.dns;
        match fault {
            Some(DnsFault::NxDomain) => {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} is unknown")));
            }
            Some(DnsFault::Slow { by_ms }) => tokio::time::sleep(Duration::from_millis(by_ms)).await,
            Some(DnsFault::DeadFirst { .. }) | None => {}
        }
        // turmoil's own lookup invents an address for a name it doesn't know: only names of hosts are asked for.
        let known = self.inner.recorder.address_of(host);
        let parsed = host.parse::<IpAddr>().ok();
        match known.or(parsed) {
            Some(ip) => {
                let dead = matches!(fault, Some(DnsFault::DeadFirst { .. })).then_some(NOBODY);
                Ok(dead.into_iter().chain([ip]).map(|ip| SocketAddr::new(ip, port)).collect())
            }
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} is unknown"))),
        }
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<SimStream> {
        let dial = self.registry().start_dial();
        self.record(What::Socket(SocketLog::Dialing { socket: dial }));
        let mut attempt = Attempt { env: self, dial, over: false };
        let result = match self.road(addr).await {
            Ok(()) => self.inner.wire.connect(addr).await,
            Err(error) => Err(error),
        };
        attempt.over = true;
        self.registry().dials -= 1;
        match result {
            Ok(stream) => {
                let local = stream.local_addr()?;
                self.registry().opened(dial);
                self.record(What::Socket(SocketLog::Opened { socket: dial, local }));
                Ok(SimStream::new(stream, self.clone(), dial))
            }
            Err(error) => {
                self.record(What::Socket(SocketLog::DialFailed { socket: dial, error: error.kind() }));
                Err(error)
            }
        }
    }
}

impl SimEnv {
    /// What the faults of dialing leave of a dial before it reaches the network.
    async fn road(&self, addr: SocketAddr) -> io::Result<()> {
        let slow = match self.registry().conditions.connect {
            Some(ConnectFault::Slow { by_ms }) => Some(by_ms),
            _ => None,
        };
        if let Some(by_ms) = slow {
            tokio::time::sleep(Duration::from_millis(by_ms)).await;
        }
        poll_fn(|_| {
            // Whoever changes the conditions wakes every task of the client.
            let registry = self.registry();
            match (registry.conditions.connect, registry.conditions.dns) {
                (Some(ConnectFault::Refused), _) | (_, Some(DnsFault::DeadFirst { refuses: true }))
                    if registry.conditions.connect.is_some() || addr.ip() == NOBODY =>
                {
                    Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()))
                }
                _ if addr.ip() == NOBODY => Poll::Pending,
                (Some(ConnectFault::Silent), _) => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

/// Notes a dial that was dropped half way.
struct Attempt<'a> {
    env: &'a SimEnv,
    dial: u64,
    over: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.env.registry().dials -= 1;
            self.env.record(What::Socket(SocketLog::DialAbandoned { socket: self.dial }));
        }
    }
}

impl Entropy for SimEnv {
    fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.inner.seeds.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut seed);
        self.record(What::Task(TaskLog::Seeded { seed }));
        seed
    }
}

impl Spawn for SimEnv {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F) {
        let env = self.clone();
        *env.registry().tasks.entry(name).or_default() += 1;
        env.record(What::Task(TaskLog::Spawned { name }));
        let running = Running { env, name };
        let process = self.clone();
        tokio::spawn(process.of_process(Box::pin(async move {
            // The panic trap: tokio alone would swallow it.
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let text = panic_text(panic.as_ref());
                running.env.record(What::Task(TaskLog::Panicked { name, text }));
            }
            drop(running);
        })));
    }
}

/// Counts a task for as long as it is held.
struct Running {
    env: SimEnv,
    name: &'static str,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(count) = self.env.registry().tasks.get_mut(self.name) {
            *count -= 1;
        }
        self.env.record(What::Task(TaskLog::Ended { name: self.name }));
    }
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// 2030-01-01, whenever the run takes place.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_893_456_000);
/// Nobody's address (RFC 5737).
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Longer than any simulation.
const WAIT_MAX: Duration = Duration::from_secs(3600 * 24 * 365);
/// The streams below are the plan's.
const STREAM_BASE: u64 = 1000;

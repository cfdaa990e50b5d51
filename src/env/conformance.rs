//! What any environment must pass.
//!
//! Each check is a future to be run inside the environment under test, and panics where it fails. [`run`] runs those that
//! need nothing but the environment; the ones about sockets need addresses that answer or refuse, which only the caller
//! can give.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Clock, Entropy, Env, Net, Timer, Timestamp};

/// Runs every check that needs no peer.
pub async fn run<E: Env>(env: &E) {
    time_never_goes_back(env).await;
    timers_are_never_early(env).await;
    arming_again_replaces(env).await;
    a_past_alarm_rings_at_once(env).await;
    an_unarmed_timer_never_rings(env).await;
    seeds_differ(env);
    tasks_run_to_their_end(env).await;
}

/// Time does not go back, and passes while a timer waits.
pub async fn time_never_goes_back<C: Clock>(env: &C) {
    let first = env.now();
    sleep(env, STEP).await;
    let second = env.now();
    assert!(second >= first + STEP, "{STEP:?} passed from {first:?} to {second:?}");
}

/// A timer rings at its time or later, for near and far times alike.
pub async fn timers_are_never_early<C: Clock>(env: &C) {
    for wait in [1, 2, 5, 20].map(Duration::from_millis) {
        let at = env.now() + wait;
        sleep(env, wait).await;
        assert!(env.now() >= at, "rang at {:?}, armed for {at:?}", env.now());
    }
}

/// The later of two arms counts, whether it is nearer or farther.
pub async fn arming_again_replaces<C: Clock>(env: &C) {
    let mut timer = pin!(env.timer());
    let start = env.now();
    timer.as_mut().arm(start + STEP);
    timer.as_mut().arm(start + STEP * 4);
    poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
    assert!(env.now() >= start + STEP * 4, "the replaced alarm rang");
    let start = env.now();
    timer.as_mut().arm(start + Duration::from_secs(3600));
    timer.as_mut().arm(start + STEP);
    poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
    assert!(env.now() < start + Duration::from_secs(1800), "the replacing alarm did not ring");
}

/// An alarm set for a time that has passed rings at the next poll, or as soon as the runtime can.
pub async fn a_past_alarm_rings_at_once<C: Clock>(env: &C) {
    let mut timer = pin!(env.timer());
    let start = env.now();
    timer.as_mut().arm(Timestamp::ZERO);
    poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
    assert!(env.now() < start + Duration::from_secs(1), "a past alarm took until {:?}", env.now());
}

/// A timer that was never armed never rings.
pub async fn an_unarmed_timer_never_rings<C: Clock>(env: &C) {
    let mut idle = pin!(env.timer());
    let mut clock = pin!(env.timer());
    clock.as_mut().arm(env.now() + STEP);
    poll_fn(|cx| {
        assert!(idle.as_mut().poll_expired(cx).is_pending(), "an unarmed timer rang");
        clock.as_mut().poll_expired(cx)
    })
    .await;
}

/// No two connections get the same seed.
pub fn seeds_differ<E: Entropy>(env: &E) {
    let seeds = [env.seed(), env.seed(), env.clone().seed()];
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2] && seeds[0] != seeds[2], "a seed was given twice");
}

/// Spawned tasks run, wake up, and are dropped at their end.
pub async fn tasks_run_to_their_end<E: Env>(env: &E) {
    let dropped = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let token = CountDrop(Arc::clone(&dropped));
        let env_of_task = env.clone();
        env.spawn("conformance", async move {
            let _token = token;
            sleep(&env_of_task, STEP).await;
        });
    }
    // Bounded: a second of the environment's time is far more than the tasks need.
    for _ in 0..200 {
        if dropped.load(Ordering::SeqCst) == 3 {
            return;
        }
        sleep(env, STEP).await;
    }
    panic!("{} of 3 tasks ended", dropped.load(Ordering::SeqCst));
}

/// A name that has an address resolves to it, with the port asked for.
pub async fn a_known_name_resolves<N: Net>(env: &N, host: &str) {
    let addresses = env.resolve(host, 4321).await.expect("a known name resolves");
    assert!(!addresses.is_empty(), "{host} has no address");
    assert!(addresses.iter().all(|address| address.port() == 4321));
}

/// A name without an address is an error or an empty list, and no panic.
pub async fn an_unknown_name_does_not_resolve<N: Net>(env: &N, host: &str) {
    let addresses = env.resolve(host, 4321).await.unwrap_or_default();
    assert!(addresses.is_empty(), "{host} resolved to {addresses:?}");
}

/// Nobody listens at `address`.
pub async fn a_closed_port_refuses<N: Net>(env: &N, address: SocketAddr) {
    assert!(env.connect(address).await.is_err(), "{address} accepted a connection");
}

/// At `address` an echo server listens: bytes come back, and dropping the stream is heard.
pub async fn bytes_come_back<N: Net>(env: &N, address: SocketAddr) {
    let mut stream = env.connect(address).await.expect("the echo server accepts");
    stream.write_all(b"over the wire").await.expect("the echo server reads");
    stream.flush().await.expect("the stream flushes");
    let mut echo = [0; 13];
    stream.read_exact(&mut echo).await.expect("the echo server writes");
    assert_eq!(&echo, b"over the wire");
}

async fn sleep<C: Clock>(env: &C, wait: Duration) {
    let mut timer = pin!(env.timer());
    timer.as_mut().arm(env.now() + wait);
    poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
    // It stays ready until armed again.
    poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

const STEP: Duration = Duration::from_millis(5);

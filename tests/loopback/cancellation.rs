//! Every public future, dropped at every poll; and a driver that is polled only when there is something to do.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hpx_transport::{
    env::{self, Clock, Entropy, Net, Spawn, Timestamp},
    websocket::{Connection, ConnectionHandle, WsMessage},
};
use serde_json::json;
use tokio::net::TcpStream;

use super::support::{Dialect, Server, config, eventually, ready, soon};

/// Polls of a future before it is dropped: more than any here takes to resolve.
const POLLS_MAX: usize = 6;

/// Polls `future` so many times, each after others had their turn, and drops it. True if it resolved.
async fn drop_at<F: Future>(future: F, polls: usize) -> bool {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let poll = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if poll {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// The connection is as if nothing had happened.
async fn is_whole(handle: &ConnectionHandle, what: &str) {
    assert_eq!(handle.pending_count(), 0, "{what} leaks a place");
    let reply: u32 = soon(what, handle.request(&json!({"op": "echo", "value": 1}))).await.expect("answered");
    assert_eq!(reply, 1);
}

#[tokio::test]
async fn futures_may_be_dropped_at_any_poll() {
    let server = Server::start().await;
    let (handle, mut events) = ready(config(&server.url()).max_pending_requests(2)).await;
    let hold = || WsMessage::text(r#"{"op":"hold"}"#);
    let value = json!({"op": "echo", "value": 1});
    for polls in 0..POLLS_MAX {
        // Many rounds: a place lost by any would show against a limit of two.
        for _ in 0..5 {
            drop_at(handle.ready(), polls).await;
            is_whole(&handle, "ready").await;
            drop_at(handle.request::<_, u32>(&value), polls).await;
            is_whole(&handle, "request").await;
            drop_at(handle.request_with_timeout::<_, u32>(&value, Duration::from_secs(5)), polls).await;
            is_whole(&handle, "request_with_timeout").await;
            assert!(!drop_at(handle.request_raw(hold()), polls).await);
            is_whole(&handle, "request_raw").await;
            assert!(!drop_at(handle.request_message(hold()), polls).await);
            is_whole(&handle, "request_message").await;
            drop_at(handle.send(hold()), polls).await;
            is_whole(&handle, "send").await;
            drop_at(handle.send_confirmed(hold()), polls).await;
            is_whole(&handle, "send_confirmed").await;
            drop_at(handle.subscribe("t"), polls).await;
            drop_at(handle.subscribe_many(["t", "u"]), polls).await;
            drop_at(handle.unsubscribe("t"), polls).await;
            is_whole(&handle, "subscribe").await;
            drop_at(events.0.recv(), polls).await;
        }
    }
    assert_eq!(handle.subscription_count(), 0);
    server.until("no topics", |lives| lives[0].topics.is_empty()).await;
    soon("close", handle.close()).await;
}

#[tokio::test]
async fn a_guard_s_recv_loses_nothing_when_it_is_dropped() {
    let server = Server::start().await;
    let (handle, _events) = ready(config(&server.url())).await;
    let mut guard = handle.subscribe("trades").await.expect("it lives");
    server.until_topic("sub", "trades").await;
    for number in 0..20 {
        drop_at(guard.recv(), 0).await;
        assert!(!drop_at(guard.recv(), 3).await, "nothing was sent yet");
        assert!(!drop_at(guard.next_update(), 1).await);
        server.push("trades", number);
        assert_eq!(super::support::next_data(&mut guard).await, number);
    }
}

/// Tokio, counting how often the driver is polled.
#[derive(Clone, Default)]
struct Counting {
    tokio: env::Tokio,
    polls: Arc<AtomicUsize>,
}

impl Clock for Counting {
    type Timer = env::TokioTimer;

    fn now(&self) -> Timestamp {
        self.tokio.now()
    }

    fn unix_time(&self) -> Duration {
        self.tokio.unix_time()
    }

    fn timer(&self) -> Self::Timer {
        self.tokio.timer()
    }
}

impl Net for Counting {
    type Stream = TcpStream;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.tokio.resolve(host, port).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

impl Entropy for Counting {
    fn seed(&self) -> [u8; 32] {
        self.tokio.seed()
    }
}

impl Spawn for Counting {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, task: F) {
        self.tokio.spawn(name, Polled { task: Box::pin(task), polls: self.polls.clone() });
    }
}

struct Polled<F> {
    task: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future<Output = ()>> Future for Polled<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.task.as_mut().poll(cx)
    }
}

#[tokio::test]
async fn the_driver_is_polled_only_when_there_is_something_to_do() {
    let server = Server::start().await;
    let other_server = Server::start().await;
    let env = Counting::default();
    let polls = || env.polls.load(Ordering::Relaxed);
    let (handle, _stream) =
        Connection::connect_in(env.clone(), config(&server.url()).ping_interval(None), Dialect::default())
            .await
            .expect("a valid config");
    soon("ready", handle.ready()).await.expect("the server accepts");
    let value = json!({"op": "echo", "value": 1});
    soon("a reply", handle.request::<_, u32>(&value)).await.expect("answered");
    let before = polls();
    for _ in 0..100 {
        soon("a reply", handle.request::<_, u32>(&value)).await.expect("answered");
    }
    let per_request = (polls() - before) as f64 / 100.0;
    // One for the call, one for the reply, and the socket's word that it can be written.
    assert!(per_request <= 4.0, "{per_request} polls a request");
    // Idle, while another connection in the same runtime is busy.
    let (other, _events) = ready(config(&other_server.url())).await;
    let before = polls();
    for _ in 0..100 {
        soon("a reply", other.request::<_, u32>(&value)).await.expect("answered");
    }
    assert!(polls() - before <= 2, "{} polls while idle", polls() - before);
    // And not lost: what comes in is seen.
    server.send(&json!({"op": "ping", "number": 1}));
    server.until_ops("pong", 1).await;
    let before = polls();
    drop(handle);
    server.until_end().await;
    eventually("few polls", || polls() - before <= 6).await;
}

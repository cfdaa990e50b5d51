//! Things that happen in the same instant, told apart by hand: a real driver over sockets in memory, each written to before
//! the driver is polled again.

use hpx_transport::{
    env::{self, Clock, Entropy, Net, Spawn, Timestamp},
    websocket::*,
};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// tokio's clock and tasks, sockets in memory: the server ends of the dials are put into `peers`.
#[derive(Clone)]
struct Mem {
    inner: env::Tokio,
    peers: Arc<Mutex<Vec<DuplexStream>>>,
}
impl Clock for Mem {
    type Timer = <env::Tokio as Clock>::Timer;
    fn now(&self) -> Timestamp {
        self.inner.now()
    }
    fn unix_time(&self) -> Duration {
        self.inner.unix_time()
    }
    fn timer(&self) -> Self::Timer {
        self.inner.timer()
    }
}
impl Net for Mem {
    type Stream = DuplexStream;
    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![([127, 0, 0, 1], port).into()])
    }
    async fn connect(&self, _: SocketAddr) -> io::Result<DuplexStream> {
        let (a, b) = tokio::io::duplex(1 << 16);
        self.peers.lock().expect("no test panics with it").push(b);
        Ok(a)
    }
}
impl Entropy for Mem {
    fn seed(&self) -> [u8; 32] {
        [7; 32]
    }
}
impl Spawn for Mem {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, n: &'static str, t: F) {
        self.inner.spawn(n, t)
    }
}

async fn upgrade_request(env: &Mem) -> (DuplexStream, String) {
    let mut peer = loop {
        if let Some(p) = env.peers.lock().expect("no test panics with it").pop() {
            break p;
        }
        tokio::task::yield_now().await
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.expect("the client writes"));
    }
    let text = String::from_utf8(head).expect("a head is text");
    let key = text.lines().find_map(|l| l.strip_prefix("Sec-WebSocket-Key: ")).expect("a request has a key");
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    (
        peer,
        format!(
            "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ),
    )
}

async fn race(close: bool) -> Vec<Event> {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let config =
        WsConfig::new("ws://x:1").reconnect_jitter(0.0).reconnect_initial_delay(Duration::from_millis(10));
    let (handle, mut events) =
        Connection::connect_in(env.clone(), config, GenericJsonHandler::new()).await.expect("it works");
    let (mut peer, answer) = upgrade_request(&env).await;
    // Both before the driver's next poll: the answer to the upgrade, and the caller's wish. (The first await doesn't yield.)
    peer.write_all(answer.as_bytes()).await.expect("it works");
    if close {
        drop(handle);
    } else {
        handle.reconnect("now").expect("it works");
        std::mem::forget(handle);
    }
    let mut seen = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), events.recv()).await {
        seen.push(event);
    }
    drop(peer);
    seen
}

#[tokio::test]
async fn reconnect_in_the_instant_the_link_comes_up_drops_that_link() {
    let seen = race(false).await;
    assert!(matches!(seen[0], Event::Retrying { .. }), "{seen:?}");
    assert!(!seen.iter().any(|e| matches!(e, Event::Closed { .. })), "{seen:?}");
}
#[tokio::test]
async fn dropping_the_last_handle_in_the_instant_the_link_comes_up_ends_as_handles_dropped() {
    let seen = race(true).await;
    assert!(matches!(seen[..], [Event::Closed { cause: CloseCause::HandlesDropped, .. }]), "{seen:?}");
}

#[tokio::test]
async fn a_send_accepted_just_before_close_while_down_is_counted() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let (handle, mut events) =
        Connection::connect_in(env.clone(), WsConfig::new("ws://x:1"), GenericJsonHandler::new())
            .await
            .expect("it works");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    handle.send(WsMessage::text("hello")).await.expect("it works");
    handle.close().await;
    let Some(Event::Closed { unsent, .. }) = events.recv().await else { panic!() };
    assert_eq!(unsent, 1);
}

#[tokio::test]
async fn ready_names_the_status_of_a_refusal() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let (handle, _events) =
        Connection::connect_in(env.clone(), WsConfig::new("ws://x:1"), GenericJsonHandler::new())
            .await
            .expect("it works");
    let (mut peer, _) = upgrade_request(&env).await;
    peer.write_all(b"HTTP/1.1 401 no\r\n\r\n").await.expect("it works");
    let error = handle.ready().await.expect_err("it fails");
    assert_eq!((error.origin(), error.status()), (Origin::Peer, Some(401)));
}

#[tokio::test]
async fn two_connection_headers_are_one_list() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let (handle, _events) = Connection::connect_in(
        env.clone(),
        WsConfig::new("ws://x:1").reconnect_max_attempts(0),
        GenericJsonHandler::new(),
    )
    .await
    .expect("it works");
    let (mut peer, answer) = upgrade_request(&env).await;
    peer.write_all(
        answer.replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade").as_bytes(),
    )
    .await
    .expect("it works");
    let r = handle.ready().await;
    assert!(r.is_ok());
}

struct Panics;
impl ProtocolHandler for Panics {
    fn classify_message(&self, _: &str) -> MessageKind {
        MessageKind::System
    }
    fn extract_request_id(&self, _: &str) -> Option<RequestId> {
        None
    }
    fn extract_topic(&self, _: &str) -> Option<Topic> {
        None
    }
    fn build_subscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        panic!("x")
    }
    fn build_unsubscribe(&self, _: &[Topic], _: RequestId) -> WsMessage {
        WsMessage::text("")
    }
}
#[tokio::test]
async fn sends_queued_when_the_handler_panics_are_counted() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let (handle, mut events) =
        Connection::connect_in(env.clone(), WsConfig::new("ws://x:1"), Panics).await.expect("it works");
    let (mut peer, answer) = upgrade_request(&env).await;
    handle.send(WsMessage::text("hello")).await.expect("it works");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let _g = handle.subscribe("a").await.expect("it works");
    peer.write_all(answer.as_bytes()).await.expect("it works");
    loop {
        match events.recv().await {
            Some(Event::Closed { unsent, .. }) => {
                assert_eq!(unsent, 1);
                break;
            }
            Some(_) => {}
            None => panic!(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_zero_initial_delay_does_not_spin() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    // Zero itself is refused; the shortest wait there is must not spin either.
    let zero = WsConfig::new("ws://x:1").reconnect_initial_delay(Duration::ZERO);
    assert_eq!(zero.validate().expect_err("it fails").field(), Some("reconnect_initial_delay"));
    let config =
        WsConfig::new("ws://x:1").reconnect_initial_delay(Duration::from_millis(1)).reconnect_jitter(0.0);
    let (_handle, _events) =
        Connection::connect_in(env.clone(), config, GenericJsonHandler::new()).await.expect("it works");
    let mut dials = 0;
    for _ in 0..2000 {
        if env.peers.lock().expect("no test panics with it").pop().is_some() {
            dials += 1;
        }
        tokio::task::yield_now().await;
    }
    assert!(dials < 10, "{dials} dials at one instant");
}

#[tokio::test]
async fn an_empty_head_is_no_answer_to_an_upgrade() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let config = WsConfig::new("ws://x:1").reconnect_max_attempts(0);
    let (handle, _events) =
        Connection::connect_in(env.clone(), config, GenericJsonHandler::new()).await.expect("it works");
    let (mut peer, _) = upgrade_request(&env).await;
    peer.write_all(b"\r\n\r\n").await.expect("it works");
    let error = handle.ready().await.expect_err("it fails");
    assert_eq!(error.status(), None, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_long_over_a_large_message_is_not_given_up_on_and_a_silent_one_is() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    // The socket itself holds back 64 KiB: seven seconds of them.
    let config =
        WsConfig::new("ws://x:1").ping_interval(Duration::from_secs(5)).pong_timeout(Duration::from_secs(8));
    let (handle, mut events) =
        Connection::connect_in(env.clone(), config, GenericJsonHandler::new()).await.expect("it works");
    let (mut peer, answer) = upgrade_request(&env).await;
    peer.write_all(answer.as_bytes()).await.expect("it works");
    handle.ready().await.expect("the peer upgrades");
    let size = 400_000;
    handle.send(WsMessage::binary(vec![7; size])).await.expect("it works");

    // 10 kB a second: the ping behind the message takes 40 s to get through. A pong comes at once when it does.
    let (mut taken, mut buf) = (0, vec![0; 10_000]);
    let mut pings = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Ok(read) = tokio::time::timeout(Duration::from_millis(1), peer.read(&mut buf)).await else {
            continue;
        };
        let read = read.expect("the client keeps the connection");
        assert!(read > 0, "the client hung up after {taken} bytes");
        taken += read;
        // A header of 14 bytes is before the message, pings of 6 are behind it.
        if taken > size + 14 {
            peer.write_all(&[0x8a, 0]).await.expect("the client reads");
            pings += 1;
        }
    }
    assert!(pings >= 3, "{pings} pings in {taken} bytes");
    assert_eq!(handle.epoch(), ConnectionEpoch(1));

    // Now it reads on and says nothing.
    let silent_since = tokio::time::Instant::now();
    let reading = async { while peer.read(&mut buf).await.is_ok_and(|read| read > 0) {} };
    let disconnected = async {
        while let Some(event) = events.recv().await {
            if let Event::Disconnected { .. } = event {
                return silent_since.elapsed();
            }
        }
        panic!("the connection ended");
    };
    let (_, after) = tokio::join!(reading, disconnected);
    assert!(after <= Duration::from_millis(13_100), "{after:?}");
}

#[tokio::test]
async fn a_burst_of_messages_that_nobody_asked_for_reaches_a_prompt_reader_whole() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let config = WsConfig::new("ws://x:1").event_channel_capacity(8);
    let (handle, mut events) =
        Connection::connect_in(env.clone(), config, GenericJsonHandler::new()).await.expect("it works");
    let (mut peer, answer) = upgrade_request(&env).await;
    peer.write_all(answer.as_bytes()).await.expect("it works");
    handle.ready().await.expect("the peer upgrades");
    let notice = [&[0x81, 12][..], br#"{"notice":1}"#].concat();
    // All of it at once: far more than the event queue holds.
    peer.write_all(&notice.repeat(1000)).await.expect("the socket takes 14 kB");
    let mut messages = 0;
    while messages < 1000 {
        match tokio::time::timeout(Duration::from_secs(5), events.recv()).await {
            Ok(Some(Event::Message(_))) => messages += 1,
            Ok(Some(_)) => {}
            other => panic!("{other:?} after {messages}; {} dropped", events.dropped()),
        }
    }
    assert_eq!(events.dropped(), 0);
}

/// Brings a connection up. The peer's end stays open for as long as it is held.
async fn up(env: &Mem, handler: impl ProtocolHandler) -> (ConnectionHandle, ConnectionStream, DuplexStream) {
    let (handle, events) =
        Connection::connect_in(env.clone(), WsConfig::new("ws://x:1"), handler).await.expect("it works");
    let (mut peer, answer) = upgrade_request(env).await;
    peer.write_all(answer.as_bytes()).await.expect("it works");
    handle.ready().await.expect("the peer upgrades");
    (handle, events, peer)
}

#[tokio::test]
async fn a_driver_that_dies_tells_of_the_lost_link_and_that_the_request_may_have_been_sent() {
    let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
    let (handle, mut events, mut peer) = up(&env, Panics).await;
    let asking = handle.clone();
    let request = tokio::spawn(async move { asking.request_raw(WsMessage::text("{}")).await });
    // The request is on the wire.
    peer.read_u8().await.expect("the client writes");
    let _guard = handle.subscribe("a").await.expect("it lives");
    let error = request.await.expect("the task doesn't panic").expect_err("the driver is dead");
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::HandlerPanicked, Delivery::MaybeSent));
    assert!(matches!(events.recv().await, Some(Event::Connected { .. })));
    assert!(matches!(events.recv().await, Some(Event::Disconnected { .. })));
    assert!(matches!(events.recv().await, Some(Event::Closed { .. })));
    assert!(events.recv().await.is_none());
}

#[test]
fn a_runtime_that_shuts_down_ends_a_written_request_as_maybe_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
    let peers = Arc::default();
    let (handle, mut request, _peer) = runtime.block_on(async {
        let env = Mem { inner: env::Tokio::new(), peers };
        let (handle, _events, mut peer) = up(&env, GenericJsonHandler::new()).await;
        let asking = handle.clone();
        let mut request = Box::pin(async move { asking.request_raw(WsMessage::text("{}")).await });
        assert!(futures_util::future::poll_immediate(&mut request).await.is_none());
        peer.read_u8().await.expect("the client writes");
        (handle, request, peer)
    });
    drop(runtime);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = request.as_mut().poll(&mut cx) else {
        panic!("the request hangs");
    };
    assert_eq!((error.kind(), error.delivery()), (ErrorKind::DriverDropped, Delivery::MaybeSent));
    assert_eq!(handle.state(), ConnectionState::Closed);
}

#[tokio::test]
async fn whoever_hears_of_an_event_finds_the_state_it_tells_of() {
    for _ in 0..50 {
        let env = Mem { inner: env::Tokio::new(), peers: Arc::default() };
        let (handle, mut events) =
            Connection::connect_in(env.clone(), WsConfig::new("ws://x:1"), GenericJsonHandler::new())
                .await
                .expect("it works");
        let (mut peer, answer) = upgrade_request(&env).await;
        peer.write_all(answer.as_bytes()).await.expect("it works");
        assert!(matches!(events.recv().await, Some(Event::Connected { epoch }) if epoch == handle.epoch()));
        assert_eq!(handle.state(), ConnectionState::Ready);
        drop(peer);
        assert!(matches!(events.recv().await, Some(Event::Disconnected { .. })));
        assert_ne!(handle.state(), ConnectionState::Ready);
    }
}

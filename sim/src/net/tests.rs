//! The network in memory, seen through sockets.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use hpx_transport::env::conformance;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    time::{Instant, sleep, timeout},
};

use super::{
    LinkChange, SimClock, Wire,
    memory::{Host, Listener, Network, Stream},
    ms,
};
use crate::{env::SimEnv, trace::Recorder};

const LATENCY: Duration = Duration::from_millis(10);
const PORT: u16 = 9000;

/// A client and a server, 10 ms apart.
struct Pair {
    network: Network,
    client: Host,
    server: Host,
    start: Instant,
}

impl Pair {
    fn new() -> Self {
        let start = Instant::now();
        let network = Network::new(7, SimClock::Memory(start));
        let (server, client) = (network.host(), network.host());
        network.set_latency(&client, &server, LATENCY);
        Self { network, client, server, start }
    }

    fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.ip(), port)
    }

    fn change(&self, change: LinkChange) {
        self.network.change(&self.client, &self.server, change);
    }

    async fn connected(&self) -> (Stream, Stream, Listener) {
        let listener = self.server.listen(PORT);
        let (dialed, (accepted, _)) = tokio::join!(self.client.connect(self.addr(PORT)), listener.accept());
        (dialed.expect("somebody listens"), accepted, listener)
    }
}

/// Runs a story on paused time, with somebody who drives the network.
fn tell<F: Future<Output = ()>>(story: impl FnOnce(Pair) -> F) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O starts").block_on(async {
        let pair = Pair::new();
        tokio::spawn(drive(pair.network.clone(), pair.start));
        story(pair).await;
    });
}

async fn drive(network: Network, start: Instant) {
    let mut alarm = Box::pin(sleep(ms(0)));
    std::future::poll_fn(|cx| {
        loop {
            let next = network.poll_due(cx).map_or(ms(1_000_000), |next| next.since_epoch());
            alarm.as_mut().reset(start + next);
            if alarm.as_mut().poll(cx).is_pending() {
                return std::task::Poll::Pending;
            }
        }
    })
    .await
}

async fn read(stream: &mut Stream) -> Result<String, io::ErrorKind> {
    let mut buffer = [0; 64];
    match stream.read(&mut buffer).await {
        Ok(count) => Ok(String::from_utf8_lossy(&buffer[..count]).into_owned()),
        Err(error) => Err(error.kind()),
    }
}

#[test]
fn a_handshake_takes_a_round_trip_and_a_byte_takes_one_way() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        assert_eq!(pair.start.elapsed(), 2 * LATENCY);
        near.write_all(b"hello").await.expect("it is open");
        assert_eq!(read(&mut far).await.as_deref(), Ok("hello"));
        assert_eq!(pair.start.elapsed(), 3 * LATENCY);
    });
}

#[test]
fn half_a_connection_may_end_before_the_other() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        near.write_all(b"last words").await.expect("it is open");
        near.shutdown().await.expect("it is open");
        assert_eq!(read(&mut far).await.as_deref(), Ok("last words"));
        assert_eq!(read(&mut far).await.as_deref(), Ok(""));
        far.write_all(b"heard").await.expect("this half is open");
        assert_eq!(read(&mut near).await.as_deref(), Ok("heard"));
        assert!(near.write_all(b"more").await.is_err());
    });
}

#[test]
fn a_port_nobody_listens_on_refuses_and_an_address_nobody_has_is_silent() {
    tell(|pair| async move {
        let refused = pair.client.connect(pair.addr(1)).await.map(drop).map_err(|error| error.kind());
        assert_eq!((refused, pair.start.elapsed()), (Err(io::ErrorKind::ConnectionRefused), 2 * LATENCY));
        let nowhere = SocketAddr::from(([192, 168, 9, 9], PORT));
        let silent = pair.client.connect(nowhere).await.map(drop).map_err(|error| error.kind());
        assert_eq!(silent, Err(io::ErrorKind::TimedOut));
        // SYN, and again after 1, 2, 4 .. 64 and 120 s.
        assert_eq!(pair.start.elapsed().as_secs(), 247);
    });
}

#[test]
fn a_dial_into_a_partition_succeeds_with_the_next_syn_after_it() {
    tell(|pair| async move {
        let listener = pair.server.listen(PORT);
        pair.change(LinkChange::Partition);
        let dialing = pair.client.connect(pair.addr(PORT));
        let healing = async {
            sleep(ms(2500)).await;
            pair.change(LinkChange::Repair);
            listener.accept().await
        };
        let (dialed, _accepted) = tokio::join!(dialing, healing);
        assert!(dialed.is_ok());
        // The SYNs go at 0, 1 and 3 s.
        assert_eq!(pair.start.elapsed(), ms(3000) + 2 * LATENCY);
    });
}

#[test]
fn what_a_blip_swallowed_is_sent_again_in_order() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        near.write_all(b"1").await.expect("it is open");
        // On its way, and lost all the same.
        pair.change(LinkChange::Partition);
        sleep(ms(50)).await;
        near.write_all(b"2").await.expect("it is open");
        sleep(ms(50)).await;
        pair.change(LinkChange::Repair);
        near.write_all(b"3").await.expect("it is open");
        let before = pair.start.elapsed();
        let mut all = [0; 3];
        far.read_exact(&mut all).await.expect("it survives");
        assert_eq!(&all, b"123");
        assert!(pair.start.elapsed() - before < ms(250));
    });
}

#[test]
fn a_connection_whose_bytes_never_arrive_times_out() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        pair.change(LinkChange::Partition);
        near.write_all(b"into the void").await.expect("it is open");
        let since = pair.start.elapsed();
        assert_eq!(read(&mut near).await, Err(io::ErrorKind::TimedOut));
        assert_eq!((pair.start.elapsed() - since).as_secs(), 51);
        // The far end knows of nothing, until it speaks.
        assert!(timeout(ms(5000), far.read_u8()).await.is_err());
        pair.change(LinkChange::Repair);
        far.write_all(b"anyone?").await.expect("it is open");
        assert_eq!(read(&mut far).await, Err(io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn what_is_held_back_arrives_at_the_release() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        pair.change(LinkChange::Hold);
        near.write_all(b"late").await.expect("it is open");
        sleep(ms(500)).await;
        pair.change(LinkChange::Release);
        let since = pair.start.elapsed();
        assert_eq!(read(&mut far).await.as_deref(), Ok("late"));
        assert_eq!(pair.start.elapsed(), since);
    });
}

#[test]
fn a_writer_waits_for_a_peer_that_does_not_read_and_goes_on_when_it_does() {
    tell(|pair| async move {
        let (mut near, mut far, _listener) = pair.connected().await;
        let mut written = 0;
        while let Ok(count) = timeout(ms(100), near.write(&[7; 50_000])).await {
            written += count.expect("it is open");
        }
        // A window and a buffer of 64 KiB each; the last write was taken in part.
        assert_eq!(written, 128 << 10);
        let mut all = vec![0; 128 << 10];
        far.read_exact(&mut all).await.expect("it all comes");
        assert!(timeout(ms(100), near.write(&[7; 10])).await.is_ok());
    });
}

#[test]
fn a_window_is_the_reader_s_own() {
    tell(|pair| async move {
        pair.server.set_window(1000);
        let (mut near, mut far, _listener) = pair.connected().await;
        let mut written = 0;
        while let Ok(count) = timeout(ms(100), near.write(&[7; 50_000])).await {
            written += count.expect("it is open");
        }
        assert_eq!(written, (64 << 10) + 1000);
        let mut written = 0;
        while let Ok(count) = timeout(ms(100), far.write(&[7; 50_000])).await {
            written += count.expect("it is open");
        }
        assert_eq!(written, 128 << 10, "the other way it is the other's");
        let mut all = vec![0; (64 << 10) + 1000];
        far.read_exact(&mut all).await.expect("it all comes, a window at a time");
    });
}

#[test]
fn jitter_delays_packets_and_never_reorders_them() {
    tell(|pair| async move {
        pair.network.set_quality(&pair.client, &pair.server, ms(30), None);
        let (mut near, mut far, _listener) = pair.connected().await;
        let mut delays = Vec::new();
        for byte in 0..40 {
            let sent = Instant::now();
            near.write_u8(byte).await.expect("it is open");
            assert_eq!(far.read_u8().await.expect("it comes"), byte);
            delays.push(sent.elapsed());
        }
        let (least, most) = (delays.iter().min().copied(), delays.iter().max().copied());
        assert!(least.is_some_and(|least| least >= LATENCY && least < LATENCY + ms(5)), "{least:?}");
        assert!(most.is_some_and(|most| most > LATENCY + ms(25) && most <= LATENCY + ms(31)), "{most:?}");
        for byte in 0..40 {
            near.write_u8(byte).await.expect("it is open");
            sleep(ms(1)).await;
        }
        for byte in 0..40 {
            assert_eq!(far.read_u8().await.expect("it comes"), byte);
        }
    });
}

#[test]
fn a_narrow_line_carries_its_bytes_a_second() {
    tell(|pair| async move {
        pair.network.set_quality(&pair.client, &pair.server, ms(0), Some(10_000));
        let (mut near, mut far, _listener) = pair.connected().await;
        let since = pair.start.elapsed();
        near.write_all(&[7; 10_000]).await.expect("the buffer takes it");
        let mut all = [0; 10_000];
        far.read_exact(&mut all).await.expect("it all comes");
        // Seven packets, with 40 bytes of headers each.
        let took = pair.start.elapsed() - since;
        assert!(took > ms(1000 + 28) && took < ms(1000 + 28 + 15), "{took:?}");
    });
}

#[test]
fn leaving_bytes_unread_resets_and_having_read_them_ends() {
    tell(|pair| async move {
        let (mut near, far, _listener) = pair.connected().await;
        near.write_all(b"unread").await.expect("it is open");
        sleep(2 * LATENCY).await;
        drop(far);
        assert_eq!(read(&mut near).await, Err(io::ErrorKind::ConnectionReset));
    });
    tell(|pair| async move {
        let (mut near, far, _listener) = pair.connected().await;
        drop(far);
        assert_eq!(read(&mut near).await.as_deref(), Ok(""));
        // Nobody is there: what is written now is answered with a reset.
        near.write_all(b"anyone?").await.expect("this half is open");
        sleep(3 * LATENCY).await;
        assert!(near.write_all(b"anyone?").await.is_err());
    });
}

#[test]
fn a_crash_ends_its_sockets_and_is_silent_to_dials_until_it_boots() {
    tell(|pair| async move {
        let (mut near, _far, _listener) = pair.connected().await;
        pair.server.crash();
        assert_eq!(read(&mut near).await.as_deref(), Ok(""));
        assert!(timeout(ms(5000), pair.client.connect(pair.addr(PORT))).await.is_err());
        pair.server.boot();
        let _listener = pair.server.listen(PORT);
        assert!(pair.client.connect(pair.addr(PORT)).await.is_ok());
    });
}

#[test]
fn the_network_in_memory_keeps_the_contract_of_env() {
    tell(|pair| async move {
        let listener = pair.server.listen(PORT);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await;
                tokio::spawn(async move {
                    let (mut reader, mut writer) = tokio::io::split(&mut stream);
                    // The far end is gone.
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        let clock = SimClock::Memory(pair.start);
        let env = SimEnv::new(0, 1, Recorder::timed(clock), Wire::Memory(pair.client.clone()), false);
        conformance::run(&env).await;
        conformance::bytes_come_back(&env, pair.addr(PORT)).await;
        conformance::a_closed_port_refuses(&env, pair.addr(1)).await;
        conformance::a_known_name_resolves(&env, "192.168.0.1").await;
        conformance::an_unknown_name_does_not_resolve(&env, "nowhere").await;
        let census = env.census();
        assert!(census.is_empty(), "{census:?}");
    });
}

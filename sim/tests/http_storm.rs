//! The HTTP client in a storm, on turmoil: servers that misbehave, a machine that crashes, lines that are held, callers that go
//! away. From one seed each; what must hold is checked after every step.
//!
//! | what | how it is seen |
//! |---|---|
//! | P-2, P-7 | after every step the pool's count of sockets is at least the registry's, and within its limits |
//! | P-9 | a response carries the label of its request: nothing another left in the connection is taken for it |
//! | P-16 | the server counts what it processed: what the client called unsent it never saw, and no POST twice |
//! | P-19, P-20, WS-11 | when the client is closed, no task, timer, dial or socket is left |

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hpx_sim::SimEnv;
use hpx_transport::{
    Delivery, ErrorKind,
    http::{Body, Client, HttpConfig, PoolConfig, Protocol},
};
use http::{Method, Request, Response};
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};
use turmoil::net::{TcpListener, TcpStream};

/// Draws in integers: equal on every machine.
struct Draw(ChaCha12Rng);

impl Draw {
    fn of(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.next_u64() % (high - low + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }
}

/// Whether anything goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Servers do what they should, and the network too.
    Calm,
    Stormy,
}

impl Weather {
    /// A server's mood for a connection; 0 is the best.
    fn mood(self, draw: &mut Draw, moods: u64) -> u64 {
        let mood = draw.between(0, moods);
        if self == Self::Calm { 0 } else { mood }
    }

    fn percent(self, percent: u64) -> u64 {
        if self == Self::Calm { 0 } else { percent }
    }
}

/// How often the server processed each label.
#[derive(Clone, Default)]
struct Processed(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Processed {
    fn count(&self, label: u64) {
        *self.0.lock().expect("no panic").entry(label).or_default() += 1;
    }

    fn of(&self, label: u64) -> u32 {
        self.0.lock().expect("no panic").get(&label).copied().unwrap_or_default()
    }
}

/// The body of the response to a label.
fn body_of(label: u64) -> Vec<u8> {
    let size = (label * 7919 % 20_000) as usize;
    format!("{label} ").into_bytes().into_iter().cycle().take(size).collect()
}

fn label_of(path: &str) -> u64 {
    path.trim_start_matches('/').parse().unwrap_or(u64::MAX)
}

/// One connection over HTTP/1.1, in a mood drawn for it.
async fn serve_h1(
    mut stream: TcpStream,
    mut draw: Draw,
    weather: Weather,
    processed: Processed,
) -> io::Result<()> {
    let mood = weather.mood(&mut draw, 12);
    let lasts = draw.between(1, 6);
    if mood == 11 {
        // Accepted, and gone.
        return Ok(());
    }
    for number in 1.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let label = label_of(head.split(' ').nth(1).unwrap_or_default());
        if head.starts_with("POST") {
            let mut body = [0; 8];
            stream.read_exact(&mut body).await?;
        }
        processed.count(label);
        sleep(draw.millis(0, 60)).await;
        let body = body_of(label);
        let strikes = number == lasts;
        if mood == 1 && strikes {
            // Processed, and no word.
            return Ok(());
        }
        if mood == 2 && strikes {
            sleep(Duration::from_secs(5)).await;
            return Ok(());
        }
        if mood == 3 {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await?;
        }
        let close = if mood == 4 && strikes { "connection: close\r\n" } else { "" };
        let length = body.len() + if mood == 5 && strikes { 10 } else { 0 };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{close}\r\n");
        if mood == 6 && strikes {
            stream.write_all(&answer.as_bytes()[..answer.len() / 2]).await?;
            return Ok(());
        }
        stream.write_all(answer.as_bytes()).await?;
        let halves = body.split_at(body.len() / 2);
        stream.write_all(halves.0).await?;
        if mood == 7 {
            sleep(draw.millis(0, 100)).await;
        }
        if mood == 8 && strikes {
            // Half of a body, and silence.
            sleep(Duration::from_secs(5)).await;
            return Ok(());
        }
        stream.write_all(halves.1).await?;
        if mood == 9 && strikes {
            stream.write_all(b"more than was announced").await?;
        }
        // Moods 5 and 10 hang up behind the response: the next request may be on its way.
        if strikes && matches!(mood, 4 | 5 | 9 | 10) {
            return Ok(());
        }
    }
    Ok(())
}

/// One connection over HTTP/2, in a mood drawn for it.
async fn serve_h2(
    stream: TcpStream,
    mut draw: Draw,
    weather: Weather,
    seed: u64,
    processed: Processed,
) -> Option<()> {
    let mood = weather.mood(&mut draw, 10);
    let lasts = draw.between(1, 8);
    if mood == 9 {
        // Accepted, and gone.
        return None;
    }
    let mut settings = h2::server::Builder::new();
    if draw.chance(40) {
        settings.max_concurrent_streams(draw.between(1, 4) as u32);
    }
    let mut connection = settings.handshake::<_, Bytes>(stream).await.ok()?;
    let mut number = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        number += 1;
        let strikes = number == lasts;
        let label = label_of(request.uri().path());
        if mood == 1 && number % 3 == 0 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        processed.count(label);
        match mood {
            2 if strikes => connection.graceful_shutdown(),
            3 if strikes => connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR),
            4 if strikes => return None,
            5 if strikes => {
                let _ = connection.set_initial_window_size(70_000);
            }
            _ => {}
        }
        let mut draw = Draw::of(seed, 1000 + label);
        tokio::spawn(async move {
            sleep(draw.millis(0, 60)).await;
            if mood == 6 && strikes {
                respond.send_reset(h2::Reason::CANCEL);
                return;
            }
            if mood == 7 && strikes {
                sleep(Duration::from_secs(5)).await;
            }
            let body = Bytes::from(body_of(label));
            let Ok(mut stream) = respond.send_response(Response::new(()), body.is_empty()) else { return };
            let mut rest = body;
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                // What was given before and not used is not given again.
                if stream.capacity() == 0 {
                    let given = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    let Some(Ok(_)) = given else { return };
                }
                let capacity = stream.capacity();
                let piece = rest.split_to(capacity.min(rest.len()).min(5000));
                if mood == 8 && strikes && rest.len() < 5000 {
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    return;
                }
                if stream.send_data(piece, rest.is_empty()).is_err() {
                    return;
                }
                sleep(draw.millis(0, 20)).await;
            }
        });
    }
    None
}

async fn serve(
    seed: u64,
    weather: Weather,
    protocol: Protocol,
    processed: Processed,
    conns: Arc<Mutex<u64>>,
) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", 80)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let number = {
            let mut conns = conns.lock().expect("no panic");
            *conns += 1;
            *conns
        };
        let draw = Draw::of(seed, 1_000_000 + number);
        let processed = processed.clone();
        match protocol {
            Protocol::Http2 => {
                tokio::spawn(serve_h2(stream, draw, weather, seed, processed));
            }
            _ => {
                tokio::spawn(serve_h1(stream, draw, weather, processed));
            }
        }
    }
}

/// Two hosts share the limits of one pool.
const SERVERS: [&str; 2] = ["server", "other"];

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Whole,
    Failed(ErrorKind, Delivery),
    /// Its caller went away.
    Dropped,
}

async fn request(client: Client, server: IpAddr, label: u64, post: bool, drop_body: bool) -> Outcome {
    let (method, body) = match post {
        true => (Method::POST, Body::from("8 bytes!")),
        false => (Method::GET, Body::empty()),
    };
    let request = Request::builder().method(method).uri(format!("http://{server}/{label}")).body(body);
    let response = match client.request(request.expect("a request")).await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(error.kind(), error.delivery()),
    };
    let mut body = response.into_body();
    let mut got = Vec::new();
    loop {
        match body.chunk().await {
            Ok(Some(chunk)) => got.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.delivery(), Delivery::MaybeSent, "{label}: it was processed");
                assert!(body_of(label).starts_with(&got), "{label}: another's words");
                return Outcome::Failed(error.kind(), error.delivery());
            }
        }
        if drop_body {
            return Outcome::Dropped;
        }
    }
    assert!(got == body_of(label), "{label}: {} bytes that are not its own", got.len());
    Outcome::Whole
}

/// What a run showed.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    outcomes: BTreeMap<u64, (Duration, Outcome)>,
    processed: BTreeMap<u64, u32>,
    connections: u64,
}

fn storm(seed: u64, weather: Weather) -> Shown {
    let mut draw = Draw::of(seed, 1);
    let protocol = if draw.chance(50) { Protocol::Http2 } else { Protocol::Http1 };
    let tick = Duration::from_millis(draw.between(1, 5));
    let latency = draw.millis(1, 20);
    let mut sim = turmoil::Builder::new()
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(3600))
        .tick_duration(tick)
        .min_message_latency(latency)
        .max_message_latency(latency)
        .tcp_capacity(4096)
        .rng_seed(seed)
        .build();
    let (processed, conns) = (Processed::default(), Arc::new(Mutex::new(0)));
    for name in SERVERS {
        let (log, count) = (processed.clone(), Arc::clone(&conns));
        sim.host(name, move || {
            let (log, count) = (log.clone(), Arc::clone(&count));
            async move { Ok(serve(seed, weather, protocol, log, count).await?) }
        });
    }
    let servers = SERVERS.map(|name| sim.lookup(name));
    let pool = PoolConfig {
        shards: draw.between(1, 16) as usize,
        open_per_host_max: draw.between(1, 4) as usize,
        open_total_max: draw.between(1, 4) as usize,
        idle_per_host_max: draw.between(0, 3) as usize,
        idle_timeout: draw.millis(100, 2000),
        lifetime_max: draw.millis(300, 5000),
        ..PoolConfig::default()
    };
    let limit = pool.open_total_max.min(2 * pool.open_per_host_max);
    let config = HttpConfig {
        protocol,
        pool,
        connect_timeout: draw.millis(200, 1000),
        request_timeout: draw.millis(400, 2000),
        body_timeout: draw.millis(200, 1000),
        h2_keep_alive_interval: draw.chance(50).then_some(Duration::from_secs(1)),
        h2_keep_alive_timeout: draw.millis(200, 800),
        h2_keep_alive_while_idle: draw.chance(50),
        ..HttpConfig::default()
    };
    let env = SimEnv::standalone(seed);
    let client = Client::new_in(env.clone(), config).expect("a valid configuration");
    let outcomes = Arc::new(Mutex::new(BTreeMap::new()));
    let (notes, caller) = (Arc::clone(&outcomes), client.clone());
    let mut script = Draw::of(seed, 2);
    let requests = script.between(10, 60);
    sim.client("client", async move {
        let mut tasks = Vec::new();
        for label in 0..requests {
            let (wait, post, drop_body) = (script.millis(0, 4000), script.chance(40), script.chance(10));
            let leaves = script.chance(15).then(|| script.millis(1, 200));
            let (client, notes) = (caller.clone(), Arc::clone(&notes));
            tasks.push(tokio::task::spawn_local(async move {
                sleep(wait).await;
                let work = request(client, servers[label as usize % 2], label, post, drop_body);
                let outcome = match leaves {
                    Some(leaves) => tokio::time::timeout(leaves, work).await.unwrap_or(Outcome::Dropped),
                    None => work.await,
                };
                let at = turmoil::sim_elapsed().unwrap_or_default();
                notes.lock().expect("no panic").insert(label, (at, outcome));
            }));
        }
        for task in tasks {
            task.await?;
        }
        caller.close().await;
        drop(caller);
        // What ends, ends soon.
        sleep(Duration::from_secs(6)).await;
        Ok(())
    });
    let crash = draw.chance(weather.percent(40)).then(|| draw.millis(200, 3000));
    let hold = draw.chance(weather.percent(40)).then(|| draw.millis(200, 3000));
    let (crash_ends, hold_ends) = (draw.millis(50, 800), draw.millis(50, 800));
    let mut done = [false; 4];
    let due = |at: Option<Duration>, now: Duration, done: &mut bool| {
        let is_due = at.is_some_and(|at| now >= at) && !*done;
        *done |= is_due;
        is_due
    };
    loop {
        let now = sim.elapsed();
        if due(crash, now, &mut done[0]) {
            sim.crash(SERVERS[0]);
        }
        if due(crash.map(|at| at + crash_ends), now, &mut done[1]) {
            sim.bounce(SERVERS[0]);
        }
        if due(hold, now, &mut done[2]) {
            sim.hold("client", SERVERS[1]);
        }
        if due(hold.map(|at| at + hold_ends), now, &mut done[3]) {
            sim.release("client", SERVERS[1]);
        }
        let over = sim.step().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (census, stats) = (env.census(), client.pool());
        assert!(census.sockets + census.dials <= stats.open, "seed {seed} at {now:?}: {census:?}, {stats:?}");
        assert!(stats.open <= limit, "seed {seed} at {now:?}: {stats:?} over {limit}");
        assert!(now < Duration::from_secs(60), "seed {seed}: it does not end: {census:?}, {stats:?}");
        if over {
            break;
        }
    }
    let stats = client.pool();
    assert_eq!((stats.open, stats.idle, stats.waiting), (0, 0, 0), "seed {seed}");
    drop(client);
    let census = env.census();
    assert!(census.is_empty(), "seed {seed}: {census:?} is left");
    let outcomes = outcomes.lock().expect("no panic").clone();
    for (label, (_, outcome)) in &outcomes {
        let times = processed.of(*label);
        match outcome {
            Outcome::Whole => assert!(times >= 1, "seed {seed}, {label}: answered out of the blue"),
            Outcome::Failed(_, Delivery::NotSent) => {
                assert_eq!(times, 0, "seed {seed}, {label}: called unsent, and was processed");
            }
            _ => {}
        }
        let mut draw = Draw::of(seed, 2);
        let _ = draw.between(10, 60);
        let posts: Vec<bool> = (0..requests)
            .map(|_| {
                let (_, post, _) = (draw.millis(0, 4000), draw.chance(40), draw.chance(10));
                if draw.chance(15) {
                    draw.millis(1, 200);
                }
                post
            })
            .collect();
        if posts[*label as usize] {
            assert!(times <= 1, "seed {seed}, {label}: a POST was processed {times} times");
        }
    }
    assert_eq!(outcomes.len() as u64, requests, "seed {seed}: not all have ended");
    let processed = processed.0.lock().expect("no panic").clone();
    let connections = *conns.lock().expect("no panic");
    Shown { outcomes, processed, connections }
}

#[test]
fn storms_keep_every_promise_and_are_not_vacuous() {
    let seeds = std::env::var("HPX_HTTP_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    let mut kinds = BTreeMap::new();
    for seed in 0..seeds {
        for (_, outcome) in storm(seed, Weather::Stormy).outcomes.values() {
            *kinds.entry(format!("{outcome:?}")).or_insert(0) += 1;
        }
    }
    println!("{kinds:#?}");
    for kind in [
        "Whole",
        "Dropped",
        "Failed(Timeout, MaybeSent)",
        "Failed(Timeout, NotSent)",
        "Failed(Io, MaybeSent)",
    ] {
        assert!(kinds.contains_key(kind), "no request ended as {kind}");
    }
}

#[test]
fn in_calm_weather_every_response_comes_whole() {
    for seed in 0..60 {
        for (label, (_, outcome)) in storm(seed, Weather::Calm).outcomes {
            assert!(
                matches!(outcome, Outcome::Whole | Outcome::Dropped),
                "seed {seed}, {label}: {outcome:?}"
            );
        }
    }
}

#[test]
fn the_same_seed_is_the_same_storm() {
    for seed in 0..10 {
        let run = || std::thread::spawn(move || storm(seed, Weather::Stormy)).join().expect("no panic");
        assert_eq!(run(), run(), "seed {seed}");
    }
}

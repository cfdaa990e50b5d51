//! The pools, each filled so that every checkout finds a connection.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use hpx_transport::{
    env::{self, Clock, Timestamp},
    http::pool::{Connection, HostSlot, Permit, Pool, PoolConfig, PoolKey, Pooled, Step},
};
use http::uri::{Authority, Scheme};
use hyper_util::{
    client::legacy::pool as legacy,
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::{Contender, Entry, Made};

/// What hyper-util's client takes for a key, so that all hash and compare the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key(Scheme, Authority);

impl PoolKey for Key {}

fn keys(hosts: usize) -> Vec<Key> {
    let key = |host| {
        let authority = format!("host-{host}.example.test:8443");
        Key(Scheme::HTTPS, authority.parse().expect("an authority"))
    };
    (0..hosts).map(key).collect()
}

/// Each task picks its hosts by itself: tasks that walk the same way would meet at each step, or never.
fn host_of(task: usize, turn: usize, hosts: usize) -> usize {
    let mixed = ((task << 32 | turn) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (((mixed >> 32) * hosts as u64) >> 32) as usize
}

/// A connection that knows when it was used.
struct Conn {
    active: AtomicU64,
}

impl Connection for Conn {
    fn is_open(&self) -> bool {
        true
    }

    fn last_active(&self) -> Timestamp {
        Timestamp::from_nanos(self.active.load(Ordering::Relaxed))
    }
}

struct Ours {
    clock: env::Tokio,
    pool: Pool<Key, Conn>,
    slots: Vec<HostSlot<Key, Conn>>,
    keys: Vec<Key>,
    by_key: bool,
    _permits: Vec<Permit<Key, Conn>>,
}

impl Ours {
    fn new(hosts: usize, tasks: usize, seed: u64, shards: usize, by_key: bool) -> Self {
        let config = PoolConfig {
            shards,
            hash_seed: seed,
            idle_per_host_max: 64,
            idle_total_max: 1 << 20,
            open_total_max: 1 << 20,
            ..PoolConfig::default()
        };
        let (clock, keys) = (env::Tokio::new(), keys(hosts));
        let pool = Pool::new(&config).expect("a valid configuration");
        let slots: Vec<_> = keys.iter().map(|key| pool.host(key)).collect();
        let mut permits = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        for slot in &slots {
            // All in use at once, so that each is dialed.
            let mut held: Vec<Pooled<_, _>> = Vec::new();
            for _ in 0..tasks {
                let mut checkout = slot.checkout();
                let now = clock.now();
                let Poll::Ready(Ok(Step::Dial(mut permit))) = checkout.poll_next(&mut cx, now) else {
                    panic!("no dial")
                };
                permit.opened(Conn { active: AtomicU64::new(now.as_nanos()) }, now);
                permits.push(permit);
                let Poll::Ready(Ok(Step::Connection(pooled))) = checkout.poll_next(&mut cx, now) else {
                    panic!("no connection")
                };
                held.push(pooled);
            }
            held.into_iter().for_each(Pooled::checkin);
        }
        Self { clock, pool, slots, keys, by_key, _permits: permits }
    }
}

impl Contender for Ours {
    fn once(&self, task: usize, turn: usize) {
        let host = host_of(task, turn, self.slots.len());
        let now = self.clock.now();
        let pooled = match self.by_key {
            true => self.pool.take(&self.keys[host], now),
            false => self.slots[host].take(now),
        };
        let pooled = pooled.expect("there is one for each task");
        pooled.active.store(now.as_nanos(), Ordering::Relaxed);
        match self.by_key {
            true => pooled.checkin(),
            false => self.slots[host].checkin(pooled),
        }
    }
}

struct LegacyConn(u64);

impl legacy::Poolable for LegacyConn {
    fn is_open(&self) -> bool {
        true
    }

    fn reserve(self) -> legacy::Reservation<Self> {
        legacy::Reservation::Unique(self)
    }

    fn can_share(&self) -> bool {
        false
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LegacyKey(Scheme, Authority);

struct Legacy {
    pool: legacy::Pool<LegacyConn, LegacyKey>,
    keys: Vec<LegacyKey>,
    runtime: Runtime,
}

impl Legacy {
    fn new(hosts: usize, tasks: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime");
        let guard = runtime.enter();
        let config = legacy::Config { idle_timeout: Some(Duration::from_secs(90)), max_idle_per_host: 64 };
        let pool = legacy::Pool::new(config, TokioExecutor::new(), Some(TokioTimer::new()));
        let keys: Vec<_> = keys(hosts).into_iter().map(|key| LegacyKey(key.0, key.1)).collect();
        for key in &keys {
            let all: Vec<_> = (0..tasks)
                .map(|number| {
                    let connecting = pool.connecting(key, legacy::Ver::Auto).expect("it may connect");
                    pool.pooled(connecting, LegacyConn(number as u64))
                })
                .collect();
            drop(all);
        }
        drop(guard);
        Self { pool, keys, runtime }
    }
}

impl Contender for Legacy {
    fn once(&self, task: usize, turn: usize) {
        let key = self.keys[host_of(task, turn, self.keys.len())].clone();
        let mut checkout = self.pool.checkout(key);
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(pooled)) = Future::poll(Pin::new(&mut checkout), &mut cx) else {
            panic!("there is one for each task")
        };
        black_box(pooled.0);
        drop(pooled);
        black_box(&self.runtime);
    }
}

struct Pingora {
    pool: pingora_pool::ConnectionPool<i32>,
    keys: Vec<Key>,
    hasher: FixedState,
}

impl Pingora {
    fn new(hosts: usize, tasks: usize) -> Self {
        let (keys, hasher) = (keys(hosts), FixedState::default());
        let pool = pingora_pool::ConnectionPool::new(hosts * tasks * 2);
        for key in &keys {
            for number in 0..tasks {
                let meta = pingora_pool::ConnectionMeta::new(hasher.hash_one(key), number as i32);
                pool.put(&meta, number as i32);
            }
        }
        Self { pool, keys, hasher }
    }
}

impl Contender for Pingora {
    fn once(&self, task: usize, turn: usize) {
        let key = self.hasher.hash_one(&self.keys[host_of(task, turn, self.keys.len())]);
        // Its hot queue may be empty for an instant while another takes it over.
        let id = loop {
            match self.pool.get(&key) {
                Some(id) => break id,
                None => std::hint::spin_loop(),
            }
        };
        let meta = pingora_pool::ConnectionMeta::new(key, id);
        black_box(self.pool.put(&meta, id));
    }
}

/// A map of lists behind one lock, with a time for each: no limits, no waiters.
struct Plain {
    map: Mutex<HashMap<Key, Vec<(u64, Instant)>>>,
    keys: Vec<Key>,
}

impl Plain {
    fn new(hosts: usize, tasks: usize) -> Self {
        let keys = keys(hosts);
        let all = || (0..tasks as u64).map(|number| (number, Instant::now())).collect();
        let map = keys.iter().map(|key| (key.clone(), all())).collect();
        Self { map: Mutex::new(map), keys }
    }
}

impl Contender for Plain {
    fn once(&self, task: usize, turn: usize) {
        let key = &self.keys[host_of(task, turn, self.keys.len())];
        let now = Instant::now();
        let (conn, since) = {
            let mut map = self.map.lock();
            map.get_mut(key).and_then(Vec::pop).expect("there is one for each task")
        };
        black_box(now.duration_since(since) < Duration::from_secs(90));
        let now = Instant::now();
        if let Some(list) = self.map.lock().get_mut(key) {
            list.push((conn, now));
        }
    }
}

pub(crate) fn entries(hosts: usize) -> Vec<Entry> {
    let entry = |name, make: Box<dyn Fn(usize, u64) -> Made>| Entry { name, make };
    vec![
        entry(
            "ours, host kept",
            Box::new(move |tasks, seed| Arc::new(Ours::new(hosts, tasks, seed, 16, false))),
        ),
        entry("ours, by key", Box::new(move |tasks, seed| Arc::new(Ours::new(hosts, tasks, seed, 16, true)))),
        entry(
            "ours, one lock",
            Box::new(move |tasks, seed| Arc::new(Ours::new(hosts, tasks, seed, 1, true))),
        ),
        entry("hyper-util legacy pool", Box::new(move |tasks, _| Arc::new(Legacy::new(hosts, tasks)))),
        entry("pingora-pool", Box::new(move |tasks, _| Arc::new(Pingora::new(hosts, tasks)))),
        entry("mutexed map, no limits", Box::new(move |tasks, _| Arc::new(Plain::new(hosts, tasks)))),
    ]
}

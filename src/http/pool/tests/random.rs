//! Arbitrary lives of a pool, and what must hold after every step of them.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;
use crate::sync::pass_for_thread;

const KEYS: [Key; 4] = [A, B, H2, Key("h2 too", true)];

struct Life {
    world: World,
    config: PoolConfig,
    rng: ChaCha12Rng,
    callers: Vec<(usize, Caller)>,
    dials: Vec<Permit<Key, Conn>>,
    used: Vec<Pooled<Key, Conn>>,
    /// What happened, as far as a user sees it.
    seen: Vec<String>,
    /// Which thread acts, of how many: drawn apart, so that a life is the same on one.
    threads: (ChaCha12Rng, usize),
}

impl Life {
    fn new(seed: u64, shards: usize) -> Self {
        Self::on_threads(seed, shards, 1)
    }

    fn on_threads(seed: u64, shards: usize, threads: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let config = PoolConfig {
            shards,
            idle_per_host_max: rng.next_u32() as usize % 4,
            // What is evicted for the limit on all idle ones depends on the shards.
            idle_total_max: usize::MAX,
            open_per_host_max: 1 + rng.next_u32() as usize % 5,
            open_total_max: 1 + rng.next_u32() as usize % 8,
            idle_timeout: Duration::from_secs(20),
            lifetime_max: Duration::from_secs(200),
            hash_seed: seed,
        };
        let world = World::new(config.clone());
        Self {
            world,
            config,
            rng,
            callers: Vec::new(),
            dials: Vec::new(),
            used: Vec::new(),
            seen: Vec::new(),
            threads: (ChaCha12Rng::seed_from_u64(!seed), threads),
        }
    }

    /// From here on another thread acts, or the same.
    fn switch(&mut self) {
        let (rng, threads) = &mut self.threads;
        pass_for_thread(rng.next_u32() as usize % *threads);
    }

    /// As most users do before they stand in line, by a slot or by a key.
    fn take(&mut self, key: &Key) -> Option<Pooled<Key, Conn>> {
        let (rng, threads) = &mut self.threads;
        match rng.next_u32() % 4 {
            _ if *threads == 1 => None,
            0 => None,
            1 => self.world.pool.take(key, self.world.now),
            _ => self.world.pool.host(key).take(self.world.now),
        }
    }

    fn pick<T>(&mut self, from: impl FnOnce(&mut Self) -> &mut Vec<T>) -> Option<T> {
        let number = self.rng.next_u32() as usize;
        let all = from(self);
        if all.is_empty() { None } else { Some(all.remove(number % all.len())) }
    }

    fn step(&mut self, number: usize) {
        self.switch();
        match self.rng.next_u32() % 14 {
            0..4 => {
                let key = &KEYS[self.rng.next_u32() as usize % KEYS.len()];
                if let Some(pooled) = self.take(key) {
                    assert!(pooled.is_shared() || !pooled.is_stale(), "a dead one was handed out");
                    self.used.push(pooled);
                    return;
                }
                let caller = self.world.caller(key);
                self.callers.push((number, caller));
            }
            4..6 => {
                let Some(permit) = self.pick(|life| &mut life.dials) else { return };
                let limit = 1 + self.rng.next_u32() as usize % 4;
                // A server that shares, mostly.
                let shares = permit.key().1 && !self.rng.next_u32().is_multiple_of(8);
                match shares {
                    true => self.world.open_shared(permit, limit),
                    false => self.world.open(permit),
                };
            }
            6 => {
                let Some(permit) = self.pick(|life| &mut life.dials) else { return };
                if self.rng.next_u32().is_multiple_of(2) { permit.failed(failure()) } else { drop(permit) }
            }
            7..9 => {
                let Some(pooled) = self.pick(|life| &mut life.used) else { return };
                self.world.checkin(pooled);
            }
            9 => drop(self.pick(|life| &mut life.used)),
            10 => drop(self.pick(|life| &mut life.callers)),
            11 => {
                if !self.world.sockets.is_empty() {
                    let socket = self.rng.next_u32() as usize % self.world.sockets.len();
                    self.world.close_by_peer(socket);
                }
            }
            12 => {
                let limit = self.rng.next_u32() as usize % 5;
                let drains = self.rng.next_u32().is_multiple_of(4);
                let permits: Vec<_> = self.world.sockets.iter().flatten().collect();
                if let Some((permit, _)) = permits.get(limit) {
                    if drains { permit.set_draining() } else { permit.set_limit(limit) }
                }
            }
            _ => {
                let seconds = u64::from(self.rng.next_u32() % 15);
                self.world.pass(Duration::from_secs(seconds));
                let next = self.world.pool.expire(self.world.now);
                assert!(next.is_none_or(|at| at > self.world.now), "nothing that is due is left");
                if self.rng.next_u32().is_multiple_of(20) {
                    self.world.pool.drain();
                }
            }
        }
        self.world.settle();
    }

    /// Whoever was woken looks, in the order they came.
    fn look(&mut self) {
        let mut at = 0;
        while at < self.callers.len() {
            let (number, caller) = &mut self.callers[at];
            let is_new = caller.checkout_is_new();
            if !is_new && !caller.rung() {
                at += 1;
                continue;
            }
            let number = *number;
            self.switch();
            let (_, caller) = &mut self.callers[at];
            let got = caller.poll(&self.world);
            for permit in caller.dials.drain(..) {
                self.seen.push(format!("{number} dials {}", permit.key().0));
                self.dials.push(permit);
            }
            match got {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(pooled)) => {
                    self.seen.push(format!("{number} has {}", pooled.number));
                    self.callers.remove(at);
                    self.used.push(pooled);
                }
                Poll::Ready(Err(error)) => {
                    self.seen.push(format!("{number} fails: {error}"));
                    self.callers.remove(at);
                }
            }
            self.world.settle();
        }
    }

    /// What must hold when everybody has looked.
    fn check(&mut self) {
        self.world.check();
        let stats = self.world.pool.stats();
        assert!(stats.open <= self.config.open_total_max, "{stats:?}");
        for key in &KEYS {
            let slot = self.world.pool.host(key);
            let shard = self.world.pool.owner.inner.shards[slot.host.shard].0.lock();
            let host = shard.of(slot.host.host);
            assert!(host.open <= self.config.open_per_host_max, "{key:?}: {host:?}");
            assert!(host.idle <= self.config.idle_per_host_max, "{key:?}: {host:?}");
            assert!(host.idle == 0 || host.waiting == 0, "{key:?} has both: {host:?}");
            // Nobody waits for what could be had.
            let is_free = host.open < self.config.open_per_host_max
                && stats.open < self.config.open_total_max
                && host.dialing == 0;
            assert!(host.waiting == 0 || !is_free, "{key:?} waits in vain: {host:?} of {stats:?}");
            // Nor for what another leaves idle.
            let could_be = host.open < self.config.open_per_host_max && host.dialing == 0;
            assert!(
                host.waiting == 0 || !could_be || stats.idle == 0,
                "{key:?} starves beside idle ones: {stats:?}"
            );
        }
        // One user at a time.
        let mut own: Vec<_> =
            self.used.iter().filter(|pooled| !pooled.is_shared()).map(|pooled| pooled.number).collect();
        own.sort_unstable();
        let before = own.len();
        own.dedup();
        assert_eq!(own.len(), before, "a connection has two users");
    }

    fn run(&mut self, steps: usize) {
        for number in 0..steps {
            self.step(number);
            self.look();
            self.check();
        }
    }

    /// Everybody goes home.
    fn end(mut self) -> Vec<String> {
        self.callers.clear();
        self.dials.clear();
        self.used.clear();
        self.world.settle();
        self.world.pool.close();
        self.world.settle();
        assert_eq!(self.world.pool.stats(), PoolStats::default());
        let inner = &self.world.pool.owner.inner;
        inner.shards.iter().for_each(|shard| shard.0.lock().return_credit(&inner.permits));
        assert_eq!(inner.permits.idle(), 0);
        self.seen
    }
}

impl Caller {
    fn checkout_is_new(&self) -> bool {
        self.checkout.is_new()
    }
}

#[test]
fn arbitrary_lives_keep_every_rule_and_leave_nothing() {
    for seed in 0..400 {
        let mut life = Life::new(seed, 1 + seed as usize % 16);
        life.run(300);
        life.end();
    }
}

#[test]
fn arbitrary_lives_on_several_threads_keep_every_rule_and_leave_nothing() {
    for seed in 0..400 {
        let mut life = Life::on_threads(seed, 1 + seed as usize % 4, 2 + seed as usize % 3);
        life.run(300);
        life.end();
    }
}

#[test]
fn one_shard_and_sixteen_show_the_same() {
    for seed in 0..150 {
        let seen: Vec<_> = [1, 16]
            .into_iter()
            .map(|shards| {
                let mut life = Life::new(seed, shards);
                life.run(200);
                life.end()
            })
            .collect();
        assert_eq!(seen[0], seen[1], "seed {seed}");
    }
}

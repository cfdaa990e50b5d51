//! WS-7, fleet storm: clients that lose one exchange spread their redials as the law of their jitter says, and none draws
//! what another does.

use std::sync::Arc;

use hpx_transport::{env::Timestamp, websocket::Event};

use crate::{
    oracle::{Card, Judge, Observer, Oracle},
    plan::Plan,
    trace::{Entry, Place, What},
};

pub(super) struct Fleet {
    plan: Arc<Plan>,
    /// The share of its span that each client's n-th wait is, for those whose waits are drawn.
    shares: Vec<Vec<f64>>,
    /// Events are missing: a wait's place among a client's waits can't be told.
    blind: Vec<bool>,
}

impl Fleet {
    pub(super) fn new(plan: &Arc<Plan>) -> Self {
        let clients = plan.clients.len();
        Self { plan: Arc::clone(plan), shares: vec![Vec::new(); clients], blind: vec![false; clients] }
    }
}

impl Oracle for Fleet {
    fn card(&self) -> Card {
        Card {
            id: "WS-7",
            rule: "the waits of many clients follow the jitter law, and no two are the same",
            observers: &[Observer::Library],
        }
    }

    fn observe(&mut self, entry: &Entry, judge: &mut Judge) {
        let (Place::Client(client), What::Event(event)) = (entry.place, &entry.what) else { return };
        match event {
            Event::Skipped { .. } => self.blind[client] = true,
            Event::Retrying { attempt, delay, cause } if !self.blind[client] => {
                let policy = self.plan.clients[client].config.backoff();
                if policy.jitter == 0.0 {
                    return;
                }
                let bound = policy.bound(*attempt).as_secs_f64();
                let least = bound * (1.0 - policy.jitter);
                let share = (delay.as_secs_f64() - least) / (bound - least);
                // A wait that the server asked for is nobody's draw. It keeps its place.
                self.shares[client].push(if cause.retry_after().is_some() { f64::NAN } else { share });
                judge.armed();
            }
            _ => {}
        }
    }

    fn finish(&mut self, end: Timestamp, judge: &mut Judge) {
        for turn in 0..TURNS_COMPARED {
            let mut shares: Vec<f64> = self.shares.iter().filter_map(|own| own.get(turn).copied()).collect();
            shares.retain(|share| !share.is_nan());
            shares.sort_by(f64::total_cmp);
            if shares.len() < FLEET_MIN {
                let same = shares.windows(2).any(|pair| pair[1] - pair[0] < SAME);
                judge.check(end, !same, || {
                    format!("wait {} of two clients is the same share of its span: {shares:?}", turn + 1)
                });
            } else if turn == 0 {
                let (distance, most) =
                    (distance_from_uniform(&shares), CRITICAL / (shares.len() as f64).sqrt());
                judge.check(end, distance <= most, || {
                    format!(
                        "the first waits of {} clients are {distance:.4} away from the law, at most {most:.4} may be",
                        shares.len()
                    )
                });
            }
        }
    }
}

/// The statistic of Kolmogorov and Smirnov, against the uniform distribution from 0 to 1. `sorted` is.
fn distance_from_uniform(sorted: &[f64]) -> f64 {
    let count = sorted.len() as f64;
    let apart = |(index, share): (usize, &f64)| {
        let (below, above) = (index as f64 / count, (index + 1) as f64 / count);
        (share - below).max(above - share)
    };
    sorted.iter().enumerate().map(apart).fold(0.0, f64::max)
}

/// Below so many clients waits are compared with each other, from there on with the law.
const FLEET_MIN: usize = 200;
/// A true sample lies further away once in 100,000 fleets.
const CRITICAL: f64 = 2.47;
/// Two draws of 53 bits that are as close as this are one.
const SAME: f64 = 1e-9;
/// Where clients share a stream, the first waits tell.
const TURNS_COMPARED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_of_an_even_spread_is_small_and_of_a_spike_is_large() {
        let even: Vec<f64> = (0..1000).map(|index| (f64::from(index) + 0.5) / 1000.0).collect();
        assert!(distance_from_uniform(&even) < 0.001);
        assert!(distance_from_uniform(&[0.5; 1000]) > 0.49);
    }
}

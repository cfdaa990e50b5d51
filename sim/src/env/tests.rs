//! The client's clocks, outside any plan.

use std::{future::poll_fn, pin::pin, time::Duration};

use hpx_transport::env::{Clock, Spawn, Timer};
use tokio::time::{Instant, sleep};

use super::{Conditions, SimEnv};
use crate::{
    net::{SimClock, Wire, memory::Network, ms},
    plan::FaultKind,
    trace::Recorder,
};

/// Runs a story of one client on paused time.
fn tell<F: Future<Output = ()>>(story: impl FnOnce(SimEnv, Recorder) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without I/O starts").block_on(async {
        let clock = SimClock::Memory(Instant::now());
        let recorder = Recorder::timed(clock);
        let host = Network::new(1, clock).host();
        story(SimEnv::new(0, 1, recorder.clone(), Wire::Memory(host), false), recorder).await;
    });
}

/// The world changes now.
fn change(env: &SimEnv, recorder: &Recorder, faults: &[&FaultKind]) {
    recorder.set_world_time(recorder.clock().now().unwrap_or_default());
    env.set_conditions(Conditions::of(faults));
}

#[test]
fn a_jump_moves_the_wall_clock_and_nothing_else() {
    tell(|env, _| async move {
        sleep(ms(500)).await;
        let (now, unix) = (env.now(), env.unix_time());
        env.jump(3_600_000);
        assert_eq!((env.now(), env.unix_time()), (now, unix + Duration::from_secs(3600)));
        env.jump(-7_200_000);
        assert_eq!((env.now(), env.unix_time()), (now, unix - Duration::from_secs(3600)));
        env.jump(i64::MIN);
        assert_eq!(env.unix_time(), Duration::ZERO, "there is no time before 1970");
    });
}

#[test]
fn a_timer_rings_by_its_own_clock_though_its_speed_changes_while_it_waits() {
    tell(|env, recorder| async move {
        let (fast, slow) = (FaultKind::ClockSkew { ppm: 1_000_000 }, FaultKind::ClockSkew { ppm: -500_000 });
        let (task, start) = (env.clone(), Instant::now());
        let rung = tokio::spawn(env.of_process(Box::pin(async move {
            let mut timer = pin!(task.timer());
            let at = task.now() + ms(1000);
            timer.as_mut().arm(at);
            poll_fn(|cx| timer.as_mut().poll_expired(cx)).await;
            assert!(task.now() >= at, "early, at {:?}", task.now());
            start.elapsed()
        })));
        sleep(ms(200)).await;
        change(&env, &recorder, &[&fast]);
        // 200, and twice 100.
        sleep(ms(100)).await;
        change(&env, &recorder, &[&slow]);
        // Half of 400; 400 are left.
        sleep(ms(400)).await;
        change(&env, &recorder, &[]);
        assert_eq!(rung.await.expect("it rings"), ms(200 + 100 + 400 + 400));
    });
}

#[test]
fn a_task_stands_still_in_a_pause_and_goes_on_after_it() {
    tell(|env, recorder| async move {
        let start = Instant::now();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = async move {
            sleep(ms(100)).await;
            let _ = sender.send(start.elapsed());
        };
        env.spawn("sleeper", task);
        // Its sleep begins.
        tokio::task::yield_now().await;
        change(&env, &recorder, &[&FaultKind::Pause]);
        sleep(ms(700)).await;
        assert_eq!(env.census().tasks, 1);
        change(&env, &recorder, &[]);
        assert_eq!(receiver.await.expect("it goes on"), ms(700));
        tokio::task::yield_now().await;
        assert!(env.census().is_empty(), "{:?}", env.census());
    });
}

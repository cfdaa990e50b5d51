//! One direction of a socket with a limited number of bytes a second.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// So many bytes a second, however coarse the timers are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Until then it is busy with the bytes before.
    free_at: Option<Instant>,
    rate: Option<u64>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// How many bytes may move now, of at most `most`.
    pub(super) fn poll(&mut self, rate: Option<u64>, most: usize, cx: &mut Context<'_>) -> Poll<usize> {
        if self.rate != rate {
            // What an earlier limit made it wait for is over with that.
            *self = Self { rate, ..Self::default() };
        }
        let Some(rate) = rate else { return Poll::Ready(most) };
        let now = Instant::now();
        let free_at = *self.free_at.get_or_insert(now);
        if free_at > now {
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(free_at)));
            alarm.as_mut().reset(free_at);
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // What goes in a fiftieth of a second goes at once.
        Poll::Ready(most.min(usize::try_from(rate / 50).unwrap_or(usize::MAX).max(1)))
    }

    pub(super) fn moved(&mut self, bytes: usize) {
        let (Some(rate), Some(free_at)) = (self.rate, self.free_at) else { return };
        let takes = bytes as u128 * 1_000_000_000 / u128::from(rate.max(1));
        // An alarm that rang late, by the rest of a millisecond, is made up for; idle time is not.
        let now = Instant::now();
        let from = free_at.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        self.free_at = Some(from + Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX)));
    }
}

/// A few of the milliseconds that tokio's timers round up to.
const CATCH_UP: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn single_bytes_go_at_the_rate_though_timers_know_only_milliseconds() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime without I/O starts").block_on(async {
            let (mut pace, start) = (Pace::default(), Instant::now());
            // Two thirds of a millisecond each.
            for _ in 0..3000 {
                let most = poll_fn(|cx| pace.poll(Some(1500), 1, cx)).await;
                assert_eq!(most, 1);
                pace.moved(1);
            }
            let took = start.elapsed();
            assert!(took > Duration::from_millis(1990) && took < Duration::from_millis(2010), "{took:?}");
            // Its end is the end of all waiting.
            assert_eq!(poll_fn(|cx| pace.poll(None, 9, cx)).await, 9);
            assert_eq!(start.elapsed(), took);
        });
    }
}

//! Settings of a connection, and how its events are read.

use super::Draw;
use crate::plan::{ConfigPlan, HandlerPlan, Reader};

pub(super) fn draw_config(draw: &mut Draw) -> ConfigPlan {
    let initial = draw.between(20, 300);
    ConfigPlan {
        reconnect_initial_delay_ms: initial,
        reconnect_max_delay_ms: initial * draw.between(1, 8),
        reconnect_backoff_factor: draw.pick(&[1.0, 1.5, 2.0, 3.0]),
        reconnect_jitter: draw.pick(&[0.0, 0.5, 1.0, 1.0, 1.0]),
        reconnect_max_attempts: if draw.chance(15) { Some(draw.between(3, 12) as u32) } else { None },
        stable_after_ms: draw.between(500, 3000),
        ping_interval_ms: draw.between(300, 2500),
        pong_timeout_ms: draw.between(250, 2000),
        request_timeout_ms: draw.between(400, 4000),
        connect_timeout_ms: draw.between(400, 2000),
        auth_timeout_ms: draw.between(300, 1500),
        write_timeout_ms: draw.between(500, 2000),
        close_timeout_ms: draw.between(200, 1000),
        event_channel_capacity: draw.pick(&[8, 16, 256]),
        command_channel_capacity: draw.pick(&[1, 4, 64]),
        subscription_channel_capacity: draw.pick(&[1, 4, 16, 256]),
        max_pending_requests: draw.pick(&[2, 6, 1000, 1000]),
    }
}

pub(super) fn draw_guard_reader(draw: &mut Draw) -> Reader {
    match draw.between(1, 10) {
        1 => Reader::Absent,
        2..=4 => Reader::Slow { every_ms: draw.between(20, 900) },
        _ => Reader::Prompt,
    }
}

pub(super) fn draw_reader(draw: &mut Draw) -> Reader {
    match draw.between(1, 10) {
        1 => Reader::Absent,
        2..=3 => Reader::Slow { every_ms: draw.between(50, 1500) },
        _ => Reader::Prompt,
    }
}

pub(super) fn draw_handler(draw: &mut Draw) -> HandlerPlan {
    HandlerPlan { topics_per_message: draw.pick(&[1, 2, 3, 100, 100]), text_ids: draw.chance(30) }
}

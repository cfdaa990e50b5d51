//! What an exchange does that is not to be trusted: the bytes that a well-behaved codec would not write.

use std::time::Duration;

use super::pipe::Manners;
use crate::plan::Behaviour;

/// The raw frames of a behaviour that strikes once, after the authentication (RFC 6455, section 5.2).
pub(super) fn frames(behaviour: Behaviour) -> Vec<u8> {
    match behaviour {
        // Only announced: whoever waits for it has no limit.
        Behaviour::OversizeMessage => {
            let mut bytes = vec![FIN | TEXT, 127];
            bytes.extend(OVERSIZE_BYTES.to_be_bytes());
            bytes.extend([b'x'; 100]);
            bytes
        }
        Behaviour::BadUtf8 => vec![FIN | TEXT, 2, 0xc3, 0x28],
        Behaviour::MaskedFrames => vec![FIN | TEXT, MASKED | 2, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2],
        Behaviour::FragmentBomb => {
            let mut bytes = vec![TEXT, 0];
            for _ in 0..FRAGMENTS {
                bytes.extend([0, 127]);
                bytes.extend((FRAGMENT_BYTES as u64).to_be_bytes());
                bytes.resize(bytes.len() + FRAGMENT_BYTES, b'x');
            }
            bytes
        }
        Behaviour::CloseCode(code) => {
            let [high, low] = code.to_be_bytes();
            vec![FIN | CLOSE, 2, high, low]
        }
        _ => Vec::new(),
    }
}

/// The pings of one turn of a flood.
pub(super) fn pings() -> Vec<u8> {
    let ping = [&[FIN | PING, 125][..], &[b'p'; 125]].concat();
    ping.repeat(PINGS_A_TURN)
}

/// How bytes leave the exchange.
pub(super) fn manners(behaviour: Option<Behaviour>) -> Manners {
    match behaviour {
        Some(Behaviour::Slowloris { every_ms }) => Manners::Slow(Duration::from_millis(every_ms)),
        Some(Behaviour::IgnorePings) => Manners::Mute,
        _ => Manners::Good,
    }
}

/// Time between two turns of a ping flood.
pub(super) const FLOOD_EVERY: Duration = Duration::from_millis(10);
/// A flood of 32,000 pings a second, for so many turns.
pub(super) const FLOOD_TURNS: u32 = 100;
const PINGS_A_TURN: usize = 32;
/// More than anybody takes.
const OVERSIZE_BYTES: u64 = 1 << 40;
/// The fragments of a bomb come to more than the most that a plan's client takes.
const FRAGMENTS: usize = 40;
const FRAGMENT_BYTES: usize = 8 << 10;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

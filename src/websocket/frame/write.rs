//! Client frames, laid straight into the write buffer (RFC 6455, section 5.2): header, mask, masked payload.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{FIN, MASKED, Opcode};

/// Bytes on their way out. Whole frames are appended; the socket takes from the front.
pub(in crate::websocket) struct WriteBuffer {
    bytes: Vec<u8>,
    /// How many bytes at the front the socket has taken.
    taken: usize,
    /// How many bytes the socket has taken in all.
    left: u64,
    masks: ChaCha12Rng,
}

impl WriteBuffer {
    pub(in crate::websocket) fn new(mask_seed: [u8; 32]) -> Self {
        Self { bytes: Vec::new(), taken: 0, left: 0, masks: ChaCha12Rng::from_seed(mask_seed) }
    }

    /// Appends one unfragmented frame.
    pub(in crate::websocket) fn push_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mask = self.masks.next_u32().to_le_bytes();
        let length = payload.len();
        self.bytes.reserve(HEADER_SIZE_MAX_BYTES + length);
        self.bytes.push(FIN | opcode as u8);
        match length {
            0..=125 => self.bytes.push(MASKED | length as u8),
            126..=0xffff => {
                self.bytes.push(MASKED | 126);
                self.bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(MASKED | 127);
                self.bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(&mask);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        apply_mask(&mut self.bytes[start..], mask);
    }

    /// What the socket has not taken yet.
    pub(in crate::websocket) fn waiting(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// How many bytes the socket has taken since the beginning.
    pub(in crate::websocket) fn left(&self) -> u64 {
        self.left
    }

    /// The socket took so many bytes.
    pub(in crate::websocket) fn advance(&mut self, taken: usize) {
        self.taken += taken;
        self.left += taken as u64;
        if self.taken == self.bytes.len() {
            self.taken = 0;
            self.bytes.clear();
            // An idle connection keeps no large buffer after a burst.
            self.bytes.shrink_to(KEEP_BYTES);
        } else if self.taken >= COMPACT_BYTES && self.taken >= self.bytes.len() / 2 {
            // A peer that never lets the buffer run empty must not make it grow: what is moved is at most what was taken.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}

fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let narrow = u32::from_ne_bytes(mask);
    let wide = (u64::from(narrow) << 32) | u64::from(narrow);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Two bytes, an extended length of eight, a mask of four.
const HEADER_SIZE_MAX_BYTES: usize = 14;
const KEEP_BYTES: usize = 16 << 10;
/// Below this, moving what is left costs more than the memory is worth.
const COMPACT_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    #[test]
    fn a_server_reads_back_every_length_of_payload() {
        for length in [0, 1, 3, 7, 8, 9, 125, 126, 127, 4096, 65535, 65536, 100_001] {
            let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let mut buffer = WriteBuffer::new([9; 32]);
            buffer.push_frame(Opcode::Binary, &payload);
            let stream = Cursor::new(buffer.waiting().to_vec());
            let mut server = WebSocket::from_raw_socket(stream, Role::Server, None);
            assert_eq!(
                server.read().expect("a valid frame"),
                Message::Binary(payload.into()),
                "length {length}"
            );
        }
    }

    #[test]
    fn bytes_leave_from_the_front_in_any_split() {
        let mut buffer = WriteBuffer::new([9; 32]);
        buffer.push_frame(Opcode::Text, b"hello");
        let whole = buffer.waiting().to_vec();
        let mut left = Vec::new();
        while !buffer.waiting().is_empty() {
            left.push(buffer.waiting()[0]);
            buffer.advance(1);
        }
        assert_eq!(left, whole);
    }

    #[test]
    fn a_buffer_that_never_runs_empty_does_not_grow() {
        let mut buffer = WriteBuffer::new([9; 32]);
        buffer.push_frame(Opcode::Binary, &[0; 100_000]);
        for _ in 0..10_000 {
            buffer.push_frame(Opcode::Binary, &[0; 10_000]);
            buffer.advance(10_008);
        }
        assert!(buffer.waiting().len() > 90_000);
        assert!(buffer.bytes.capacity() < 1 << 20, "{} bytes held", buffer.bytes.capacity());
    }
}

//! What a client hands to its socket, read back: frames with their payload unmasked (RFC 6455, section 5.2).
//!
//! This is the exact moment a message left the library, which no server log can give while the network delays it.

/// One frame of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The opcode: 1 text, 2 binary, 8 close, 9 ping, 10 pong.
    pub opcode: u8,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The payload, where it is text.
    pub fn text(&self) -> Option<&str> {
        (self.opcode == 1).then(|| std::str::from_utf8(&self.payload).ok()).flatten()
    }
}

/// Cuts a client's byte stream into frames; what comes before the blank line is the upgrade request.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    buffer: Vec<u8>,
    upgraded: bool,
}

impl FrameReader {
    /// The frames that these bytes complete.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.extend_from_slice(bytes);
        if !self.upgraded {
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Vec::new();
            };
            self.buffer.drain(..end + 4);
            self.upgraded = true;
        }
        let mut frames = Vec::new();
        while let Some((frame, length)) = parse(&self.buffer) {
            self.buffer.drain(..length);
            frames.push(frame);
        }
        frames
    }
}

/// The first frame and how many bytes it took, if it is whole.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    let (length, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
        short => (u64::from(short), 2),
    };
    let mask = if second & 0x80 == 0 {
        [0; 4]
    } else {
        at += 4;
        bytes.get(at - 4..at)?.try_into().ok()?
    };
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let payload =
        bytes.get(at..end)?.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((Frame { opcode: first & 0x0f, payload }, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_unmasked_however_the_bytes_are_cut() {
        let mut bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec();
        bytes.extend([0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]);
        bytes.extend([0x89, 0x80, 9, 9, 9, 9]);
        let expected =
            [Frame { opcode: 1, payload: b"hi".to_vec() }, Frame { opcode: 9, payload: Vec::new() }];
        for size in 1..bytes.len() {
            let mut reader = FrameReader::default();
            let frames: Vec<Frame> = bytes.chunks(size).flat_map(|chunk| reader.take(chunk)).collect();
            assert_eq!(frames, expected, "cut into pieces of {size}");
        }
    }
}

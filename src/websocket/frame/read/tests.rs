use std::io::{self, Read, Write};

use bytes::buf::BufMut as _;
use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng, SeedableRng},
};
use tungstenite::{
    Message,
    error::Error,
    protocol::{Role, WebSocketConfig, WebSocketContext},
};

use super::*;

const LIMIT: usize = 1000;
const CHUNK: usize = 64 << 10;

/// What a reader made of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Message(WsMessage),
    Ping(Bytes),
    Pong,
    Close(Option<u16>),
    Broken,
    NotUtf8,
    TooLarge,
}

impl Seen {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Broken | Self::NotUtf8 | Self::TooLarge)
    }
}

/// Feeds `bytes` in pieces of at most `piece`, until the end or the first word after which nothing counts.
fn ours(bytes: &[u8], mut piece: impl FnMut() -> usize) -> Vec<Seen> {
    let mut reader = FrameReader::new(&[], LIMIT, CHUNK);
    let mut left = bytes;
    let mut seen = Vec::new();
    loop {
        match reader.next() {
            Ok(None) if left.is_empty() => return seen,
            Ok(None) => {
                let mut room = reader.room();
                let offered = room.chunk_mut().len();
                assert!(offered > 0, "a reader must always have room");
                let (now, later) = left.split_at(piece().min(offered).min(left.len()));
                room.put_slice(now);
                reader.filled(now.len(), offered);
                reader.drained();
                left = later;
            }
            Ok(Some(Received::Message(message))) => seen.push(Seen::Message(message)),
            Ok(Some(Received::Ping(payload))) => seen.push(Seen::Ping(payload)),
            Ok(Some(Received::Pong)) => seen.push(Seen::Pong),
            Ok(Some(Received::Close { code, .. })) => {
                // 1014 is registered with IANA, and not yet known to the other reader.
                seen.push(if matches!(code, Some(1002 | 1014)) { Seen::Broken } else { Seen::Close(code) });
                return seen;
            }
            Err(error) => {
                seen.push(match error {
                    FrameError::Protocol(_) | FrameError::CloseCode(_) => Seen::Broken,
                    FrameError::NotUtf8 => Seen::NotUtf8,
                    FrameError::TooLarge { .. } => Seen::TooLarge,
                });
                return seen;
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Vec<Seen> {
    ours(bytes, || usize::MAX)
}

struct Source<'a>(&'a [u8]);

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.0.read(into) }
    }
}

impl Write for Source<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same by a reader that was not written here.
fn theirs(bytes: &[u8]) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let mut context = WebSocketContext::new(Role::Client, Some(config));
    let mut source = Source(bytes);
    let mut seen = Vec::new();
    loop {
        seen.push(match context.read(&mut source) {
            Ok(Message::Text(text)) => Seen::Message(WsMessage::text(text.as_str())),
            Ok(Message::Binary(bytes)) => Seen::Message(WsMessage::Binary(bytes)),
            Ok(Message::Ping(payload)) => Seen::Ping(payload),
            Ok(Message::Pong(_)) => Seen::Pong,
            Ok(Message::Close(frame)) => {
                // It makes a Close frame of code 1002 of one whose code must not be sent.
                let code = frame.map(|frame| frame.code.into());
                seen.push(if code == Some(1002) { Seen::Broken } else { Seen::Close(code) });
                return seen;
            }
            Ok(Message::Frame(_)) => unreachable!("frames are not asked for"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return seen,
            Err(error) => {
                seen.push(match error {
                    Error::Utf8(_) => Seen::NotUtf8,
                    Error::Capacity(_) => Seen::TooLarge,
                    _ => Seen::Broken,
                });
                return seen;
            }
        });
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// Frames as a server might send them, mostly in order, sometimes with a byte or a length gone wrong.
fn draw(rng: &mut ChaCha12Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut open = false;
    for _ in 0..rng.next_u32() % 8 + 1 {
        let length = match rng.next_u32() % 6 {
            0 => 0,
            1..=3 => rng.next_u32() as usize % 126,
            4 => 120 + rng.next_u32() as usize % 20,
            _ => rng.next_u32() as usize % (LIMIT + 50),
        };
        let mut payload: Vec<u8> = (0..length).map(|_| b'a' + (rng.next_u32() % 26) as u8).collect();
        if rng.next_u32().is_multiple_of(4) {
            payload.extend_from_slice("ü€🦀".as_bytes());
            payload.truncate(payload.len() - rng.next_u32() as usize % 3);
        }
        let first = match rng.next_u32() % 10 {
            0 => 0x89,
            1 => 0x8a,
            2 => {
                let codes =
                    [999, 1000, 1001, 1004, 1005, 1006, 1011, 1014, 1015, 1016, 2999, 3000, 4999, 5000];
                let code: u16 = codes[rng.next_u32() as usize % codes.len()];
                payload.truncate(100);
                payload.splice(0..0, code.to_be_bytes());
                0x88
            }
            3 if !open => 0x02,
            4 if !open => 0x01,
            5 | 6 if open => 0x00,
            7 | 8 if open => 0x80,
            9 => 0x82,
            _ => 0x81,
        };
        open = match first {
            0x01 | 0x02 => true,
            0x80 => false,
            _ => open,
        };
        if first & 0x08 != 0 {
            payload.truncate(125);
        }
        bytes.extend(frame(first, &payload));
    }
    if rng.next_u32().is_multiple_of(3) {
        let place = rng.next_u32() as usize % bytes.len();
        bytes[place] ^= 1 << (rng.next_u32() % 8);
    }
    bytes
}

#[test]
fn an_independent_reader_sees_the_same_in_any_bytes() {
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let mut ends = [0; 4];
    let mut exact = 0;
    for number in 0..RUNS {
        let bytes = draw(&mut rng);
        let (mut seen, mut expected) = (whole(&bytes), theirs(&bytes));
        let last = expected.last();
        ends[0] += usize::from(last == Some(&Seen::Broken));
        ends[1] += usize::from(last == Some(&Seen::NotUtf8));
        ends[2] += usize::from(last == Some(&Seen::TooLarge));
        ends[3] += usize::from(matches!(last, Some(Seen::Message(_))));
        exact += usize::from(seen == expected);
        // Where bytes break several rules either may be named first. This reader refuses by the header what the other still
        // waits to receive, and counts a character cut by a fragment's end with the message's size.
        if seen.last().is_some_and(Seen::is_refusal) {
            seen.pop();
            expected.truncate(seen.len());
        }
        assert_eq!(seen, expected, "bytes {number}: {bytes:02x?}");
    }
    assert!(ends.iter().all(|count| *count > RUNS / 100), "every way to end was met: {ends:?}");
    assert!(exact > RUNS * 9 / 10, "only {exact} of {RUNS} named the same rule");
}

const RUNS: usize = 20_000;

#[test]
fn any_split_of_the_bytes_gives_the_same() {
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    for _ in 0..3_000 {
        let bytes = draw(&mut rng);
        let expected = whole(&bytes);
        assert_eq!(ours(&bytes, || 1), expected, "one at a time: {bytes:02x?}");
        let mut cuts = ChaCha12Rng::seed_from_u64(3);
        assert_eq!(ours(&bytes, || cuts.next_u32() as usize % 300 + 1), expected, "{bytes:02x?}");
    }
}

#[test]
fn every_rule_of_the_protocol_is_named_when_it_is_broken() {
    let long = frame(0x89, &[0; 126]);
    let high_bit = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
    for (bytes, words) in [
        (&[0xc1, 0][..], "reserved bit"),
        (&[0x83, 0], "opcode"),
        (&[0x81, 0x80], "masked"),
        (&[0x09, 0], "fragmented"),
        (&long, "longer than 125"),
        (&[0x80, 0], "nothing to continue"),
        (&[0x01, 0, 0x81, 0], "before the last one ended"),
        (&high_bit, "highest bit"),
        (&[0x88, 1, 3], "one byte of a code"),
    ] {
        let mut reader = FrameReader::new(bytes, LIMIT, CHUNK);
        match reader.next() {
            Err(FrameError::Protocol(rule)) => assert!(rule.contains(words), "{rule}"),
            other => panic!("{words}: {other:?}"),
        }
    }
}

#[test]
fn a_text_gone_wrong_in_its_first_fragment_is_refused_there() {
    assert_eq!(whole(&frame(0x01, b"\xff")), [Seen::NotUtf8]);
    // Cut in the middle of a character is not wrong yet.
    let euro = "€".as_bytes();
    let bytes = [frame(0x01, &euro[..2]), frame(0x80, &euro[2..])].concat();
    assert_eq!(whole(&bytes), [Seen::Message(WsMessage::text("€"))]);
    let bytes = [frame(0x01, &euro[..2]), frame(0x80, b"")].concat();
    assert_eq!(whole(&bytes), [Seen::NotUtf8]);
}

#[test]
fn the_limit_counts_all_fragments_and_needs_only_the_header() {
    let bytes = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])[..4].to_vec()].concat();
    let mut reader = FrameReader::new(&bytes, LIMIT, CHUNK);
    assert_eq!(reader.next(), Err(FrameError::TooLarge { size: 1001, limit: LIMIT }));
}

/// Reads `bytes` in pieces of at most 64 KiB, as a socket gives them.
fn feed(reader: &mut FrameReader, mut bytes: &[u8]) -> usize {
    let mut messages = 0;
    while !bytes.is_empty() {
        let mut room = reader.room();
        let offered = room.chunk_mut().len();
        let (now, later) = bytes.split_at(offered.min(bytes.len()).min(64 << 10));
        room.put_slice(now);
        reader.filled(now.len(), offered);
        bytes = later;
        while let Ok(Some(_)) = reader.next() {
            messages += 1;
        }
    }
    reader.drained();
    messages
}

#[test]
fn a_length_that_is_only_announced_gets_no_memory() {
    let mut reader = FrameReader::new(&[], 1 << 30, CHUNK);
    let mut bytes = vec![0x82, 127];
    bytes.extend_from_slice(&(1_u64 << 29).to_be_bytes());
    bytes.extend_from_slice(&[0; 10_000]);
    feed(&mut reader, &bytes);
    assert!(reader.buffer.capacity() <= 2 * CHUNK, "{} bytes", reader.buffer.capacity());
}

#[test]
fn a_large_message_leaves_no_large_buffer_behind() {
    let mut reader = FrameReader::new(&[], 1 << 30, CHUNK);
    let large = frame(0x82, &vec![7; 8 << 20]);
    assert_eq!(feed(&mut reader, &large), 1);
    assert_eq!(reader.buffer.capacity(), 0, "idle");
    // Nor when the connection doesn't come to rest.
    let busy = [&large[..], &frame(0x82, &[1; 100])[..50]].concat();
    assert_eq!(feed(&mut reader, &busy), 1);
    assert_eq!(feed(&mut reader, &frame(0x82, &[1; 100])[50..]), 1);
    for _ in 0..3 {
        assert_eq!(feed(&mut reader, &frame(0x82, &[1; 100])), 1);
    }
    assert!(reader.buffer.capacity() <= 3 * CHUNK, "{} bytes", reader.buffer.capacity());
}

#[test]
fn room_grows_under_a_flood_and_shrinks_in_a_trickle() {
    let mut reader = FrameReader::new(&[], 1 << 30, CHUNK);
    assert_eq!(reader.chunk, CHUNK_MIN_BYTES);
    let flood: Vec<u8> = (0..1_000).flat_map(|_| frame(0x82, &[0; 1_000])).collect();
    assert_eq!(feed(&mut reader, &flood), 1_000);
    assert_eq!(reader.chunk, CHUNK);
    for _ in 0..6 {
        feed(&mut reader, &frame(0x82, &[0; 100]));
    }
    assert_eq!(reader.chunk, CHUNK_MIN_BYTES);
    assert!(reader.buffer.capacity() <= 3 * CHUNK_MIN_BYTES, "{} bytes", reader.buffer.capacity());
}

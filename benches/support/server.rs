//! A server on raw sockets: frames in, frames out, one write per read. Its replies are the requests themselves.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

/// Starts it on threads of its own, wherever the scheduler puts them. Gives back the URL.
pub(crate) fn start() -> String {
    listen(None)
}

/// Starts it with every connection's thread bound to `core`. Gives back the URL.
pub(crate) fn start_on(core: usize) -> String {
    listen(Some(core))
}

fn listen(core: Option<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                if let Some(core) = core {
                    super::cores::bind(core);
                }
                serve(stream);
            });
        }
    });
    format!("ws://{address}/")
}

fn serve(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(mut upgraded) = tungstenite::accept(stream) else { return };
    let stream = upgraded.get_mut();
    let mut inbox = Vec::new();
    let mut outbox = Vec::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let Ok(read @ 1..) = stream.read(&mut chunk) else { return };
        inbox.extend_from_slice(&chunk[..read]);
        let mut taken = 0;
        while let Some((opcode, payload, length)) = parse(&mut inbox[taken..]) {
            match opcode {
                0x1 if payload.starts_with(b"push ") => push(stream, payload),
                // A request is echoed; "subscribe" and "hold .." get no answer.
                0x1 if payload.starts_with(b"{\"id\":") && !payload.ends_with(b"\"hold\"}") => {
                    frame(0x1, payload, &mut outbox);
                }
                0x8 => frame(0x8, payload, &mut outbox),
                0x9 => frame(0xa, payload, &mut outbox),
                _ => {}
            }
            taken += length;
        }
        inbox.drain(..taken);
        if stream.write_all(&outbox).is_err() {
            return;
        }
        outbox.clear();
    }
}

/// One client frame from the front, unmasked in place: opcode, payload, length of the whole.
fn parse(bytes: &mut [u8]) -> Option<(u8, &[u8], usize)> {
    let short = usize::from(*bytes.get(1)? & 0x7f);
    let (length, header) = match short {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => return None,
        short => (short, 2),
    };
    let end = header + 4 + length;
    if bytes.len() < end {
        return None;
    }
    let opcode = bytes[0] & 0x0f;
    let mask = [bytes[header], bytes[header + 1], bytes[header + 2], bytes[header + 3]];
    for (byte, mask) in bytes[header + 4..end].iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
    Some((opcode, &bytes[header + 4..end], end))
}

fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// `push SIZE TOPICS MESSAGES`: whole blocks, laid out once, until so many messages are written.
fn push(stream: &mut TcpStream, command: &[u8]) {
    let text = String::from_utf8_lossy(command);
    let numbers: Vec<usize> = text.split(' ').skip(1).filter_map(|word| word.parse().ok()).collect();
    let [size, topics, messages] = numbers[..] else { return };
    let mut block = Vec::new();
    let per_block = per_block(size, topics);
    for number in 0..per_block {
        let head = format!(r#"{{"topic":"t{}","data":""#, number % topics);
        let payload = format!("{head}{}\"}}", "x".repeat(size - head.len() - 2));
        frame(0x1, payload.as_bytes(), &mut block);
    }
    for _ in 0..messages.div_ceil(per_block) {
        if stream.write_all(&block).is_err() {
            return;
        }
    }
}

/// As many messages as fill a block, the same number for each topic.
fn per_block(size: usize, topics: usize) -> usize {
    ((256 << 10) / size).max(1).next_multiple_of(topics)
}

/// Messages that are really pushed for a command of so many: whole blocks.
pub(crate) fn pushed(ingest: super::Ingest) -> usize {
    let per_block = per_block(ingest.size, ingest.topics);
    ingest.messages.div_ceil(per_block) * per_block
}

//! Hosts, listeners, and packets under way: the network in memory, as a pure function of what is done to it and when.
//!
//! What happens next is an event with a time and a number: events of one time happen in the order they were caused.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use hpx_transport::env::Timestamp;
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::{
    endpoint::{EndId, Endpoint, Fin, RETRIES_MAX, RETRY_TIMEOUT_MAX, RETRY_TIMEOUT_MIN, SYN_TIMEOUT, State},
    link::{Link, LinkChange},
};

/// What one end tells the other.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    from: EndId,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Syn,
    SynAck,
    Data(Vec<u8>),
    Fin,
    /// So many bytes in all may be sent.
    Window(u64),
    Reset,
}

#[derive(Debug)]
enum Event {
    Arrives(Packet),
    Retries(EndId),
}

#[derive(Debug)]
struct Scheduled {
    at: Timestamp,
    sequence: u64,
    event: Event,
}

/// Who has a reason to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Of a host and a port.
    Acceptor(usize, u16),
    Reader(EndId),
    Writer(EndId),
}

#[derive(Debug)]
struct Host {
    ip: IpAddr,
    up: bool,
    /// The ports that are listened on, and who waits to be accepted at each.
    listeners: BTreeMap<u16, VecDeque<EndId>>,
    next_port: u16,
    /// What it takes of a connection before somebody reads.
    window: u64,
}

#[derive(Debug)]
pub(super) struct Fabric {
    hosts: Vec<Host>,
    links: BTreeMap<(usize, usize), Link>,
    ends: Vec<Endpoint>,
    events: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    woken: Vec<Woken>,
    jitter: ChaCha12Rng,
}

impl Fabric {
    pub(super) fn new(seed: u64) -> Self {
        let mut jitter = ChaCha12Rng::seed_from_u64(seed);
        jitter.set_stream(JITTER_STREAM);
        Self {
            hosts: Vec::new(),
            links: BTreeMap::new(),
            ends: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            woken: Vec::new(),
            jitter,
        }
    }

    pub(super) fn add_host(&mut self) -> usize {
        let index = self.hosts.len();
        let [.., high, low] = (index as u32 + 1).to_be_bytes();
        let ip = IpAddr::V4(Ipv4Addr::new(192, 168, high, low));
        self.hosts.push(Host {
            ip,
            up: true,
            listeners: BTreeMap::new(),
            next_port: PORT_FIRST,
            window: WINDOW_BYTES,
        });
        index
    }

    /// Of connections that begin from now on.
    pub(super) fn set_window(&mut self, host: usize, bytes: u64) {
        self.hosts[host].window = bytes;
    }

    pub(super) fn ip(&self, host: usize) -> IpAddr {
        self.hosts[host].ip
    }

    /// The line between two hosts; it is there as soon as somebody asks.
    pub(super) fn link(&mut self, one: usize, two: usize) -> &mut Link {
        self.links.entry((one.min(two), one.max(two))).or_default()
    }

    pub(super) fn change(&mut self, now: Timestamp, one: usize, two: usize, change: LinkChange) {
        let link = self.link(one, two);
        match change {
            LinkChange::Partition => link.partitioned = true,
            LinkChange::Repair => link.partitioned = false,
            LinkChange::Hold => drop(link.held.get_or_insert_default()),
            LinkChange::Release => {
                for packet in link.held.take().unwrap_or_default() {
                    self.arrives(now, packet);
                }
            }
        }
    }

    /// A host is gone without a word. Nothing is heard of it until it boots.
    pub(super) fn lose_power(&mut self, now: Timestamp, host: usize) {
        self.hosts[host].up = false;
        self.go_down(now, host);
    }

    /// Ends every socket of a host, and its listeners; its peers are told. Then nothing is heard of it until it boots.
    pub(super) fn go_down(&mut self, now: Timestamp, host: usize) {
        self.hosts[host].listeners.clear();
        for index in 0..self.ends.len() {
            let (id, end) = (EndId(index), &self.ends[index]);
            if end.host != host || matches!(end.state, State::Dead(_) | State::Idle) {
                continue;
            }
            self.close(now, id);
            // Whoever still holds the socket went down with the host.
            let end = &mut self.ends[index];
            end.die(io::ErrorKind::ConnectionAborted);
        }
        self.hosts[host].up = false;
    }

    pub(super) fn boot(&mut self, host: usize) {
        self.hosts[host].up = true;
    }

    pub(super) fn listen(&mut self, host: usize, port: u16) {
        self.hosts[host].listeners.insert(port, VecDeque::new());
    }

    pub(super) fn accept(&mut self, host: usize, port: u16) -> Option<EndId> {
        let id = self.hosts[host].listeners.get_mut(&port)?.pop_front()?;
        self.ends[id.0].held = true;
        Some(id)
    }

    /// Starts a dial. An address nobody has is a black hole.
    pub(super) fn dial(&mut self, now: Timestamp, host: usize, to: SocketAddr) -> EndId {
        let from = &mut self.hosts[host];
        let local = SocketAddr::new(from.ip, from.next_port);
        from.next_port = from.next_port.checked_add(1).unwrap_or(PORT_FIRST);
        let remote = self.hosts.iter().position(|other| other.ip == to.ip());
        let id = EndId(self.ends.len());
        let own = self.hosts[host].window;
        let peers = remote.map_or(WINDOW_BYTES, |remote| self.hosts[remote].window);
        let mut end = Endpoint::new(host, local, State::Connecting, (own, peers));
        end.held = true;
        self.ends.push(end);
        self.ends.push(Endpoint::new(remote.unwrap_or(NOWHERE), to, State::Idle, (peers, own)));
        self.send(now, Packet { from: id, kind: Kind::Syn });
        id
    }

    pub(super) fn end(&mut self, id: EndId) -> &mut Endpoint {
        &mut self.ends[id.0]
    }

    pub(super) fn peer_addr(&self, id: EndId) -> SocketAddr {
        self.ends[id.peer().0].addr
    }

    pub(super) fn write(&mut self, now: Timestamp, id: EndId, bytes: &[u8]) -> io::Result<Option<usize>> {
        let written = self.ends[id.0].write(bytes)?;
        self.pump(now, id);
        Ok(written)
    }

    pub(super) fn read(
        &mut self,
        now: Timestamp,
        id: EndId,
        take: impl FnMut(&[u8]),
        most: usize,
    ) -> io::Result<Option<usize>> {
        let end = &mut self.ends[id.0];
        let window = self.hosts[end.host].window;
        let count = end.read(take, most)?;
        if end.state == State::Open
            && let Some(limit) = end.grant(window)
        {
            self.send(now, Packet { from: id, kind: Kind::Window(limit) });
        }
        Ok(count)
    }

    /// Says that nothing more will be written. The other direction stays open.
    pub(super) fn shut_down(&mut self, now: Timestamp, id: EndId) {
        let end = &mut self.ends[id.0];
        end.fin = end.fin.max(Fin::Wanted);
        self.pump(now, id);
    }

    /// Nobody holds the socket any more. Whoever leaves bytes unread resets; what was written is still sent.
    pub(super) fn close(&mut self, now: Timestamp, id: EndId) {
        let end = &mut self.ends[id.0];
        end.held = false;
        match end.state {
            State::Connecting => end.die(io::ErrorKind::ConnectionAborted),
            State::Open if !end.received.is_empty() => self.reset(now, id),
            State::Open => self.shut_down(now, id),
            State::Idle | State::Dead(_) => {}
        }
    }

    /// Whoever holds the socket ends the connection at once.
    pub(super) fn abort(&mut self, now: Timestamp, id: EndId) {
        if self.ends[id.0].state == State::Open {
            self.reset(now, id);
        }
    }

    /// Ends a connection at once, and tells the peer.
    pub(super) fn reset(&mut self, now: Timestamp, id: EndId) {
        self.ends[id.0].die(io::ErrorKind::ConnectionReset);
        self.wake(id);
        self.send(now, Packet { from: id, kind: Kind::Reset });
    }

    /// When something happens next.
    pub(super) fn next_event(&self) -> Option<Timestamp> {
        self.events.peek().map(|Reverse(scheduled)| scheduled.at)
    }

    /// Lets everything happen that is due.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(Reverse(scheduled)) = self.events.peek()
            && scheduled.at <= now
        {
            let Some(Reverse(scheduled)) = self.events.pop() else { return };
            match scheduled.event {
                Event::Arrives(packet) => self.arrives(now, packet),
                Event::Retries(id) => self.retries(now, id),
            }
        }
    }

    pub(super) fn take_woken(&mut self) -> Vec<Woken> {
        std::mem::take(&mut self.woken)
    }

    fn schedule(&mut self, at: Timestamp, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Scheduled { at, sequence: self.sequence, event }));
    }

    fn wake(&mut self, id: EndId) {
        self.woken.extend([Woken::Reader(id), Woken::Writer(id)]);
    }

    /// Sends what the window allows, and the FIN after the last of it.
    fn pump(&mut self, now: Timestamp, id: EndId) {
        if self.ends[id.0].state != State::Open {
            return;
        }
        while let Some(bytes) = self.ends[id.0].next_segment() {
            self.send(now, Packet { from: id, kind: Kind::Data(bytes) });
            self.woken.push(Woken::Writer(id));
        }
        let end = &mut self.ends[id.0];
        if end.fin == Fin::Wanted && end.unsent.is_empty() {
            end.fin = Fin::Sent;
            self.send(now, Packet { from: id, kind: Kind::Fin });
        }
    }

    fn send(&mut self, now: Timestamp, packet: Packet) {
        let (from, to) = (self.ends[packet.from.0].host, self.ends[packet.from.peer().0].host);
        if !self.hosts[from].up {
            return;
        }
        if self.is_cut(from, to) || self.is_stuck(&packet) {
            return self.lose(now, packet);
        }
        let bytes = if let Kind::Data(bytes) = &packet.kind { bytes.len() } else { 0 };
        let link = self.links.entry((from.min(to), from.max(to))).or_default();
        let arrival = link.arrival(now, usize::from(from > to), bytes, &mut self.jitter);
        let end = &mut self.ends[packet.from.0];
        end.last_arrival = end.last_arrival.max(arrival);
        let at = end.last_arrival;
        self.schedule(at, Event::Arrives(packet));
    }

    fn is_cut(&self, from: usize, to: usize) -> bool {
        to == NOWHERE || self.links.get(&(from.min(to), from.max(to))).is_some_and(|link| link.partitioned)
    }

    /// True if an earlier packet is lost, which this one must not overtake.
    fn is_stuck(&self, packet: &Packet) -> bool {
        !matches!(packet.kind, Kind::Reset) && !self.ends[packet.from.0].lost.is_empty()
    }

    fn lose(&mut self, now: Timestamp, packet: Packet) {
        let id = packet.from;
        // A reset is said once.
        if matches!(packet.kind, Kind::Reset) || matches!(self.ends[id.0].state, State::Dead(_)) {
            return;
        }
        let end = &mut self.ends[id.0];
        if end.lost.is_empty() {
            let handshake = matches!(packet.kind, Kind::Syn | Kind::SynAck);
            end.timeout = if handshake { SYN_TIMEOUT } else { RETRY_TIMEOUT_MIN };
        }
        end.lost.push_back(packet);
        if !std::mem::replace(&mut end.timer_armed, true) {
            let at = now + end.timeout;
            self.schedule(at, Event::Retries(id));
        }
    }

    /// The retransmission timeout: all that was lost is sent again, in order.
    fn retries(&mut self, now: Timestamp, id: EndId) {
        let (from, to) = (self.ends[id.0].host, self.ends[id.peer().0].host);
        let cut = self.is_cut(from, to) || !self.hosts[to].up;
        let end = &mut self.ends[id.0];
        end.timer_armed = false;
        if end.lost.is_empty() {
            return;
        }
        if !cut {
            end.retries = 0;
            for packet in std::mem::take(&mut end.lost) {
                self.send(now, packet);
            }
            return;
        }
        end.retries += 1;
        if end.retries > RETRIES_MAX {
            end.die(io::ErrorKind::TimedOut);
            return self.wake(id);
        }
        end.timeout = (end.timeout * 2).min(RETRY_TIMEOUT_MAX);
        end.timer_armed = true;
        let at = now + end.timeout;
        self.schedule(at, Event::Retries(id));
    }

    fn arrives(&mut self, now: Timestamp, packet: Packet) {
        let (from, to) = (self.ends[packet.from.0].host, self.ends[packet.from.peer().0].host);
        if self.is_cut(from, to) || self.is_stuck(&packet) {
            return self.lose(now, packet);
        }
        if let Some(held) = &mut self.link(from, to).held {
            return held.push_back(packet);
        }
        if !self.hosts[to].up {
            return self.lose(now, packet);
        }
        let id = packet.from.peer();
        if matches!(self.ends[id.0].state, State::Dead(_)) && !matches!(packet.kind, Kind::Reset) {
            return self.send(now, Packet { from: id, kind: Kind::Reset });
        }
        match packet.kind {
            Kind::Syn => self.is_dialed(now, id),
            Kind::SynAck => {
                self.ends[id.0].state = State::Open;
                self.wake(id);
                self.pump(now, id);
            }
            // Nobody is there to read it.
            Kind::Data(_) if !self.ends[id.0].held && self.is_orphan(id) => self.reset(now, id),
            Kind::Data(bytes) => {
                self.ends[id.0].received.extend(bytes);
                self.woken.push(Woken::Reader(id));
            }
            Kind::Fin => {
                self.ends[id.0].ended = true;
                self.woken.push(Woken::Reader(id));
            }
            Kind::Window(limit) => {
                let end = &mut self.ends[id.0];
                end.allowed = end.allowed.max(limit);
                self.pump(now, id);
            }
            Kind::Reset => {
                let kind = match self.ends[id.0].state {
                    State::Connecting => io::ErrorKind::ConnectionRefused,
                    State::Dead(kind) => kind,
                    State::Idle | State::Open => io::ErrorKind::ConnectionReset,
                };
                self.ends[id.0].die(kind);
                self.wake(id);
            }
        }
    }

    /// True if the socket was held and is no more, and not one that still waits to be accepted.
    fn is_orphan(&self, id: EndId) -> bool {
        self.ends[id.0].fin != Fin::NotYet
    }

    /// A SYN has come.
    fn is_dialed(&mut self, now: Timestamp, id: EndId) {
        let (host, port) = (self.ends[id.0].host, self.ends[id.0].addr.port());
        let Some(waiting) = self.hosts[host].listeners.get_mut(&port) else {
            return self.send(now, Packet { from: id, kind: Kind::Reset });
        };
        waiting.push_back(id);
        self.ends[id.0].state = State::Open;
        self.woken.push(Woken::Acceptor(host, port));
        self.send(now, Packet { from: id, kind: Kind::SynAck });
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What a receiver takes before it reads.
const WINDOW_BYTES: u64 = 64 << 10;
/// Ephemeral ports begin here.
const PORT_FIRST: u16 = 49_152;
/// The host of addresses that nobody has.
const NOWHERE: usize = usize::MAX;
/// The plan's streams are below 1000, the connections' seeds are above it.
const JITTER_STREAM: u64 = 900;

//! The event queue: the driver never waits for its reader.
//!
//! Messages beyond the capacity are dropped and counted. Lifecycle events beyond the capacity push out the oldest whole
//! pair of `Connected` and `Disconnected`, or else the oldest `Retrying`, and the reader is told how many are missing. The
//! terminal event always has a place.

use std::{collections::VecDeque, task::Waker};

use crate::{
    planted::{self, Bug},
    websocket::event::{ConnectionEpoch, Event},
};

#[derive(Debug)]
pub(super) struct EventQueue {
    events: VecDeque<Event>,
    capacity: usize,
    lifecycle: usize,
    /// Messages dropped so far.
    dropped: u64,
    /// Lifecycle events dropped since the reader was last told.
    skipped: u64,
    closed: bool,
    /// The link that was reported and whose loss was not.
    open: Option<ConnectionEpoch>,
    reader: Option<Waker>,
    /// Nobody will ever read.
    abandoned: bool,
}

/// What a reader finds.
pub(super) enum Next {
    Event(Event),
    Empty,
    End,
}

impl EventQueue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            events: VecDeque::new(),
            capacity,
            lifecycle: 0,
            dropped: 0,
            skipped: 0,
            closed: false,
            open: None,
            reader: None,
            abandoned: false,
        }
    }

    /// Adds an event. Gives back whom to wake.
    pub(super) fn push(&mut self, event: Event) -> Option<Waker> {
        if self.closed || self.abandoned {
            return None;
        }
        match event {
            Event::Message(_) if self.events.len() - self.lifecycle >= self.capacity => {
                self.dropped += 1;
                return None;
            }
            Event::Message(_) => {}
            Event::Closed { ref cause, .. } => {
                // The driver died under an open link: its loss is told all the same.
                if let Some(epoch) = self.open.take() {
                    self.events.push_back(Event::Disconnected { epoch, reason: cause.to_error() });
                    self.lifecycle += 1;
                }
                self.closed = true;
                if planted::alive(Bug::TerminalEventLost) && self.lifecycle >= self.capacity {
                    return self.reader.take();
                }
                self.lifecycle += 1;
            }
            _ => {
                if self.lifecycle >= self.capacity {
                    if planted::alive(Bug::LifecycleEventLost) {
                        return None;
                    }
                    self.make_room();
                }
                self.lifecycle += 1;
                match event {
                    Event::Connected { epoch } => self.open = Some(epoch),
                    Event::Disconnected { .. } => self.open = None,
                    _ => {}
                }
            }
        }
        self.events.push_back(event);
        self.reader.take()
    }

    pub(super) fn next(&mut self, waker: &mut Option<Waker>) -> Next {
        if self.skipped > 0 {
            return Next::Event(Event::Skipped { events: std::mem::take(&mut self.skipped) });
        }
        match self.events.pop_front() {
            Some(event) => {
                self.lifecycle -= usize::from(!matches!(event, Event::Message(_)));
                Next::Event(event)
            }
            None if self.closed => Next::End,
            None => {
                std::mem::swap(&mut self.reader, waker);
                Next::Empty
            }
        }
    }

    /// True if no message waits to be read.
    pub(super) fn is_taken(&self) -> bool {
        self.events.len() == self.lifecycle
    }

    /// Counts a message that never came here.
    pub(super) fn discard(&mut self) {
        self.dropped += 1;
    }

    /// Messages dropped because nobody read them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The reader is gone: nothing is kept any more. Gives back what was, to be dropped outside the lock.
    pub(super) fn abandon(&mut self) -> (VecDeque<Event>, Option<Waker>) {
        self.abandoned = true;
        self.lifecycle = 0;
        (std::mem::take(&mut self.events), self.reader.take())
    }

    /// Drops the oldest whole epoch, or else the oldest retry.
    fn make_room(&mut self) {
        let connected = self.events.iter().position(|event| matches!(event, Event::Connected { .. }));
        let pair = connected.and_then(|first| {
            let rest = self.events.iter().skip(first);
            let length = rest.take_while(|event| !matches!(event, Event::Disconnected { .. })).count();
            (first + length < self.events.len()).then_some((first, length + 1))
        });
        let (first, length) = match pair {
            Some(pair) => pair,
            None => match self.events.iter().position(|event| matches!(event, Event::Retrying { .. })) {
                Some(first) => (first, 1),
                None => return,
            },
        };
        for event in self.events.drain(first..first + length) {
            if matches!(event, Event::Message(_)) {
                self.dropped += 1;
            } else {
                self.skipped += 1;
                self.lifecycle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{ErrorKind, TransportError},
        websocket::event::CloseCause,
    };

    fn epoch(number: u64) -> [Event; 2] {
        let reason = TransportError::new(ErrorKind::Io, "lost");
        let epoch = ConnectionEpoch(number);
        [Event::Connected { epoch }, Event::Disconnected { epoch, reason }]
    }

    fn read(queue: &mut EventQueue) -> Vec<String> {
        let mut read = Vec::new();
        while let Next::Event(event) = queue.next(&mut None) {
            read.push(match event {
                Event::Connected { epoch } => format!("up {epoch}"),
                Event::Disconnected { epoch, .. } => format!("down {epoch}"),
                Event::Skipped { events } => format!("skipped {events}"),
                Event::Closed { .. } => "closed".to_owned(),
                other => format!("{other:?}"),
            });
        }
        read
    }

    #[test]
    fn the_oldest_whole_pair_makes_room_and_is_counted() {
        let mut queue = EventQueue::new(8);
        for event in (1..=6).flat_map(epoch) {
            queue.push(event);
        }
        queue.push(Event::Closed { cause: CloseCause::CloseCalled, unsent: 0 });
        let expected =
            ["skipped 4", "up 3", "down 3", "up 4", "down 4", "up 5", "down 5", "up 6", "down 6", "closed"];
        assert_eq!(read(&mut queue), expected);
        assert!(matches!(queue.next(&mut None), Next::End));
    }

    #[test]
    fn a_disconnect_whose_connect_was_read_is_kept() {
        let mut queue = EventQueue::new(8);
        let [up, down] = epoch(1);
        queue.push(up);
        assert!(matches!(queue.next(&mut None), Next::Event(Event::Connected { .. })));
        queue.push(down);
        for event in (2..=6).flat_map(epoch) {
            queue.push(event);
        }
        assert_eq!(read(&mut queue)[..3], ["skipped 4", "down 1", "up 4"]);
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let mut queue = EventQueue::new(8);
        queue.push(Event::Closed { cause: CloseCause::CloseCalled, unsent: 0 });
        queue.push(epoch(1)[0].clone());
        assert_eq!(read(&mut queue), ["closed"]);
    }
}

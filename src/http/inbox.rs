//! What the pool's side of a connection and its task share: where something is left for the task, and whether either is gone.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use crate::sync::{AtomicBool, Mutex, Ordering};

/// What was left and not yet taken: bounded by who has the connection, or a stream of it.
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    closed: AtomicBool,
}

struct State<T> {
    items: VecDeque<T>,
    waker: Option<Waker>,
    /// The pool has let go of the connection.
    abandoned: bool,
}

impl<T> State<T> {
    fn is_ready(&self) -> bool {
        !self.items.is_empty() || self.abandoned
    }

    fn poll(&mut self) -> Poll<Option<T>> {
        match self.items.pop_front() {
            None if !self.abandoned => Poll::Pending,
            item => Poll::Ready(item),
        }
    }
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        let state = State { items: VecDeque::new(), waker: None, abandoned: false };
        Self { state: Mutex::new(state), closed: AtomicBool::new(false) }
    }

    /// False once the task has ended.
    pub(crate) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Leaves something for the task. Gives it back if there is none any more.
    pub(crate) fn leave(&self, item: T) -> Option<T> {
        self.change(|state| {
            // Order matters: the task closes the inbox under the same lock.
            if self.is_open() {
                state.items.push_back(item);
                return (None, state.waker.take());
            }
            (Some(item), None)
        })
    }

    /// The pool lets go of the connection.
    pub(crate) fn abandon(&self) {
        self.change(|state| {
            state.abandoned = true;
            ((), state.waker.take())
        });
    }

    /// What was left for the task; `None` once nothing can be. The task is woken for either.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        {
            let mut state = self.state.lock();
            let is_heard = state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if is_heard || state.is_ready() {
                return state.poll();
            }
        }
        // Foreign code, outside the lock.
        let waker = cx.waker().clone();
        let mut state = self.state.lock();
        let old = state.waker.replace(waker);
        let poll = state.poll();
        drop(state);
        drop(old);
        poll
    }

    /// The task ends. What was left and not taken comes back.
    pub(crate) fn close(&self) -> VecDeque<T> {
        let mut state = self.state.lock();
        self.closed.store(true, Ordering::Release);
        std::mem::take(&mut state.items)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State<T>) -> (R, Option<Waker>)) -> R {
        let (result, waker) = change(&mut self.state.lock());
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_taken_once_and_comes_back_where_nobody_takes_it() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(inbox.poll_next(&mut cx).is_pending());
        assert_eq!(inbox.leave(1), None);
        assert_eq!(inbox.poll_next(&mut cx), Poll::Ready(Some(1)));
        assert_eq!(inbox.leave(2), None);
        assert_eq!(inbox.close(), [2]);
        assert_eq!((inbox.leave(3), inbox.is_open()), (Some(3), false));
    }

    #[test]
    fn what_was_left_comes_before_the_end() {
        let inbox = Inbox::new();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(inbox.leave(1), None);
        inbox.abandon();
        assert_eq!(inbox.poll_next(&mut cx), Poll::Ready(Some(1)));
        assert_eq!(inbox.poll_next(&mut cx), Poll::Ready(None));
    }
}

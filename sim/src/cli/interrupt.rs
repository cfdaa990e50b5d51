//! Ctrl-C: the first one asks for an end with what there is, the second one ends at once.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    process,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    task::Poll,
    thread,
};

/// True once there was a Ctrl-C. Never, before [`listen`].
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What a shell calls the death by SIGINT.
pub(super) const EXIT_CODE: u8 = 130;

/// From its return on a Ctrl-C sets [`INTERRUPTED`].
///
/// # Errors
///
/// The system gives no thread or no handler.
pub(super) fn listen() -> io::Result<()> {
    // A runtime of its own: those of the simulation know nothing of signals.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (installed, wait) = mpsc::channel();
    thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let mut first = pin!(tokio::signal::ctrl_c());
            // The first poll installs the handler.
            let early = poll_fn(|cx| {
                Poll::Ready(match first.as_mut().poll(cx) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => None,
                })
            });
            let early = early.await;
            let failed = matches!(early, Some(Err(_)));
            let came = early.is_some();
            let _ = installed.send(early.unwrap_or(Ok(())));
            if failed || (!came && first.await.is_err()) {
                return;
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
            if tokio::signal::ctrl_c().await.is_ok() {
                process::exit(i32::from(EXIT_CODE));
            }
        });
    })?;
    wait.recv().unwrap_or_else(|_| Err(io::Error::other("the thread for Ctrl-C ended")))
}

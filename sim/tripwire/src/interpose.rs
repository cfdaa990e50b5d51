//! Functions of the C library through which a program gets entropy and wall time, in their place: what they do depends on
//! the thread.
//!
//! An off thread is passed on to the C library. Others are written down, or fed from a seed.

use std::{
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    ffi::{CStr, c_char, c_int, c_long, c_uint, c_void},
    sync::atomic::{AtomicPtr, Ordering},
};

use libc::{clockid_t, size_t, ssize_t, time_t, timespec, timeval};

/// What happens to the reads of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Trip,
    /// The state of the stream, and how often the clock was read.
    Supply {
        state: u64,
        reads: u64,
    },
}

thread_local! {
    // Without a destructor and without lazy memory: they are looked at from inside the allocator's and the loader's calls.
    static MODE: Cell<Mode> = const { Cell::new(Mode::Off) };
    static BUSY: Cell<bool> = const { Cell::new(false) };
    static TRIPPED: RefCell<Vec<(Vec<usize>, Read)>> = const { RefCell::new(Vec::new()) };
}

/// Reads from one place that were written down.
#[derive(Debug)]
pub struct Read {
    /// The function that was called.
    pub function: &'static str,
    /// From where.
    pub backtrace: String,
    /// How often, from there.
    pub count: u64,
}

/// From here on reads of this thread are written down.
pub(crate) fn trip() {
    MODE.set(Mode::Trip);
}

/// From here on reads of this thread are fed from a seed.
pub(crate) fn supply(seed: u64) {
    MODE.set(Mode::Supply { state: seed, reads: 0 });
}

/// From here on they are passed on again. Gives back what was written down.
pub(crate) fn off() -> Vec<Read> {
    MODE.set(Mode::Off);
    TRIPPED.with_borrow_mut(std::mem::take).into_iter().map(|(_, read)| read).collect()
}

/// Writes down a read, unless that is what reads.
fn note(function: &'static str) {
    if MODE.get() != Mode::Trip || BUSY.replace(true) {
        return;
    }
    let site = addresses();
    TRIPPED.with_borrow_mut(|reads| {
        if let Some((_, read)) = reads.iter_mut().find(|(other, _)| *other == site) {
            read.count += 1;
        } else if reads.len() < SITES_MAX {
            // Names cost a thousand times what addresses do.
            let backtrace = Backtrace::force_capture().to_string();
            reads.push((site, Read { function, backtrace, count: 1 }));
        }
    });
    BUSY.set(false);
}

/// The addresses that this call returns to, innermost first.
fn addresses() -> Vec<usize> {
    let mut frames = [std::ptr::null_mut::<c_void>(); FRAMES_MAX];
    // SAFETY: the array has room for as many pointers as are asked for.
    let count = unsafe { libc::backtrace(frames.as_mut_ptr(), FRAMES_MAX as c_int) };
    let count = usize::try_from(count).unwrap_or_default();
    frames[..count].iter().map(|frame| frame.addr()).collect()
}

/// The next number of the thread's stream (SplitMix64), if it is fed.
fn next_word() -> Option<u64> {
    let Mode::Supply { state, reads } = MODE.get() else { return None };
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    MODE.set(Mode::Supply { state, reads });
    let mut word = state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(word ^ (word >> 31))
}

/// The next time of the thread, if it is fed: a microsecond after the last.
fn next_time() -> Option<(i64, i64)> {
    let Mode::Supply { state, reads } = MODE.get() else { return None };
    MODE.set(Mode::Supply { state, reads: reads + 1 });
    let micros = i64::try_from(reads).unwrap_or(i64::MAX);
    Some((EPOCH + micros / 1_000_000, micros % 1_000_000 * 1000))
}

/// Fills a buffer from the thread's stream. False: it has none.
///
/// # Safety
///
/// `buffer` must be valid for writes of `length` bytes.
unsafe fn feed(buffer: *mut u8, length: usize) -> bool {
    for offset in (0..length).step_by(8) {
        let Some(word) = next_word() else { return false };
        let bytes = word.to_le_bytes();
        let count = bytes.len().min(length - offset);
        // SAFETY: `offset + count <= length`, and the caller vouches for the buffer; the source is a local array.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.add(offset), count) };
    }
    matches!(MODE.get(), Mode::Supply { .. })
}

/// The C library's own function of this name.
fn real(name: &CStr, known: &AtomicPtr<c_void>) -> *mut c_void {
    let found = known.load(Ordering::Relaxed);
    if !found.is_null() {
        return found;
    }
    // SAFETY: the name is a C string; RTLD_NEXT asks for the next definition behind this program's.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) };
    assert!(!found.is_null(), "the C library has no such function");
    known.store(found, Ordering::Relaxed);
    found
}

/// In the place of `getrandom(2)`.
///
/// # Safety
///
/// As the C library's: `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    note("getrandom");
    // SAFETY: the caller vouches for the buffer.
    if unsafe { feed(buffer.cast(), length) } {
        return length.cast_signed();
    }
    // SAFETY: this is the type of the C library's function of this name.
    let real: unsafe extern "C" fn(*mut c_void, size_t, c_uint) -> ssize_t =
        unsafe { std::mem::transmute(real(c"getrandom", &REAL)) };
    // SAFETY: the caller's own arguments.
    unsafe { real(buffer, length, flags) }
}

/// In the place of `syscall(2)`: of all calls one reads entropy.
///
/// # Safety
///
/// As the C library's. On the platforms of Linux that Rust knows, its variable arguments are passed as fixed ones are.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    if number == libc::SYS_getrandom {
        note("syscall(SYS_getrandom)");
        let length = usize::try_from(b).unwrap_or_default();
        // SAFETY: the first two arguments of this call are a buffer and its length, for which the caller vouches.
        if unsafe { feed(a as *mut u8, length) } {
            return b;
        }
    }
    // SAFETY: the C library's function takes at least these arguments, and none where the call has fewer.
    let real: unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long =
        unsafe { std::mem::transmute(real(c"syscall", &REAL)) };
    // SAFETY: the caller's own arguments.
    unsafe { real(number, a, b, c, d, e, f) }
}

/// In the place of `clock_gettime(2)`.
///
/// # Safety
///
/// As the C library's: `time` must be valid for a write.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    note("clock_gettime");
    if let Some((seconds, nanos)) = next_time() {
        // SAFETY: the caller vouches for the pointer.
        unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanos }) };
        return 0;
    }
    // SAFETY: this is the type of the C library's function of this name.
    let real: unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int =
        unsafe { std::mem::transmute(real(c"clock_gettime", &REAL)) };
    // SAFETY: the caller's own arguments.
    unsafe { real(clock, time) }
}

/// In the place of `gettimeofday(2)`.
///
/// # Safety
///
/// As the C library's: `time` must be valid for a write, or null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    note("gettimeofday");
    if let Some((seconds, nanos)) = next_time() {
        if !time.is_null() {
            // SAFETY: it is not null, and the caller vouches for it.
            unsafe { time.write(timeval { tv_sec: seconds, tv_usec: nanos / 1000 }) };
        }
        return 0;
    }
    // SAFETY: this is the type of the C library's function of this name.
    let real: unsafe extern "C" fn(*mut timeval, *mut c_void) -> c_int =
        unsafe { std::mem::transmute(real(c"gettimeofday", &REAL)) };
    // SAFETY: the caller's own arguments.
    unsafe { real(time, zone) }
}

/// In the place of `time(2)`.
///
/// # Safety
///
/// As the C library's: `out` must be valid for a write, or null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn time(out: *mut time_t) -> time_t {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    note("time");
    if let Some((seconds, _)) = next_time() {
        if !out.is_null() {
            // SAFETY: it is not null, and the caller vouches for it.
            unsafe { out.write(seconds) };
        }
        return seconds;
    }
    // SAFETY: this is the type of the C library's function of this name.
    let real: unsafe extern "C" fn(*mut time_t) -> time_t =
        unsafe { std::mem::transmute(real(c"time", &REAL)) };
    // SAFETY: the caller's own arguments.
    unsafe { real(out) }
}

/// 2030-01-01, the day of every simulation.
const EPOCH: i64 = 1_893_456_000;
/// Of a way through the program that is looked at.
const FRAMES_MAX: usize = 64;
/// Call sites of one thread: far more than there are, and bounded.
const SITES_MAX: usize = 1000;

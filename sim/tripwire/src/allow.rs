//! The reads that are known and harmless, each with its reason: `allow.txt`.

use crate::Read;

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// Part of the name of a function that a read comes through.
    pub function: &'static str,
    /// Why it is harmless.
    pub reason: &'static str,
}

/// The list as it is committed.
pub fn list() -> Vec<Allowed> {
    let line = |line: &'static str| {
        let (function, reason) = line.split_once('#')?;
        Some(Allowed { function: function.trim(), reason: reason.trim() })
    };
    include_str!("../allow.txt")
        .lines()
        .filter_map(line)
        .filter(|allowed| !allowed.function.is_empty())
        .collect()
}

/// The first line of the list that allows a read.
pub fn allows(list: &[Allowed], read: &Read) -> Option<usize> {
    list.iter().position(|allowed| read.backtrace.contains(allowed.function))
}

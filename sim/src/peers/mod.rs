//! The other side: servers that the library under test talks to.

mod adversary;
pub(crate) mod exchange;
mod pipe;

//! The other side: servers that the library under test talks to.

pub(crate) mod exchange;

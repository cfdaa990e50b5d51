//! The other side: servers that the library under test talks to.

mod adversary;
mod cutting;
pub(crate) mod exchange;
mod pipe;
pub(crate) mod tls;
pub(crate) mod web;

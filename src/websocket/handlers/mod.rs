//! Ready-made dialects.
//!
//! [`JsonRpcHandler`] speaks JSON-RPC 2.0, [`GenericJsonHandler`] the JSON of most other APIs: an id field in replies, a
//! topic field in updates, an operation field in what is sent. An API that is neither gets its own
//! [`ProtocolHandler`](super::ProtocolHandler).
//!
//! # What both promise
//!
//! - A message is read in one pass that borrows from it and allocates nothing, except for names and texts that hold
//!   escapes.
//! - Only fields of the outermost object count: an `id` within `data` is data. Of fields of the same name the first counts.
//! - The id `7` and the id `"7"` are two ids. An id that is not a text and not a whole number from 0 to 2^53-1 is none this
//!   connection gave out: the message is [`MessageKind::Unknown`](super::MessageKind::Unknown). `null` is no id.
//! - Anything else than one JSON object (text that breaks off, an array, nesting deeper than 128) is
//!   [`MessageKind::Unknown`](super::MessageKind::Unknown) too, and so is every binary message.
//!
//! # What they don't
//!
//! The pass finds where values end; it doesn't check what is within them. A reply whose `result` is damaged still reaches
//! its request, which fails with [`ErrorKind::Decode`](super::ErrorKind::Decode). Where a handler says that it stops early,
//! what follows is not looked at at all.

mod condition;
mod envelope;
#[cfg(test)]
mod hostile;
mod json;
mod jsonrpc;
mod parts;
#[cfg(test)]
mod tests;
mod write;

pub use self::{json::GenericJsonHandler, jsonrpc::JsonRpcHandler};

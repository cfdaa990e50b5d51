//! Placeholder until the handlers land.
#![allow(missing_docs)]
pub struct GenericJsonHandler;
pub struct JsonRpcHandler;

//! Deterministic simulation for `hpx-transport`.
//!
//! One seed draws a plan: clients, their settings and scripts, latencies, faults. The unmodified library lives through it
//! on a virtual network and time, turmoil's or one in memory, against a mock exchange that writes down all it sees. Oracles watch the trace,
//! entry by entry, and the trace has a digest: the same seed gives the same digest in any process.
//!
//! `cargo sim SEED=42` runs one seed and prints a picture of it. As a library it puts a [`ProtocolHandler`] of your own
//! through the same storms:
//!
//! ```
//! use hpx_sim::{SimHandler, Simulation};
//! use hpx_transport::websocket::{MessageKind, ProtocolHandler, RequestId, Topic, WsMessage};
//!
//! /// Yours. It speaks the exchange's default dialect; `Simulation::dialect` teaches the exchange another.
//! struct MyHandler(SimHandler);
//!
//! impl ProtocolHandler for MyHandler {
//!     fn classify_message(&self, text: &str) -> MessageKind {
//!         self.0.classify_message(text)
//!     }
//!     fn extract_request_id(&self, text: &str) -> Option<RequestId> {
//!         self.0.extract_request_id(text)
//!     }
//!     fn extract_topic(&self, text: &str) -> Option<Topic> {
//!         self.0.extract_topic(text)
//!     }
//!     fn build_subscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
//!         self.0.build_subscribe(topics, id)
//!     }
//!     fn build_unsubscribe(&self, topics: &[Topic], id: RequestId) -> WsMessage {
//!         self.0.build_unsubscribe(topics, id)
//!     }
//!     fn build_auth_message(&self) -> Option<WsMessage> {
//!         self.0.build_auth_message()
//!     }
//!     fn is_auth_success(&self, text: &str) -> bool {
//!         self.0.is_auth_success(text)
//!     }
//! }
//!
//! let report = Simulation::new(42).handler(|| MyHandler(SimHandler)).run();
//! assert!(report.is_green(), "{report}");
//! ```
//!
//! [`ProtocolHandler`]: hpx_transport::websocket::ProtocolHandler

pub mod cli;
mod dialect;
pub mod differential;
mod env;
mod model;
mod net;
mod oracle;
mod page;
mod peers;
pub mod plan;
mod report;
mod shrink;
mod simulation;
pub mod trace;
mod workload;
mod world;

pub use self::{
    dialect::{Dialect, Heard, SimDialect, SimHandler},
    env::{Census, SimEnv, SimStream, SimTimer},
    net::Backend,
    oracle::{Card, Observer, Verdict, Violation},
    plan::{Plan, PlanError, Preset, Work},
    report::Report,
    simulation::Simulation,
};

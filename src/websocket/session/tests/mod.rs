//! Behaviour of the session in virtual time, told through a rig that plays callers, driver and peer.

mod close;
mod heartbeat;
mod model;
mod reconnect;
mod requests;
mod rig;
mod subscriptions;
mod transcripts;
mod transitions;

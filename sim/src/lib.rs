//! Deterministic simulation for hpx-transport.

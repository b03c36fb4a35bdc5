//! The library behind `sockmem-trace`: from kernel hooks to the sentence a person reads.
//!
//! Layers, imports pointing down only (`tests/layers.rs` keeps it so):
//! `cli` → `sinks` → `recording` → `model` → `decode` → `collect` → `attach` → `kernel` / `host`.
//! `decode`, `model` and `recording` are pure: no aya, no files, no clock of their own.
//! `ARCHITECTURE.md` shows the flow.

pub mod attach;
pub mod cli;
pub mod collect;
pub mod decode;
pub mod facts;
pub mod host;
pub mod kernel;
pub mod model;
pub mod recording;
pub mod sinks;

//! Facts about the running kernel: its types ([`btf`]), the field offsets
//! resolved from them ([`layout`]) and what it offers to hooks ([`features`]).
//!
//! Nothing here compares versions where the kernel's own type information can
//! answer, and nothing here loads a program: a function that BTF names may still
//! refuse a hook, so the loader has the last word.

pub mod btf;
pub mod features;
#[cfg(test)]
mod fixtures;
pub mod layout;

pub use btf::{Btf, BtfError};
pub use features::Features;
pub use layout::{LayoutError, MissingField, Resolved, resolve};

//! Where the memory is reported, as text and JSON.

mod json;
#[cfg(test)]
mod tests;
mod text;

pub use json::{SCHEMA, write_json};
pub use text::write_text;

use super::fields;
use crate::facts::memory::MemoryFacts;
use crate::model::statement::Statement;

/// What is printed.
#[derive(Debug)]
pub struct Report<'a> {
    /// The statement.
    pub statement: &'a Statement,
    /// What it was made from.
    pub facts: &'a MemoryFacts,
    /// What is meant, in words; unescaped.
    pub target: String,
    /// When the sockets were read.
    pub unix_ns: u64,
}

/// The steps and what `ss` calls the fields behind them.
#[must_use]
pub fn explain() -> String {
    format!(
        "{}\n{}",
        "\
STEPS OF THE STATEMENT
  payload          what applications wrote or have yet to read
  truesize         rmem_alloc + wmem_queued: the buffers that carry it, heads included
  forward_alloc    charged beyond, so that each socket's charge is whole pages
  target           the three together: what tcp_mem is charged for the target's sockets
  all_sockets      the same of every TCP socket in every network namespace
  per_cpu_reserve  what each CPU holds back from sockstat, or owes it (from 6.0)
  sockstat_mem     TCP: mem in /proc/net/sockstat, pages of the whole host
  memcg_sock       what the control group is charged: the same pages, of its own sockets
  fixed_objects    struct sock, inode, file, dentry: in Slab, whether data moves or not
  memfree_hole     MemTotal less every line of meminfo that counts pages of its own
  remainder        sockstat_mem with the CPUs' shares, less all_sockets; its bound is the sum of what may
                   be in it: CPUs' shares where they were not read, movement while reading, skbs that
                   are counted but not charged, namespaces that could not be read
",
        fields::explain_ss()
    )
}

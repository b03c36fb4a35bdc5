//! One reading of every socket, as text, JSON and CSV.
//!
//! * `values`: what a snapshot has of the one table of fields. * `text`: tables that are written as
//!   they are laid out, for tens of thousands of rows. * `json`, `csv`: documents.

mod csv;
mod json;
#[cfg(test)]
mod tests;
mod text;
mod values;

use std::time::Duration;

pub use csv::write_csv;
pub(in crate::sinks) use json::sums_json;
pub use json::{SCHEMA, write_json};
pub use text::write_text;
pub use values::{SORTS, sort_by};

use super::fields;
use crate::model::snapshot::{By, Group, Snapshot};

/// What is printed.
#[derive(Debug)]
pub struct Report<'a> {
    /// The sockets, in order.
    pub snapshot: &'a Snapshot<'a>,
    /// What is meant, in words; unescaped.
    pub target: String,
    /// At most so many rows; totals are over all of them.
    pub top: Option<usize>,
    /// Sums by what, where asked for.
    pub groups: Option<(By, Vec<Group>)>,
}

impl Report<'_> {
    fn shown(&self, all: usize) -> usize {
        self.top.map_or(all, |top| top.min(all))
    }

    /// How long the reading took.
    fn took(&self) -> Duration {
        let (begun, ended) = self.snapshot.inventory().taken_unix_ns;
        Duration::from_nanos(ended.saturating_sub(begun))
    }

    /// What is missing, in sentences; unescaped.
    fn missing(&self) -> Vec<String> {
        let inventory = self.snapshot.inventory();
        let mut out: Vec<String> = inventory
            .namespaces
            .iter()
            .filter_map(|n| {
                let why = n.missing.as_deref()?;
                Some(format!("network namespace of {}: {why}", n.via))
            })
            .collect();
        let denied = inventory.holders.denied;
        if denied > 0 {
            out.push(format!(
                "{denied} processes do not show their descriptors, so the owners of their sockets are not known: \
                 run it with sudo"
            ));
        }
        out
    }
}

/// The fields of a snapshot, and what `ss` calls them.
#[must_use]
pub fn explain() -> String {
    let mut out = String::from("FIELDS OF A SNAPSHOT\n");
    for (field, _) in values::columns() {
        out.push_str(&format!(
            "  {:<15} {} [{}]\n  {:<15} {}\n",
            field.json,
            field.kernel,
            field.unit.name(),
            "",
            field.help
        ));
    }
    out.push('\n');
    out.push_str(&fields::explain_ss());
    out
}

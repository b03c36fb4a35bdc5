//! Outputs: every one renders the same `model::View`.
//!
//! * `fields`: the one table of socket fields: names, kernel fields, units, meaning.
//! * `json`: one document per line or report, for programs.
//! * `plain`: lines of text, for people without a full screen and for logs.
//! * `summary`: the closing summary in text, the answer first.
//! * `report`: a whole recording in text: the answer, then the evidence.
//! * `diff`: two recordings compared. * `check`, `junit`: a recording held against limits.
//! * `screen`: the full screen, as a state machine and cells.
//! * `snapshot`: one reading of every socket: text, JSON, CSV.
//! * `statement`: where the memory is reported: text, JSON.
//! * `doctor`: what the host allows, as text and JSON.
//! * `export`: recordings as CSV, JSON, Perfetto tracks and Parquet.
//! * `text`, `escape`, `look`, `table`, `spark`: how sizes, foreign strings, columns and timelines are written.
#![deny(unsafe_code)]

pub mod check;
pub mod diff;
pub mod doctor;
pub mod escape;
pub mod export;
pub mod fields;
pub mod json;
pub mod junit;
pub mod look;
pub mod plain;
pub mod report;
pub mod screen;
pub mod snapshot;
pub mod spark;
pub mod statement;
pub mod summary;
pub mod table;
pub mod text;

mod columns;
mod groups;
mod header;
mod histogram;
mod incidents;
mod listeners;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod incidents_tests;
#[cfg(test)]
mod plain_tests;

/// What every document says about the host. Strings as the host gives them, unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Release of the running kernel (`uname -r`).
    pub kernel: String,
    /// Host name (`uname -n`).
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`; `None` where it cannot be read.
    pub boot_id: Option<String>,
    /// Bytes in a page.
    pub page_size: u64,
    /// CPUs online.
    pub cpus: u32,
}

impl From<&crate::recording::HostInfo> for HostFacts {
    fn from(h: &crate::recording::HostInfo) -> Self {
        HostFacts {
            kernel: h.kernel.clone(),
            hostname: h.hostname.clone(),
            boot_id: h.boot_id.clone(),
            page_size: h.page_size,
            cpus: h.cpus.unwrap_or(0),
        }
    }
}

/// Version of the tool that every document carries.
pub const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

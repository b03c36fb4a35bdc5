//! What is known when a recording begins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::{COUNTERS, Coverage, Tier};
use crate::model::Config;

/// The host that was traced. Strings as the host gives them, unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostInfo {
    /// Release of its kernel (`uname -r`).
    pub kernel: String,
    /// Host name (`uname -n`).
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`; `None` where it could not be read.
    pub boot_id: Option<String>,
    /// Bytes in a page.
    pub page_size: u64,
    /// CPUs online; `None` where not known.
    pub cpus: Option<u32>,
    /// Machine (`uname -m`).
    pub arch: String,
}

/// The facts at the head of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the tool that wrote it.
    pub tool_version: String,
    /// Where.
    pub host: HostInfo,
    /// What was traced, in words (`Target::describe`).
    pub target: String,
    /// The command that was run and traced, with its arguments; `None` where none was.
    pub command: Option<Vec<String>>,
    /// Kind of hooks.
    pub tier: Tier,
    /// How each counter was obtained, by name.
    pub coverage: BTreeMap<&'static str, Coverage>,
    /// What the traced kernel lacked and what that cost, a sentence each.
    pub notes: Vec<String>,
    /// Start of the trace; `CLOCK_MONOTONIC`.
    pub start_mono_ns: u64,
    /// Start of the trace; `CLOCK_REALTIME`.
    pub start_unix_ns: u64,
    /// A socket was idle when no payload had moved for this long.
    pub idle_after_ns: u64,
    /// At most one change per socket in this span was recorded; 0: every change.
    pub coalesce_ns: u64,
    /// Whether the traced kernel keeps `forward_alloc` on drained sockets; `None`: not known.
    pub keeps_forward_alloc: Option<bool>,
}

impl Default for Header {
    fn default() -> Self {
        Header {
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            host: HostInfo::default(),
            target: String::new(),
            command: None,
            tier: Tier::Fentry,
            coverage: BTreeMap::new(),
            notes: Vec::new(),
            start_mono_ns: 0,
            start_unix_ns: 0,
            idle_after_ns: 1_000_000_000,
            coalesce_ns: 0,
            keeps_forward_alloc: None,
        }
    }
}

impl Header {
    /// What a model of this recording is made with.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            start_mono_ns: self.start_mono_ns,
            start_unix_ns: self.start_unix_ns,
            idle_after_ns: self.idle_after_ns,
            page_size: self.host.page_size,
            tier: self.tier,
            coverage: self.coverage.clone(),
            keeps_forward_alloc: self.keeps_forward_alloc,
            ..Config::default()
        }
    }

    /// `CLOCK_MONOTONIC` of the traced host as `CLOCK_REALTIME`.
    #[must_use]
    pub fn unix_ns(&self, mono_ns: u64) -> u64 {
        let since = i128::from(mono_ns) - i128::from(self.start_mono_ns);
        let unix = i128::from(self.start_unix_ns) + since;
        u64::try_from(unix.max(0)).unwrap_or(u64::MAX)
    }

    /// As JSON, for the recording.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let coverage = self.coverage.iter().map(|(name, coverage)| {
            let how = match coverage {
                Coverage::Exact => "exact",
                Coverage::Sampled => "sampled",
            };
            ((*name).to_owned(), how.to_owned())
        });
        let stored = Stored {
            tool_version: self.tool_version.clone(),
            host: self.host.clone(),
            target: self.target.clone(),
            command: self.command.clone(),
            tier: self.tier.name().to_owned(),
            coverage: coverage.collect(),
            notes: self.notes.clone(),
            start_mono_ns: self.start_mono_ns,
            start_unix_ns: self.start_unix_ns,
            idle_after_ns: self.idle_after_ns,
            coalesce_ns: self.coalesce_ns,
            keeps_forward_alloc: self.keeps_forward_alloc,
        };
        // Strings, numbers and lists of them: nothing that JSON could not hold.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Back from `to_json`; what a later version added is read over.
    pub(super) fn from_json(json: &[u8]) -> Result<Header, String> {
        let stored: Stored = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        let tier = Tier::ALL
            .into_iter()
            .find(|t| t.name() == stored.tier)
            .ok_or_else(|| format!("its kind of hooks, {:?}, is not known", stored.tier))?;
        let coverage = COUNTERS.iter().filter_map(|name| {
            let how = match stored.coverage.get(*name)?.as_str() {
                "exact" => Coverage::Exact,
                // Anything else is less.
                _ => Coverage::Sampled,
            };
            Some((*name, how))
        });
        Ok(Header {
            tool_version: stored.tool_version,
            host: stored.host,
            target: stored.target,
            command: stored.command,
            tier,
            coverage: coverage.collect(),
            notes: stored.notes,
            start_mono_ns: stored.start_mono_ns,
            start_unix_ns: stored.start_unix_ns,
            idle_after_ns: stored.idle_after_ns,
            coalesce_ns: stored.coalesce_ns,
            keeps_forward_alloc: stored.keeps_forward_alloc,
        })
    }
}

/// `Header` in JSON. Names are part of the format.
#[derive(Serialize, Deserialize)]
struct Stored {
    tool_version: String,
    host: HostInfo,
    #[serde(default)]
    target: String,
    #[serde(default)]
    command: Option<Vec<String>>,
    tier: String,
    coverage: BTreeMap<String, String>,
    #[serde(default)]
    notes: Vec<String>,
    start_mono_ns: u64,
    start_unix_ns: u64,
    idle_after_ns: u64,
    coalesce_ns: u64,
    #[serde(default)]
    keeps_forward_alloc: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_reads_over_what_it_does_not_know() {
        let header = Header {
            host: HostInfo {
                kernel: "6.12.1".into(),
                cpus: Some(4),
                ..HostInfo::default()
            },
            target: "pid 7 \u{1b}[31m".into(),
            command: Some(vec!["sh".into(), "-c".into(), "exit 3".into()]),
            tier: Tier::Tracepoint,
            coverage: BTreeMap::from([
                ("rmem_alloc", Coverage::Exact),
                ("optmem", Coverage::Sampled),
            ]),
            start_mono_ns: 5_000,
            start_unix_ns: 1 << 60,
            keeps_forward_alloc: Some(true),
            ..Header::default()
        };
        let json = header.to_json();
        assert_eq!(Header::from_json(&json), Ok(header.clone()));
        let later = String::from_utf8(json)
            .unwrap()
            .replace("{\"tool", "{\"new\":[1],\"tool")
            .replace("\"optmem\":", "\"later_counter\":\"exact\",\"optmem\":");
        assert_eq!(Header::from_json(later.as_bytes()), Ok(header.clone()));
        assert_eq!(header.unix_ns(4_000), (1 << 60) - 1_000);
        assert_eq!(header.config().tier, Tier::Tracepoint);
        let wrong = later.replace("\"tracepoint\"", "\"psychic\"");
        let why = Header::from_json(wrong.as_bytes()).unwrap_err();
        assert!(why.contains("psychic"), "{why}");
    }
}

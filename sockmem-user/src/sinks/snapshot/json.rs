//! A snapshot as a JSON document. Streamed: no tree is built.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::Report;
use super::values::{Get, columns};
use crate::model::snapshot::{Entry, Group, Sums};
use crate::sinks::fields::Value;
use crate::sinks::json::{Host, write_line};
use crate::sinks::{HostFacts, TOOL_VERSION};

/// Schema of `snapshot --format json`.
pub const SCHEMA: &str = "sockmem-trace/snapshot/1";

/// Writes the document and a newline.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_json(report: &Report<'_>, host: &HostFacts, out: &mut impl Write) -> io::Result<()> {
    write_line(&Document { report, host }, out)
}

struct Document<'a> {
    report: &'a Report<'a>,
    host: &'a HostFacts,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let snapshot = self.report.snapshot;
        let inventory = snapshot.inventory();
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("schema", SCHEMA)?;
        map.serialize_entry("host", &Host::from(self.host))?;
        map.serialize_entry("tool_version", TOOL_VERSION)?;
        map.serialize_entry("target", &self.report.target)?;
        map.serialize_entry("start_unix_ns", &inventory.taken_unix_ns.0)?;
        map.serialize_entry("end_unix_ns", &inventory.taken_unix_ns.1)?;
        map.serialize_entry("namespaces", &Namespaces(self.report))?;
        map.serialize_entry("processes_denied", &inventory.holders.denied)?;
        map.serialize_entry("totals", &SumsJson(&snapshot.totals))?;
        if let Some((by, groups)) = &self.report.groups {
            map.serialize_entry("group_by", by.name())?;
            let shown = &groups[..self.report.shown(groups.len())];
            map.serialize_entry("groups", &shown.iter().map(GroupJson).collect::<Vec<_>>())?;
        }
        map.serialize_entry("sockets", &Sockets(self.report))?;
        map.end()
    }
}

struct Namespaces<'a>(&'a Report<'a>);

impl Serialize for Namespaces<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Namespace<'a> {
            netns: Option<u64>,
            via: &'a str,
            missing: Option<&'a str>,
        }
        s.collect_seq(
            self.0
                .snapshot
                .inventory()
                .namespaces
                .iter()
                .map(|n| Namespace {
                    netns: Some(n.inode).filter(|inode| *inode != 0),
                    via: &n.via,
                    missing: n.missing.as_deref(),
                }),
        )
    }
}

/// Sums over sockets, as a value.
pub(in crate::sinks) fn sums_json(sums: &Sums) -> serde_json::Value {
    // Numbers under literal names always become a value.
    serde_json::to_value(SumsJson(sums)).unwrap_or_default()
}

/// Sums over sockets.
struct SumsJson<'a>(&'a Sums);

impl Serialize for SumsJson<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let t = self.0;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("sockets", &t.sockets)?;
        map.serialize_entry("resident", &t.resident)?;
        map.serialize_entry("rmem_alloc", &t.rmem_alloc)?;
        map.serialize_entry("wmem_queued", &t.wmem_queued)?;
        map.serialize_entry("forward_alloc", &t.forward_alloc)?;
        map.serialize_entry("wmem_alloc", &t.wmem_alloc)?;
        map.serialize_entry("optmem", &t.optmem)?;
        map.serialize_entry("backlog", &t.backlog)?;
        map.serialize_entry("drops", &t.drops)?;
        map.serialize_entry("unread_bytes", &t.unread_bytes)?;
        map.serialize_entry("unacked_bytes", &t.unacked_bytes)?;
        map.serialize_entry("listening", &t.listening)?;
        map.serialize_entry("unaccepted", &t.unaccepted)?;
        map.serialize_entry("unaccepted_resident", &t.unaccepted_resident)?;
        map.serialize_entry("orphans", &t.orphans)?;
        map.serialize_entry("orphans_resident", &t.orphans_resident)?;
        map.serialize_entry("owner_unknown", &t.unknown)?;
        map.end()
    }
}

struct GroupJson<'a>(&'a Group);

impl Serialize for GroupJson<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let g = self.0;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("key", &g.key)?;
        map.serialize_entry("pid", &g.pid)?;
        map.serialize_entry("comm", &g.comm)?;
        map.serialize_entry("totals", &SumsJson(&g.sums))?;
        map.end()
    }
}

struct Sockets<'a>(&'a Report<'a>);

impl Serialize for Sockets<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let entries = self.0.snapshot.entries();
        let shown = self.0.shown(entries.len());
        let mut seq = s.serialize_seq(Some(shown))?;
        for entry in entries.take(shown) {
            seq.serialize_element(&Socket(&entry))?;
        }
        seq.end()
    }
}

const OWNER: &str = "owner.";

struct Socket<'a>(&'a Entry<'a>);

impl Serialize for Socket<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let e = self.0;
        let mut map = s.serialize_map(None)?;
        let mut owner = false;
        for (field, get) in columns() {
            if !field.json.starts_with(OWNER) {
                map.serialize_entry(field.json, &One(e, *get))?;
            } else if !owner {
                map.serialize_entry("owner", &Owner(e))?;
                owner = true;
            }
        }
        let socket = e.socket();
        let queue = e.accept_queue();
        map.serialize_entry("accept_queue", &queue.map(|q| q.0))?;
        map.serialize_entry("accept_limit", &queue.map(|q| q.1))?;
        map.serialize_entry("interface", &Some(socket.interface).filter(|i| *i != 0))?;
        map.serialize_entry("holders", &Holders(e))?;
        map.end()
    }
}

struct One<'a>(&'a Entry<'a>, Get);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Get::Plain(get) => get(self.0).serialize(s),
            Get::Written(write) => {
                let mut text = String::new();
                if write(self.0, &mut text) {
                    Value::Text(&text).serialize(s)
                } else {
                    Value::Unknown.serialize(s)
                }
            }
        }
    }
}

struct Owner<'a>(&'a Entry<'a>);

impl Serialize for Owner<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let members = columns()
            .iter()
            .filter_map(|(f, get)| Some((f.json.strip_prefix(OWNER)?, *get)));
        s.collect_map(members.map(|(name, get)| (name, One(self.0, get))))
    }
}

/// Every descriptor that refers to the socket, as `ss -p` has them.
struct Holders<'a>(&'a Entry<'a>);

impl Serialize for Holders<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Holder<'a> {
            pid: u32,
            comm: Option<&'a str>,
            fd: u32,
        }
        s.collect_seq(self.0.holders().iter().map(|h| Holder {
            pid: h.pid,
            comm: self.0.comm_of(h.pid),
            fd: h.fd,
        }))
    }
}

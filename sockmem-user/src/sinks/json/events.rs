//! The `"events"` of a report.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::ByJson;
use crate::model::{EventView, OwnerView, View};

/// The `"event_counts"` object.
pub(super) fn counts(v: &View) -> BTreeMap<&'static str, u64> {
    v.event_counts
        .iter()
        .map(|(kind, count)| (kind.name(), *count))
        .collect()
}

/// One event. Members that its kind does not have are left out; those that it has and that are
/// not known are `null`.
pub(super) struct Event<'a>(pub(super) &'a EventView);

#[derive(Serialize)]
struct Owner<'a> {
    pid: Option<u32>,
    comm: Option<&'a str>,
    cgroup: Option<&'a str>,
    kind: &'static str,
}

impl<'a> From<&'a OwnerView> for Owner<'a> {
    fn from(o: &'a OwnerView) -> Self {
        Owner {
            pid: o.pid,
            comm: o.comm.as_deref(),
            cgroup: o.cgroup.as_deref(),
            kind: o.kind.name(),
        }
    }
}

#[derive(Serialize)]
struct Socket<'a> {
    cookie: Option<u64>,
    local: &'a str,
    remote: &'a str,
    owner: Owner<'a>,
    rmem_alloc: u64,
    rcvbuf: u64,
}

#[derive(Serialize)]
struct Held<'a> {
    resident: u64,
    sockets: u64,
    by: Vec<HeldBy<'a>>,
}

#[derive(Serialize)]
struct HeldBy<'a> {
    pid: Option<u32>,
    comm: Option<&'a str>,
    kind: &'static str,
    listener: Option<&'a str>,
    resident: u64,
    sockets: u64,
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        use crate::model::EventKind as Kind;
        let e = self.0;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("at_ns", &e.at_ns)?;
        map.serialize_entry("kind", e.kind.name())?;
        map.serialize_entry("how", if e.observed { "observed" } else { "sampled" })?;
        map.serialize_entry("count", &e.count)?;
        if e.kind == Kind::Sysctl {
            map.serialize_entry("name", &e.name)?;
            map.serialize_entry("netns", &e.netns)?;
            map.serialize_entry("from", &e.from)?;
            map.serialize_entry("to", &e.to)?;
            map.serialize_entry("by", &e.by.as_ref().map(ByJson::from))?;
        } else {
            let socket = e.socket.as_ref().map(|s| Socket {
                cookie: s.cookie,
                local: &s.local,
                remote: &s.remote,
                owner: Owner::from(&s.owner),
                rmem_alloc: s.rmem_alloc,
                rcvbuf: s.rcvbuf,
            });
            map.serialize_entry("socket", &socket)?;
        }
        if matches!(
            e.kind,
            Kind::EnterPressure | Kind::LeavePressure | Kind::ExceedLimit
        ) {
            map.serialize_entry("allocated_pages", &e.allocated_pages)?;
            map.serialize_entry("tcp_mem_pages", &e.tcp_mem_pages)?;
        }
        if e.kind == Kind::ExceedLimit {
            map.serialize_entry("direction", &e.direction)?;
        }
        if e.kind == Kind::LeavePressure {
            map.serialize_entry("lasted_ns", &e.lasted_ns)?;
        }
        let by = e.held_by.iter().map(|h| HeldBy {
            pid: h.owner.pid,
            comm: h.owner.comm.as_deref(),
            kind: h.owner.kind.name(),
            listener: h.listener.as_deref(),
            resident: h.resident,
            sockets: h.sockets,
        });
        map.serialize_entry(
            "held",
            &Held {
                resident: e.held_resident,
                sockets: e.held_sockets,
                by: by.collect(),
            },
        )?;
        map.end()
    }
}

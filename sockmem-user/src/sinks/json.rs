//! JSON documents: one line per interval (`sockmem-trace/live/1`) and the report
//! of a whole trace (`sockmem-trace/report/1`). Integers are bytes and
//! nanoseconds, unknown is `null`. Documents are streamed: no tree is built.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use sockmem_common::Reason;

use super::escape::harmless;
use super::fields::{FIELDS, Value};
use super::{HostFacts, TOOL_VERSION};
use crate::model::{
    By, Coverage, GroupView, Limit, LimitCause, LimitChange, Loss, SocketView, Totals,
    TruesizeView, Verdict, View, reason_name,
};

/// Schema of a line of `live --format json`.
pub const LIVE_SCHEMA: &str = "sockmem-trace/live/1";
/// Schema of a report.
pub const REPORT_SCHEMA: &str = "sockmem-trace/report/1";

/// Writes one line for the interval that ends now: live sockets, one object, a newline.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_live(view: &View, host: &HostFacts, out: &mut impl Write) -> io::Result<()> {
    write_live_rows(view, || view.sockets.iter(), host, out)
}

/// As `write_live`, with the sockets from `rows`, each of which is asked for when the one before
/// is written: many sockets need no more memory than one.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_live_rows<I>(
    view: &View,
    rows: impl Fn() -> I,
    host: &HostFacts,
    out: &mut impl Write,
) -> io::Result<()>
where
    I: Iterator<Item: Borrow<SocketView>>,
{
    write_line(
        &Document {
            schema: LIVE_SCHEMA,
            view,
            host,
            whole: false,
            rows,
        },
        out,
    )
}

/// Writes the report of the whole trace, closed sockets included: one object, a newline.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_report(view: &View, host: &HostFacts, out: &mut impl Write) -> io::Result<()> {
    write_report_rows(view, || view.sockets.iter(), host, out)
}

/// As `write_report`, with the live sockets from `rows`, as in `write_live_rows`.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_report_rows<I>(
    view: &View,
    rows: impl Fn() -> I,
    host: &HostFacts,
    out: &mut impl Write,
) -> io::Result<()>
where
    I: Iterator<Item: Borrow<SocketView>>,
{
    write_line(
        &Document {
            schema: REPORT_SCHEMA,
            view,
            host,
            whole: true,
            rows,
        },
        out,
    )
}

/// `write_live` as a string, without the newline.
#[must_use]
pub fn live_line(view: &View, host: &HostFacts) -> String {
    line(|out| write_live(view, host, out))
}

/// `write_report` as a string, without the newline.
#[must_use]
pub fn report_line(view: &View, host: &HostFacts) -> String {
    line(|out| write_report(view, host, out))
}

/// What `write` writes, without its last newline.
pub(super) fn line(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    // A Vec takes everything, and serde_json writes nothing but UTF-8.
    write(&mut out)
        .and_then(|()| String::from_utf8(out).map_err(io::Error::other))
        .map_or_else(
            |e| unreachable!("JSON into memory: {e}"),
            |mut text| {
                text.truncate(text.trim_end().len());
                text
            },
        )
}

/// Writes a document, harmless on a terminal, and a newline.
pub(super) fn write_line(document: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    // serde_json writes a token at a time.
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    document.serialize(&mut serde_json::Serializer::with_formatter(
        &mut out, Harmless,
    ))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Compact JSON in which a foreign string cannot steer a terminal: what
/// `escape` refuses, and JSON itself lets pass, is written as `\uNNNN`. To a
/// parser it is the same string.
pub(super) struct Harmless;

impl serde_json::ser::Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Nearly every string: names of fields, addresses, states.
        if fragment.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !harmless(c)) {
            out.write_all(&rest.as_bytes()[..at])?;
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            rest = chars.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

struct Document<'a, F> {
    schema: &'static str,
    view: &'a View,
    host: &'a HostFacts,
    /// Everything seen, not only what is alive.
    whole: bool,
    /// The live sockets.
    rows: F,
}

impl<F, I> Serialize for Document<'_, F>
where
    F: Fn() -> I,
    I: Iterator<Item: Borrow<SocketView>>,
{
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let v = self.view;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("schema", self.schema)?;
        map.serialize_entry("host", &Host::from(self.host))?;
        map.serialize_entry("tool_version", TOOL_VERSION)?;
        map.serialize_entry(
            "window",
            &Window {
                start_unix_ns: v.start_unix_ns,
                end_unix_ns: v.now_unix_ns,
                duration_ns: v.duration_ns,
            },
        )?;
        map.serialize_entry("tier", v.tier.name())?;
        map.serialize_entry("coverage", &coverage(&v.coverage))?;
        map.serialize_entry("loss", &LossJson::from(&v.loss))?;
        map.serialize_entry("idle_after_ns", &v.idle_after_ns)?;
        map.serialize_entry("keeps_forward_alloc", &v.keeps_forward_alloc)?;
        map.serialize_entry(
            "verdict",
            &VerdictJson {
                answer: v.verdict.answer.name(),
                text: &v.verdict.text,
                idle_resident_mean_bytes: v.verdict.idle_resident_mean_bytes,
                idle_resident_max_bytes: v.verdict.idle_resident_max_bytes,
                reasons: reasons(&v.verdict),
            },
        )?;
        map.serialize_entry("resident_peak_bytes", &v.resident_peak_bytes)?;
        map.serialize_entry("totals", &TotalsJson::from(&v.totals))?;
        map.serialize_entry("truesize", &v.truesize.as_ref().map(TruesizeJson::from))?;
        map.serialize_entry(
            "drain_ns",
            &v.drain_ns.map(|(p50, p99, max)| Drain { p50, p99, max }),
        )?;
        map.serialize_entry("event_counts", &events::counts(v))?;
        map.serialize_entry("events_lost", &v.events_lost)?;
        map.serialize_entry("kernel_counters", &v.kernel_counters)?;
        if self.whole {
            map.serialize_entry("events", &Seq(|| v.events.iter().map(events::Event)))?;
        }
        map.serialize_entry(
            "processes",
            &Seq(|| v.groups.iter().map(|g| Group(g, self.whole))),
        )?;
        let closed = if self.whole { v.closed.as_slice() } else { &[] };
        map.serialize_entry(
            "sockets",
            &Seq(|| {
                let live = (self.rows)().map(Row::Live);
                live.chain(closed.iter().map(Row::Closed)).map(Socket)
            }),
        )?;
        map.end()
    }
}

/// A sequence that is made while it is written.
struct Seq<F>(F);

impl<F, I> Serialize for Seq<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq((self.0)())
    }
}

/// The `"host"` object of every document.
#[derive(Serialize)]
pub(super) struct Host<'a> {
    kernel: &'a str,
    hostname: &'a str,
    boot_id: Option<&'a str>,
    page_size: u64,
    cpus: u32,
}

impl<'a> From<&'a HostFacts> for Host<'a> {
    fn from(h: &'a HostFacts) -> Self {
        Host {
            kernel: &h.kernel,
            hostname: &h.hostname,
            boot_id: h.boot_id.as_deref(),
            page_size: h.page_size,
            cpus: h.cpus,
        }
    }
}

#[derive(Serialize)]
struct Window {
    start_unix_ns: u64,
    end_unix_ns: u64,
    duration_ns: u64,
}

#[derive(Serialize)]
pub(super) struct LossJson {
    seen: u64,
    sent: u64,
    merged: u64,
    dropped_ring: u64,
    dropped_map: u64,
    lost_closed: u64,
    recursion_misses: Option<u64>,
}

impl From<&Loss> for LossJson {
    fn from(l: &Loss) -> Self {
        LossJson {
            seen: l.seen,
            sent: l.sent,
            merged: l.merged,
            dropped_ring: l.dropped_ring,
            dropped_map: l.dropped_map,
            lost_closed: l.lost_closed,
            recursion_misses: l.recursion_misses,
        }
    }
}

#[derive(Serialize)]
struct VerdictJson<'a> {
    answer: &'static str,
    text: &'a str,
    idle_resident_mean_bytes: Option<u64>,
    idle_resident_max_bytes: Option<u64>,
    reasons: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct TotalsJson {
    sockets: u64,
    idle_sockets: u64,
    resident: u64,
    rmem_alloc: u64,
    wmem_queued: u64,
    forward_alloc: i64,
    backlog: Option<u64>,
    unread_bytes: u64,
    unacked_bytes: u64,
    idle_resident: u64,
}

impl From<&Totals> for TotalsJson {
    fn from(t: &Totals) -> Self {
        TotalsJson {
            sockets: t.sockets,
            idle_sockets: t.idle_sockets,
            resident: t.resident,
            rmem_alloc: t.rmem_alloc,
            wmem_queued: t.wmem_queued,
            forward_alloc: t.forward_alloc,
            backlog: t.backlog,
            unread_bytes: t.unread_bytes,
            unacked_bytes: t.unacked_bytes,
            idle_resident: t.idle_resident,
        }
    }
}

#[derive(Serialize)]
struct TruesizeJson {
    count: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
    payload_ratio: Option<f64>,
}

impl From<&TruesizeView> for TruesizeJson {
    fn from(t: &TruesizeView) -> Self {
        TruesizeJson {
            count: t.count,
            p50: t.p50,
            p90: t.p90,
            p99: t.p99,
            max: t.max,
            payload_ratio: t.payload_ratio,
        }
    }
}

#[derive(Serialize)]
struct Drain {
    p50: u64,
    p99: u64,
    max: u64,
}

/// The `"coverage"` object.
pub(super) fn coverage(
    c: &BTreeMap<&'static str, Coverage>,
) -> BTreeMap<&'static str, &'static str> {
    c.iter()
        .map(|(name, c)| (*name, coverage_name(*c)))
        .collect()
}

fn coverage_name(c: Coverage) -> &'static str {
    match c {
        Coverage::Exact => "exact",
        Coverage::Sampled => "sampled",
    }
}

fn reasons(v: &Verdict) -> BTreeMap<&'static str, u64> {
    by_reason(&v.reasons)
}

fn by_reason(map: &BTreeMap<Reason, u64>) -> BTreeMap<&'static str, u64> {
    map.iter()
        .map(|(reason, bytes)| (reason_name(Some(*reason)), *bytes))
        .collect()
}

/// A group of sockets; with `true` its `sockets` counts all that were seen, as the
/// report's list of sockets does, else those alive.
struct Group<'a>(&'a GroupView, bool);

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let g = self.0;
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("pid", &g.owner.pid)?;
        map.serialize_entry("comm", &g.owner.comm)?;
        map.serialize_entry("cgroup", &g.owner.cgroup)?;
        map.serialize_entry("kind", g.owner.kind.name())?;
        map.serialize_entry("listener", &g.listener)?;
        map.serialize_entry("exited", &g.exited)?;
        map.serialize_entry(
            "sockets",
            if self.1 {
                &g.sockets_seen
            } else {
                &g.totals.sockets
            },
        )?;
        map.serialize_entry("sockets_now", &g.totals.sockets)?;
        map.serialize_entry("sockets_seen", &g.sockets_seen)?;
        map.serialize_entry("resident_peak_bytes", &g.resident_peak_bytes)?;
        map.serialize_entry("resident_mean_bytes", &g.resident_mean_bytes)?;
        map.serialize_entry(
            "idle_resident_mean_bytes",
            &g.verdict.idle_resident_mean_bytes,
        )?;
        map.serialize_entry(
            "idle_resident_max_bytes",
            &g.verdict.idle_resident_max_bytes,
        )?;
        map.serialize_entry("reasons", &reasons(&g.verdict))?;
        map.serialize_entry("charged_bytes", &g.charged_bytes)?;
        map.serialize_entry("released_bytes", &g.released_bytes)?;
        map.serialize_entry("verdict", g.verdict.answer.name())?;
        map.serialize_entry("verdict_text", &g.verdict.text)?;
        map.serialize_entry("totals", &TotalsJson::from(&g.totals))?;
        map.end()
    }
}

/// A socket of a list.
pub(super) enum Row<'a, B> {
    Live(B),
    Closed(&'a SocketView),
}

/// A socket: the field table, its reasons, its limits.
pub(super) struct Socket<'a, B>(pub(super) Row<'a, B>);

impl<B: Borrow<SocketView>> Serialize for Socket<'_, B> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let socket = match &self.0 {
            Row::Live(socket) => socket.borrow(),
            Row::Closed(socket) => socket,
        };
        let mut map = s.serialize_map(None)?;
        socket_members(socket, &mut map)?;
        map.end()
    }
}

/// The members of a socket's object.
pub(super) fn socket_members<M: SerializeMap>(
    socket: &SocketView,
    map: &mut M,
) -> Result<(), M::Error> {
    let mut owner = false;
    for field in FIELDS {
        if !field.json.starts_with(OWNER) {
            map.serialize_entry(field.json, &(field.get)(socket))?;
        } else if !owner {
            map.serialize_entry("owner", &OwnerOf(socket))?;
            owner = true;
        }
    }
    map.serialize_entry("idle_reasons", &by_reason(&socket.idle_reasons))?;
    map.serialize_entry("limits", &Seq(|| socket.limits.iter().map(LimitJson::from)))
}

const OWNER: &str = "owner.";

struct OwnerOf<'a>(&'a SocketView);

impl Serialize for OwnerOf<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let members = FIELDS
            .iter()
            .filter_map(|f| Some((f.json.strip_prefix(OWNER)?, f.get)));
        s.collect_map(members.map(|(name, get)| (name, get(self.0))))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match *self {
            Value::Bytes(n) | Value::Ns(n) | Value::Count(n) => s.serialize_u64(n),
            Value::SignedBytes(n) | Value::Rate(n) => s.serialize_i64(n),
            Value::Text(text) => s.serialize_str(text),
            Value::Flag(on) => s.serialize_bool(on),
            Value::Unknown => s.serialize_none(),
        }
    }
}

#[derive(Serialize)]
struct LimitJson<'a> {
    at_ns: u64,
    what: &'static str,
    from: u32,
    to: u32,
    cause: &'static str,
    how: &'static str,
    option: Option<&'static str>,
    asked: Option<i32>,
    by: Option<ByJson<'a>>,
}

/// Who did something.
#[derive(Serialize)]
pub(super) struct ByJson<'a> {
    pid: u32,
    comm: Option<&'a str>,
}

impl<'a> From<&'a By> for ByJson<'a> {
    fn from(by: &'a By) -> Self {
        ByJson {
            pid: by.pid,
            comm: by.comm.as_deref(),
        }
    }
}

impl<'a> From<&'a LimitChange> for LimitJson<'a> {
    fn from(c: &'a LimitChange) -> Self {
        LimitJson {
            at_ns: c.at_ns,
            what: limit_name(c.what),
            from: c.from,
            to: c.to,
            cause: cause_name(c.cause),
            how: if c.observed { "call" } else { "derived" },
            option: c.option,
            asked: c.asked,
            by: c.by.as_ref().map(ByJson::from),
        }
    }
}

/// A limit's name in JSON and text.
#[must_use]
pub fn limit_name(limit: Limit) -> &'static str {
    match limit {
        Limit::Rcvbuf => "rcvbuf",
        Limit::Sndbuf => "sndbuf",
        Limit::ReservedMem => "reserved_mem",
        Limit::WindowClamp => "window_clamp",
        Limit::NotsentLowat => "notsent_lowat",
    }
}

/// The name in JSON and text of what changed a limit.
#[must_use]
pub fn cause_name(cause: LimitCause) -> &'static str {
    match cause {
        LimitCause::Setsockopt => "setsockopt",
        LimitCause::Autotune => "autotune",
        LimitCause::Clamp => "clamp",
        LimitCause::Unknown => "unknown",
    }
}

mod events;

#[cfg(test)]
mod tests;

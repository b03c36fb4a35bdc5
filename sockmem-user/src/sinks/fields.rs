//! The one table of socket fields. JSON objects, table columns and help text
//! all come from it, so that a number carries the same name, unit and kernel
//! field wherever it is shown.

use std::fmt::Write as _;

use crate::model::{SocketView, reason_name};

/// What a field tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kernel memory held: now, at most or on average.
    Usage,
    /// A ceiling on usage; never memory.
    Limit,
    /// Bytes an application would recognise, without the kernel's overhead.
    Payload,
    /// A moment or a span.
    Time,
    /// Which socket, and whose.
    Identity,
    /// How often, or how much in sum since the socket was first seen.
    Count,
    /// A conclusion drawn from the other fields.
    Verdict,
}

/// What a field's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Nanoseconds.
    Nanoseconds,
    /// A plain number.
    Number,
    /// Text.
    Text,
    /// Yes or no.
    Flag,
}

impl Unit {
    /// As printed in help.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/s",
            Unit::Nanoseconds => "ns",
            Unit::Number => "number",
            Unit::Text => "text",
            Unit::Flag => "true/false",
        }
    }
}

/// One value of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Bytes.
    Bytes(u64),
    /// Bytes, possibly below zero.
    SignedBytes(i64),
    /// Nanoseconds.
    Ns(u64),
    /// A plain number.
    Count(u64),
    /// Text, unescaped.
    Text(&'a str),
    /// Bytes per second.
    Rate(i64),
    /// Yes or no.
    Flag(bool),
    /// Not known: `null` in JSON, `-` in text, never 0.
    Unknown,
}

impl<'a> Value<'a> {
    fn bytes(v: Option<u64>) -> Self {
        v.map_or(Value::Unknown, Value::Bytes)
    }
    fn count(v: Option<u64>) -> Self {
        v.map_or(Value::Unknown, Value::Count)
    }
    fn text(v: Option<&'a String>) -> Self {
        v.map_or(Value::Unknown, |s| Value::Text(s))
    }
}

/// What `ss -m` calls a field, and where its manual misleads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ss {
    /// Its letters in `skmem:(…)`.
    pub letters: &'static str,
    /// What ss(8) makes of it.
    pub manual: &'static str,
    /// What is wrong with that, or to be known besides.
    pub really: &'static str,
}

/// One field of a socket.
pub struct Field {
    /// Name in JSON; `owner.` leads the members of the nested object.
    pub json: &'static str,
    /// Title of its column.
    pub title: &'static str,
    /// The kernel's field, or how it is derived.
    pub kernel: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// What it tells.
    pub kind: Kind,
    /// Whether adding it up over sockets gives kernel memory in use now.
    pub sums: bool,
    /// One sentence.
    pub help: &'static str,
    /// What `ss` calls it.
    pub ss: Option<Ss>,
    /// Its value.
    pub get: for<'a> fn(&'a SocketView) -> Value<'a>,
}

impl Field {
    /// The field of that JSON name.
    ///
    /// # Panics
    /// Where there is none: names are literals of this crate, and the tests use each.
    #[must_use]
    pub fn named(json: &str) -> &'static Field {
        match FIELDS.iter().find(|f| f.json == json) {
            Some(field) => field,
            None => panic!("no socket field is named {json}"),
        }
    }
}

macro_rules! fields {
    ($($json:literal, $title:literal, $kernel:literal, $unit:ident, $kind:ident $(+ $sums:ident)?,
        $help:literal, $get:expr $(, ss $letters:literal $manual:literal $really:literal)?;)*) => {
        /// Every field of a socket, in the order of JSON.
        pub static FIELDS: &[Field] = &[$(Field {
            json: $json,
            title: $title,
            kernel: $kernel,
            unit: Unit::$unit,
            kind: Kind::$kind,
            sums: fields!(@sums $($sums)?),
            help: $help,
            ss: fields!(@ss $($letters $manual $really)?),
            get: $get,
        },)*];
    };
    (@ss) => { None };
    (@ss $letters:literal $manual:literal $really:literal) => {
        Some(Ss { letters: $letters, manual: $manual, really: $really })
    };
    (@sums) => { false };
    (@sums sums) => { true };
}

fields! {
    "cookie", "cookie", "__sk_common.skc_cookie", Number, Identity,
        "The kernel's identity of the socket, never reused.", |s| Value::count(s.cookie);
    "inode", "inode", "socket_alloc.vfs_inode.i_ino", Number, Identity,
        "Inode of the socket's file, as in /proc/PID/fd; none without a file.", |s| Value::count(s.inode);
    "protocol", "proto", "sk_protocol", Text, Identity,
        "Transport protocol.", |s| Value::Text(s.protocol);
    "family", "family", "__sk_common.skc_family", Text, Identity,
        "Address family.", |s| Value::Text(s.family);
    "state", "state", "__sk_common.skc_state", Text, Identity,
        "TCP state.", |s| Value::Text(s.state);
    "local", "local", "skc_rcv_saddr:skc_num", Text, Identity,
        "Local address and port.", |s| Value::Text(&s.local);
    "remote", "remote", "skc_daddr:skc_dport", Text, Identity,
        "Remote address and port.", |s| Value::Text(&s.remote);
    "netns", "netns", "skc_net->ns.inum", Number, Identity,
        "Network namespace, by its inode number.", |s| Value::count(s.netns.map(u64::from));
    "owner.pid", "pid", "task_struct.tgid", Number, Identity,
        "Process that holds the socket, listens for it, or held it last.",
        |s| Value::count(s.owner.pid.map(u64::from));
    "owner.comm", "comm", "task_struct.comm", Text, Identity,
        "That process's name.", |s| Value::text(s.owner.comm.as_ref());
    "owner.cgroup", "cgroup", "/proc/PID/cgroup", Text, Identity,
        "That process's control group.", |s| Value::text(s.owner.cgroup.as_ref());
    "owner.kind", "owner", "derived", Text, Identity,
        "process holds it; listener: not accepted yet; orphan: closed by its process, alive in the kernel.",
        |s| Value::Text(s.owner.kind.name());
    "closed", "closed", "inet_sock_destruct", Flag, Identity,
        "Whether the kernel has destroyed the socket.", |s| Value::Flag(s.closed);
    "rmem_alloc", "rmem_alloc", "sk_backlog.rmem_alloc", Bytes, Usage + sums,
        "Memory of everything queued to be read, out-of-order data included.",
        |s| Value::Bytes(s.rmem_alloc),
        ss "r" "memory allocated for receiving"
        "Kernel memory of what waits to be read, several times its payload when messages are small; Recv-Q is the payload.";
    "rcvbuf", "rcvbuf", "sk_rcvbuf", Bytes, Limit,
        "Ceiling of the receive side (SO_RCVBUF, autotuning); not memory in use.",
        |s| Value::bytes(s.rcvbuf),
        ss "rb" "memory that can be allocated for receiving"
        "A ceiling that autotuning raises up to tcp_rmem and does not lower; nothing is allocated by it, and a smaller one proves no saving.";
    "wmem_alloc", "wmem_alloc", "sk_wmem_alloc - 1", Bytes, Usage,
        "Memory handed to the layers below; part of it is in wmem_queued too, so the two are never added.",
        |s| Value::bytes(s.wmem_alloc),
        ss "t" "memory sent to layer 3"
        "What lies below TCP just now; it is in w as well, is 0 when nothing is in flight there, and is not the send queue.";
    "sndbuf", "sndbuf", "sk_sndbuf", Bytes, Limit,
        "Ceiling of the send side (SO_SNDBUF, autotuning); not memory in use.",
        |s| Value::bytes(s.sndbuf),
        ss "tb" "memory that can be allocated for sending"
        "A ceiling, as rb.";
    "forward_alloc", "forward_alloc", "sk_forward_alloc", Bytes, Usage + sums,
        "Memory charged to the socket that no data uses now; below zero for moments.",
        |s| Value::SignedBytes(s.forward_alloc),
        ss "f" "memory cached by the socket"
        "No memory lies there: it is charge without data, which rounds the socket up to pages (before 6.0 up to 2 MiB); ss prints one below zero as some four billion.";
    "wmem_queued", "wmem_queued", "sk_wmem_queued", Bytes, Usage + sums,
        "Memory of everything written and not yet acknowledged by the peer.",
        |s| Value::Bytes(s.wmem_queued),
        ss "w" "memory not yet sent to layer 3"
        "Wrong for TCP: everything written stays in it, sent or not, until the peer has acknowledged it.";
    "optmem", "optmem", "sk_omem_alloc", Bytes, Usage + sums,
        "Memory of socket options, filters and zerocopy notifications; not part of resident.",
        |s| Value::bytes(s.optmem),
        ss "o" "memory of socket options"
        "Filters, BPF storage and pending zerocopy notifications are in it too.";
    "backlog", "backlog", "sk_backlog.len", Bytes, Usage + sums,
        "Memory of packets that wait while a process works on the socket; not part of resident.",
        |s| Value::bytes(s.backlog),
        ss "bl" "memory of the backlog queue"
        "Filled only while a process works on the socket; a reading that meets it is luck.";
    "drops", "drops", "sk_drops", Number, Count,
        "Packets dropped at the socket.", |s| Value::count(s.drops),
        ss "d" "packets dropped before they reach the socket"
        "They reached it and were dropped there, mostly because its buffer was full (UDP), or by a filter.";
    "resident", "RESIDENT", "rmem_alloc + wmem_queued + forward_alloc", Bytes, Usage + sums,
        "What the kernel charges against tcp_mem for this socket.", |s| Value::Bytes(s.resident);
    "unread_bytes", "unread", "rcv_nxt - copied_seq", Bytes, Payload,
        "Payload received in order that the application has not read.",
        |s| Value::bytes(s.unread_bytes);
    "unacked_bytes", "unacked", "write_seq - snd_una", Bytes, Payload,
        "Payload written that the peer has not acknowledged.", |s| Value::bytes(s.unacked_bytes);
    "rate_bytes_per_s", "rate/s", "change of resident", BytesPerSecond, Usage,
        "How fast resident grew (+) or shrank (-) over the last interval.",
        |s| s.rate_bytes_per_s.map_or(Value::Unknown, Value::Rate);
    "first_seen_ns", "first seen", "CLOCK_MONOTONIC", Nanoseconds, Time,
        "When the trace first saw the socket.", |s| Value::Ns(s.first_seen_ns);
    "last_seen_ns", "last seen", "CLOCK_MONOTONIC", Nanoseconds, Time,
        "Up to when the socket was observed.", |s| Value::Ns(s.last_seen_ns);
    "resident_peak_bytes", "peak", "highest resident", Bytes, Usage,
        "Most that the socket held at once during the trace.", |s| Value::Bytes(s.resident_peak_bytes);
    "rmem_peak_bytes", "rmem peak", "highest sk_backlog.rmem_alloc", Bytes, Usage,
        "Most that waited to be read at once.", |s| Value::Bytes(s.rmem_peak_bytes);
    "wmem_queued_peak_bytes", "wmem peak", "highest sk_wmem_queued", Bytes, Usage,
        "Most that waited to be acknowledged at once.", |s| Value::Bytes(s.wmem_queued_peak_bytes);
    "resident_mean_bytes", "mean", "mean of resident over time", Bytes, Usage,
        "Mean over the time the socket was seen.", |s| Value::bytes(s.resident_mean_bytes);
    "idle", "idle", "derived", Flag, Time,
        "Whether no payload has moved for --idle-after.", |s| Value::Flag(s.idle);
    "quiet_ns", "idle for", "derived", Nanoseconds, Time,
        "Time since payload last moved in either direction.", |s| Value::Ns(s.quiet_ns);
    "idle_ns", "idle time", "derived", Nanoseconds, Time,
        "Total time spent idle.", |s| Value::Ns(s.idle_ns);
    "idle_resident_mean_bytes", "held idle", "mean of resident over idle time", Bytes, Usage,
        "Mean that the socket held while it was idle.", |s| Value::bytes(s.idle_resident_mean_bytes);
    "idle_resident_max_bytes", "held max", "highest resident while idle", Bytes, Usage,
        "Most that the socket held while it was idle.", |s| Value::bytes(s.idle_resident_max_bytes);
    "idle_reason", "reason", "derived", Text, Verdict,
        "What held most while idle: unread, unacked, unsent, out-of-order, reserved; none if nothing did.",
        |s| Value::Text(reason_name(s.idle_reason));
    "baseline_bytes", "baseline", "resident when first seen", Bytes, Count,
        "What the socket held when the trace first saw it; baseline + charged - released is resident.",
        |s| Value::Bytes(s.baseline_bytes);
    "charged_bytes", "charged", "sum of increases of resident", Bytes, Count,
        "All that was added to resident since the socket was first seen.",
        |s| Value::Bytes(s.charged_bytes);
    "released_bytes", "released", "sum of decreases of resident", Bytes, Count,
        "All that was taken from resident since the socket was first seen.",
        |s| Value::Bytes(s.released_bytes);
    "changes", "changes", "observations", Number, Count,
        "Changes of any of its counters that were observed.", |s| Value::Count(s.changes);
    "verdict", "answer", "derived", Text, Verdict,
        "traffic-driven, resident-while-idle, growing, or not-enough-idle-time.",
        |s| Value::Text(s.verdict.name());
}

/// The kernel's counters and limits, one line each, for `--help`.
#[must_use]
pub fn brief() -> String {
    let mut out = String::new();
    for (heading, wanted) in [
        ("Memory in use, by kernel field:", Kind::Usage),
        ("Payload:", Kind::Payload),
        ("Limits, never memory in use:", Kind::Limit),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{heading}");
        for f in FIELDS.iter().filter(|f| f.kind == wanted) {
            // Peaks and means of the same counters are left to `--explain`.
            if wanted != Kind::Usage || f.sums {
                let _ = writeln!(out, "  {:<14} {}", f.title, f.kernel);
            }
        }
    }
    out
}

/// Who is said to own a socket.
const OWNERS: &str = "\
OWNERS
  process                   a process holds the socket open
  unaccepted (listener)     it waits for accept(); its memory is counted for its listener
  orphan                    closed by its process; the kernel still holds it, and its data
  not known                 no process has used it since the trace began
";

/// Every field with its kernel field, unit and meaning, as `--explain` prints it.
#[must_use]
pub fn explain() -> String {
    const SECTIONS: [(Kind, &str); 7] = [
        (Kind::Usage, "MEMORY (kernel memory held)"),
        (Kind::Limit, "LIMITS (ceilings, never memory in use)"),
        (
            Kind::Payload,
            "PAYLOAD (bytes an application would recognise)",
        ),
        (Kind::Time, "TIME"),
        (Kind::Count, "COUNTS AND SUMS SINCE FIRST SEEN"),
        (Kind::Verdict, "CONCLUSIONS"),
        (Kind::Identity, "IDENTITY"),
    ];
    let mut out = String::new();
    for (kind, heading) in SECTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{heading}");
        for f in FIELDS.iter().filter(|f| f.kind == kind) {
            let _ = writeln!(
                out,
                "  {:<25} {} [{}]\n  {:<25} {}",
                f.json,
                f.kernel,
                f.unit.name(),
                if f.title == f.json {
                    String::new()
                } else {
                    format!("column: {}", f.title)
                },
                f.help
            );
        }
        out.push('\n');
    }
    out.push_str(OWNERS);
    out
}

/// What `ss -m` calls the fields, and where its manual misleads, as `snapshot --explain` and
/// `where --explain` print it.
#[must_use]
pub fn explain_ss() -> String {
    let mut out = String::from(
        "WHAT ss CALLS THEM\n  skmem:(r,rb,t,tb,f,w,o,bl,d) of `ss -m`, and where ss(8) misleads\n",
    );
    for f in FIELDS {
        if let Some(ss) = &f.ss {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "  {:<3} {:<14} {}\n  {:<18} manual: {}\n  {:<18} really: {}",
                ss.letters, f.json, f.kernel, "", ss.manual, "", ss.really
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixture;

    /// The names that documents promise for a socket, `limits` apart, which is a list.
    const PROMISED: &[&str] = &[
        "cookie",
        "inode",
        "protocol",
        "family",
        "state",
        "local",
        "remote",
        "owner.pid",
        "owner.comm",
        "owner.cgroup",
        "owner.kind",
        "rmem_alloc",
        "rcvbuf",
        "wmem_alloc",
        "sndbuf",
        "forward_alloc",
        "wmem_queued",
        "optmem",
        "backlog",
        "drops",
        "resident",
        "unread_bytes",
        "unacked_bytes",
        "first_seen_ns",
        "last_seen_ns",
        "resident_peak_bytes",
        "rmem_peak_bytes",
        "wmem_queued_peak_bytes",
        "resident_mean_bytes",
        "idle_ns",
        "idle_resident_mean_bytes",
        "idle_resident_max_bytes",
        "idle_reason",
        "charged_bytes",
        "released_bytes",
        "changes",
        "verdict",
    ];

    #[test]
    fn every_promised_name_is_in_the_table_once() {
        for name in PROMISED {
            assert_eq!(
                FIELDS.iter().filter(|f| f.json == *name).count(),
                1,
                "{name}"
            );
        }
        for f in FIELDS {
            assert_eq!(
                FIELDS.iter().filter(|g| g.json == f.json).count(),
                1,
                "{}",
                f.json
            );
        }
    }

    #[test]
    fn only_usage_is_summed_and_overlapping_counters_are_not() {
        for f in FIELDS.iter().filter(|f| f.sums) {
            assert_eq!(f.kind, Kind::Usage, "{}", f.json);
            assert_eq!(f.unit, Unit::Bytes, "{}", f.json);
        }
        assert!(!Field::named("wmem_alloc").sums, "it overlaps wmem_queued");
        assert!(
            !Field::named("resident_peak_bytes").sums,
            "peaks are not at the same moment"
        );
    }

    #[test]
    fn units_agree_with_values_and_names() {
        let socket = fixture::socket(1);
        for f in FIELDS {
            let fits = match (f.get)(&socket) {
                Value::Bytes(_) | Value::SignedBytes(_) => f.unit == Unit::Bytes,
                Value::Ns(_) => f.unit == Unit::Nanoseconds,
                Value::Count(_) => f.unit == Unit::Number,
                Value::Text(_) => f.unit == Unit::Text,
                Value::Rate(_) => f.unit == Unit::BytesPerSecond,
                Value::Flag(_) => f.unit == Unit::Flag,
                Value::Unknown => panic!("the full fixture must know {}", f.json),
            };
            assert!(fits, "{}: {:?}", f.json, f.unit);
            if f.json.ends_with("_bytes") {
                assert_eq!(f.unit, Unit::Bytes, "{}", f.json);
            }
            if f.json.ends_with("_ns") {
                assert_eq!(f.unit, Unit::Nanoseconds, "{}", f.json);
            }
        }
    }

    #[test]
    fn resident_is_the_sum_of_its_parts() {
        let s = fixture::socket(7);
        let part = |name: &str| match (Field::named(name).get)(&s) {
            Value::Bytes(v) => i64::try_from(v).unwrap(),
            Value::SignedBytes(v) => v,
            other => panic!("{name} is {other:?}"),
        };
        let formula = Field::named("resident").kernel;
        let sum: i64 = formula.split(" + ").map(part).sum();
        assert_eq!(sum, part("resident"));
        assert_eq!(formula.split(" + ").count(), 3);
    }

    #[test]
    fn every_letter_of_ss_is_explained() {
        let letters: Vec<&str> = FIELDS.iter().filter_map(|f| Some(f.ss?.letters)).collect();
        assert_eq!(letters, ["r", "rb", "t", "tb", "f", "w", "o", "bl", "d"]);
        insta::assert_snapshot!(explain_ss());
    }

    #[test]
    fn help_is_one_sentence() {
        for f in FIELDS {
            assert!(f.help.ends_with('.'), "{}", f.json);
            assert!(!f.help.trim_end_matches('.').contains(". "), "{}", f.json);
        }
    }

    #[test]
    fn explain_names_every_field() {
        let text = explain();
        for f in FIELDS {
            assert!(
                text.contains(f.json) && text.contains(f.kernel),
                "{}",
                f.json
            );
        }
        insta::assert_snapshot!(text);
    }
}

//! The columns of exports: events and sockets. One table each feeds CSV, JSON, Parquet and the
//! documentation; fields of a socket come from the one table of `sinks::fields`.

use std::sync::LazyLock;

use sockmem_common::REASONS;

use super::Source;
use super::events::Event;
use crate::model::SocketTotals;
use crate::sinks::fields::{FIELDS, Field, Unit, Value};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole numbers: bytes, nanoseconds, counts.
    Number,
    /// Text.
    Text,
    /// Yes or no.
    Flag,
    /// A moment, in nanoseconds since 1970.
    Moment,
    /// Whole numbers of up to 38 digits: byte·ns.
    Wide,
}

impl Kind {
    /// As printed in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Number => "number",
            Kind::Text => "text",
            Kind::Flag => "true/false",
            Kind::Moment => "moment",
            Kind::Wide => "wide number",
        }
    }
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Not known.
    Unknown,
    /// A number.
    Number(i128),
    /// Text, unescaped.
    Text(&'a str),
    /// Yes or no.
    Flag(bool),
}

impl<'a> Cell<'a> {
    fn number(n: impl Into<i128>) -> Self {
        Cell::Number(n.into())
    }
    fn maybe(n: Option<impl Into<i128>>) -> Self {
        n.map_or(Cell::Unknown, Cell::number)
    }
    fn text(text: Option<&'a str>) -> Self {
        text.map_or(Cell::Unknown, Cell::Text)
    }
}

impl<'a> From<Value<'a>> for Cell<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Bytes(n) | Value::Ns(n) | Value::Count(n) => Cell::number(n),
            Value::SignedBytes(n) | Value::Rate(n) => Cell::number(n),
            Value::Text(text) => Cell::Text(text),
            Value::Flag(on) => Cell::Flag(on),
            Value::Unknown => Cell::Unknown,
        }
    }
}

/// Gives a row's value.
type Get<R> = Box<dyn for<'a> Fn(&'a Source, &'a R) -> Cell<'a> + Send + Sync>;

/// A column of a table whose rows are `R`.
pub struct Column<R> {
    /// Name and kind.
    pub head: Head,
    /// One sentence.
    pub help: &'static str,
    /// Its value.
    pub get: Get<R>,
}

/// Name and kind, for writers that do not care what the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The same in every row of a file: which host, which recording.
    pub constant: bool,
}

/// The heads of a table.
#[must_use]
pub fn heads<R>(columns: &[Column<R>]) -> Vec<Head> {
    columns.iter().map(|c| c.head).collect()
}

/// The columns of `export --format csv`, in their order: a contract.
pub const CSV_EVENT: [&str; 12] = [
    "t_ns",
    "cookie",
    "hook",
    "rmem_alloc",
    "wmem_queued",
    "wmem_alloc",
    "forward_alloc",
    "optmem",
    "backlog",
    "rcvbuf",
    "sndbuf",
    "resident",
];

/// Columns of events.
pub static EVENTS: LazyLock<Vec<Column<Event>>> = LazyLock::new(|| {
    let mut all = source();
    all.extend(events());
    all
});

/// Columns of sockets.
pub static SOCKETS: LazyLock<Vec<Column<SocketTotals>>> = LazyLock::new(|| {
    let mut all = source();
    all.extend(window());
    all.extend(FIELDS.iter().filter(|f| told(f)).map(field));
    all.extend(integrals());
    all
});

fn column<R>(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    get: impl for<'a> Fn(&'a Source, &'a R) -> Cell<'a> + Send + Sync + 'static,
) -> Column<R> {
    let head = Head {
        name,
        kind,
        constant: false,
    };
    Column {
        head,
        help,
        get: Box::new(get),
    }
}

fn constant<R>(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    get: impl for<'a> Fn(&'a Source) -> Cell<'a> + Send + Sync + 'static,
) -> Column<R> {
    let mut column = column(name, kind, help, move |s, _| get(s));
    column.head.constant = true;
    column
}

/// Which host and which recording: what tells the files of a fleet apart.
fn source<R>() -> Vec<Column<R>> {
    vec![
        constant("host", Kind::Text, "Name of the traced host", |s| {
            Cell::Text(&s.header.host.hostname)
        }),
        constant(
            "boot_id",
            Kind::Text,
            "Its boot: cookies and times are unique within one",
            |s| Cell::text(s.header.host.boot_id.as_deref()),
        ),
        constant("kernel", Kind::Text, "Release of its kernel", |s| {
            Cell::Text(&s.header.host.kernel)
        }),
        constant("recording", Kind::Text, "Name of the recording", |s| {
            Cell::Text(&s.recording)
        }),
    ]
}

fn window() -> Vec<Column<SocketTotals>> {
    vec![
        constant("start", Kind::Moment, "When the recording began", |s| {
            Cell::number(s.header.start_unix_ns)
        }),
        constant(
            "duration_ns",
            Kind::Number,
            "How long the recording is; not known while it is read from a pipe",
            |s| {
                let end = s.end_mono_ns;
                Cell::maybe(end.map(|end| end.saturating_sub(s.header.start_mono_ns)))
            },
        ),
        constant(
            "idle_after_ns",
            Kind::Number,
            "A socket was idle when no payload had moved for this long",
            |s| Cell::number(s.header.idle_after_ns),
        ),
    ]
}

fn events() -> Vec<Column<Event>> {
    /// A counter, unknown where the trace could not read it.
    fn counter(
        name: &'static str,
        get: impl Fn(&Event) -> u32 + Send + Sync + 'static,
    ) -> Column<Event> {
        let help = Field::named(name).help;
        column(name, Kind::Number, help, move |s, e| {
            let known = s.header.coverage.contains_key(name);
            Cell::maybe(known.then(|| get(e)))
        })
    }
    /// A limit: never 0, that is a reading without limits.
    fn limit(
        name: &'static str,
        get: impl Fn(&Event) -> u32 + Send + Sync + 'static,
    ) -> Column<Event> {
        let help = Field::named(name).help;
        column(name, Kind::Number, help, move |_, e| {
            let n = get(e);
            Cell::maybe((n != 0).then_some(n))
        })
    }
    fn who(e: &Event) -> Option<&super::events::Identity> {
        e.who.as_deref()
    }
    let number = Kind::Number;
    vec![
        column(
            "t",
            Kind::Moment,
            "When, by the host's clock",
            |s, e: &Event| Cell::number(s.header.unix_ns(e.t_ns)),
        ),
        column("t_ns", number, "When; CLOCK_MONOTONIC", |_, e: &Event| {
            Cell::number(e.t_ns)
        }),
        column(
            "cookie",
            number,
            Field::named("cookie").help,
            |_, e: &Event| Cell::maybe(e.cookie),
        ),
        column(
            "hook",
            Kind::Text,
            "The kernel's function or tracepoint where it was seen; scan: read from the kernel's states",
            |_, e: &Event| Cell::Text(e.hook),
        ),
        column(
            "pid",
            number,
            Field::named("owner.pid").help,
            |_, e: &Event| Cell::maybe(who(e).and_then(|w| w.pid)),
        ),
        column(
            "comm",
            Kind::Text,
            Field::named("owner.comm").help,
            |_, e: &Event| Cell::text(who(e).and_then(|w| w.comm.as_deref())),
        ),
        column(
            "cgroup",
            Kind::Text,
            Field::named("owner.cgroup").help,
            |_, e: &Event| Cell::text(who(e).and_then(|w| w.cgroup.as_deref())),
        ),
        column(
            "owner",
            Kind::Text,
            Field::named("owner.kind").help,
            |_, e: &Event| Cell::text(who(e).map(|w| w.owner.name())),
        ),
        column(
            "netns",
            number,
            Field::named("netns").help,
            |_, e: &Event| Cell::maybe(who(e).and_then(|w| w.netns)),
        ),
        column(
            "local",
            Kind::Text,
            Field::named("local").help,
            |_, e: &Event| Cell::text(who(e).map(|w| w.local.as_str())),
        ),
        column(
            "remote",
            Kind::Text,
            Field::named("remote").help,
            |_, e: &Event| Cell::text(who(e).map(|w| w.remote.as_str())),
        ),
        column(
            "rmem_alloc",
            number,
            Field::named("rmem_alloc").help,
            |_, e: &Event| Cell::number(e.counters.rmem_alloc),
        ),
        column(
            "wmem_queued",
            number,
            Field::named("wmem_queued").help,
            |_, e: &Event| Cell::number(e.counters.wmem_queued),
        ),
        counter("wmem_alloc", |e| e.counters.wmem_alloc),
        column(
            "forward_alloc",
            number,
            Field::named("forward_alloc").help,
            |_, e: &Event| Cell::number(e.counters.forward_alloc),
        ),
        counter("optmem", |e| e.counters.optmem),
        counter("backlog", |e| e.counters.backlog),
        limit("rcvbuf", |e| e.counters.rcvbuf),
        limit("sndbuf", |e| e.counters.sndbuf),
        column(
            "resident",
            number,
            Field::named("resident").help,
            |_, e: &Event| Cell::number(e.counters.resident()),
        ),
        column(
            "resident_min",
            number,
            "Lowest resident since the socket's last event",
            |_, e: &Event| Cell::number(e.resident_min),
        ),
        column(
            "resident_max",
            number,
            "Highest resident since the socket's last event",
            |_, e: &Event| Cell::number(e.resident_max),
        ),
        column(
            "unread_bytes",
            number,
            Field::named("unread_bytes").help,
            |_, e: &Event| Cell::maybe(e.unread),
        ),
        column(
            "unacked_bytes",
            number,
            Field::named("unacked_bytes").help,
            |_, e: &Event| Cell::maybe(e.unacked),
        ),
        column(
            "merged",
            number,
            "Changes that the event stands for: 1 without coalescing",
            |_, e: &Event| Cell::number(e.merged),
        ),
    ]
}

/// Fields that mean something after the trace.
fn told(field: &Field) -> bool {
    field.json != "rate_bytes_per_s"
}

/// A field of a socket; `owner.pid` is the column `pid`, `owner.kind` the column `owner`.
fn field(f: &'static Field) -> Column<SocketTotals> {
    let name = if f.json.starts_with("owner.") {
        f.title
    } else {
        f.json
    };
    let kind = match f.unit {
        Unit::Text => Kind::Text,
        Unit::Flag => Kind::Flag,
        Unit::Bytes | Unit::BytesPerSecond | Unit::Nanoseconds | Unit::Number => Kind::Number,
    };
    column(name, kind, f.help, |_, s: &SocketTotals| {
        (f.get)(&s.view).into()
    })
}

/// A column of the integral over idle time for each reason, in the order of `Reason`.
pub(super) const IDLE: [&str; REASONS] = [
    "idle_unread_byte_ns",
    "idle_unacked_byte_ns",
    "idle_unsent_byte_ns",
    "idle_out_of_order_byte_ns",
    "idle_reserved_byte_ns",
];

fn integrals() -> Vec<Column<SocketTotals>> {
    let wide = |n: u128| i128::try_from(n).map_or(Cell::Unknown, Cell::Number);
    let mut all = vec![
        column(
            "resident_byte_ns",
            Kind::Wide,
            "resident over the time the socket was seen: bytes times nanoseconds, exact",
            move |_, s: &SocketTotals| wide(s.resident_byte_ns),
        ),
        column(
            "idle_byte_ns",
            Kind::Wide,
            "resident over its idle time, exact",
            move |_, s: &SocketTotals| wide(s.idle_byte_ns.iter().sum()),
        ),
    ];
    all.extend(IDLE.into_iter().enumerate().map(|(at, name)| {
        let help = "The part of idle_byte_ns that this reason held";
        column(name, Kind::Wide, help, move |_, s: &SocketTotals| {
            wide(s.idle_byte_ns[at])
        })
    }));
    all
}

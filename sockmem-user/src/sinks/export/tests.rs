//! Events and the files made of them.

use std::io;

use proptest::prelude::*;
use sockmem_common::{
    Change, Counters, Header as RecordHeader, KIND_CHANGE, KIND_CLOSE, KIND_OPEN, LIMIT_RCVBUF,
    Lifecycle, LimitSet, OWNER_PROCESS, SEQ_VALID, STATE_RCVBUF_LOCK, Seqs, SockState, hook,
};

use super::columns::{EVENTS, SOCKETS, heads};
use super::csv::Csv;
use super::document::Document;
use super::events::{Event, EventSink, Events, Kind};
use super::perfetto::Perfetto;
use super::{EventRows, Source, socket_row};
use crate::decode::Record;
use crate::facts::{Coverage, Loss};
use crate::model::{Input, LimitCause, Model, ProcessFacts};
use crate::recording::{Ending, Header, HostInfo};

const S: u64 = 1_000_000_000;

/// One input, owned.
enum Told {
    Record(Record),
    Scan(Vec<SockState>, u64),
    Process(u32, ProcessFacts),
    Loss(Loss),
}

/// Feeds `told` to `each`, scans with their end.
fn feed(told: &[Told], mut each: impl FnMut(u64, Input<'_>)) {
    let mut now_ns = S;
    for told in told {
        match told {
            Told::Record(r) => each(now_ns, Input::Record(r)),
            Told::Scan(states, at_ns) => {
                now_ns = *at_ns;
                each(
                    now_ns,
                    Input::States {
                        states,
                        now_ns: *at_ns,
                    },
                );
                each(now_ns, Input::ScanDone { began_ns: *at_ns });
            }
            Told::Process(pid, facts) => each(now_ns, Input::Process { pid: *pid, facts }),
            Told::Loss(loss) => each(now_ns, Input::Loss(loss)),
        }
    }
}

#[derive(Default)]
struct Kept {
    events: Vec<Event>,
    gone: Vec<u64>,
}

impl EventSink for Kept {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        self.events.push(event.clone());
        Ok(())
    }
    fn gone(&mut self, id: u64) -> io::Result<()> {
        self.gone.push(id);
        Ok(())
    }
}

fn kept(told: &[Told]) -> Kept {
    let (mut events, mut kept) = (Events::default(), Kept::default());
    feed(told, |t_ns, input| {
        events.take(t_ns, input, &mut kept).expect("it is kept");
    });
    events.finish(&mut kept).expect("it is kept");
    kept
}

fn counters(rmem_alloc: u32) -> Counters {
    Counters {
        rmem_alloc,
        forward_alloc: 512,
        rcvbuf: 131_072,
        sndbuf: 16_384,
        ..Counters::default()
    }
}

/// The state of socket `id` with `rmem_alloc` bytes to be read, since `t_ns`.
fn state(id: u64, t_ns: u64, rmem_alloc: u32) -> SockState {
    let mut s = SockState {
        id,
        cookie: 100 + id,
        owner_tgid: 42,
        owner_kind: OWNER_PROCESS,
        owner_comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
        tcp_state: 1,
        family: 2,
        local_port: 443,
        remote_port: 5000 + id as u16,
        netns: 4,
        ..SockState::default()
    };
    s.local[..4].copy_from_slice(&[10, 0, 0, 1]);
    s.remote[..4].copy_from_slice(&[10, 0, 0, 2]);
    let seqs = Seqs {
        rcv_nxt: rmem_alloc / 2,
        flags: SEQ_VALID,
        ..Seqs::default()
    };
    s.start(t_ns, &counters(rmem_alloc), &seqs);
    s
}

fn life(kind: u8, id: u64, t_ns: u64, rmem_alloc: u32) -> Told {
    let header = RecordHeader {
        t_ns,
        id,
        kind,
        hook: hook::SET_STATE,
        ..RecordHeader::default()
    };
    let l = Box::new(Lifecycle {
        header,
        state: state(id, t_ns, rmem_alloc),
    });
    Told::Record(match kind {
        KIND_OPEN => Record::Open(l),
        _ => Record::Close(l),
    })
}

fn change(id: u64, t_ns: u64, rmem_alloc: u32) -> Told {
    changed(id, t_ns, counters(rmem_alloc))
}

fn changed(id: u64, t_ns: u64, after: Counters) -> Told {
    Told::Record(Record::Change(Change {
        header: RecordHeader {
            t_ns,
            id,
            kind: KIND_CHANGE,
            hook: hook::RCV_ESTABLISHED,
            ..RecordHeader::default()
        },
        after,
        unread: after.rmem_alloc / 2,
        resident_min: after.resident() as u32,
        resident_max: after.resident() as u32 + 1,
        merged: 1,
        ..Change::default()
    }))
}

fn scan(at_ns: u64, states: Vec<SockState>) -> Told {
    Told::Scan(states, at_ns)
}

#[test]
fn events_come_in_order_of_time_whatever_order_they_arrived_in() {
    let told = [
        life(KIND_OPEN, 1, S, 0),
        change(1, 5 * S, 500),
        change(2, 4 * S, 400),
        life(KIND_OPEN, 2, 2 * S, 0),
        scan(3 * S, vec![]),
        change(1, 6 * S, 600),
        scan(7 * S, vec![]),
        change(1, 8 * S, 800),
    ];
    let kept = kept(&told);
    let seen: Vec<_> = kept.events.iter().map(|e| (e.t_ns / S, e.id)).collect();
    assert_eq!(seen, [(1, 1), (2, 2), (4, 2), (5, 1), (6, 1), (8, 1)]);
    // The change of 2 came before its Open, and still knows whose it is.
    let who = kept.events[2].who.as_deref().expect("known by then");
    assert_eq!((who.pid, who.comm.as_deref()), (Some(42), Some("nginx")));
    assert_eq!(kept.events[2].cookie, Some(102));
}

#[test]
fn a_scan_tells_what_no_record_told_and_nothing_twice() {
    let mut merged = state(1, 2 * S, 900);
    merged.last_emit_ns = 2 * S;
    let mut outside = merged;
    // Changed outside of the socket's lock, which leaves `last_ns`.
    outside.counters.backlog = 7;
    let old = state(1, 3 * S, 111);
    let told = [
        life(KIND_OPEN, 1, S, 0),
        scan(3 * S, vec![merged]),
        scan(4 * S, vec![merged]),
        scan(5 * S, vec![outside]),
        change(1, 6 * S, 600),
        // Read before that change, handed in after it.
        scan(6 * S + 1, vec![old]),
        scan(7 * S, vec![state(1, 6 * S, 600), state(9, S, 50)]),
    ];
    let events = kept(&told).events;
    let seen: Vec<_> = events
        .iter()
        .map(|e| {
            (
                e.id,
                e.t_ns / S,
                e.hook,
                e.counters.rmem_alloc,
                e.counters.backlog,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (1, 1, "inet_sock_set_state", 0, 0),
            (1, 2, "scan", 900, 0),
            (1, 4, "scan", 900, 7),
            (1, 6, "tcp_rcv_established", 600, 0),
            // Unknown before, and older than what was handed on.
            (9, 6, "scan", 50, 0),
        ]
    );
    assert_eq!(events[4].t_ns, 6 * S + 1);
}

#[test]
fn closed_and_missing_sockets_are_let_go() {
    let mut events = Events::default();
    let mut kept = Kept::default();
    let told = [
        life(KIND_OPEN, 1, S, 0),
        life(KIND_OPEN, 2, S, 10),
        life(KIND_OPEN, 3, S, 10),
        life(KIND_CLOSE, 1, 2 * S, 0),
        // Of a socket whose Open was lost, and that no scan holds.
        change(7, 2 * S, 10),
        scan(3 * S, vec![state(2, S, 10), state(3, S, 10)]),
        scan(4 * S, vec![state(3, S, 10)]),
        scan(5 * S, vec![state(3, S, 10)]),
    ];
    feed(&told, |t_ns, input| {
        events.take(t_ns, input, &mut kept).expect("kept");
    });
    assert_eq!(kept.gone, [1, 7, 2]);
    assert_eq!(kept.events.last().map(|e| e.kind), Some(Kind::Change));
    assert_eq!(kept.events.len(), 5);
}

#[test]
fn limits_changed_say_from_what_and_by_whom() {
    let with = |rcvbuf| Counters {
        rcvbuf,
        ..counters(0)
    };
    let mut locked = state(1, 6 * S, 0);
    locked.counters.rcvbuf = 2304;
    locked.flags |= STATE_RCVBUF_LOCK;
    let told = [
        life(KIND_OPEN, 1, S, 0),
        changed(1, 2 * S, with(200_000)),
        scan(3 * S, vec![]),
        // The kernel, and then the application, within one interval.
        changed(1, 4 * S, with(300_000)),
        changed(1, 5 * S, with(2304)),
        scan(6 * S, vec![locked]),
        changed(1, 7 * S, with(4608)),
        // A reading without limits is not a change of them.
        changed(1, 8 * S, with(0)),
    ];
    let seen: Vec<_> = kept(&told).events.iter().map(|e| e.limits[0]).collect();
    assert_eq!(
        seen,
        [
            None,
            Some((131_072, LimitCause::Autotune)),
            Some((200_000, LimitCause::Autotune)),
            Some((300_000, LimitCause::Setsockopt)),
            Some((2304, LimitCause::Setsockopt)),
            None,
        ]
    );
}

#[test]
fn a_call_that_was_seen_explains_its_change_and_no_other() {
    let with = |rcvbuf| Counters {
        rcvbuf,
        ..counters(0)
    };
    let call = |began_ns, ended_ns, to| {
        Told::Record(Record::Limit(LimitSet {
            header: RecordHeader {
                t_ns: ended_ns,
                id: 1,
                ..RecordHeader::default()
            },
            began_ns,
            to,
            what: LIMIT_RCVBUF,
            ..LimitSet::default()
        }))
    };
    let told = [
        life(KIND_OPEN, 1, S, 0),
        changed(1, 2 * S, with(50_000)),
        call(2 * S - 5, 2 * S + 5, 50_000),
        changed(1, 3 * S, with(40_000)),
        scan(4 * S, vec![]),
        // Another to the same value, long after the call.
        changed(1, 5 * S, with(50_000)),
    ];
    let causes: Vec<_> = kept(&told)
        .events
        .iter()
        .map(|e| e.limits[0].map(|l| l.1))
        .collect();
    let wanted = [
        None,
        Some(LimitCause::Setsockopt),
        Some(LimitCause::Clamp),
        Some(LimitCause::Autotune),
    ];
    assert_eq!(causes, wanted);
}

proptest! {
    #[test]
    fn however_few_may_wait_every_event_comes_and_memory_is_bounded(
        times in prop::collection::vec(0u64..50, 1..200),
        most in 2usize..20,
    ) {
        let (mut events, mut kept) = (Events::with_most(most), Kept::default());
        // Nearly in order: no record is later than ten others.
        for (n, t) in times.iter().enumerate() {
            let Told::Record(record) = change(1, S + 10 * n as u64 + t, *t as u32) else { continue };
            events.take(0, Input::Record(&record), &mut kept).expect("kept");
            prop_assert!(events.waiting() <= most);
        }
        let late = events.late();
        events.finish(&mut kept).expect("kept");
        prop_assert_eq!(kept.events.len(), times.len());
        let unordered = kept.events.windows(2).filter(|w| w[1].t_ns < w[0].t_ns).count() as u64;
        prop_assert!(unordered <= late);
        if most >= 12 {
            prop_assert_eq!(late, 0);
        }
    }
}

/// A recording of two sockets of a process with a hostile name; one is closed.
fn scene() -> (Source, Vec<Told>) {
    let header = Header {
        tool_version: "0.1.0".into(),
        host: HostInfo {
            kernel: "6.12.1".into(),
            hostname: "front-1".into(),
            boot_id: Some("b00t".into()),
            page_size: 4096,
            cpus: Some(2),
            arch: "x86_64".into(),
        },
        target: "comm nginx".into(),
        coverage: [
            ("rmem_alloc", Coverage::Exact),
            ("wmem_alloc", Coverage::Exact),
            ("backlog", Coverage::Sampled),
        ]
        .into(),
        start_mono_ns: S,
        start_unix_ns: 1_767_225_600 * S,
        ..Header::default()
    };
    let mut held = state(1, 3 * S, 3000);
    held.advance(9 * S, S);
    let facts = ProcessFacts {
        comm: Some("=cmd|'/c\u{1b}[2J\",x".into()),
        ..ProcessFacts::default()
    };
    let told = vec![
        Told::Process(42, facts),
        life(KIND_OPEN, 1, S, 0),
        life(KIND_OPEN, 2, S + S / 2, 0),
        change(1, 3 * S, 3000),
        changed(
            2,
            2 * S,
            Counters {
                rcvbuf: 262_144,
                ..counters(1000)
            },
        ),
        life(KIND_CLOSE, 2, 4 * S, 0),
        scan(9 * S, vec![held]),
        Told::Loss(Loss {
            seen: 9,
            sent: 8,
            dropped_ring: 1,
            ..Loss::default()
        }),
    ];
    let source = Source {
        recording: "a.smt".into(),
        header,
        end_mono_ns: Some(10 * S),
    };
    (source, told)
}

const ENDING: Ending = Ending::Clean {
    end_mono_ns: 10 * S,
    loss: NO_LOSS,
};
const NO_LOSS: Loss = Loss {
    seen: 0,
    sent: 0,
    merged: 0,
    dropped_ring: 0,
    dropped_map: 0,
    lost_closed: 0,
    recursion_misses: None,
};

fn as_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// The rows of the scene's events.
fn events_to<R: super::Rows>(source: &Source, told: &[Told], rows: R) -> R {
    let mut sink = EventRows {
        source,
        rows,
        count: 0,
    };
    let mut events = Events::default();
    feed(told, |t_ns, input| {
        events
            .take(t_ns, input, &mut sink)
            .expect("memory takes it");
    });
    events.finish(&mut sink).expect("memory takes it");
    assert_eq!(sink.count, 5);
    sink.rows
}

/// Each of the scene's sockets.
fn sockets(source: &Source, told: &[Told]) -> Vec<crate::model::SocketTotals> {
    let mut model = Model::new(source.header.config());
    feed(told, |_, input| model.feed(input));
    let mut all = model.take_closed();
    all.extend(model.live_totals(10 * S));
    all
}

#[test]
fn csv_of_events() {
    let (source, told) = scene();
    let csv = Csv::events(Vec::new(), &heads(&EVENTS)).expect("memory takes it");
    let csv = events_to(&source, &told, csv);
    insta::assert_snapshot!(as_text(csv.finish().expect("memory takes it")));
}

#[test]
fn csv_of_sockets() {
    let (source, told) = scene();
    let mut csv = Csv::new(Vec::new(), &heads(&SOCKETS)).expect("memory takes it");
    for s in sockets(&source, &told) {
        socket_row(&source, &s, &mut csv).expect("memory takes it");
    }
    insta::assert_snapshot!(as_text(csv.finish().expect("memory takes it")));
}

#[test]
fn json_of_events_and_sockets() {
    let (source, told) = scene();
    let loss = Loss::default();
    let out = Document::new(Vec::new(), &source, "events", &heads(&EVENTS)).expect("memory");
    let out = events_to(&source, &told, out);
    let text = as_text(out.finish(Some(&loss), &ENDING).expect("memory"));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["events"].as_array().map(Vec::len), Some(5));
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!(text);

    let mut out = Document::new(Vec::new(), &source, "sockets", &heads(&SOCKETS)).expect("memory");
    for s in sockets(&source, &told) {
        out.socket(&s).expect("memory");
    }
    let cut = Ending::Truncated {
        why: "it was not closed".into(),
        lost_after_ns: 9 * S,
        bytes: 7,
    };
    let text = as_text(out.finish(None, &cut).expect("memory"));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["truncated"], "it was not closed");
    assert_eq!(json["loss"], serde_json::Value::Null);
    insta::assert_snapshot!(text);
}

#[test]
fn cells_that_a_spreadsheet_would_run_are_text() {
    use super::columns::{Cell, Head, Kind};
    let head = Head {
        name: "comm",
        kind: Kind::Text,
        constant: false,
    };
    for (given, wanted) in [
        ("nginx", "nginx"),
        ("a,b", "\"a,b\""),
        ("a\"b", "\"a\"\"b\""),
        ("=1+1", "\"'=1+1\""),
        ("-cmd", "\"'-cmd\""),
        (" @x", "\"' @x\""),
        ("\t=x", "\\x09=x"),
        ("two\nlines", "two\\x0alines"),
        ("a=b", "a=b"),
        ("", ""),
    ] {
        use super::Rows as _;
        let mut csv = Csv::new(Vec::new(), &[head]).expect("memory takes it");
        csv.row(&[Cell::Text(given)]).expect("memory takes it");
        let text = as_text(csv.finish().expect("memory takes it"));
        assert_eq!(text, format!("comm\n{wanted}\n"), "{given:?}");
    }
}

/// Every name is its own: columns are found by it.
#[test]
fn no_column_has_the_name_of_another() {
    for heads in [heads(&EVENTS), heads(&SOCKETS)] {
        let names: std::collections::BTreeSet<_> = heads.iter().map(|h| h.name).collect();
        assert_eq!(names.len(), heads.len());
    }
    let events = heads(&EVENTS);
    for name in super::columns::CSV_EVENT {
        assert!(events.iter().any(|h| h.name == name), "{name}");
    }
}

/// Any message as text: field numbers, nested where the bytes are a message that is known to be one.
fn dump(mut b: &[u8], path: &str, out: &mut String) {
    use bytes::Buf as _;
    use std::fmt::Write as _;
    fn varint(b: &mut &[u8]) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = b.get_u8();
            n |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return n;
            }
        }
    }
    const MESSAGES: [&str; 12] = [
        ".1", ".1.6", ".1.6.1", ".1.11", ".1.11.4", ".1.45", ".1.45.1", ".1.60", ".1.60.3",
        ".1.60.8", ".1.59", ".1.11.5",
    ];
    while b.has_remaining() {
        let key = varint(&mut b);
        let here = format!("{path}.{}", key >> 3);
        if key & 7 == 0 {
            let n = varint(&mut b).cast_signed();
            write!(out, " {here}={n}").expect("a String");
            continue;
        }
        assert_eq!(key & 7, 2, "{here}");
        let length = varint(&mut b) as usize;
        let (inner, rest) = b.split_at(length);
        b = rest;
        if MESSAGES.contains(&here.as_str()) {
            dump(inner, &here, out);
        } else {
            let text = String::from_utf8_lossy(inner);
            write!(out, " {here}={text:?}").expect("a String");
        }
        if here == ".1" {
            out.push('\n');
        }
    }
}

#[test]
fn perfetto_trace() {
    let (source, told) = scene();
    let mut trace = Perfetto::new(Vec::new(), &source).expect("memory takes it");
    let mut events = Events::default();
    feed(&told, |t_ns, input| {
        events
            .take(t_ns, input, &mut trace)
            .expect("memory takes it");
    });
    events.finish(&mut trace).expect("memory takes it");
    assert_eq!(trace.count(), 5);
    let bytes = trace.finish(10 * S).expect("memory takes it");
    let mut text = String::new();
    dump(&bytes, "", &mut text);
    insta::assert_snapshot!(text);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_comes_back() {
    use super::parquet::Parquet;
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::RowAccessor as _;

    let (source, told) = scene();
    let out = Parquet::new(Vec::new(), &source, "events", &heads(&EVENTS)).expect("memory");
    let bytes = events_to(&source, &told, out).finish().expect("memory");
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
    let rows: Vec<_> = reader
        .get_row_iter(None)
        .expect("rows")
        .map(|r| r.expect("a row"))
        .collect();
    assert_eq!(rows.len(), 5);
    let place = |name| {
        EVENTS
            .iter()
            .position(|c| c.head.name == name)
            .expect("a column")
    };
    let resident: Vec<i64> = rows
        .iter()
        .map(|r| r.get_long(place("resident")).expect("known"))
        .collect();
    assert_eq!(resident, [512, 512, 1512, 3512, 512]);
    assert_eq!(
        rows[0].get_string(place("comm")).expect("known"),
        "=cmd|'/c\u{1b}[2J\",x",
        "as the kernel gave it"
    );
    assert!(
        rows[0].get_long(place("optmem")).is_err(),
        "unknown is null"
    );
    let micros = rows[0].get_timestamp_micros(place("t")).expect("known");
    assert_eq!(micros, 1_767_225_600_000_000);
}

//! Perfetto's trace format: what ui.perfetto.dev and trace_processor open.
//!
//! A track for each process, under it one for each socket, under that a counter track for each of
//! its counters, and its limits apart. Changes of limits are instants on the socket's track; its
//! life is a slice there. Names and numbers of fields are those of
//! `protos/perfetto/trace/perfetto_trace.proto`.

use std::collections::HashMap;
use std::io::{self, Write};

use super::Source;
use super::events::{Event, EventSink, Identity, Kind, LIMITS};
use super::proto::Message;
use crate::model::Loss;
use crate::sinks::escape::escape;
use crate::sinks::json::{cause_name, limit_name};
use crate::sinks::text;

/// `Trace.packet`.
const PACKET: u32 = 1;
/// Fields of `TracePacket`.
mod packet {
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const SEQUENCE_FLAGS: u32 = 13;
    pub(super) const SYSTEM_INFO: u32 = 45;
    pub(super) const TIMESTAMP_CLOCK_ID: u32 = 58;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;
}
/// Fields of `TrackDescriptor`, and of `ProcessDescriptor` and `CounterDescriptor` in it.
mod track {
    pub(super) const UUID: u32 = 1;
    pub(super) const NAME: u32 = 2;
    pub(super) const PROCESS: u32 = 3;
    pub(super) const PARENT_UUID: u32 = 5;
    pub(super) const COUNTER: u32 = 8;
    pub(super) const PROCESS_PID: u32 = 1;
    pub(super) const PROCESS_NAME: u32 = 6;
    pub(super) const COUNTER_UNIT: u32 = 3;
}
/// Fields of `TrackEvent`, and of `DebugAnnotation` in it.
mod event {
    pub(super) const DEBUG_ANNOTATIONS: u32 = 4;
    pub(super) const TYPE: u32 = 9;
    pub(super) const TRACK_UUID: u32 = 11;
    pub(super) const CATEGORIES: u32 = 22;
    pub(super) const NAME: u32 = 23;
    pub(super) const COUNTER_VALUE: u32 = 30;
    pub(super) const NOTE_UINT: u32 = 3;
    pub(super) const NOTE_STRING: u32 = 6;
    pub(super) const NOTE_NAME: u32 = 10;
}
/// `TrackEvent.Type`.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const INSTANT: u64 = 3;
const COUNTER: u64 = 4;
/// `CounterDescriptor.Unit`.
const UNIT_COUNT: u64 = 2;
const UNIT_SIZE_BYTES: u64 = 3;
/// `BuiltinClock`.
const CLOCK_REALTIME: u64 = 1;
const CLOCK_MONOTONIC: u64 = 3;
/// `TracePacket.SequenceFlags.SEQ_INCREMENTAL_STATE_CLEARED`.
const STATE_CLEARED: u64 = 1;
/// All packets are of one writer.
const SEQUENCE: u64 = 1;

/// Counter tracks of a socket: name, and whether it is a limit.
const COUNTERS: [(&str, bool); 6] = [
    ("resident", false),
    ("rmem_alloc", false),
    ("wmem_queued", false),
    ("forward_alloc", false),
    ("rcvbuf", true),
    ("sndbuf", true),
];
/// Tracks of a socket: its own, that of its limits, its counters.
const TRACKS: u64 = 2 + COUNTERS.len() as u64;

fn counters(e: &Event) -> [i64; COUNTERS.len()] {
    let c = &e.counters;
    [
        i64::try_from(c.resident()).unwrap_or(i64::MAX),
        c.rmem_alloc.into(),
        c.wmem_queued.into(),
        c.forward_alloc.into(),
        c.rcvbuf.into(),
        c.sndbuf.into(),
    ]
}

/// A socket's tracks.
struct Socket {
    /// Uuid of the first of [`TRACKS`].
    uuid: u64,
    /// Key of its process.
    pid: u32,
    /// Last values written.
    last: Option<[i64; COUNTERS.len()]>,
    open: bool,
}

fn pid_of(who: Option<&Identity>) -> u32 {
    who.and_then(|w| w.pid).unwrap_or(0)
}

struct Process {
    uuid: u64,
    name: Option<String>,
    /// Sum over its sockets.
    resident: i64,
}

/// Writes a trace.
pub struct Perfetto<W> {
    out: W,
    next_uuid: u64,
    sockets: HashMap<u64, Socket>,
    /// By pid; 0: not known.
    processes: HashMap<u32, Process>,
    /// Uuid of the track of lost changes, and the last value.
    lost: Option<(u64, u64)>,
    count: u64,
}

impl<W: Write> Perfetto<W> {
    /// Writes the clock and the host.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(out: W, source: &Source) -> io::Result<Self> {
        let mut perfetto = Perfetto {
            out,
            next_uuid: 1,
            sockets: HashMap::new(),
            processes: HashMap::new(),
            lost: None,
            count: 0,
        };
        let h = &source.header;
        perfetto.packet(None, |p| {
            p.number(packet::SEQUENCE_FLAGS, STATE_CLEARED);
            // Times of this trace are CLOCK_MONOTONIC, and this is what it was by the calendar.
            p.message(packet::CLOCK_SNAPSHOT, |snapshot| {
                for (clock, at) in [
                    (CLOCK_MONOTONIC, h.start_mono_ns),
                    (CLOCK_REALTIME, h.start_unix_ns),
                ] {
                    // clocks { clock_id, timestamp }
                    snapshot.message(1, |c| {
                        c.number(1, clock).number(2, at);
                    });
                }
                // primary_trace_clock
                snapshot.number(2, CLOCK_MONOTONIC);
            });
        })?;
        perfetto.packet(None, |p| {
            p.message(packet::SYSTEM_INFO, |info| {
                // utsname { sysname, release, machine }, page_size, num_cpus
                info.message(1, |uts| {
                    uts.text(1, "Linux")
                        .text(3, &h.host.kernel)
                        .text(4, &h.host.arch);
                });
                info.number(6, h.host.page_size);
                if let Some(cpus) = h.host.cpus {
                    info.number(8, cpus.into());
                }
            });
        })?;
        Ok(perfetto)
    }

    /// Ends the slices of sockets that still live, at `end_ns`, and flushes.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self, end_ns: u64) -> io::Result<W> {
        let mut open: Vec<u64> = self
            .sockets
            .values()
            .filter(|s| s.open)
            .map(|s| s.uuid)
            .collect();
        open.sort_unstable();
        for uuid in open {
            self.track_event(end_ns, SLICE_END, uuid, |_| {})?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Events taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn packet(&mut self, t_ns: Option<u64>, build: impl FnOnce(&mut Message)) -> io::Result<()> {
        let mut trace = Message::default();
        trace.message(PACKET, |p| {
            if let Some(t_ns) = t_ns {
                p.number(packet::TIMESTAMP, t_ns)
                    .number(packet::TIMESTAMP_CLOCK_ID, CLOCK_MONOTONIC);
            }
            p.number(packet::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE);
            build(p);
        });
        self.out.write_all(trace.as_bytes())
    }

    fn track_event(
        &mut self,
        t_ns: u64,
        kind: u64,
        uuid: u64,
        build: impl FnOnce(&mut Message),
    ) -> io::Result<()> {
        self.packet(Some(t_ns), |p| {
            p.message(packet::TRACK_EVENT, |e| {
                e.number(event::TYPE, kind).number(event::TRACK_UUID, uuid);
                build(e);
            });
        })
    }

    fn sample(&mut self, t_ns: u64, uuid: u64, value: i64) -> io::Result<()> {
        self.track_event(t_ns, COUNTER, uuid, |e| {
            e.signed(event::COUNTER_VALUE, value);
        })
    }

    fn describe(
        &mut self,
        uuid: u64,
        parent: Option<u64>,
        name: &str,
        build: impl FnOnce(&mut Message),
    ) -> io::Result<()> {
        self.packet(None, |p| {
            p.message(packet::TRACK_DESCRIPTOR, |d| {
                d.number(track::UUID, uuid).text(track::NAME, name);
                if let Some(parent) = parent {
                    d.number(track::PARENT_UUID, parent);
                }
                build(d);
            });
        })
    }

    fn counter(&mut self, uuid: u64, parent: Option<u64>, name: &str, unit: u64) -> io::Result<()> {
        self.describe(uuid, parent, name, |d| {
            d.message(track::COUNTER, |c| {
                c.number(track::COUNTER_UNIT, unit);
            });
        })
    }

    fn uuids(&mut self, n: u64) -> u64 {
        let first = self.next_uuid;
        self.next_uuid += n;
        first
    }

    /// The track of the process, described when it is new or its name became known.
    fn process(&mut self, who: Option<&Identity>) -> io::Result<u64> {
        let pid = pid_of(who);
        let name = who.and_then(|w| w.comm.clone()).filter(|_| pid != 0);
        let known = self.processes.get(&pid);
        if let Some(known) = known.filter(|k| k.name == name || name.is_none()) {
            return Ok(known.uuid);
        }
        let (uuid, resident, new) = match known {
            Some(known) => (known.uuid, known.resident, false),
            // Its own track, and that of its sum.
            None => (self.uuids(2), 0, true),
        };
        let shown = name.as_deref().map_or_else(
            || {
                if pid == 0 {
                    "owner not known".to_owned()
                } else {
                    format!("pid {pid}")
                }
            },
            |n| escape(n, false).into_owned(),
        );
        self.describe(uuid, None, &shown, |d| {
            if pid != 0 {
                d.message(track::PROCESS, |p| {
                    p.signed(track::PROCESS_PID, pid.into())
                        .text(track::PROCESS_NAME, &shown);
                });
            }
        })?;
        if new {
            self.counter(
                uuid + 1,
                Some(uuid),
                "resident of all sockets",
                UNIT_SIZE_BYTES,
            )?;
        }
        self.processes.insert(
            pid,
            Process {
                uuid,
                name,
                resident,
            },
        );
        Ok(uuid)
    }

    /// The socket's tracks, described anew when its process changed.
    fn socket(&mut self, e: &Event) -> io::Result<u64> {
        let who = e.who.as_deref();
        let pid = pid_of(who);
        let parent = self.process(who)?;
        if let Some(socket) = self.sockets.get(&e.id).filter(|s| s.pid == pid) {
            return Ok(socket.uuid);
        }
        self.leave(e.t_ns, e.id)?;
        let name = who.map_or_else(
            || format!("socket {}", e.id),
            |w| format!("{} → {}", w.local, w.remote),
        );
        let name = match e.cookie {
            Some(cookie) => format!("{name} (cookie {cookie})"),
            None => name,
        };
        let uuid = self.uuids(TRACKS);
        self.describe(uuid, Some(parent), &name, |_| {})?;
        self.describe(uuid + 1, Some(uuid), "limits (not memory)", |_| {})?;
        for (at, (counter, limit)) in (2..).zip(COUNTERS) {
            let above = if limit { uuid + 1 } else { uuid };
            self.counter(uuid + at, Some(above), counter, UNIT_SIZE_BYTES)?;
        }
        self.sockets.insert(
            e.id,
            Socket {
                uuid,
                pid,
                last: None,
                open: true,
            },
        );
        self.track_event(e.t_ns, SLICE_BEGIN, uuid, |m| {
            m.text(event::CATEGORIES, "socket")
                .text(event::NAME, "socket");
        })?;
        Ok(uuid)
    }

    /// Its tracks end: destroyed, or another process's from now on.
    fn leave(&mut self, t_ns: u64, id: u64) -> io::Result<()> {
        let Some(socket) = self.sockets.remove(&id) else {
            return Ok(());
        };
        if let Some(last) = socket.last {
            for (at, value) in (2..).zip(last).take(4) {
                if value != 0 {
                    self.sample(t_ns, socket.uuid + at, 0)?;
                }
            }
            self.add(t_ns, socket.pid, -last[0])?;
        }
        if socket.open {
            self.track_event(t_ns, SLICE_END, socket.uuid, |_| {})?;
        }
        Ok(())
    }

    fn add(&mut self, t_ns: u64, pid: u32, difference: i64) -> io::Result<()> {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.resident += difference;
            let (uuid, sum) = (process.uuid + 1, process.resident);
            self.sample(t_ns, uuid, sum)?;
        }
        Ok(())
    }
}

impl<W: Write> EventSink for Perfetto<W> {
    fn event(&mut self, e: &Event) -> io::Result<()> {
        self.count += 1;
        let uuid = self.socket(e)?;
        let now = counters(e);
        let socket = self.sockets.get_mut(&e.id);
        let before = socket.and_then(|s| s.last.replace(now));
        for (at, value) in now.into_iter().enumerate() {
            // The kernel never lets a limit be 0: that is a reading without limits.
            let unknown = COUNTERS[at].1 && value == 0;
            if !unknown && before.is_none_or(|b| b[at] != value) {
                self.sample(e.t_ns, uuid + 2 + at as u64, value)?;
            }
        }
        let difference = now[0] - before.map_or(0, |b| b[0]);
        if difference != 0 {
            self.add(e.t_ns, pid_of(e.who.as_deref()), difference)?;
        }
        let now = [e.counters.rcvbuf, e.counters.sndbuf];
        for ((what, to), change) in LIMITS.into_iter().zip(now).zip(e.limits) {
            let Some((from, cause)) = change else {
                continue;
            };
            let name = format!(
                "{} {} → {} ({})",
                limit_name(what),
                text::bytes(from.into()),
                text::bytes(to.into()),
                cause_name(cause)
            );
            self.track_event(e.t_ns, INSTANT, uuid, |m| {
                m.text(event::CATEGORIES, "limit").text(event::NAME, &name);
                for (key, n) in [("from", from), ("to", to)] {
                    m.message(event::DEBUG_ANNOTATIONS, |note| {
                        note.text(event::NOTE_NAME, key)
                            .number(event::NOTE_UINT, n.into());
                    });
                }
                m.message(event::DEBUG_ANNOTATIONS, |note| {
                    note.text(event::NOTE_NAME, "cause")
                        .text(event::NOTE_STRING, cause_name(cause));
                });
            })?;
        }
        if e.kind == Kind::Close {
            self.leave(e.t_ns, e.id)?;
        }
        Ok(())
    }

    fn gone(&mut self, id: u64) -> io::Result<()> {
        // Without a Close record: when it ended is not known. Its tracks just stop.
        if let Some(socket) = self.sockets.remove(&id)
            && let Some(last) = socket.last
            && let Some(process) = self.processes.get_mut(&socket.pid)
        {
            process.resident -= last[0];
        }
        Ok(())
    }

    fn loss(&mut self, t_ns: u64, loss: &Loss) -> io::Result<()> {
        let (uuid, before) = match self.lost {
            Some((uuid, before)) => (uuid, Some(before)),
            None => {
                let uuid = self.uuids(1);
                self.counter(uuid, None, "changes lost (ring full)", UNIT_COUNT)?;
                (uuid, None)
            }
        };
        if before != Some(loss.dropped_ring) {
            let lost = i64::try_from(loss.dropped_ring).unwrap_or(i64::MAX);
            self.sample(t_ns, uuid, lost)?;
        }
        self.lost = Some((uuid, loss.dropped_ring));
        Ok(())
    }
}

//! Recordings of made-up loads, written and read.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sockmem::decode::Record;
use sockmem::model::{Input, Model, synthetic};
use sockmem::recording::{Ending, Header, Reader, Writer, read_all};
use sockmem::sinks::{HostFacts, json as sink};
use sockmem_common::{Change, Counters, KIND_CHANGE, hook};

/// When the made-up records begin. ns.
const START: u64 = 1_000_000_000;
/// Records made between two readings of the clock, so that making them is no part of it.
const CHUNK: u64 = 1 << 16;

/// What a socket's counters show.
#[derive(Clone, Copy, Default)]
struct Shown {
    counters: Counters,
    unread: u32,
    unacked: u32,
}

/// A made-up load: sockets whose counters move as those of a server, or of a sender, do.
struct Load {
    bulk: bool,
    sockets: Vec<Shown>,
    now: u64,
    random: u64,
    /// Steps of the requests that are under way, the next one first.
    under_way: std::collections::VecDeque<(usize, u8)>,
    cpu: u32,
}

impl Load {
    fn new(bulk: bool, sockets: u64) -> Load {
        let limits = Counters {
            rcvbuf: 131_072,
            sndbuf: 87_040,
            ..Counters::default()
        };
        let shown = Shown {
            counters: limits,
            ..Shown::default()
        };
        Load {
            bulk,
            sockets: vec![shown; sockets.max(1) as usize],
            now: START,
            random: 0x2545_f491_4f6c_dd1d,
            under_way: std::collections::VecDeque::new(),
            cpu: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 20) % below
    }

    /// A request arrives, is read, is answered: those of several sockets mixed.
    fn answer(&mut self) -> (usize, Shown, u8) {
        let some = self.random(self.sockets.len() as u64) as usize;
        let (at, step) = match self.under_way.pop_front() {
            Some(next) if self.under_way.len() > 2 => next,
            next => {
                self.under_way.extend(next);
                (some, 0)
            }
        };
        let mut s = self.sockets[at];
        let hook = match step {
            0 => {
                // The answer before is acknowledged with it.
                s.counters.rmem_alloc = 877;
                (s.counters.wmem_queued, s.unread, s.unacked) = (0, 45, 0);
                hook::RCV_ESTABLISHED
            }
            1 => {
                (s.counters.rmem_alloc, s.unread) = (0, 0);
                hook::RECV_LENGTH
            }
            _ => {
                (s.counters.wmem_queued, s.unacked) = (837, 5);
                hook::SEND_LENGTH
            }
        };
        if step < 2 {
            self.under_way.push_back((at, step + 1));
        }
        (at, s, hook)
    }

    /// Data is queued in large buffers; what is acknowledged goes at once.
    fn send(&mut self) -> (usize, Shown, u8) {
        let at = self.random(self.sockets.len() as u64) as usize;
        let mut s = self.sockets[at];
        if s.counters.wmem_queued > 1_500_000 || self.random(3) == 0 {
            let kept = self.random(3) as u32;
            (s.counters.wmem_queued, s.unacked) = (kept * 132_736, kept * 131_072);
            (at, s, hook::RCV_ESTABLISHED)
        } else {
            s.counters.wmem_queued += 132_736;
            s.unacked += 131_072;
            (at, s, hook::SEND_LENGTH)
        }
    }

    fn next(&mut self) -> Record {
        // As far apart as with 50 clients of redis-benchmark, or four streams of iperf3.
        let apart = if self.bulk { 60_000 } else { 12_000 };
        self.now += 300 + self.random(apart);
        if self.random(20) == 0 {
            self.cpu ^= 1;
        }
        let (at, mut s, hook) = if self.bulk {
            self.send()
        } else {
            self.answer()
        };
        let before = self.sockets[at].counters;
        let queued = s.counters.rmem_alloc + s.counters.wmem_queued;
        s.counters.forward_alloc = (queued.wrapping_neg() & 4095) as i32;
        self.sockets[at] = s;
        let (was, is) = (before.resident() as u32, s.counters.resident() as u32);
        let moved = |to: u32, from: u32| to.wrapping_sub(from) as i32;
        Record::Change(Change {
            header: sockmem_common::Header {
                t_ns: self.now,
                id: at as u64 + 1,
                kind: KIND_CHANGE,
                hook,
                reserved: 0,
                cpu: self.cpu,
            },
            after: s.counters,
            d_rmem_alloc: moved(s.counters.rmem_alloc, before.rmem_alloc),
            d_wmem_queued: moved(s.counters.wmem_queued, before.wmem_queued),
            d_forward_alloc: s.counters.forward_alloc - before.forward_alloc,
            unread: s.unread,
            unacked: s.unacked,
            resident_min: was.min(is),
            resident_max: was.max(is),
            merged: 1,
        })
    }
}

/// Writes a recording of `events` changes, and how long that took.
pub(crate) fn write(kind: &str, events: u64, path: &Path) -> Result<Value> {
    let (bulk, sockets) = match kind {
        "requests" => (false, 50),
        "bulk" => (true, 4),
        "many" => (false, 2000),
        _ => bail!("no load {kind:?}; known: requests, bulk, many"),
    };
    let mut load = Load::new(bulk, sockets);
    let header = Header {
        start_mono_ns: START,
        ..Header::default()
    };
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut writer = Writer::new(file, &header)?;
    for record in synthetic::opens(sockets, START) {
        writer.push(START, Input::Record(&record))?;
    }
    let mut spent = std::time::Duration::ZERO;
    let mut left = events;
    while left > 0 {
        let chunk: Vec<Record> = (0..left.min(CHUNK)).map(|_| load.next()).collect();
        left -= chunk.len() as u64;
        let began = Instant::now();
        for record in &chunk {
            writer.push(0, Input::Record(record))?;
        }
        spent += began.elapsed();
    }
    let began = Instant::now();
    let (_, counts) = writer.finish(load.now)?;
    spent += began.elapsed();
    Ok(json!({
        "events": events,
        "bytes": counts.bytes,
        "bytes_per_event": counts.bytes as f64 / events as f64,
        "ns_per_event": spent.as_nanos() as f64 / events as f64,
    }))
}

/// Peak of this process's resident memory. Bytes.
fn peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("no VmHWM")? * 1024)
}

/// Reads a recording: alone, or for a report. In a process of its own, for the memory's sake.
pub(crate) fn read(path: &Path, report: bool) -> Result<Value> {
    let began = Instant::now();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let length = file.metadata()?.len();
    let mut reader = Reader::open(file)?;
    let (events, ending, printed) = if report {
        let mut model = Model::new(reader.header().config());
        let summary = read_all(&mut reader, &mut model)?;
        let end = summary.end_mono_ns;
        let view = model.view(end, reader.header().unix_ns(end));
        let printed = sink::report_line(&view, &HostFacts::default()).len();
        (summary.counts.events, summary.ending, printed)
    } else {
        while reader.next()?.is_some() {}
        (reader.counts().events, reader.ending(), 0)
    };
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(matches!(ending, Ending::Clean { .. }), "{ending:?}");
    Ok(json!({
        "events": events,
        "bytes": length,
        "bytes_per_event": length as f64 / events.max(1) as f64,
        "seconds": seconds,
        "printed_bytes": printed,
        "peak_rss_bytes": peak()?,
    }))
}

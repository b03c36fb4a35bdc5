//! Records per second through decoding and the model, and out of the ring.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sockmem::attach::attach;
use sockmem::collect::Ring;
use sockmem::decode::{Record, decode};
use sockmem::model::{Config, Model, synthetic};
use sockmem_common::Change;

use crate::attached::options;
use crate::hooks::Worker;

/// Records in one measurement.
const RECORDS: u64 = 2_000_000;
/// When the made-up records begin. ns.
const START: u64 = 1_000_000_000;

/// The bytes of a record as the ring has them.
fn bytes(change: &Change) -> [u8; size_of::<Change>()] {
    // SAFETY: `Change` is made of integers, without padding (its size is asserted to be the sum
    // of its fields' where it is defined): every byte is initialised.
    unsafe { std::mem::transmute(*change) }
}

/// `mixed`: the sockets do not take turns, each change is of any of them.
fn encoded(sockets: u64, mixed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for record in synthetic::changes(sockets, START, RECORDS / 10) {
        if let Record::Change(mut change) = record {
            if mixed {
                // A prime that divides no number of sockets: as good as at random.
                change.header.id = 1 + change.header.id * 7_368_787 % sockets;
            }
            out.extend(bytes(&change));
        }
    }
    out
}

/// Decodes and applies; ten times over the same records, so that making them is no part of it and
/// they need not all be in memory. Before that once unmeasured: a socket's first change makes
/// room for what it holds.
fn ingest(sockets: u64, mixed: bool) -> Result<Value> {
    let stream = encoded(sockets, mixed);
    let records = stream.len() / size_of::<Change>();
    let mut model = Model::new(Config {
        start_mono_ns: START,
        ..Config::default()
    });
    for record in synthetic::opens(sockets, START) {
        model.apply(&record);
    }
    let span = synthetic::STEP_NS * records as u64;
    let mut began = Instant::now();
    for turn in 0..11 {
        if turn == 1 {
            began = Instant::now();
        }
        for chunk in stream.chunks_exact(size_of::<Change>()) {
            let mut record = decode(chunk).context("a made-up record")?;
            // Time goes on from turn to turn.
            if let Record::Change(change) = &mut record {
                change.header.t_ns += turn * span;
            }
            model.apply(&record);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    // Decoding alone, its result kept alive.
    let began = Instant::now();
    let mut sum = 0u64;
    for _ in 0..10 {
        for chunk in stream.chunks_exact(size_of::<Change>()) {
            if let Record::Change(change) = decode(chunk).context("a made-up record")? {
                sum = sum.wrapping_add(change.header.id + u64::from(change.after.rmem_alloc));
            }
        }
    }
    let decode_seconds = began.elapsed().as_secs_f64();
    std::hint::black_box(sum);
    Ok(json!({
        "case": format!("{sockets}{}", if mixed { " mixed" } else { "" }),
        "records_per_s": (records * 10) as f64 / seconds,
        "decoded_per_s": (records * 10) as f64 / decode_seconds,
        "live": model.live(),
    }))
}

/// Fills a ring by sends of a traced process, then empties it: decoding alone, or with the model.
fn ring(with_model: bool) -> Result<Value> {
    let mut options = options();
    options.ring_bytes = 64 << 20;
    let mut trace = attach(&options).context("attaching")?;
    let mut ring = Ring::new(trace.take_events().context("no ring buffer")?);
    let mut worker = Worker::start()?;
    trace.add_target(worker.pid())?;
    let mut model = Model::new(Config::default());
    for _ in 0..10 {
        worker.tell("open")?;
        worker.tell("changed 50000")?;
    }
    let mut failed = 0u64;
    let began = Instant::now();
    let records = ring.drain(usize::MAX, |bytes| match decode(bytes) {
        Ok(record) if with_model => model.apply(&record),
        Ok(record) => drop(std::hint::black_box(record)),
        Err(_) => failed += 1,
    });
    let seconds = began.elapsed().as_secs_f64();
    anyhow::ensure!(failed == 0, "{failed} records could not be decoded");
    Ok(json!({
        "with_model": with_model,
        "records": records,
        "records_per_s": records as f64 / seconds,
    }))
}

/// Three times each, in turn.
pub(crate) fn measure() -> Result<Value> {
    let mut ingests = Vec::new();
    let mut rings = Vec::new();
    for _ in 0..3 {
        for (sockets, mixed) in [
            (1, false),
            (2_000, false),
            (20_000, false),
            (100_000, false),
            (100_000, true),
        ] {
            ingests.push(ingest(sockets, mixed)?);
        }
        for with_model in [false, true] {
            rings.push(ring(with_model)?);
        }
    }
    Ok(json!({"ingest": ingests, "ring": rings}))
}

//! What the model and its pictures cost, without a kernel: heap by part, time of a picture, and
//! what connections that come and go leave behind.

use std::io::sink;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use sockmem::decode::Record;
use sockmem::model::{Config, Detail, Model, synthetic};
use sockmem::sinks::{HostFacts, json as documents};
use sockmem_common::{KIND_CLOSE, Lifecycle, STATE_CLOSED, SockState};

use crate::heap;

/// When the made-up trace begins. ns.
const START: u64 = 1_000_000_000;
const S: u64 = 1_000_000_000;
/// Changes of each socket until it counts as active: its timeline has its buckets.
const WARM: u64 = 50;

fn model() -> Model {
    Model::new(Config {
        start_mono_ns: START,
        ..Config::default()
    })
}

fn host() -> HostFacts {
    HostFacts {
        kernel: "made up".into(),
        hostname: "made up".into(),
        boot_id: None,
        page_size: 4096,
        cpus: 1,
    }
}

/// As `live --format json` draws: sums, then the sockets one by one. Seconds, and most heap.
fn picture(model: &Model, now_ns: u64) -> Result<(f64, usize)> {
    heap::reset_peak();
    let before = heap::live();
    let began = Instant::now();
    let view = model.view_with(now_ns, now_ns, Detail::SUMS);
    let rows = || model.rows(now_ns, Detail::LIVE);
    documents::write_live_rows(&view, rows, &host(), &mut sink())?;
    Ok((
        began.elapsed().as_secs_f64(),
        heap::peak().saturating_sub(before),
    ))
}

/// Heap and time with `sockets` sockets: as a scan finds them, then in use.
pub(crate) fn measure(sockets: u64) -> Result<Value> {
    let before = heap::live();
    let mut model = model();
    let empty = heap::live() - before;
    for record in synthetic::opens(sockets, START) {
        if let Record::Open(open) = record {
            model.absorb([open.state].iter(), START + S);
        }
    }
    let quiet = heap::live() - before - empty;
    let (quiet_s, quiet_peak) = picture(&model, START + 2 * S)?;
    for record in synthetic::changes(sockets, START + S, sockets * WARM) {
        model.apply(&record);
    }
    let active = heap::live() - before - empty;
    let (active_s, active_peak) = picture(&model, START + 60 * S)?;
    let (half, whole) = churn(40_000, 100);
    Ok(json!({
        "churned_half_bytes": half,
        "churned_bytes": whole,
        "sockets": sockets,
        "empty_bytes": empty,
        "quiet_bytes_per_socket": quiet as f64 / sockets as f64,
        "active_bytes_per_socket": active as f64 / sockets as f64,
        "quiet_picture_s": quiet_s,
        "quiet_picture_bytes": quiet_peak,
        "active_picture_s": active_s,
        "active_picture_bytes": active_peak,
        "allocations_per_change": steady(sockets.min(2_000)),
    }))
}

/// Calls of the allocator per change, once every socket has been in use for two minutes.
pub(crate) fn steady(sockets: u64) -> f64 {
    let mut model = model();
    for record in synthetic::opens(sockets, START) {
        model.apply(&record);
    }
    // A change each second for more than two minutes: after that timelines have the buckets that
    // they will ever have, and a new one replaces two old ones.
    let rounds = 140;
    let slow = (sockets * rounds) as usize;
    let stream = synthetic::changes(sockets, START, sockets * (rounds + 20));
    let mut records: Vec<Record> = Vec::new();
    for (i, mut record) in stream.enumerate() {
        if let Record::Change(change) = &mut record {
            change.header.t_ns += S * rounds.min(i as u64 / sockets);
        }
        if i < slow {
            model.apply(&record);
        } else {
            records.push(record);
        }
    }
    let before = heap::calls();
    for record in &records {
        model.apply(record);
    }
    (heap::calls() - before) as f64 / records.len() as f64
}

/// `count` connections that open, are used, and close, one after the other; `alive` at a time.
/// Bytes of heap when half of them have closed, and in the end.
pub(crate) fn churn(count: u64, alive: u64) -> (usize, usize) {
    let before = heap::live();
    let mut model = model();
    let mut half = 0;
    for i in 0..count + alive {
        let t_ns = START + i * 1_000_000;
        if i < count
            && let Some(Record::Open(mut open)) = synthetic::opens(1, t_ns).next()
        {
            (open.header.id, open.state.id) = (i + 1, i + 1);
            model.apply(&Record::Open(open));
            for record in synthetic::changes(1, t_ns, 4) {
                if let Record::Change(mut change) = record {
                    change.header.id = i + 1;
                    model.apply(&Record::Change(change));
                }
            }
        }
        if let Some(gone) = i.checked_sub(alive) {
            model.apply(&close(gone + 1, t_ns));
        }
        if i == count / 2 {
            half = heap::live() - before;
        }
    }
    (half, heap::live() - before)
}

/// The end of connection `id`.
fn close(id: u64, t_ns: u64) -> Record {
    let mut lifecycle = Lifecycle::default();
    lifecycle.header.t_ns = t_ns;
    lifecycle.header.id = id;
    lifecycle.header.kind = KIND_CLOSE;
    lifecycle.state = SockState {
        id,
        first_ns: START,
        last_ns: t_ns,
        last_activity_ns: t_ns,
        tcp_state: 7,
        flags: STATE_CLOSED,
        ..SockState::default()
    };
    Record::Close(Box::new(lifecycle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_known_socket_allocates_nothing() {
        assert_eq!(steady(64), 0.0);
    }

    #[test]
    fn connections_that_come_and_go_leave_no_more_than_the_kept_ones() {
        // More than are kept, and remembered, when half of them have gone.
        let (half, end) = churn(40_000, 100);
        assert!(end <= half + half / 50, "{half} bytes, then {end}");
    }

    #[test]
    fn a_picture_of_many_sockets_needs_little_memory() {
        let all = measure(20_000).expect("sockets and documents are made up");
        let bytes = |name: &str| all[name].as_f64().expect("a number");
        assert!(bytes("quiet_bytes_per_socket") < 2.0 * 200.0, "{all}");
        // The order of the sockets, and a buffer; not a row for each. Other tests allocate, too.
        assert!(bytes("quiet_picture_bytes") < 20_000.0 * 100.0, "{all}");
    }
}

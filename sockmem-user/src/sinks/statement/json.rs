//! The statement as a JSON document.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Report;
use crate::facts::memory::{Known, Reserve, TcpSums};
use crate::model::snapshot::Sums;
use crate::model::statement::{Cost, Fixed};
use crate::sinks::json::{Host, write_line};
use crate::sinks::snapshot::sums_json as sums;
use crate::sinks::{HostFacts, TOOL_VERSION};

/// Schema of `where --format json`.
pub const SCHEMA: &str = "sockmem-trace/where/1";

/// Writes the document and a newline.
///
/// # Errors
/// Those of `out`; a closed pipe keeps its `ErrorKind::BrokenPipe`.
pub fn write_json(report: &Report<'_>, host: &HostFacts, out: &mut impl Write) -> io::Result<()> {
    let mut reasons = serde_json::Map::new();
    let s = report.statement;
    let f = report.facts;
    let mut unknown = |name: &str, why: &str| {
        reasons.insert(name.to_owned(), why.into());
    };
    for step in &s.steps {
        if let Err(why) = &step.bytes {
            unknown(step.name, why);
        }
    }
    for (name, why) in [
        ("sockstat", f.after.as_ref().err()),
        ("meminfo", f.system.as_ref().err()),
        ("fixed_cost", s.fixed.as_ref().err()),
        ("rss", f.rss.as_ref().and_then(|r| r.as_ref().err())),
    ] {
        if let Some(why) = why {
            unknown(name, why);
        }
    }
    if f.limits.tcp_mem.is_none() {
        unknown(
            "tcp_mem",
            "net.ipv4.tcp_mem is shown in the initial network namespace alone",
        );
    }
    let steps: Vec<Value> = s
        .steps
        .iter()
        .map(|step| {
            json!({
                "name": step.name,
                "title": step.title,
                "bytes": step.bytes.as_ref().ok(),
                "source": step.source,
                "in_res": step.in_res,
                "in_buff_cache": step.in_buff_cache,
                "in_slab": step.in_slab,
                "note": step.note,
            })
        })
        .collect();
    let document = json!({
        "schema": SCHEMA,
        "host": Host::from(host),
        "tool_version": TOOL_VERSION,
        "target": report.target,
        "unix_ns": report.unix_ns,
        "steps": steps,
        "sockstat": sockstat(&f.after),
        "sum_of_sockets": sum_of_sockets(&s.all, report),
        "target_sockets": s.target.as_ref().ok().map(sums),
        "remainder_bytes": s.remainder.bytes.as_ref().ok(),
        "remainder_bound_bytes": s.remainder.bound(),
        "remainder": {
            "answer": s.remainder.verdict.name(),
            "text": s.remainder.text,
            "low_bytes": s.remainder.range.0,
            "high_bytes": s.remainder.range.1,
            "parts": s.remainder.parts.iter().map(|p| json!({
                "name": p.name, "low_bytes": p.low, "high_bytes": p.high, "note": p.note,
            })).collect::<Vec<_>>(),
        },
        "per_cpu_reserve": reserve(&f.reserve),
        "rss": f.rss.as_ref().and_then(|r| r.as_ref().ok()).map(|r| json!({
            "rss_bytes": r.total, "rss_anon_bytes": r.anon, "rss_file_bytes": r.file, "rss_shmem_bytes": r.shmem,
        })),
        "meminfo": f.system.as_ref().ok().map(|m| json!({
            "mem_total_bytes": m.total, "mem_free_bytes": m.free, "buffers_bytes": m.buffers,
            "cached_bytes": m.cached, "slab_bytes": m.slab, "s_reclaimable_bytes": m.slab_reclaimable,
            "s_unreclaim_bytes": m.slab_unreclaimable, "anon_pages_bytes": m.anon_pages,
            "in_no_line_bytes": m.in_no_line(),
        })),
        "fixed_cost": s.fixed.as_ref().ok().map(fixed),
        "limits": limits(report),
        "lints": s.lints.iter().map(|l| json!({"name": l.name, "text": l.text})).collect::<Vec<_>>(),
        "unknown": reasons,
    });
    write_line(&document, out)
}

fn sockstat(after: &Known<TcpSums>) -> Value {
    after.as_ref().map_or(Value::Null, |t| {
        json!({
            "tcp_mem_pages": t.mem_pages,
            "tcp_inuse": t.inuse,
            "tcp6_inuse": t.inuse6,
            "tcp_orphan": t.orphan,
            "tcp_tw": t.tw,
            "tcp_alloc": t.alloc,
            "udp_mem_pages": t.udp_mem_pages,
        })
    })
}

fn sum_of_sockets(all: &Sums, report: &Report<'_>) -> Value {
    let mut value = sums(all);
    if let Some(map) = value.as_object_mut() {
        let s = report.statement;
        map.insert("namespaces".into(), s.namespaces.into());
        map.insert("namespaces_missing".into(), json!(s.namespaces_missing));
    }
    value
}

fn reserve(reserve: &Reserve) -> Value {
    match reserve {
        Reserve::Absent => json!({"how": "absent", "pages": 0, "bound_pages": 0}),
        Reserve::Exact { after, cpus, .. } => {
            json!({"how": "exact", "pages": after, "bound_pages": 0, "cpus": cpus})
        }
        Reserve::Bounded {
            pages_per_cpu,
            cpus,
            why,
        } => json!({
            "how": "bound", "pages": null, "bound_pages": pages_per_cpu * u64::from(*cpus), "cpus": cpus,
            "why": why,
        }),
    }
}

fn fixed(f: &Fixed) -> Value {
    let slab = |c: &Known<Cost>| c.as_ref().ok().map(|c| c.slab_bytes);
    let object = |c: &Known<Cost>| c.as_ref().ok().map(|c| c.object_bytes);
    let missing: Vec<Value> = [
        ("TCP", &f.tcp),
        ("TCPv6", &f.tcp_v6),
        ("client-port", &f.port),
        ("epoll", &f.epoll),
        ("time-wait", &f.time_wait),
        ("request", &f.request),
    ]
    .into_iter()
    .filter_map(|(name, cost)| Some(json!({"name": name, "why": cost.as_ref().err()?})))
    .collect();
    json!({
        "slab_bytes_per_socket": slab(&f.tcp),
        "object_bytes_per_socket": object(&f.tcp),
        "slab_bytes_per_socket_v6": slab(&f.tcp_v6),
        "object_bytes_per_socket_v6": object(&f.tcp_v6),
        "slab_bytes_per_thousand": slab(&f.tcp).map(|b| b * 1000),
        "slab_bytes_per_client_port": slab(&f.port),
        "slab_bytes_per_epoll_watch": slab(&f.epoll),
        "slab_bytes_per_time_wait": slab(&f.time_wait),
        "slab_bytes_per_request": slab(&f.request),
        "missing": missing,
        "objects": f.objects.iter().map(|o| json!({
            "name": o.name, "cache": o.cache, "shared_with": o.shared_with, "object_bytes": o.object_bytes,
            "slab_bytes": o.slab_bytes, "active": o.active,
        })).collect::<Vec<_>>(),
    })
}

fn limits(report: &Report<'_>) -> Value {
    let l = &report.facts.limits;
    let c = &report.statement.ceilings;
    let used = report.facts.after.as_ref().ok().map(|s| s.mem_pages);
    let left = |mark: usize| -> Option<i64> {
        let mark = i64::try_from(l.tcp_mem?[mark]).ok()?;
        Some(mark - i64::try_from(used?).ok()?)
    };
    json!({
        "tcp_mem": l.tcp_mem,
        "tcp_mem_used_pages": used,
        "tcp_mem_left_pages": [left(0), left(1), left(2)],
        "tcp_rmem": l.tcp_rmem,
        "tcp_wmem": l.tcp_wmem,
        "rmem_max": l.rmem_max,
        "wmem_max": l.wmem_max,
        "bypass_prot_mem": l.bypass_prot_mem,
        "ceilings_are_not_usage": {
            "sockets": c.sockets,
            "rcvbuf_sum_if_all_were_full": c.rcvbuf_sum,
            "sndbuf_sum_if_all_were_full": c.sndbuf_sum,
            "rcvbuf_max": c.rcvbuf_max,
            "sndbuf_max": c.sndbuf_max,
        },
    })
}

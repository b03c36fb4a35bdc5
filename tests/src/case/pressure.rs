//! Memory pressure and sysctls: against the kernel's own counters, and this test's own writes.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Case, Cx, EVERY, Place, case};
use crate::actor::Actor;
use crate::oracle;
use crate::trace::{self, Trace};

/// They change settings of the whole machine, or compare its counters.
pub(super) fn cases() -> Vec<Case> {
    [
        case("pressure_sysctl", EVERY, sysctl),
        case("pressure_prune_rcv", EVERY, |cx| {
            full_queue(
                cx,
                "overfull",
                &[("collapse", "PruneCalled"), ("prune-rcv", "RcvPruned")],
            )
        }),
        case("pressure_prune_ofo", EVERY, |cx| {
            full_queue(cx, "overfull-hole", &[("prune-ofo", "OfoPruned")])
        }),
        case("pressure_memory", EVERY, memory),
    ]
    .into_iter()
    .map(|case| Case {
        place: Place::Vm,
        ..case
    })
    .collect()
}

/// A setting that gets its old value back.
struct Setting {
    path: String,
    old: String,
}

impl Setting {
    fn of(name: &str) -> Result<Setting> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let old = fs::read_to_string(&path).with_context(|| path.clone())?;
        Ok(Setting { path, old })
    }

    fn set(&self, value: &str) -> Result<()> {
        fs::write(&self.path, value).with_context(|| format!("{value:?} to {}", self.path))
    }

    fn old(&self) -> Vec<u64> {
        let words = self.old.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.old);
    }
}

/// The report's events of one kind.
fn events<'a>(report: &'a Value, kind: &str) -> Result<Vec<&'a Value>> {
    let all = report["events"].as_array().context("no \"events\"")?;
    Ok(all.iter().filter(|e| e["kind"] == kind).collect())
}

fn count(report: &Value, kind: &str) -> u64 {
    report["event_counts"][kind].as_u64().unwrap_or(0)
}

/// Settings that this process writes, each once.
fn sysctl(cx: &Cx) -> Result<()> {
    let actor = Actor::start(cx, "quiet")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.fresh_line(cx)?;
    let cases = [
        ("net.ipv4.tcp_rmem", "4096 65536 4194304"),
        ("net.ipv4.tcp_wmem", "4096 32768 2097152"),
        ("net.ipv4.tcp_mem", "50000 60000 70000"),
        ("net.core.rmem_max", "300000"),
        ("net.core.wmem_max", "310000"),
    ];
    let mut settings = Vec::new();
    for (name, value) in cases {
        let setting = Setting::of(name)?;
        setting.set(value)?;
        settings.push((name, value, setting));
    }
    trace.fresh_line(cx)?;
    let report = trace.finish(cx)?.json;
    let all = events(&report, "sysctl")?;
    ensure!(all.len() == cases.len(), "{} events: {all:?}", all.len());
    for (name, value, setting) in &settings {
        let numbers = |json: &Value| -> Vec<u64> {
            let all = json.as_array().into_iter().flatten();
            all.filter_map(Value::as_u64).collect()
        };
        let event = all.iter().find(|e| e["name"] == *name);
        let event = event.with_context(|| format!("no change of {name} in {all:?}"))?;
        let expected: Vec<u64> = value.split(' ').filter_map(|n| n.parse().ok()).collect();
        ensure!(
            numbers(&event["from"]) == setting.old() && numbers(&event["to"]) == expected,
            "{name} went from {:?} to {expected:?}, not as in {event}",
            setting.old()
        );
        let own = event["by"]["pid"].as_u64() == Some(std::process::id().into());
        if report["tier"] == "tracepoint" {
            ensure!(
                event["by"].is_null() && event["how"] == "sampled",
                "{event}"
            );
        } else {
            ensure!(
                own && event["how"] == "observed",
                "this process wrote it: {event}"
            );
        }
        ensure!(
            event["netns"].is_null() != name.ends_with("mem") || name.ends_with("tcp_mem"),
            "{event}"
        );
    }
    Ok(())
}

/// A receive queue over its limit: events by kind, each with the counter that the kernel
/// increments in the same place, or on the way to it.
fn full_queue(cx: &Cx, workload: &str, kinds: &[(&str, &str)]) -> Result<()> {
    let names = ["PruneCalled", "RcvPruned", "OfoPruned", "TCPRcvCollapsed"];
    let mut actor = Actor::start(cx, workload)?;
    let before = netstat(&names)?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.fresh_line(cx)?;
    actor.step_to(cx, "overfull")?;
    let middle = netstat(&names)?;
    trace.fresh_line(cx)?;
    let report = trace.finish(cx)?.json;
    let after = netstat(&names)?;
    let counters = &report["kernel_counters"];
    for (i, name) in names.iter().enumerate() {
        // Retransmissions go on.
        let (low, high) = (middle[i] - before[i], after[i] - before[i]);
        let shown = trace::number(counters, name)?.unsigned_abs();
        ensure!(
            (low..=high).contains(&shown),
            "{name} grew by {low} to {high}, but {counters}"
        );
    }
    let sampled = report["tier"] == "tracepoint";
    let cookie = actor.fact("cookie.reader")?;
    for (kind, counter) in kinds {
        let (events, n) = (events(&report, kind)?, count(&report, kind));
        let kernel = trace::number(counters, counter)?.unsigned_abs();
        ensure!(kernel > 0, "the workload ran into no limit: {counters}");
        if sampled {
            // The kernel's counter of collapsing counts skbs.
            let counter = if *kind == "collapse" {
                "TCPRcvCollapsed"
            } else {
                *counter
            };
            let kernel = trace::number(counters, counter)?.unsigned_abs();
            ensure!(n == kernel, "{n} of {kind}, but {counter} is {kernel}");
            ensure!(
                events
                    .iter()
                    .all(|e| e["how"] == "sampled" && e["socket"].is_null()),
                "{events:?}"
            );
            continue;
        }
        let told: u64 = events.iter().filter_map(|e| e["count"].as_u64()).sum();
        ensure!(
            n > 0 && told <= n && told > 0,
            "{told} of {n} {kind} told, {counter} is {kernel}: {events:?}"
        );
        for e in events {
            let socket = &e["socket"];
            ensure!(
                e["how"] == "observed"
                    && socket["cookie"].as_u64() == Some(cookie)
                    && socket["owner"]["pid"].as_u64() == Some(actor.pid().into())
                    && socket["rmem_alloc"].as_u64() > socket["rcvbuf"].as_u64(),
                "not the reader with its queue over its limit: {e}"
            );
            ensure!(
                e["held"]["resident"].as_u64() > Some(0)
                    && e["held"]["by"][0]["pid"].as_u64() == Some(actor.pid().into()),
                "who held what: {e}"
            );
        }
    }
    Ok(())
}

fn netstat(names: &[&str]) -> Result<Vec<u64>> {
    names.iter().map(|name| oracle::netstat(name)).collect()
}

/// TCP enters memory pressure under a lowered `tcp_mem`, is refused memory, and leaves it again.
fn memory(cx: &Cx) -> Result<()> {
    let mem = Setting::of("net.ipv4.tcp_mem")?;
    let mut actor = Actor::start(cx, "pressure")?;
    let names = ["TCPMemoryPressures", "TCPMemoryPressuresChrono"];
    let read = || {
        names
            .map(oracle::netstat)
            .into_iter()
            .collect::<Result<Vec<u64>>>()
    };
    let before = read()?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.fresh_line(cx)?;
    let said = trace.why();
    // From 6.0 each of two CPUs may keep 256 pages from the sum.
    mem.set("600 700 200000")?;
    actor.step_to(cx, "filled")?;
    trace.fresh_line(cx)?;
    mem.set("600 700 800")?;
    actor.step_to(cx, "refused")?;
    trace.fresh_line(cx)?;
    mem.set("600 700 200000")?;
    actor.step_to(cx, "drained")?;
    trace.fresh_line(cx)?;
    let report = trace.finish(cx)?.json;
    drop(mem);
    let after = netstat(&names)?;
    for ((name, before), after) in names.iter().zip(&before).zip(&after) {
        ensure!(
            report["kernel_counters"][name].as_u64() == Some(after - before),
            "{name} went from {before} to {after}, not as in {}",
            report["kernel_counters"]
        );
    }
    let entered = after[0] - before[0];
    ensure!(entered > 0, "the workload put TCP under no pressure");
    ensure!(
        count(&report, "enter-memory-pressure") == entered
            && count(&report, "leave-memory-pressure") == entered,
        "TCP entered pressure {entered} times, not as in {}",
        report["event_counts"]
    );
    let sampled = report["tier"] == "tracepoint";
    let enter = events(&report, "enter-memory-pressure")?;
    let first = enter.first().context("no such event")?;
    let holder = |e: &Value| e["held"]["by"][0]["pid"].as_u64() == Some(actor.pid().into());
    ensure!(holder(first), "who held what: {first}");
    if sampled {
        ensure!(first["how"] == "sampled", "{first}");
    } else {
        ensure!(
            first["how"] == "observed"
                && first["tcp_mem_pages"] == serde_json::json!([600, 700, 200_000])
                && first["allocated_pages"].as_u64() > Some(700),
            "{first}; counts {}{said}",
            report["event_counts"]
        );
    }
    let leave = events(&report, "leave-memory-pressure")?;
    let lasted: u64 = leave.iter().filter_map(|e| e["lasted_ns"].as_u64()).sum();
    ensure!(
        lasted == (after[1] - before[1]) * 1_000_000,
        "it lasted {} ms, not as in {leave:?}",
        after[1] - before[1]
    );
    // In every tier: a tracepoint.
    let exceed = events(&report, "exceed-buf-limit")?;
    let first = exceed.first().context("no charge was refused")?;
    ensure!(
        first["how"] == "observed"
            && first["tcp_mem_pages"] == serde_json::json!([600, 700, 800])
            && first["allocated_pages"].as_u64() > Some(800)
            && holder(first),
        "{first}"
    );
    Ok(())
}

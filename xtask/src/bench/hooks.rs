//! ns of a hook's run, case by case, and the list of programs.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Bench;
use super::stats::Sample;
use super::table::{Row, Target};

/// Name in the results, what it is, target in ns.
const CASES: &[(&str, &str, Option<f64>)] = &[
    ("filtered", "socket not traced: send", Some(25.0)),
    ("filtered_read", "socket not traced: read", Some(25.0)),
    ("unchanged", "traced, nothing changed: send", Some(25.0)),
    (
        "unchanged_read",
        "traced, nothing changed: read",
        Some(25.0),
    ),
    (
        "changed_quiet",
        "changed, state updated, no event",
        Some(70.0),
    ),
    (
        "coalesced",
        "changed, merged into a later event",
        Some(70.0),
    ),
    ("event", "changed, with an event (exact)", Some(160.0)),
    ("event_reader", "the same while the ring is read", None),
];

/// The bursts of one case.
fn of_case<'a>(results: &'a Value, name: &'a str) -> impl Iterator<Item = &'a Value> {
    let bursts = results["bursts"].as_array().map_or(&[][..], Vec::as_slice);
    bursts.iter().filter(move |b| b["case"] == name)
}

/// Time above the empty program in every burst. ns.
pub(crate) fn above(results: &Value, name: &str) -> Vec<f64> {
    of_case(results, name)
        .filter_map(|b| Some(b["program_ns"].as_f64()? - b["empty_ns"].as_f64()?))
        .collect()
}

/// Whether the bursts were what they claim to be: by the programs' own counters. Other processes
/// of this host may send meanwhile, and a round has a few changes at its edges: 1 % is allowed.
fn proof(results: &Value, name: &str) -> String {
    let (mut worst, mut runs, mut seen, mut sent, mut bursts) = (0.0f64, 0, 0, 0, 0);
    for b in of_case(results, name) {
        let count = |field: &str| b[field].as_u64().unwrap_or(0);
        let wanted = count("wanted_runs").max(1) as f64;
        for (is, should) in [
            (count("runs"), count("wanted_runs")),
            (count("seen"), count("wanted_seen")),
            (count("sent"), count("wanted_sent")),
        ] {
            worst = worst.max(is.abs_diff(should) as f64 / wanted);
        }
        runs += count("runs");
        seen += count("seen");
        sent += count("sent");
        bursts += 1;
    }
    let sure = if worst <= 0.01 { "checked" } else { "NOT PURE" };
    format!("{sure}: {bursts} bursts, {runs} runs, {seen} changes seen, {sent} sent")
}

/// ns of all programs together, per request.
pub(crate) fn per_request(listing: &Value) -> Option<f64> {
    let programs = listing["programs"].as_array()?;
    let sum: u64 = programs
        .iter()
        .filter(|p| p["name"] != "be_empty")
        .filter_map(|p| p["time_ns"].as_u64())
        .sum();
    Some(sum as f64 / listing["requests"].as_f64()?)
}

/// The list of programs, in the order of the time spent.
fn programs(results: &Value) -> Vec<Row> {
    let listings = results["listings"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let all = |listing: &Value| listing["programs"].as_array().cloned().unwrap_or_default();
    let Some(mut first) = listings.first().map(all) else {
        return Vec::new();
    };
    first.sort_by_key(|p| std::cmp::Reverse(p["time_ns"].as_u64()));
    let mut rows = Vec::new();
    for program in &first {
        let same = listings
            .iter()
            .flat_map(all)
            .filter(|p| p["name"] == program["name"]);
        let means = same.filter_map(|p| {
            let count = p["count"].as_f64().filter(|n| *n > 0.0)?;
            Some(p["time_ns"].as_f64()? / count)
        });
        let text = |field: &str| {
            program[field]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |n| n.to_string())
        };
        rows.push(
            Row::new(
                format!(
                    "`{}` on {}",
                    program["name"].as_str().unwrap_or("-"),
                    program["hook"].as_str().unwrap_or("-")
                ),
                "ns, with the statistics' own",
                Sample::of(means),
            )
            .note(format!(
                "{} runs, {} instructions, {} verified",
                text("count"),
                text("instructions"),
                text("verified")
            )),
        );
    }
    rows
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let results = bench
        .ask(&["hooks", &bench.rounds.to_string()])
        .context("run statistics of the programs")?;
    Ok(rows(&results))
}

fn rows(results: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, what, target) in CASES {
        let mut row = Row::new(*what, "ns above empty", Sample::of(above(results, name)))
            .note(proof(results, name));
        row.target = target.map(Target::AtMost);
        rows.push(row);
    }
    let listings = results["listings"].as_array().cloned().unwrap_or_default();
    rows.push(
        Row::new(
            "all programs, one byte there and back, both ends traced, exact",
            "ns per round trip",
            Sample::of(listings.iter().filter_map(per_request)),
        )
        .note("with the statistics' own, some 60 ns a run"),
    );
    rows.extend(programs(results));
    rows
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn burst(seen: u64) -> Value {
        json!({"case": "event", "program_ns": 216.0, "empty_ns": 60.0, "runs": 1000,
            "wanted_runs": 1000, "seen": seen, "wanted_seen": 1000, "sent": 1000, "wanted_sent": 1000})
    }

    #[test]
    fn the_empty_program_is_taken_off() {
        let results = json!({"bursts": [burst(1000)]});
        assert_eq!(above(&results, "event"), [156.0]);
        assert!(above(&results, "filtered").is_empty());
    }

    #[test]
    fn a_case_that_was_another_is_told() {
        assert!(proof(&json!({"bursts": [burst(1000)]}), "event").starts_with("checked"));
        let mixed = json!({"bursts": [burst(1000), burst(900)]});
        assert!(proof(&mixed, "event").starts_with("NOT PURE"));
    }

    #[test]
    fn requests_are_charged_with_all_but_the_empty_program() {
        let listing = json!({"requests": 10, "programs": [
            {"name": "a", "time_ns": 100}, {"name": "b", "time_ns": 50}, {"name": "be_empty", "time_ns": 9}]});
        assert_eq!(per_request(&listing), Some(15.0));
    }
}

//! The user's side: records per second, idle cost, attach time.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::Bench;
use super::memory::fleet;
use super::stats::Sample;
use super::table::{Row, Target};
use super::tracer::Tracer;

/// Field `figure` of those entries for which `name` is `value`.
fn figures(list: &Value, name: &str, value: &Value, figure: &str) -> Vec<f64> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter(|e| e[name] == *value)
        .filter_map(|e| e[figure].as_f64())
        .collect()
}

/// Records per second.
pub(crate) fn ingest(bench: &Bench) -> Result<Vec<Row>> {
    let results = bench.ask(&["model"])?;
    let mut rows = Vec::new();
    for (case, what) in [
        ("1", "1 socket"),
        ("2000", "2,000 sockets in turn"),
        ("20000", "20,000 sockets in turn"),
        ("100000", "100,000 sockets in turn"),
        ("100000 mixed", "100,000 sockets in any order"),
    ] {
        let of = |figure| Sample::of(figures(&results["ingest"], "case", &case.into(), figure));
        rows.push(
            Row::new(
                format!("decode and model, {what}"),
                "records/s",
                of("records_per_s"),
            )
            .target(Target::AtLeast(5e6)),
        );
        rows.push(Row::new(
            format!("decode alone, {what}"),
            "records/s",
            of("decoded_per_s"),
        ));
    }
    for (with_model, what) in [(false, "ring, decode"), (true, "ring, decode and model")] {
        let of = figures(
            &results["ring"],
            "with_model",
            &with_model.into(),
            "records_per_s",
        );
        rows.push(
            Row::new(what, "records/s", Sample::of(of)).note("500,000 records of ten sockets"),
        );
    }
    Ok(rows)
}

/// CPU time of the attached tracer over some seconds.
fn share(tracer: &Tracer, seconds: u64) -> Result<f64> {
    let (before, began) = (tracer.cpu()?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = tracer.cpu()?.saturating_sub(before);
    Ok(100.0 * spent.as_secs_f64() / began.elapsed().as_secs_f64())
}

/// What the tracer costs while nothing happens.
pub(crate) fn idle(bench: &Bench) -> Result<Vec<Row>> {
    let fleet = fleet(bench, 100)?;
    let kinds: [(&str, &[&str]); 2] = [
        ("100 quiet sockets, a JSON line a second", &[]),
        (
            "the same with --max-sockets 4096",
            &["--max-sockets", "4096"],
        ),
    ];
    let mut shares = [Vec::new(), Vec::new()];
    for _ in 0..bench.rounds.min(3) {
        for ((_, extra), shares) in kinds.iter().zip(&mut shares) {
            let tracer = Tracer::start(bench, fleet.0.id(), extra)?;
            std::thread::sleep(Duration::from_secs(1));
            shares.push(share(&tracer, 10)?);
            tracer.finish()?;
        }
    }
    let rows = kinds.iter().zip(shares).map(|((what, _), shares)| {
        Row::new(*what, "% of a core", Sample::of(shares))
            .target(Target::AtMost(0.1))
            .note("10 s each")
    });
    Ok(rows.collect())
}

/// What the verifier walks, of every program and in all: most of the time that attaching takes.
pub(crate) fn loads(bench: &Bench) -> Result<Vec<Row>> {
    Ok(load_rows(&bench.ask(&["loads"])?))
}

fn load_rows(programs: &Value) -> Vec<Row> {
    let programs = programs.as_array().map_or(&[][..], Vec::as_slice);
    let count = |p: &Value, what: &str| p[what].as_f64();
    let row = |name: String, verified: Option<f64>, instructions: Option<f64>| {
        Row::new(name, "instructions verified", Sample::of(verified)).note(format!(
            "{} instructions",
            instructions.map_or_else(|| "-".to_owned(), |n| n.to_string())
        ))
    };
    let mut rows: Vec<Row> = programs
        .iter()
        .map(|p| {
            let name = format!(
                "`{}` on {}",
                p["name"].as_str().unwrap_or("-"),
                p["hook"].as_str().unwrap_or("-")
            );
            row(name, count(p, "verified"), count(p, "instructions"))
        })
        .collect();
    // One that is not known makes the sum unknown, too.
    let sum = |what: &str| programs.iter().map(|p| count(p, what)).sum::<Option<f64>>();
    rows.push(row(
        "all programs".to_owned(),
        sum("verified"),
        sum("instructions"),
    ));
    rows
}

/// Time to attach and to read every socket.
pub(crate) fn attach(bench: &Bench) -> Result<Vec<Row>> {
    let results = bench.ask(&["attach"])?;
    let mut rows = Vec::new();
    for sockets in [0, 10_000] {
        let of = |figure| Sample::of(figures(&results, "sockets", &sockets.into(), figure));
        for (figure, what) in [
            ("attach_s", "programs loaded and attached"),
            (
                "ready_s",
                "the same, and every socket of the process adopted",
            ),
            ("scan_s", "reading all states"),
            ("resync_s", "reading all sockets again, in the kernel"),
            ("detach_s", "detaching"),
        ] {
            rows.push(Row::new(
                format!("{what}, {sockets} sockets"),
                "s",
                of(figure),
            ));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instructions_are_summed_up_where_all_are_known() {
        let rows = load_rows(&json!([
            {"name": "a", "hook": "f", "instructions": 10, "verified": 100},
            {"name": "b", "hook": "g", "instructions": 20, "verified": null},
        ]));
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].sample.as_ref().map(|s| s.median), Some(100.0));
        assert!(rows[1].sample.is_none() && rows[2].sample.is_none());
        assert_eq!(rows[2].note, "30 instructions");
    }

    #[test]
    fn figures_of_one_kind() {
        let list = json!([{"n": 1, "x": 2.0}, {"n": 2, "x": 3.0}, {"n": 1, "x": 4.0}, {"n": 1}]);
        assert_eq!(figures(&list, "n", &json!(1), "x"), [2.0, 4.0]);
        assert!(figures(&json!(null), "n", &json!(1), "x").is_empty());
    }
}

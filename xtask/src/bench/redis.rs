//! What `redis-benchmark --csv` prints.

use anyhow::{Context as _, Result};

/// One test of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// `GET`.
    pub(crate) test: String,
    /// Requests per second.
    pub(crate) rps: f64,
    /// 99th percentile of latency, ms; versions before 7 do not tell.
    pub(crate) p99_ms: Option<f64>,
}

/// Splits a line of quoted fields.
fn fields(line: &str) -> Vec<&str> {
    line.trim()
        .split(',')
        .map(|f| f.trim().trim_matches('"'))
        .collect()
}

/// Its table. Columns are found by their names.
///
/// # Errors
/// When there is no test in it.
pub(crate) fn parse(text: &str) -> Result<Vec<Line>> {
    let mut lines = text.lines().filter(|l| l.trim_start().starts_with('"'));
    let head = fields(lines.next().context("redis-benchmark printed no table")?);
    let at = |name: &str| head.iter().position(|f| *f == name);
    let (rps, p99) = (at("rps").context("no column rps")?, at("p99_latency_ms"));
    let mut out = Vec::new();
    for line in lines {
        let f = fields(line);
        let value = |i: usize| f.get(i).and_then(|v| v.parse::<f64>().ok());
        out.push(Line {
            test: f.first().copied().unwrap_or("").to_owned(),
            rps: value(rps).with_context(|| format!("no rate in {line:?}"))?,
            p99_ms: p99.and_then(value),
        });
    }
    anyhow::ensure!(!out.is_empty(), "redis-benchmark ran no test");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"
\"PING_MBULK\",\"68681.32\",\"0.419\",\"0.064\",\"0.367\",\"0.823\",\"1.103\",\"11.103\"
\"SET\",\"56689.34\",\"0.557\",\"0.080\",\"0.519\",\"0.895\",\"1.007\",\"3.159\"
";

    #[test]
    fn rates_and_percentiles_by_column_name() {
        let lines = parse(TEXT).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].test, "SET");
        assert_eq!(lines[1].rps, 56689.34);
        assert_eq!(lines[1].p99_ms, Some(1.007));
    }

    #[test]
    fn warnings_before_the_table_are_no_tests() {
        let text = format!("WARNING: could not fetch server CONFIG\n{TEXT}");
        assert_eq!(parse(&text).unwrap(), parse(TEXT).unwrap());
    }

    #[test]
    fn no_table_is_an_error() {
        assert!(parse("Could not connect to Redis\n").is_err());
        assert!(parse(TEXT.lines().next().unwrap()).is_err());
        assert!(parse("\"test\",\"rps\"\n\"GET\",\"many\"\n").is_err());
    }
}

//! What `iperf3 --json` prints.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Bits per second that the receiver got.
///
/// # Errors
/// The test's own, or when the document is of another kind.
pub(crate) fn parse(text: &str) -> Result<f64> {
    let document: Value = serde_json::from_str(text).context("iperf3 printed what is no JSON")?;
    if let Some(error) = document["error"].as_str() {
        bail!("iperf3: {error}");
    }
    document["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .context("iperf3's report has no end.sum_received.bits_per_second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receiver_counts() {
        let text = r#"{"start": {}, "end": {"sum_sent": {"bits_per_second": 2e9},
            "sum_received": {"seconds": 1.004, "bits_per_second": 18340568296.869835}}}"#;
        assert_eq!(parse(text).unwrap(), 18_340_568_296.869_835);
    }

    #[test]
    fn its_errors_are_ours() {
        let error = parse(r#"{"start": {}, "error": "unable to connect"}"#).unwrap_err();
        assert!(error.to_string().contains("unable to connect"));
        assert!(parse(r#"{"end": {}}"#).is_err());
        assert!(parse("iperf Done.").is_err());
    }
}

//! Sizes and durations as written on the command line, and back without loss.
//! What people read in output is rounded and comes from `sinks::text`.

use std::time::Duration;

/// Why a size or a duration was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number at the start, or one that is badly written.
    #[error("`{0}` does not start with a number; write for example {1}")]
    Number(String, &'static str),
    /// A unit that is not known.
    #[error("unit `{0}` is not known; known are {1}")]
    Unit(String, &'static str),
    /// A unit with two meanings.
    #[error("`{0}` may mean 1000 or 1024; write {1} for powers of 1024")]
    Ambiguous(String, &'static str),
    /// A duration without a unit.
    #[error("`{0}` needs a unit: {0}s, {0}ms or {0}m")]
    NoUnit(String),
    /// A fraction that is not a whole number of bytes or nanoseconds.
    #[error("`{0}` is not a whole number of {1}")]
    Fraction(String, &'static str),
    /// A share that is none.
    #[error("`{0}` is not a share; write for example 10%, 0.5% or 0")]
    Share(String),
    /// Beyond what 64 bits hold.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

const SIZE_EXAMPLE: &str = "64KiB, 2M or 4096";
const DURATION_EXAMPLE: &str = "10s, 1500ms or 5m";
const SIZES: [(&str, u32); 7] = [
    ("", 0),
    ("KiB", 10),
    ("MiB", 20),
    ("GiB", 30),
    ("TiB", 40),
    ("PiB", 50),
    ("EiB", 60),
];
const SPANS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Bytes: `4096`, `512B`, `64KiB`, `64K`, `2M` (powers of 1024), `1.5GiB`; any case.
///
/// # Errors
/// `UnitError`, which says what to write instead.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text);
    let lower = unit.to_ascii_lowercase();
    let scale = match lower.as_str() {
        "" | "b" => 1,
        "kb" => return Err(UnitError::Ambiguous(unit.to_owned(), "KiB")),
        "mb" => return Err(UnitError::Ambiguous(unit.to_owned(), "MiB")),
        "gb" => return Err(UnitError::Ambiguous(unit.to_owned(), "GiB")),
        "tb" => return Err(UnitError::Ambiguous(unit.to_owned(), "TiB")),
        _ => {
            let known = SIZES[1..].iter().find(|(name, _)| {
                let name = name.to_ascii_lowercase();
                lower == name || lower == name[..1]
            });
            match known {
                Some((_, shift)) => 1u64 << shift,
                None if number.is_empty() => {
                    return Err(UnitError::Number(text.to_owned(), SIZE_EXAMPLE));
                }
                None => {
                    return Err(UnitError::Unit(
                        unit.to_owned(),
                        "B, KiB, MiB, GiB, TiB (K, M, G, T)",
                    ));
                }
            }
        }
    };
    scaled(text, number, scale, SIZE_EXAMPLE, "bytes")
}

/// A duration: `1500ms`, `10s`, `1.5s`, `5m`, `1h`, `250us`; a unit is required.
///
/// # Errors
/// `UnitError`, which says what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err(UnitError::Number(text.to_owned(), DURATION_EXAMPLE));
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit(number.to_owned()));
    }
    let Some((_, scale)) = SPANS.iter().find(|(name, _)| *name == unit) else {
        return Err(UnitError::Unit(unit.to_owned(), "ns, us, ms, s, m, h, d"));
    };
    scaled(text, number, *scale, DURATION_EXAMPLE, "nanoseconds").map(Duration::from_nanos)
}

/// A share of 1: `10%`, `0.5%`, `0`.
///
/// # Errors
/// `UnitError`, which says what to write instead.
pub fn parse_share(text: &str) -> Result<f64, UnitError> {
    let wrong = || UnitError::Share(text.to_owned());
    let number = match text.trim() {
        // Of anything else it is not clear whether 0.1 or 10 is meant.
        "0" => "0",
        percent => percent.strip_suffix('%').ok_or_else(wrong)?.trim_end(),
    };
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if !number.starts_with(|c: char| c.is_ascii_digit()) || !number.chars().all(digits) {
        return Err(wrong());
    }
    let percent: f64 = number.parse().map_err(|_| wrong())?;
    Ok(percent / 100.0)
}

/// Bytes in the largest unit that gives a whole number: `64KiB`, `4097`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let whole = SIZES
        .iter()
        .rev()
        .find(|(_, shift)| bytes.is_multiple_of(1 << shift));
    match whole {
        Some((unit, shift)) if bytes > 0 => format!("{}{unit}", bytes >> shift),
        _ => bytes.to_string(),
    }
}

/// A duration in the largest unit that gives a whole number: `1500ms`, `10s`, `5m`. Durations
/// beyond 584 years are cut to that.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let whole = SPANS
        .iter()
        .rev()
        .find(|(_, scale)| ns.is_multiple_of(*scale));
    match whole {
        Some((unit, scale)) if ns > 0 => format!("{}{unit}", ns / scale),
        _ => "0s".to_owned(),
    }
}

/// The number at the start and what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number`, digits with at most one point, times `scale`, without rounding.
fn scaled(
    text: &str,
    number: &str,
    scale: u64,
    example: &'static str,
    what: &'static str,
) -> Result<u64, UnitError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err(UnitError::Number(text.to_owned(), example));
    }
    let too_large = || UnitError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let mut sum = u128::from(whole) * u128::from(scale);
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        let not_whole = || UnitError::Fraction(text.to_owned(), what);
        // A fraction of more digits than this is finer than any unit's parts.
        let digits = u32::try_from(fraction.len())
            .ok()
            .filter(|n| *n <= 18)
            .ok_or_else(not_whole)?;
        let part: u64 = fraction.parse().map_err(|_| not_whole())?;
        let parts = u128::from(part) * u128::from(scale);
        let one = 10u128.pow(digits);
        if !parts.is_multiple_of(one) {
            return Err(not_whole());
        }
        sum += parts / one;
    }
    u64::try_from(sum).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("2M", 2 << 20),
            ("2mib", 2 << 20),
            ("1.5GiB", 3 << 29),
            ("1 T", 1 << 40),
            ("16383PiB", 16_383 << 50),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_size(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("0s", 0),
            ("250us", 250_000),
            ("1500ms", 1_500_000_000),
            ("10s", 10_000_000_000),
            ("1.5s", 1_500_000_000),
            ("5m", 300_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
        ];
        for (text, wanted) in cases {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_nanos(wanted)),
                "{text}"
            );
        }
    }

    #[test]
    fn shares() {
        for (text, wanted) in [("0", 0.0), ("10%", 0.1), ("0.5 %", 0.005), ("250%", 2.5)] {
            assert_eq!(parse_share(text), Ok(wanted), "{text}");
        }
        for text in ["", "%", "10", "0.1", "-1%", "1e3%", "inf%", "1.2.3%", ".5%"] {
            assert_eq!(parse_share(text), Err(UnitError::Share(text.to_owned())));
        }
    }

    #[test]
    fn refusals_say_what_to_write() {
        let say = |r: Result<u64, UnitError>| r.unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                say(parse_size("")),
                say(parse_size("many")),
                say(parse_size("-1K")),
                say(parse_size("64KB")),
                say(parse_size("64Q")),
                say(parse_size("1.0001K")),
                say(parse_size("1.2.3K")),
                say(parse_size("16EiB")),
                say(parse_size("99999999999999999999")),
                parse_duration("10").unwrap_err().to_string(),
                parse_duration("soon").unwrap_err().to_string(),
                parse_duration("10S").unwrap_err().to_string(),
                parse_duration("0.5ns").unwrap_err().to_string(),
            ]
            .join("\n")
        );
    }

    #[test]
    fn formats_are_exact() {
        assert_eq!(format_size(0), "0");
        assert_eq!(format_size(4097), "4097");
        assert_eq!(format_size(65_536), "64KiB");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(format_duration(Duration::from_secs(300)), "5m");
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes in prop_oneof![any::<u64>(), (0u64..1 << 20, 0u32..44).prop_map(|(n, s)| n << s)]) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn durations_round_trip(ns in prop_oneof![any::<u64>(), (0u64..100_000).prop_map(|s| s * 1_000_000_000)]) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_fail_otherwise(text in "\\PC{0,12}|[0-9.]{0,25}[a-zA-Z]{0,4}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}

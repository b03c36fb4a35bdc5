//! Numbers as a person reads them. Used in verdicts only; sinks have their own columns.

/// `0 B`, `4.0 KiB`, `1.3 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `850 ms`, `9.8 s`, `12 min`, `3.5 h`.
pub(super) fn duration(ns: u64) -> String {
    const MS: u64 = 1_000_000;
    const S: u64 = 1000 * MS;
    if ns < S {
        format!("{} ms", ns / MS)
    } else if ns < 120 * S {
        // Cut, not rounded: 119.99 s must not read as 120 s, nor 0.9999 s as 1000 ms.
        let s = format!("{}.{}", ns / S, ns % S / (100 * MS));
        format!("{} s", s.strip_suffix(".0").unwrap_or(&s))
    } else if ns < 7200 * S {
        format!("{} min", ns / (60 * S))
    } else {
        format!("{:.1} h", ns as f64 / (3600 * S) as f64)
    }
}

/// `1,000`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_read_well() {
        use super::*;
        assert_eq!(
            [0, 1023, 1024, 4096, 1_048_575, 1_363_149].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "4.0 KiB", "1.0 MiB", "1.3 MiB"].map(String::from)
        );
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            [
                0,
                850_000_000,
                1_000_000_000,
                9_840_000_000,
                720_000_000_000,
                12_600_000_000_000
            ]
            .map(duration),
            ["0 ms", "850 ms", "1 s", "9.8 s", "12 min", "3.5 h"].map(String::from)
        );
        assert_eq!(
            [7, 1000, 45_000, 1_234_567].map(count),
            ["7", "1,000", "45,000", "1,234,567"]
        );
    }
}

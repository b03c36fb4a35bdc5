//! Sizes, spans, counts and moments as people read them. Short forms are
//! rounded; JSON carries the exact numbers.

/// What is printed for a value that is not known.
pub const UNKNOWN: &str = "-";

/// Bytes with an IEC unit, at most 8 columns up to 1023 TiB: `4096 B`,
/// `12.5 KiB`, `832 KiB`, `1.3 MiB`. Below 10 KiB to the byte.
#[must_use]
pub fn bytes(n: u64) -> String {
    let mut out = String::with_capacity(10);
    push_bytes(&mut out, n);
    out
}

/// Appends what `bytes` gives. Written out rather than formatted: a snapshot has a dozen for each of
/// its sockets.
pub fn push_bytes(out: &mut String, n: u64) {
    const UNITS: [&str; 6] = [" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];
    if n < 10 * 1024 {
        push_number(out, n);
        out.push_str(" B");
        return;
    }
    // Tenths of the unit, rounded to nearest; the next unit from 1023.5 on, so
    // that rounding never prints "1024 KiB".
    let n = u128::from(n);
    let mut unit = 0;
    while unit + 1 < UNITS.len() && n * 2 >= 2047 << (10 * (unit + 1)) {
        unit += 1;
    }
    let shift = 10 * (unit + 1);
    let half = 1u128 << (shift - 1);
    // Below 1024 of the largest unit: both fit into 64 bits.
    let tenths = ((n * 10 + half) >> shift) as u64;
    if tenths < 1000 {
        push_number(out, tenths / 10);
        out.push('.');
        push_number(out, tenths % 10);
    } else {
        push_number(out, ((n + half) >> shift) as u64);
    }
    out.push_str(UNITS[unit]);
}

/// Appends a number in decimal.
pub fn push_number(out: &mut String, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// As `bytes`, with a minus where it is below zero.
#[must_use]
pub fn signed_bytes(n: i64) -> String {
    let size = bytes(n.unsigned_abs());
    if n < 0 { format!("-{size}") } else { size }
}

/// As `bytes`, with a sign where it is not zero: a change.
#[must_use]
pub fn delta_bytes(n: i64) -> String {
    let size = signed_bytes(n);
    if n > 0 { format!("+{size}") } else { size }
}

/// Bytes, or `-` where not known.
#[must_use]
pub fn maybe_bytes(n: Option<u64>) -> String {
    n.map_or_else(|| UNKNOWN.to_owned(), bytes)
}

/// A span, at most 7 columns up to 999 days: `830us`, `15.2ms`, `1.2s`, `42s`, `5m03s`, `2h05m`, `3d04h`.
#[must_use]
pub fn span(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}us", ns / 1_000),
        1_000_000..100_000_000 => format!("{}.{}ms", ns / 1_000_000, ns / 100_000 % 10),
        100_000_000..1_000_000_000 => format!("{}ms", ns / 1_000_000),
        1_000_000_000..10_000_000_000 => match ns / 100_000_000 % 10 {
            0 => format!("{s}s"),
            tenths => format!("{s}.{tenths}s"),
        },
        _ if s < 60 => format!("{s}s"),
        _ if s < 3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ if s < 86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// A count with a comma every three digits.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count with its noun: `1 socket`, `12 sockets`.
#[must_use]
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A moment in UTC: `2026-01-31 23:59:59Z`.
#[must_use]
pub fn moment(unix_ns: u64) -> String {
    let s = unix_ns / 1_000_000_000;
    // Days to a date of the Gregorian calendar, in years that start in March:
    // then the leap day is the last of its year, and months follow a line.
    let days = s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let dom = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{dom:02} {:02}:{:02}:{:02}Z",
        era * 400 + year + carry,
        s / 3600 % 24,
        s / 60 % 60,
        s % 60
    )
}

/// A moment in UTC to the nanosecond: `2026-01-31 23:59:59.000000001Z`.
#[must_use]
pub fn moment_ns(unix_ns: u64) -> String {
    let whole = moment(unix_ns);
    let seconds = whole.strip_suffix('Z').unwrap_or(&whole);
    format!("{seconds}.{:09}Z", unix_ns % 1_000_000_000)
}

/// Words wrapped to `width` columns, lines after the first indented by `indent`.
#[must_use]
pub fn wrap(words: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in words.split_whitespace() {
        let w = super::escape::width(word);
        if column > 0 && column + 1 + w > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += w;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (4096, "4096 B"),
            (10_239, "10239 B"),
            (10_240, "10.0 KiB"),
            (102_348, "99.9 KiB"),
            (102_349, "100 KiB"),
            (1_048_063, "1023 KiB"),
            (1_048_064, "1.0 MiB"),
            (1_363_149, "1.3 MiB"),
            (u64::from(u32::MAX), "4.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (n, wanted) in cases {
            assert_eq!(bytes(n), wanted, "{n}");
        }
        assert_eq!(signed_bytes(-4096), "-4096 B");
        assert_eq!(signed_bytes(i64::MIN), "-8.0 EiB");
        assert_eq!((delta_bytes(5), delta_bytes(-5), delta_bytes(0)).0, "+5 B");
        assert_eq!(delta_bytes(0), "0 B");
        assert_eq!(maybe_bytes(None), "-");
    }

    #[test]
    fn spans() {
        let cases = [
            (0, "0s"),
            (999, "999ns"),
            (830_000, "830us"),
            (15_250_000, "15.2ms"),
            (999_999_999, "999ms"),
            (1_000_000_000, "1s"),
            (1_290_000_000, "1.2s"),
            (42_000_000_000, "42s"),
            (303_000_000_000, "5m03s"),
            (7_500_000_000_000, "2h05m"),
            (273_600_000_000_000, "3d04h"),
        ];
        for (ns, wanted) in cases {
            assert_eq!(span(ns), wanted, "{ns}");
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_345), "12,345");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(counted(1, "socket", "sockets"), "1 socket");
    }

    #[test]
    fn moments() {
        let cases = [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399, "2000-02-28 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (951_868_800, "2000-03-01 00:00:00Z"),
            (1_735_689_599, "2024-12-31 23:59:59Z"),
            (1_735_689_600, "2025-01-01 00:00:00Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
        ];
        for (s, wanted) in cases {
            assert_eq!(moment(s * 1_000_000_000), wanted, "{s}");
        }
    }

    #[test]
    fn wrapping_keeps_words_whole() {
        assert_eq!(wrap("one two three", 8, 2), "one two\n  three");
        assert_eq!(wrap("unbreakable", 3, 1), "unbreakable");
    }

    proptest! {
        #[test]
        fn a_size_is_short_and_within_rounding(n in 0u64..(1 << 49)) {
            let text = bytes(n);
            prop_assert!(text.len() <= 8, "{text}");
            let (value, unit) = text.split_once(' ').unwrap();
            let scale = match unit {
                "B" => 1.0,
                "KiB" => 1024.0,
                "MiB" => 1_048_576.0,
                "GiB" => 1_073_741_824.0,
                _ => 1_099_511_627_776.0,
            };
            let back = value.parse::<f64>().unwrap() * scale;
            prop_assert!((back - n as f64).abs() <= (n as f64 * 0.05).max(0.0), "{n}: {text}");
        }
    }
}

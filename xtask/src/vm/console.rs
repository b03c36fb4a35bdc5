//! What a guest's serial console says: the verdict of its tests, lines to keep,
//! and the words by which a kernel tells that something is wrong with it.

/// The line prefix by which the guest's init gives its one verdict.
const VERDICT: &str = "VM-VERDICT: ";

/// Something a kernel said that no passing run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// `Kernel panic`: the guest is over.
    Panic,
    /// An oops, a `BUG:`, a protection fault.
    Oops,
    /// A CPU did not schedule, or a task did not run, for too long.
    Lockup,
    /// RCU waits for a CPU that does not answer.
    Stall,
    /// A `WARN_ON` fired; the guest goes on.
    Warning,
}

impl Trouble {
    /// How the final table names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Panic => "kernel panic",
            Self::Oops => "kernel oops",
            Self::Lockup => "lockup",
            Self::Stall => "RCU stall",
            Self::Warning => "kernel warning",
        }
    }

    /// Whether the guest cannot be expected to end by itself.
    pub(crate) fn is_fatal(self) -> bool {
        self != Self::Warning
    }
}

/// The guest's own judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All of so many tests passed.
    Pass {
        /// Tests that ran and passed.
        passed: u64,
    },
    /// Why not.
    Fail(String),
}

/// A console line as plain text: without carriage returns, terminal controls
/// (the firmware sends some) and other bytes that do not print.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            if c == '\t' || !c.is_control() {
                plain.push(c);
            }
            continue;
        }
        // ESC [ parameters final, or ESC and one character.
        if chars.next() == Some('[') {
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        }
    }
    plain
}

/// The kernel's part of a console line: what follows its time stamp, as in
/// `[   12.345678] text`. The stamp need not be at the start, since the kernel
/// may write in the middle of a program's line.
pub(crate) fn kernel_text(line: &str) -> Option<&str> {
    for (open, _) in line.match_indices('[') {
        let (stamp, rest) = line[open + 1..].split_once(']')?;
        let Some((seconds, fraction)) = stamp.trim_start().split_once('.') else {
            continue;
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if digits(seconds) && fraction.len() == 6 && digits(fraction) {
            return Some(rest.trim_start());
        }
    }
    None
}

/// The trouble that a console line tells of. Only the kernel's own lines count:
/// a test may print any of these words.
pub(crate) fn trouble(line: &str) -> Option<Trouble> {
    let text = kernel_text(line)?;
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["Kernel panic - not syncing"]) {
        Some(Trouble::Panic)
    } else if has(&["soft lockup", "hard LOCKUP", "blocked for more than"]) {
        Some(Trouble::Lockup)
    } else if has(&[
        "self-detected stall",
        "detected stalls on CPUs",
        "kthread starved for",
    ]) {
        Some(Trouble::Stall)
    } else if has(&[
        "Oops:",
        "BUG:",
        "kernel BUG at",
        "general protection fault",
        "UBSAN:",
    ]) {
        Some(Trouble::Oops)
    } else if has(&["WARNING:"]) {
        Some(Trouble::Warning)
    } else {
        None
    }
}

/// The verdict on a console line, if it holds one.
pub(crate) fn verdict(line: &str) -> Option<Verdict> {
    let at = line.find(VERDICT)?;
    let text = &line[at + VERDICT.len()..];
    let pass = text
        .strip_prefix("pass ")
        .and_then(|count| count.trim().parse().ok());
    Some(match pass {
        Some(passed) => Verdict::Pass { passed },
        None => Verdict::Fail(text.strip_prefix("fail ").unwrap_or(text).trim().to_owned()),
    })
}

/// Everything about a run that its console told.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// All verdicts; a sound run has one.
    pub(crate) verdicts: Vec<Verdict>,
    /// What the kernel complained of, with the line.
    pub(crate) troubles: Vec<(Trouble, String)>,
    /// The guest's lines that begin with `AUDIT` or `TABLE`.
    pub(crate) kept: Vec<String>,
    /// The tests' own summary line.
    pub(crate) summary: Option<String>,
}

impl Transcript {
    /// Takes a line in; gives the trouble that it told of.
    pub(crate) fn take(&mut self, line: &str) -> Option<Trouble> {
        if let Some(trouble) = trouble(line) {
            self.troubles.push((trouble, line.to_owned()));
            return Some(trouble);
        }
        if let Some(verdict) = verdict(line) {
            self.verdicts.push(verdict);
        } else if line.starts_with("AUDIT") || line.starts_with("TABLE") {
            self.kept.push(line.to_owned());
        } else if crate::tally::e2e_summary(line).is_some() {
            self.summary = Some(line.to_owned());
        }
        None
    }

    /// The judgement of the whole run: what was wrong with it, if anything.
    /// `ending` is why the run ended, if not by itself.
    pub(crate) fn fault(&self, ending: Option<&str>) -> Option<String> {
        let first = self.troubles.iter().find(|(trouble, _)| trouble.is_fatal());
        if let Some((trouble, line)) = first.or(self.troubles.first()) {
            let count = self.troubles.len();
            let more = if count > 1 {
                format!(" (and {} more)", count - 1)
            } else {
                String::new()
            };
            return Some(format!("{}{more}: {line}", trouble.name()));
        }
        match (self.verdicts.as_slice(), ending) {
            ([Verdict::Fail(why)], _) => Some(why.clone()),
            (_, Some(ending)) => Some(ending.to_owned()),
            ([Verdict::Pass { .. }], None) => None,
            ([], None) => Some("the guest ended without a verdict".to_owned()),
            (many, None) => Some(format!("the guest gave {} verdicts", many.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_markers_are_known() {
        for (line, expected) in [
            ("[    3.1] Kernel panic - not syncing: x", None),
            (
                "[    3.123456] Kernel panic - not syncing: Fatal exception",
                Some(Trouble::Panic),
            ),
            (
                "[   30.000001] watchdog: BUG: soft lockup - CPU#0 stuck for 61s!",
                Some(Trouble::Lockup),
            ),
            (
                "[   30.000001] rcu: INFO: rcu_preempt self-detected stall on CPU",
                Some(Trouble::Stall),
            ),
            (
                "[   30.000001] BUG: unable to handle page fault for address: 0",
                Some(Trouble::Oops),
            ),
            ("[   30.000001] Oops: 0002 [#1] SMP", Some(Trouble::Oops)),
            (
                "[   30.000001] INFO: task a:1 blocked for more than 120 seconds.",
                Some(Trouble::Lockup),
            ),
            (
                "[   30.000001] WARNING: CPU: 1 PID: 7 at net/core/stream.c:207 f+0x1/0x2",
                Some(Trouble::Warning),
            ),
            (
                "[   30.000001][    T7] WARNING: net/ipv4/tcp.c:1 at f",
                Some(Trouble::Warning),
            ),
            (
                "ok truesize[1.5] [   30.000001] WARNING: CPU: 1",
                Some(Trouble::Warning),
            ),
            ("[    0.000001] Linux version 6.1.0", None),
            ("WARNING: a program said so", None),
            ("test panics::Oops: ok", None),
        ] {
            assert_eq!(trouble(line), expected, "{line}");
        }
    }

    #[test]
    fn firmware_controls_are_taken_out() {
        assert_eq!(plain(b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS\r"), "SeaBIOS");
        assert_eq!(plain("a\tµ\u{7}".as_bytes()), "a\tµ");
    }

    #[test]
    fn one_verdict_and_no_trouble_is_a_pass() {
        let mut run = Transcript::default();
        for line in [
            "x ok",
            "AUDIT a",
            "TABLE b",
            "3 passed, 0 failed",
            "VM-VERDICT: pass 3",
        ] {
            assert_eq!(run.take(line), None);
        }
        assert_eq!(run.kept, ["AUDIT a", "TABLE b"]);
        assert_eq!(run.summary.as_deref(), Some("3 passed, 0 failed"));
        assert_eq!(run.fault(None), None);
        assert_eq!(run.fault(Some("no output")).as_deref(), Some("no output"));
    }

    #[test]
    fn a_warning_fails_a_run_that_passed_and_its_line_is_shown() {
        let mut run = Transcript::default();
        run.take("VM-VERDICT: pass 3");
        assert_eq!(
            run.take("[    1.000000] WARNING: CPU: 0 PID: 1"),
            Some(Trouble::Warning)
        );
        let fault = run.fault(None).expect("a fault");
        assert!(fault.starts_with("kernel warning: [    1.0"), "{fault}");
    }

    #[test]
    fn no_verdict_two_verdicts_and_a_bad_one_are_faults() {
        let mut run = Transcript::default();
        assert!(
            run.fault(None)
                .expect("a fault")
                .contains("without a verdict")
        );
        run.take("VM-VERDICT: fail 2 passed, 1 failed");
        assert_eq!(
            run.fault(Some("time limit")).as_deref(),
            Some("2 passed, 1 failed")
        );
        run.take("VM-VERDICT: pass 3");
        assert!(run.fault(None).expect("a fault").contains("2 verdicts"));
        assert_eq!(
            verdict("VM-VERDICT: nonsense"),
            Some(Verdict::Fail("nonsense".to_owned()))
        );
    }
}

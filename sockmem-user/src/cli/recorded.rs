//! What commands over recordings do alike: opening one, moments in it, being interrupted.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::units;
use crate::recording::{Ending, Reader};
use crate::sinks::escape::escape;
use crate::sinks::text;

/// A moment of a recording, as it is written on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// `10s`: so long after the start. ns.
    AfterStart(u64),
    /// `-10s`: so long before the end. ns.
    BeforeEnd(u64),
}

impl When {
    /// Reads `10s` or `-10s`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<When, String> {
        let (from_end, span) = match text.strip_prefix('-') {
            Some(span) => (true, span),
            None => (false, text),
        };
        let span = units::parse_duration(span).map_err(|e| e.to_string())?;
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Ok(if from_end {
            When::BeforeEnd(ns)
        } else {
            When::AfterStart(ns)
        })
    }

    /// As `CLOCK_MONOTONIC` of a recording from `start_ns` to `end_ns`.
    pub(super) fn at(self, start_ns: u64, end_ns: u64) -> u64 {
        match self {
            When::AfterStart(ns) => start_ns.saturating_add(ns),
            When::BeforeEnd(ns) => end_ns.saturating_sub(ns).max(start_ns),
        }
    }
}

/// A path as it may be printed.
pub(super) fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy(), false).into_owned()
}

/// Opens a recording and reads its head.
pub(super) fn open(path: &Path) -> anyhow::Result<Reader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("opening {}", shown(path)))?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        bail!("{} is a directory, not a recording", shown(path));
    }
    Reader::open(BufReader::with_capacity(1 << 18, file)).with_context(|| shown(path))
}

/// Until when the recording tells (`CLOCK_MONOTONIC`): reads it from its last keyframe on.
pub(super) fn end_ns(path: &Path) -> anyhow::Result<u64> {
    let mut reader = open(path)?;
    let mut last_ns = reader.seek(u64::MAX).with_context(|| shown(path))?;
    while let Some((t_ns, _)) = reader.next().with_context(|| shown(path))? {
        last_ns = last_ns.max(t_ns);
    }
    Ok(match reader.ending() {
        Ending::Clean { end_mono_ns, .. } => end_mono_ns,
        Ending::Truncated { .. } => last_ns,
    })
}

/// Says on stderr where a recording was cut off.
pub(super) fn warn_of_truncation(path: &Path, start_ns: u64, ending: &Ending) {
    if let Ending::Truncated {
        why, lost_after_ns, ..
    } = ending
    {
        eprintln!(
            "sockmem-trace: {} was cut off ({why}): nothing is known after {} of it",
            shown(path),
            text::span(lost_after_ns.saturating_sub(start_ns))
        );
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Listens from now on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Whether one came.
    pub(super) async fn came(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.next() => true,
            // The runtime looks for signals when there is nothing else to do.
            () = tokio::task::yield_now() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_count_from_either_end_and_stay_within() {
        let at = |text: &str| When::parse(text).map(|w| w.at(100, 5_000_000_000));
        assert_eq!(at("1s"), Ok(1_000_000_100));
        assert_eq!(at("-1s"), Ok(4_000_000_000));
        assert_eq!(at("-1h"), Ok(100));
        for (text, says) in [("10", "needs a unit"), ("", "number"), ("--1s", "number")] {
            let e = When::parse(text).unwrap_err();
            assert!(e.contains(says), "{text}: {e}");
        }
    }
}

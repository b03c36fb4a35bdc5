//! `replay`: the live view over a recording.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::args::{Output, parse_interval};
use super::exit::Exit;
use super::live::{Picture, Printer};
use super::recorded::{self, Interrupts, When};
use crate::model::{Input, Model};
use crate::recording::{Ending, Header, Reader};
use crate::sinks::HostFacts;

/// Inputs between two looks for signals.
const LOOK: u64 = 1 << 16;

pub(super) const SHORT_EXAMPLES: &str = "\
Example: sockmem-trace replay a.smt --from 10s --speed 4
--help says more.";

pub(super) const NOTES: &str = "\
Examples:
  sockmem-trace replay a.smt                              as it was, at the speed at which it was
  sockmem-trace replay a.smt --from -30s --speed max      the last 30 seconds, at once
  sockmem-trace replay a.smt --format json --speed max    the lines that live would have printed

T is a time after the start of the recording (10s), or before its end (-10s).
A picture is shown at each reading of all sockets that was recorded, not more often than
--interval. It is the picture of that moment: --from skips pictures, not history. Peaks, means and
the answer count from when a socket was first seen.
No privilege is needed, and nothing is asked of this host.
Exit status: 0 done, also after Ctrl-C; 2 wrong usage, or what cannot be read.";

/// Arguments of `replay`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ReplayArgs {
    /// The recording
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The first picture; before it nothing is shown
    #[arg(long, value_name = "T", value_parser = When::parse, allow_hyphen_values = true, help_heading = "Replay")]
    pub from: Option<When>,
    /// The last moment; the summary tells of the time up to it
    #[arg(long, value_name = "T", value_parser = When::parse, allow_hyphen_values = true, help_heading = "Replay")]
    pub to: Option<When>,
    /// How many times as fast as it was, such as 0.5 or 10; `max`: without pauses
    #[arg(long, value_name = "N", default_value = "1", value_parser = Speed::parse, help_heading = "Replay")]
    pub speed: Speed,
    /// Recorded time between two pictures
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval, help_heading = "Replay")]
    pub interval: Duration,
    /// Lines of text instead of the full screen
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
    /// Every socket in the table, not only those that hold most
    #[arg(long, help_heading = "Output")]
    pub all_sockets: bool,
    /// Format, colour, verbosity.
    #[command(flatten)]
    pub output: Output,
}

/// How fast recorded time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many times as fast.
    Times(f64),
    /// Without pauses.
    Max,
}

impl Speed {
    fn parse(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        let times: Option<f64> = text.trim_end_matches('x').parse().ok();
        match times.filter(|n| (0.001..=1e6).contains(n)) {
            Some(n) => Ok(Speed::Times(n)),
            None => Err("write a number from 0.001 to 1000000, or max".to_owned()),
        }
    }

    /// How long `ns` of recorded time take; `None`: no time.
    fn span(self, ns: u64) -> Option<Duration> {
        match self {
            // Below a nanosecond per century of recorded time.
            Speed::Times(n) => Some(Duration::from_nanos((ns as f64 / n) as u64)),
            Speed::Max => None,
        }
    }
}

/// When pictures are due. As in a live trace, one is taken when all sockets were read (a scan,
/// and what is learned with it), so that it is complete; where no scan comes, at its time.
#[derive(Debug)]
struct Moments {
    interval_ns: u64,
    due_ns: u64,
    /// A scan ended; what belongs to it may follow.
    round: bool,
    last_ns: u64,
}

impl Moments {
    fn new(first_ns: u64, interval: Duration) -> Self {
        Moments {
            interval_ns: u64::try_from(interval.as_nanos())
                .unwrap_or(u64::MAX)
                .max(1),
            due_ns: first_ns,
            round: false,
            last_ns: 0,
        }
    }

    /// The picture to be taken before an input of `t_ns` is; to be asked again after each.
    fn before(&mut self, t_ns: u64, input: &Input<'_>) -> Option<u64> {
        let belongs = matches!(
            input,
            Input::Process { .. }
                | Input::Host(_)
                | Input::Pressure(_)
                | Input::Loss(_)
                | Input::Truesize(_)
        );
        if self.round && !belongs {
            self.round = false;
            // Rounds come a little early or late.
            if self.last_ns.saturating_add(self.interval_ns / 10) >= self.due_ns {
                return Some(self.take(self.last_ns));
            }
        }
        let late_ns = self.due_ns.saturating_add(self.interval_ns / 2);
        (!self.round && t_ns > late_ns).then(|| self.take(late_ns))
    }

    fn take(&mut self, at_ns: u64) -> u64 {
        let passed = at_ns.saturating_sub(self.due_ns) / self.interval_ns;
        self.due_ns = self
            .due_ns
            .saturating_add((passed + 1).saturating_mul(self.interval_ns));
        // One just before its time has been taken, too.
        if self.due_ns.saturating_sub(at_ns) <= self.interval_ns / 10 {
            self.due_ns = self.due_ns.saturating_add(self.interval_ns);
        }
        at_ns
    }

    /// An input was taken.
    fn after(&mut self, t_ns: u64, scan_done: bool) {
        self.round |= scan_done;
        self.last_ns = self.last_ns.max(t_ns);
    }
}

/// Shows the recording until its end, `--to`, or Ctrl-C; then the summary.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(replay(args))
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<Exit> {
    let mut interrupts = Interrupts::new().context("listening for SIGINT and SIGTERM")?;
    let resized = signal(SignalKind::window_change()).context("listening for SIGWINCH")?;
    let mut reader = recorded::open(&args.file)?;
    let header = reader.header().clone();
    let start_ns = header.start_mono_ns;
    let from_end = [args.from, args.to]
        .iter()
        .any(|w| matches!(w, Some(When::BeforeEnd(_))));
    let end_ns = if from_end {
        recorded::end_ns(&args.file)?
    } else {
        u64::MAX
    };
    let from_ns = args.from.map(|w| w.at(start_ns, end_ns));
    let to_ns = args.to.map_or(u64::MAX, |w| w.at(start_ns, end_ns));
    if let Some(from_ns) = from_ns {
        reader.seek(from_ns.min(to_ns))?;
    }
    let interval_ns = u64::try_from(args.interval.as_nanos()).unwrap_or(u64::MAX);
    let first_ns = from_ns.unwrap_or(start_ns.saturating_add(interval_ns));
    let mut player = Player {
        model: Model::new(header.config()),
        out: Printer::of(
            HostFacts::from(&header.host),
            header.target.clone(),
            &args.output,
            args.all_sockets,
        ),
        moments: Moments::new(first_ns, args.interval),
        speed: args.speed,
        began: (Instant::now(), from_ns.unwrap_or(start_ns)),
        header,
        resized,
    };
    let (at_ns, whole) = player.play(&mut reader, to_ns, &mut interrupts).await?;
    if whole {
        recorded::warn_of_truncation(&args.file, start_ns, &reader.ending());
    }
    player.last(at_ns)?;
    Ok(Exit::Done)
}

struct Player {
    model: Model,
    out: Printer,
    moments: Moments,
    speed: Speed,
    /// When recorded time began to pass, and which it was then.
    began: (Instant, u64),
    header: Header,
    resized: Signal,
}

impl Player {
    fn picture<'a>(model: &'a Model, header: &Header, now_ns: u64) -> Picture<'a> {
        Picture {
            model,
            now_ns,
            now_unix_ns: header.unix_ns(now_ns),
            audit: None,
        }
    }

    fn last(&mut self, at_ns: u64) -> anyhow::Result<()> {
        let picture = Self::picture(&self.model, &self.header, at_ns);
        self.out.last(&picture)
    }

    /// Plays up to `to_ns`. Returns up to when it came, and whether that is the recording's end.
    async fn play(
        &mut self,
        reader: &mut Reader<BufReader<File>>,
        to_ns: u64,
        interrupts: &mut Interrupts,
    ) -> anyhow::Result<(u64, bool)> {
        let mut taken = 0u64;
        while let Some((t_ns, input)) = reader.next()? {
            if t_ns > to_ns {
                return Ok((to_ns, false));
            }
            while let Some(at_ns) = self.moments.before(t_ns, &input) {
                if !self.show(at_ns, interrupts).await? {
                    return Ok((at_ns, false));
                }
            }
            let scan_done = matches!(input, Input::ScanDone { .. });
            self.model.feed(input);
            self.moments.after(t_ns, scan_done);
            taken += 1;
            if taken.is_multiple_of(LOOK) && interrupts.came().await {
                return Ok((self.moments.last_ns, false));
            }
        }
        Ok(match reader.ending() {
            Ending::Clean { end_mono_ns, .. } => (end_mono_ns.min(to_ns), true),
            Ending::Truncated { .. } => (self.moments.last_ns, true),
        })
    }

    /// Shows the picture of `at_ns` when its time has come. False where somebody wants to end it.
    async fn show(&mut self, at_ns: u64, interrupts: &mut Interrupts) -> anyhow::Result<bool> {
        let (wall, recorded_ns) = self.began;
        match self.speed.span(at_ns.saturating_sub(recorded_ns)) {
            Some(span) => {
                let time = sleep_until(wall + span);
                tokio::pin!(time);
                loop {
                    tokio::select! {
                        () = interrupts.next() => return Ok(false),
                        _ = self.resized.recv() => self.out.resized(),
                        () = &mut time => break,
                    }
                }
            }
            None if interrupts.came().await => return Ok(false),
            None => {}
        }
        let picture = Self::picture(&self.model, &self.header, at_ns);
        self.out.interval(&picture)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Loss;

    const S: u64 = 1_000_000_000;
    const LOSS: Input<'static> = Input::Loss(&Loss {
        seen: 0,
        sent: 0,
        merged: 0,
        dropped_ring: 0,
        dropped_map: 0,
        lost_closed: 0,
        recursion_misses: None,
    });

    /// Pictures of rounds at these times, each a scan and what belongs to it.
    fn pictures(rounds: &[u64], first_ns: u64, interval: Duration) -> Vec<u64> {
        let mut moments = Moments::new(first_ns, interval);
        let mut shown = Vec::new();
        for &t_ns in rounds {
            let scan = Input::ScanDone { began_ns: t_ns };
            for (at_ns, input) in [(t_ns, scan), (t_ns + 5, LOSS)] {
                while let Some(picture) = moments.before(at_ns, &input) {
                    shown.push(picture);
                }
                moments.after(at_ns, matches!(input, Input::ScanDone { .. }));
            }
        }
        shown
    }

    #[test]
    fn a_picture_is_taken_when_a_round_is_complete() {
        let rounds: Vec<u64> = [100, 1003, 1999, 3010, 4000]
            .map(|ms| ms * 1_000_000)
            .into();
        let of = |ms: u64| ms * 1_000_000 + 5;
        let each = pictures(&rounds, S, Duration::from_secs(1));
        assert_eq!(
            each,
            [of(1003), of(1999), of(3010)],
            "the last one is the summary's"
        );
        let second = pictures(&rounds, 2 * S, Duration::from_secs(2));
        assert_eq!(second, [of(1999)]);
    }

    #[test]
    fn where_no_round_comes_time_passes_all_the_same() {
        let shown = pictures(&[S, 4 * S], S, Duration::from_millis(1000));
        assert_eq!(shown, [S + 5, 2 * S + S / 2, 3 * S + S / 2]);
        let fine = pictures(&[S, 2 * S], S, Duration::from_millis(500));
        assert_eq!(fine, [S + 5, S + 750_000_000]);
    }

    #[test]
    fn nothing_is_shown_before_the_first_moment() {
        let rounds: Vec<u64> = (1..6).map(|n| n * S).collect();
        let shown = pictures(&rounds, 3 * S, Duration::from_secs(1));
        assert_eq!(shown, [3 * S + 5, 4 * S + 5]);
    }

    #[test]
    fn speeds() {
        assert_eq!(Speed::parse("max"), Ok(Speed::Max));
        assert_eq!(Speed::parse("2"), Ok(Speed::Times(2.0)));
        for wrong in ["0", "-1", "NaN", "inf", "fast", ""] {
            assert!(Speed::parse(wrong).is_err(), "{wrong}");
        }
        let half = Speed::Times(0.5).span(S);
        assert_eq!(half, Some(Duration::from_secs(2)));
        assert_eq!(Speed::Max.span(S), None);
    }
}

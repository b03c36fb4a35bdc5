//! The full screen of `live`: what the run loop and the screen's thread have to do with each other.

use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Format, LiveArgs};
use super::live::look;
use super::record;
use super::screen::{self, Screen, Told};
use super::session::Session;
use super::trace::Wish;
use crate::host::clock;
use crate::host::info::page_size;
use crate::host::sockstat::Sums;
use crate::sinks::screen::{Options, Picture, Recording};
use crate::sinks::text;

/// A screen, and the signals that concern it alone: without it they keep their usual effect
/// (`nohup` must keep a trace without a screen alive).
pub(super) struct Face {
    screen: Screen,
    hang_up: Signal,
    quit: Signal,
    stop: Signal,
    go_on: Signal,
    /// The file that is being written.
    file: Option<String>,
    /// What there is to say about recording.
    said: Option<String>,
    target: String,
    /// The terminal has gone: there is none to print the answer on.
    pub(super) hung_up: bool,
}

impl Face {
    /// Takes the terminal, where `args` and the terminal are such; `None` where lines are printed.
    pub(super) fn start(args: &LiveArgs, session: &Session) -> anyhow::Result<Option<Face>> {
        let wanted = args.output.format == Format::Text && !args.plain;
        if !wanted || !screen::fits(std::env::var_os("TERM").as_deref()) {
            return Ok(None);
        }
        let listen = |kind: SignalKind| signal(kind).context("listening for signals");
        let options = Options {
            target: args.trace.target.describe(),
            look: look(&args.output, true),
            notes: session.trace.notes.clone(),
        };
        let face = Face {
            hang_up: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            stop: listen(SignalKind::from_raw(libc::SIGTSTP))?,
            go_on: listen(SignalKind::from_raw(libc::SIGCONT))?,
            screen: Screen::start(options)
                .context("taking the terminal for the full screen; --plain does without")?,
            file: args.record.as_ref().map(|path| path.display().to_string()),
            said: None,
            target: args.trace.target.describe(),
            hung_up: false,
        };
        face.show(session);
        Ok(Some(face))
    }

    /// Shows the picture now.
    pub(super) fn show(&self, session: &Session) {
        let now_ns = clock::now_ns();
        // Without a model there is nothing to show: a trace with a screen always has one.
        let Some(model) = session.model() else { return };
        let pages = Sums::read().ok().map(|sums| sums.v4.tcp.mem_pages);
        self.screen.show(Picture {
            view: model.view(now_ns, session.unix_ns(now_ns)),
            host_tcp_bytes: pages.map(|n| n.saturating_mul(page_size())),
            recording: self
                .file
                .clone()
                .zip(session.recorded())
                .map(|(file, counts)| Recording {
                    file,
                    bytes: counts.bytes,
                }),
            said: self.said.clone(),
        });
    }

    /// Starts a recording, or ends the one that runs. What fails is said, and ends nothing.
    pub(super) fn record(&mut self, session: &mut Session) {
        let done = match self.file.take() {
            None => self.start_recording(session),
            Some(file) => session.close_recording(clock::now_ns()).map(|counts| {
                let bytes = counts.unwrap_or_default().bytes;
                format!("recorded {} into {file}", text::bytes(bytes))
            }),
        };
        self.said = match done {
            Ok(words) => Some(words).filter(|w| !w.is_empty()),
            Err(e) => {
                session.drop_recording();
                self.file = None;
                Some(format!("NOT RECORDED: {e:#}"))
            }
        };
        self.show(session);
    }

    fn start_recording(&mut self, session: &mut Session) -> anyhow::Result<String> {
        let now = clock::to_unix_ns(clock::now_ns(), clock::realtime_offset_ns());
        let moment = text::moment(now).replace(' ', "T").replace(':', "");
        let file = format!("sockmem-{moment}.smt");
        let maker = record::maker(Path::new(&file), false, &self.target, None)?;
        session.start_recording(maker)?;
        self.file = Some(file);
        Ok(String::new())
    }

    /// The recording cannot go on; the trace does.
    pub(super) fn recording_failed(&mut self, session: &mut Session, e: &anyhow::Error) {
        session.drop_recording();
        let file = self.file.take().unwrap_or_default();
        self.said = Some(format!("RECORDING into {file} HAS ENDED: {e:#}"));
        self.show(session);
    }

    /// Waits until the user wants something of the run loop.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) async fn wish(&mut self) -> anyhow::Result<Wish> {
        loop {
            tokio::select! {
                told = self.screen.told() => {
                    return Ok(match told.context("the full screen")? {
                        Told::Quit => Wish::End,
                        Told::Record => Wish::Record,
                    });
                }
                _ = self.hang_up.recv() => {
                    self.hung_up = true;
                    return Ok(Wish::End);
                }
                _ = self.quit.recv() => return Ok(Wish::End),
                _ = self.stop.recv() => self.screen.suspend(),
                _ = self.go_on.recv() => self.screen.resume(),
            }
        }
    }
}

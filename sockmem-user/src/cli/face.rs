//! The full screen of `live`: what the run loop and the screen's thread have to do with each other.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::{Format, LiveArgs};
use super::live::look;
use super::screen::{self, Screen};
use super::session::Session;
use super::trace::Wish;
use crate::host::info::page_size;
use crate::host::sockstat::Sums;
use crate::sinks::screen::{Options, Picture};

/// A screen, and the signals that concern it alone: without it they keep their usual effect
/// (`nohup` must keep a trace without a screen alive).
pub(super) struct Face {
    screen: Screen,
    hang_up: Signal,
    quit: Signal,
    stop: Signal,
    go_on: Signal,
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
            hung_up: false,
        };
        face.show(session);
        Ok(Some(face))
    }

    /// Shows the picture now.
    pub(super) fn show(&self, session: &Session) {
        let pages = Sums::read().ok().map(|sums| sums.v4.tcp.mem_pages);
        self.screen.show(Picture {
            view: session.view(),
            host_tcp_bytes: pages.map(|n| n.saturating_mul(page_size())),
        });
    }

    /// Waits until the trace is to end.
    ///
    /// # Errors
    /// Those of the terminal.
    pub(super) async fn wish(&mut self) -> anyhow::Result<Wish> {
        loop {
            tokio::select! {
                quit = self.screen.quits() => {
                    quit.context("the full screen")?;
                    return Ok(Wish::End);
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

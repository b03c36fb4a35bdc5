//! The thread and the terminal. What needs a terminal runs in a child, this same program, that
//! gets one for itself.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use super::*;
use crate::model::{Config, Model};

#[test]
fn keys_of_the_terminal_become_keys_of_the_screen() {
    let none = KeyModifiers::NONE;
    assert_eq!(
        key(KeyCode::Char('?'), KeyModifiers::SHIFT),
        Some(Key::Char('?'))
    );
    assert_eq!(
        key(KeyCode::Char('C'), KeyModifiers::CONTROL),
        Some(Key::Ctrl('c'))
    );
    assert_eq!(key(KeyCode::Char('q'), KeyModifiers::ALT), None);
    assert_eq!(key(KeyCode::Esc, none), Some(Key::Esc));
    assert_eq!(key(KeyCode::F(1), none), None);
}

#[test]
fn a_dumb_terminal_gets_lines() {
    assert!(!fits(None));
    assert!(!fits(Some(OsStr::new("dumb"))));
}

#[test]
fn without_a_screen_nothing_is_held_back() {
    assert_eq!(hold("x".to_owned()), Some("x".to_owned()));
}

fn picture(duration_ns: u64) -> Picture {
    Picture {
        view: Model::new(Config::default()).view(duration_ns, duration_ns),
        host_tcp_bytes: None,
        recording: None,
        said: None,
    }
}

/// A child on a terminal of its own, and this end of it.
struct OnTerminal {
    child: Child,
    terminal: File,
    /// The child's end, to ask for its modes.
    theirs: OwnedFd,
    before: Termios,
}

/// Runs the ignored test of that name.
fn on_terminal(name: &str) -> OnTerminal {
    let size = Winsize {
        ws_row: 50,
        ws_col: 200,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).expect("a terminal");
    let before = tcgetattr(&pty.slave).expect("its modes");
    let theirs = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .arg(format!("cli::screen::tests::{name}"))
        .env("TERM", "xterm")
        .env("RUST_BACKTRACE", "0")
        .stdin(theirs())
        .stdout(theirs())
        .stderr(theirs())
        .spawn()
        .expect("a child");
    OnTerminal {
        child,
        terminal: File::from(pty.master),
        theirs: pty.slave,
        before,
    }
}

impl OnTerminal {
    /// Reads until the child has ended; everything that it wrote.
    fn read(mut self) -> (ExitStatus, String) {
        let mut terminal = self.terminal.try_clone().expect("a descriptor");
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            let mut some = [0; 4096];
            // An error: the last of them has closed its end.
            while let Ok(n) = terminal.read(&mut some)
                && n > 0
            {
                all.extend_from_slice(&some[..n]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        let status = self.child.wait().expect("its end");
        self.modes_are_back();
        drop((self.theirs, self.terminal));
        (status, reader.join().expect("what it wrote"))
    }

    fn modes_are_back(&self) {
        let now = tcgetattr(&self.theirs).expect("its modes");
        assert!(self.before.local_flags.contains(LocalFlags::ECHO));
        assert_eq!(self.before, now);
    }
}

const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

#[test]
#[ignore = "runs in a child on a terminal of its own"]
fn panics() {
    if !io::stdout().is_terminal() {
        return;
    }
    let screen = Screen::start(Options::default()).expect("a screen");
    screen.show(picture(1));
    let screen = std::panic::AssertUnwindSafe(screen);
    // Another thread than the one that draws.
    thread::spawn(move || {
        let _screen = screen;
        panic!("as if by mistake");
    })
    .join()
    .expect_err("it panicked");
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_is_told() {
    let (status, wrote) = on_terminal("panics").read();
    assert!(status.success(), "{wrote}");
    let at = |what: &str| {
        wrote
            .find(what)
            .unwrap_or_else(|| panic!("{what:?} in {wrote:?}"))
    };
    assert!(at(TAKEN) < at(GIVEN_BACK), "{wrote:?}");
    assert!(at(GIVEN_BACK) < at("as if by mistake"), "{wrote:?}");
    assert!(!wrote[at(GIVEN_BACK)..].contains(TAKEN), "{wrote:?}");
    // This terminal answers no question; none is to be asked.
    assert!(!wrote.contains("\x1b[6n"), "{wrote:?}");
}

#[test]
#[ignore = "runs in a child on a terminal of its own"]
fn draws_what_nobody_reads() {
    if !io::stdout().is_terminal() {
        return;
    }
    let screen = Screen::start(Options::default()).expect("a screen");
    // Each picture makes the thread redraw everything; the terminal's queue holds some of them.
    for n in 0..200 {
        screen.show(picture(n * 1_000_000_000));
        screen.resume();
        thread::sleep(Duration::from_millis(5));
    }
    let held_up = terminal::is_held();
    drop(screen);
    assert!(held_up, "the thread was to wait for the terminal");
}

#[test]
fn a_terminal_that_takes_nothing_holds_nothing_else_up() {
    let mut on = on_terminal("draws_what_nobody_reads");
    // It is not read until the child has ended.
    let status = on.child.wait().expect("its end");
    on.modes_are_back();
    let (_, wrote) = on.read();
    assert!(status.success(), "{wrote:?}");
    assert!(wrote.contains(GIVEN_BACK), "{wrote:?}");
}

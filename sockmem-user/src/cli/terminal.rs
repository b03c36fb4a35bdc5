//! The terminal of a full screen: taken, and given back on every way out.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, TryLockError};
use std::thread;
use std::time::Duration;

use nix::sys::termios::{FlushArg, tcflush};
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};

/// Whether the terminal is taken.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Whether it may be taken (again): not once the program is on its way out.
static OVER: AtomicBool = AtomicBool::new(false);
/// Held by whoever changes the terminal or draws on it.
static IN_USE: Mutex<()> = Mutex::new(());

/// Stdout without its lock and its buffer: who gives the terminal up must get past a thread that
/// waits in the middle of writing.
#[derive(Debug)]
pub(super) struct Tty;

impl Write for Tty {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(io::stdout(), buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `f` alone on the terminal, if it is (still) to be used.
pub(super) fn alone<T>(f: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    // A panic while drawing leaves nothing behind that matters here.
    let _held = IN_USE.lock().unwrap_or_else(|e| e.into_inner());
    if OVER.load(Ordering::SeqCst) {
        return Ok(None);
    }
    f().map(Some)
}

/// Whether somebody draws, or waits to, at this moment.
#[cfg(test)]
pub(super) fn is_held() -> bool {
    matches!(IN_USE.try_lock(), Err(TryLockError::WouldBlock))
}

/// Takes the terminal: raw input, a screen of its own, no cursor. Nothing where it is taken,
/// save that the terminal is told again: the shell may have changed it meanwhile.
///
/// # Errors
/// Those of the terminal.
pub(super) fn take(mouse: bool) -> io::Result<()> {
    static HOOK: Once = Once::new();
    HOOK.call_once(give_back_on_panic);
    alone(|| {
        TAKEN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(Tty, EnterAlternateScreen, cursor::Hide)?;
        if mouse {
            execute!(Tty, EnableMouseCapture)?;
        }
        Ok(())
    })
    .map(drop)
}

/// Takes the mouse, or leaves it to the terminal.
pub(super) fn mouse(taken: bool) -> io::Result<()> {
    alone(|| {
        if taken {
            execute!(Tty, EnableMouseCapture)
        } else {
            execute!(Tty, DisableMouseCapture)
        }
    })
    .map(drop)
}

/// Makes the screen blank.
pub(super) fn clear() -> io::Result<()> {
    alone(|| execute!(Tty, Clear(ClearType::All))).map(drop)
}

/// Gives the terminal back for a while.
pub(super) fn give_back() -> io::Result<()> {
    alone(give_back_now).map(drop)
}

/// Gives the terminal back for good: nobody draws from now on. Whatever holds it up (a thread
/// that waits for a terminal that does not take its bytes) is not waited for for long.
pub(super) fn give_up() {
    OVER.store(true, Ordering::SeqCst);
    let free = || !matches!(IN_USE.try_lock(), Err(TryLockError::WouldBlock));
    let mut tries = 0..40;
    while !free() {
        if tries.next().is_none() {
            // What the terminal has not taken by now would leave no room for the last words.
            let _ = tcflush(io::stdout(), FlushArg::TCOFLUSH);
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Nobody is left to be told of an error.
    let _ = give_back_now();
}

fn give_back_now() -> io::Result<()> {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return Ok(());
    }
    // The modes first: they need no room in the terminal's queue.
    let modes = disable_raw_mode();
    execute!(Tty, DisableMouseCapture, LeaveAlternateScreen, cursor::Show)?;
    modes
}

/// A panic's message belongs on a terminal that shows it.
fn give_back_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        give_up();
        before(info);
    }));
}

//! The thread that owns the terminal. It reads keys, keeps the state and draws; the run loop hands
//! it pictures through a slot that holds the newest and never waits for it.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal as _};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm;
use ratatui::crossterm::event::{
    self, Event, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::terminal::{self, Tty};
use crate::sinks::screen::keys::{Key, Mouse};
use crate::sinks::screen::{App, Effect, Options, Picture};

/// How often the slot is looked into when no key is pressed.
const LOOK: Duration = Duration::from_millis(50);
/// At least this long between two frames.
const FRAME: Duration = Duration::from_millis(40);
/// The longest that the end waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);
/// Lines for stderr that are held back while the screen is up.
const MAX_HELD: usize = 1000;

/// Lines for stderr that wait for the end of the screen; `None`: there is none.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// What the run loop tells the thread.
#[derive(Debug, Default)]
struct Slot {
    picture: Option<Arc<Picture>>,
    suspend: bool,
    resume: bool,
    stop: bool,
}

/// A running full screen. Dropping it gives the terminal back.
pub(super) struct Screen {
    slot: Arc<Mutex<Slot>>,
    thread: Option<JoinHandle<()>>,
    told: UnboundedReceiver<io::Result<Told>>,
}

/// What the thread tells the run loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The user wants the end.
    Quit,
    /// The user wants recording to start or to stop.
    Record,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in these is whole between any two statements.
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// Whether this terminal can hold a full screen, given `TERM`.
pub(super) fn fits(term: Option<&OsStr>) -> bool {
    let able = term.is_some_and(|t| !t.is_empty() && t != "dumb");
    // Without a terminal on stdin keys are read from the controlling one.
    able && io::stdout().is_terminal()
        && (io::stdin().is_terminal() || std::fs::File::open("/dev/tty").is_ok())
}

/// Holds a line for stderr back until the screen is gone; gives it back where there is none.
pub(super) fn hold(line: String) -> Option<String> {
    match lock(&HELD).as_mut() {
        None => return Some(line),
        Some(lines) if lines.len() < MAX_HELD => lines.push(line),
        Some(_) => {}
    }
    None
}

impl Screen {
    /// Takes the terminal and starts the thread.
    ///
    /// # Errors
    /// When the terminal cannot be taken; it is as it was then.
    pub(super) fn start(options: Options) -> io::Result<Screen> {
        if let Err(e) = terminal::take(true) {
            terminal::give_up();
            return Err(e);
        }
        *lock(&HELD) = Some(Vec::new());
        let slot = Arc::new(Mutex::new(Slot::default()));
        let (tell, told) = unbounded_channel();
        let theirs = Arc::clone(&slot);
        let thread = thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || run(App::new(options), &theirs, &tell));
        let mut screen = Screen {
            slot,
            thread: None,
            told,
        };
        // On an error the drop gives the terminal back.
        screen.thread = Some(thread?);
        Ok(screen)
    }

    /// Hands over the next picture; the one before, if it was not yet taken, is not shown.
    pub(super) fn show(&self, picture: Picture) {
        lock(&self.slot).picture = Some(Arc::new(picture));
    }

    /// Waits for what the user wants of the run loop.
    ///
    /// # Errors
    /// Those of the terminal, and a thread that has ended by a panic.
    pub(super) async fn told(&mut self) -> io::Result<Told> {
        match self.told.recv().await {
            Some(told) => told,
            None => Err(io::Error::other("the full screen ended unexpectedly")),
        }
    }

    /// Gives the terminal back and stops the process (SIGTSTP).
    pub(super) fn suspend(&self) {
        lock(&self.slot).suspend = true;
    }

    /// Takes the terminal again (SIGCONT).
    pub(super) fn resume(&self) {
        lock(&self.slot).resume = true;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        lock(&self.slot).stop = true;
        let began = Instant::now();
        while let Some(thread) = &self.thread
            && !thread.is_finished()
            && began.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(2));
        }
        // A terminal that does not take its bytes holds the thread up; the process ends all the same.
        terminal::give_up();
        for line in lock(&HELD).take().unwrap_or_default() {
            eprintln!("{line}");
        }
    }
}

/// The thread. Ends when told to, or when the terminal fails.
fn run(app: App, slot: &Mutex<Slot>, told: &UnboundedSender<io::Result<Told>>) {
    if let Err(e) = Owner::new(app).and_then(|owner| owner.run(slot, told)) {
        // Without a receiver the end has begun.
        let _ = told.send(Err(e));
    }
}

type Canvas = Terminal<CrosstermBackend<BufWriter<Tty>>>;

/// The place that the terminal has now.
fn size() -> io::Result<Rect> {
    let (width, height) = crossterm::terminal::size()?;
    Ok(Rect::new(0, 0, width, height))
}

/// A canvas on which nothing is drawn.
fn blank(area: Rect) -> io::Result<Canvas> {
    let out = BufWriter::with_capacity(1 << 16, Tty);
    let viewport = Viewport::Fixed(area);
    Terminal::with_options(CrosstermBackend::new(out), TerminalOptions { viewport })
}

struct Owner {
    app: App,
    terminal: Canvas,
    mouse: bool,
}

impl Owner {
    fn new(app: App) -> io::Result<Owner> {
        Ok(Owner {
            app,
            terminal: blank(size()?)?,
            mouse: true,
        })
    }

    /// Everything is to be drawn anew, in the size that the terminal has now. ratatui's own ways
    /// (`clear`, and following the size) ask the terminal where its cursor is and wait for the
    /// answer, which one that is slow or merely simple may not give.
    fn renew(&mut self) -> io::Result<()> {
        terminal::clear()?;
        self.terminal = blank(size()?)?;
        Ok(())
    }

    fn run(
        mut self,
        slot: &Mutex<Slot>,
        tell: &UnboundedSender<io::Result<Told>>,
    ) -> io::Result<()> {
        let mut drawn = Instant::now();
        let mut stale = true;
        loop {
            let wait = if stale {
                FRAME.saturating_sub(drawn.elapsed())
            } else {
                LOOK
            };
            let mut ready = event::poll(wait)?;
            while ready {
                let event = event::read()?;
                stale |= !is_motion(&event);
                if let Some(effect) = self.event(&event)
                    && let Some(told) = self.effect(effect)?
                {
                    // Without a receiver the end has begun.
                    let _ = tell.send(Ok(told));
                }
                ready = event::poll(Duration::ZERO)?;
            }
            let told = std::mem::take(&mut *lock(slot));
            if told.stop {
                return terminal::give_back();
            }
            if told.suspend {
                self.suspend()?;
                stale = true;
            }
            if told.resume {
                terminal::take(self.mouse)?;
                self.renew()?;
                stale = true;
            }
            if let Some(picture) = told.picture {
                self.app.show(&picture);
                stale = true;
            }
            if stale && drawn.elapsed() >= FRAME {
                self.draw()?;
                (stale, drawn) = (false, Instant::now());
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        if size()? != self.terminal.get_frame().area() {
            self.renew()?;
        }
        let (app, terminal) = (&mut self.app, &mut self.terminal);
        terminal::alone(|| {
            terminal.draw(|frame| {
                let area = frame.area();
                app.draw(area, frame.buffer_mut());
            })?;
            Ok(())
        })
        .map(drop)
    }

    fn event(&mut self, event: &Event) -> Option<Effect> {
        match event {
            Event::Key(k) if k.kind != KeyEventKind::Release => {
                self.app.key(key(k.code, k.modifiers)?)
            }
            Event::Mouse(m) => {
                let (x, y) = (m.column, m.row);
                let mouse = match m.kind {
                    MouseEventKind::Down(MouseButton::Left) => Mouse::Click { x, y },
                    MouseEventKind::ScrollDown => Mouse::WheelDown,
                    MouseEventKind::ScrollUp => Mouse::WheelUp,
                    _ => return None,
                };
                self.app.mouse(mouse)
            }
            // A resize is noticed when drawing.
            _ => None,
        }
    }

    /// Does it, or says what the run loop is to do.
    fn effect(&mut self, effect: Effect) -> io::Result<Option<Told>> {
        match effect {
            Effect::Quit => return Ok(Some(Told::Quit)),
            Effect::Record => return Ok(Some(Told::Record)),
            Effect::Suspend => self.suspend()?,
            Effect::Redraw => self.renew()?,
            Effect::Mouse(taken) => {
                self.mouse = taken;
                terminal::mouse(taken)?;
            }
        }
        Ok(None)
    }

    /// Gives the terminal back, stops the process, and takes the terminal when it goes on.
    fn suspend(&mut self) -> io::Result<()> {
        terminal::give_back()?;
        // As SIGTSTP would, had it no handler. Sent to this thread, it stops before the next
        // line; sent to the process, another thread might take it, and this one run on meanwhile.
        // Comes back with SIGCONT.
        raise(Signal::SIGSTOP).map_err(io::Error::from)?;
        terminal::take(self.mouse)?;
        self.renew()
    }
}

/// Whether the mouse was merely moved: there is nothing to draw.
fn is_motion(event: &Event) -> bool {
    matches!(event, Event::Mouse(m) if matches!(m.kind, MouseEventKind::Moved | MouseEventKind::Drag(_)))
}

/// The key, where the screen knows it.
fn key(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    if modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    Some(match code {
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => {
            Key::Ctrl(c.to_ascii_lowercase())
        }
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Tab => Key::Tab,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

//! The full screen on a real terminal: tmux's, with a server of its own for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sockmem::sinks::text;

use super::{Case, Cx, ONCE, Place, case};
use crate::actor::Actor;

/// Used as a person uses it, and every way out.
pub(super) fn cases() -> Vec<Case> {
    let host = |case| Case {
        place: Place::Host,
        ..case
    };
    vec![
        host(case("screen_used", ONCE, used)),
        host(case("screen_ways_out", ONCE, ways_out)),
        host(case("screen_hangup", ONCE, hangup)),
    ]
}

/// A terminal with a shell in a folder of its own. Dropping it ends both.
struct Terminal {
    socket: String,
    dir: PathBuf,
}

impl Terminal {
    fn start(name: &str) -> Result<Terminal> {
        let socket = format!("sockmem-e2e-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&socket);
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        let terminal = Terminal { socket, dir };
        let mut command = terminal.command();
        command.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "120",
            "-y",
            "40",
        ]);
        command.args(["-c".as_ref(), terminal.dir.as_os_str()]);
        command.args(["env", "PS1=ready> ", "LC_ALL=C.UTF-8", "sh", "-i"]);
        output(&mut command)?;
        Ok(terminal)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        // One inside of another would be refused.
        command.env_remove("TMUX").args(["-L", &self.socket]);
        command
    }

    fn tmux(&self, args: &[&str]) -> Result<String> {
        output(self.command().args(args))
    }

    /// Presses keys, by tmux's names.
    fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// Types text.
    fn write(&self, words: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", words]).map(drop)
    }

    /// A line for the shell.
    fn line(&self, words: &str) -> Result<()> {
        self.write(words)?;
        self.press(&["Enter"])
    }

    fn seen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits for a screen with all these words.
    fn until(&self, cx: &Cx, words: &[&str]) -> Result<String> {
        loop {
            let seen = self.seen()?;
            if words.iter().all(|w| seen.contains(w)) {
                return Ok(seen);
            }
            cx.left()
                .with_context(|| format!("the screen never had {words:?}; it has\n{seen}"))?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What tmux says of the terminal, by its names of flags.
    fn flags(&self, names: &[&str]) -> Result<String> {
        let format: Vec<String> = names.iter().map(|n| format!("#{{{n}}}")).collect();
        let said = self.tmux(&["display-message", "-p", &format.join(" ")])?;
        Ok(said.trim().to_owned())
    }

    /// Starts the tool; its process id comes to be in the file `pid`.
    fn trace(&self, cx: &Cx, pid: u32) -> Result<()> {
        self.until(cx, &["ready>"])?;
        let tool = std::fs::canonicalize(&cx.tool)?;
        self.line("stty -g > before; clear")?;
        self.line(&format!(
            "sh -c 'echo $$ > pid; exec \"$0\" \"$@\"' '{}' --pid {pid} --tier {} \
             --interval 200ms --idle-after 300ms; echo ENDED $?",
            tool.display(),
            cx.tier_name()
        ))?;
        self.until(cx, &["sockmem-trace", "SOCKETS 1, by RESIDENT"])?;
        let now = self.flags(&["alternate_on", "cursor_flag"])?;
        ensure!(now == "1 0", "a screen of its own, no cursor: {now:?}");
        Ok(())
    }

    /// Checks that the terminal is as it was.
    fn restored(&self, cx: &Cx, what: &str) -> Result<()> {
        let now = self.flags(&["alternate_on", "cursor_flag", "mouse_any_flag"])?;
        ensure!(
            now == "0 1 0",
            "{what}: own screen, cursor, mouse: {now:?}\n{}",
            self.seen()?
        );
        self.line("stty -g > after; echo COMPARED")?;
        self.until(cx, &["\nCOMPARED"])?;
        let modes = |name: &str| std::fs::read_to_string(self.dir.join(name));
        let (before, after) = (modes("before")?, modes("after")?);
        ensure!(before == after, "{what}: modes {before:?} became {after:?}");
        Ok(())
    }

    fn tool(&self) -> Result<Pid> {
        let text = std::fs::read_to_string(self.dir.join("pid")).context("the tool's pid")?;
        Ok(Pid::from_raw(
            text.trim().parse().context("the tool's pid")?,
        ))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Its own server: nobody else's session is in it.
        let _ = self.tmux(&["kill-server"]);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn output(command: &mut Command) -> Result<String> {
    let out = command
        .output()
        .context("tmux is needed; `cargo xtask setup` installs it")?;
    ensure!(
        out.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

fn recordings(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir)?;
    let files: std::io::Result<Vec<_>> = entries.map(|e| e.map(|e| e.path())).collect();
    let is = |p: &PathBuf| p.extension().is_some_and(|e| e == "smt");
    Ok(files?.into_iter().filter(is).collect())
}

/// A process that holds unsent data, looked at, gone into, filtered, paused, recorded, suspended.
fn used(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "unsent")?;
    let terminal = Terminal::start("used")?;
    terminal.trace(cx, actor.pid())?;
    actor.step_to(cx, "idle")?;
    let cookie = actor.fact("cookie.subject")?;
    let readings = actor.report(cx)?;
    let held = readings
        .iter()
        .find(|r| r.cookie == cookie)
        .context("the workload's own reading of its socket")?;
    let wmem_queued = text::bytes(held.mem.wmem_queued.into());
    // The kernel's own number, beneath the answer.
    terminal.until(cx, &["RESIDENT WHILE IDLE: ", &wmem_queued, "unsent"])?;

    terminal.press(&["Enter"])?;
    let term = format!("+ wmem_queued~ {wmem_queued} + forward_alloc~");
    let detail = [
        &term,
        &format!("cookie {cookie} "),
        "window or congestion control holds it back",
        "limit sndbuf~",
        "░░░",
        "BUFFER SIZES",
    ];
    terminal.until(cx, &detail)?;
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"])?;
    terminal.until(cx, &[&term, "more rows: PgDn"])?;
    terminal.press(&["Escape"])?;
    terminal.until(cx, &["SOCKETS 1, by RESIDENT", "q quit"])?;

    terminal.press(&["/"])?;
    terminal.write("nosuch")?;
    terminal.until(cx, &["filter /nosuch", "No row fits the filter"])?;
    terminal.press(&["Escape"])?;
    terminal.until(cx, &["SOCKETS 1, by RESIDENT ─"])?;
    terminal.press(&["Space"])?;
    terminal.until(cx, &["PAUSED"])?;
    terminal.press(&["Space", "?"])?;
    terminal.until(cx, &["HELP", "KEYS"])?;
    // Apart, or a terminal takes the two for one key with Alt.
    terminal.press(&["Escape"])?;
    terminal.until(cx, &["SOCKETS 1, by RESIDENT"])?;
    terminal.press(&["g"])?;
    terminal.until(cx, &["OWNERS ", "answer"])?;

    terminal.press(&["r"])?;
    terminal.until(cx, &["RECORDING ", " into sockmem-"])?;
    terminal.press(&["r"])?;
    terminal.until(cx, &["recorded ", " into sockmem-"])?;
    let files = recordings(&terminal.dir)?;
    ensure!(files.len() == 1, "one recording: {files:?}");
    ensure!(std::fs::metadata(&files[0])?.len() > 0, "it is empty");

    terminal.press(&["C-z"])?;
    terminal.until(cx, &["Stopped", "ready>"])?;
    terminal.restored(cx, "suspended")?;
    // The line that started it went on when it stopped.
    terminal.line("clear; fg; echo CAME $?")?;
    terminal.until(cx, &["OWNERS ", "q quit"])?;
    terminal.press(&["q"])?;
    terminal.until(cx, &["HOW SURE", "CAME 0"])?;
    terminal.restored(cx, "after q")
}

/// Signals that end it; the answer is printed where the shell is.
fn ways_out(cx: &Cx) -> Result<()> {
    let actor = Actor::start(cx, "unsent")?;
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let terminal = Terminal::start(signal.as_str())?;
        terminal.trace(cx, actor.pid())?;
        kill(terminal.tool()?, signal)?;
        terminal.until(cx, &["HOW SURE", "ENDED 0"])?;
        terminal.restored(cx, signal.as_str())?;
    }
    Ok(())
}

/// The terminal goes away: so does the tool, and at once.
fn hangup(cx: &Cx) -> Result<()> {
    let actor = Actor::start(cx, "unsent")?;
    let terminal = Terminal::start("hangup")?;
    terminal.trace(cx, actor.pid())?;
    let tool = terminal.tool()?;
    terminal.tmux(&["kill-server"])?;
    while kill(tool, None).is_ok() {
        cx.left().context("the tool outlives its terminal")?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

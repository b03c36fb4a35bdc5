//! The stage a workload plays on: a child process that obeys its runner line by line.
//!
//! A workload is straight-line code that calls [`Stage::pause`] or [`Stage::rest`] where the
//! runner may act. Each pause prints one JSON line (a [`Message`]) and then waits on stdin for
//! `step` (go on), `report` (print the sockets again) or `quit`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use crate::net::{self, Family, Setup};
use crate::oracle::{self, Reading};

/// How long a workload waits for a condition that the kernel brings about by itself. Generous,
/// because an emulated machine is slow; a wait ends as soon as the condition holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// One line from a workload to its runner.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Message {
    /// Where the workload stands; `None` in the answer to `report`.
    pub(crate) phase: Option<String>,
    /// Nothing moves here: counters may be compared to the byte.
    pub(crate) rest: bool,
    /// This was the last phase.
    pub(crate) end: bool,
    /// The workload cannot run on this machine, and why.
    pub(crate) skip: Option<String>,
    /// The workload found its own truth violated.
    pub(crate) error: Option<String>,
    /// Numbers that the runner needs, such as a helper's pid or a cookie.
    pub(crate) facts: BTreeMap<String, u64>,
    /// Every TCP socket the process holds, and those without a file on its ports.
    pub(crate) sockets: Vec<Reading>,
}

/// The reason why a workload or a test cannot run here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// What a workload uses to make sockets, to name them, and to pause.
pub(crate) struct Stage {
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// Runs on the developer's own machine: nothing outside this process may be changed.
    pub(crate) host: bool,
    /// Multiplies the amount of work.
    pub(crate) scale: usize,
    labels: HashMap<u64, String>,
    ports: BTreeSet<u16>,
    facts: BTreeMap<String, u64>,
    counters: Vec<(String, Arc<AtomicU64>)>,
}

impl Stage {
    /// A stage for one workload.
    pub(crate) fn new(family: Family, host: bool, scale: usize) -> Stage {
        Stage {
            family,
            host,
            scale,
            labels: HashMap::new(),
            ports: BTreeSet::new(),
            facts: BTreeMap::new(),
            counters: Vec::new(),
        }
    }

    /// Names a socket, which also makes its cookie.
    pub(crate) fn label(&mut self, fd: &impl AsFd, name: &str) -> Result<()> {
        let cookie = oracle::cookie(fd)?;
        self.labels.insert(cookie, name.to_owned());
        self.facts.insert(format!("cookie.{name}"), cookie);
        Ok(())
    }

    /// Gives the runner a number.
    pub(crate) fn fact(&mut self, name: &str, value: u64) {
        self.facts.insert(name.to_owned(), value);
    }

    /// A number that the workload's threads change, told to the runner in every message.
    pub(crate) fn counter(&mut self, name: &str) -> Arc<AtomicU64> {
        let counter = Arc::default();
        self.counters.push((name.to_owned(), Arc::clone(&counter)));
        counter
    }

    /// A port whose sockets without a file belong to this workload.
    pub(crate) fn own_port(&mut self, addr: SocketAddr) {
        self.ports.insert(addr.port());
    }

    /// A listener on a port of the kernel's choice.
    pub(crate) fn listen(&mut self, backlog: i32, setup: Setup<'_>) -> Result<TcpListener> {
        let listener = net::listener(self.family, 0, backlog, setup).context("listen")?;
        self.own_port(listener.local_addr()?);
        Ok(listener)
    }

    /// A connected pair: the client's end, the server's end. The listener is closed again.
    pub(crate) fn pair(&mut self) -> Result<(TcpStream, TcpStream)> {
        self.pair_with(&net::plain, &net::plain)
    }

    /// A connected pair whose client and listener were set up first.
    pub(crate) fn pair_with(
        &mut self,
        client: Setup<'_>,
        server: Setup<'_>,
    ) -> Result<(TcpStream, TcpStream)> {
        let listener = self.listen(8, server)?;
        let a = net::dial(listener.local_addr()?, client).context("connect")?;
        let (b, _) = listener.accept().context("accept")?;
        oracle::cookie(&a)?;
        oracle::cookie(&b)?;
        Ok((a, b))
    }

    /// Forks a peer that is not part of the traced process. It ends with `body`, or when this
    /// process does. Call it before the first socket or thread is made, so that the peer
    /// inherits none.
    pub(crate) fn peer(
        &mut self,
        body: impl FnOnce(&mut UnixStream) -> Result<()>,
    ) -> Result<(UnixStream, Pid)> {
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: this process is single-threaded here, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok((ours, child)),
            ForkResult::Child => {
                drop(ours);
                nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
                let mut theirs = theirs;
                let code = match body(&mut theirs) {
                    Ok(()) => 0,
                    Err(e) => {
                        eprintln!("peer: {e:#}");
                        1
                    }
                };
                drop(theirs);
                std::process::exit(code);
            }
        }
    }

    /// Waits until `done` holds.
    ///
    /// # Errors
    /// When it does not come true within a long time, naming `what`.
    pub(crate) fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done()? {
            if start.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} in vain: {what}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The runner may act here; traffic may still be under way.
    pub(crate) fn pause(&mut self, phase: &str) -> Result<()> {
        self.stop_at(phase, false, false)
    }

    /// The runner may act here and compare counters: nothing moves.
    pub(crate) fn rest(&mut self, phase: &str) -> Result<()> {
        self.stop_at(phase, true, false)
    }

    fn stop_at(&mut self, phase: &str, rest: bool, end: bool) -> Result<()> {
        self.emit(Some(phase), rest, end)?;
        loop {
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                std::process::exit(0);
            }
            match line.trim() {
                "step" => return Ok(()),
                "report" => self.emit(None, rest, end)?,
                "quit" => std::process::exit(0),
                other => bail!("unknown command {other:?}; known: step, report, quit"),
            }
        }
    }

    fn emit(&mut self, phase: Option<&str>, rest: bool, end: bool) -> Result<()> {
        for (name, counter) in &self.counters {
            let value = counter.load(Ordering::Relaxed);
            self.facts.insert(name.clone(), value);
        }
        let message = Message {
            phase: phase.map(str::to_owned),
            rest,
            end,
            facts: self.facts.clone(),
            sockets: self.readings()?,
            ..Message::default()
        };
        print_line(&message)
    }

    /// Every socket of this workload, with and without a file.
    pub(crate) fn readings(&mut self) -> Result<Vec<Reading>> {
        let mut out = oracle::own_sockets()?;
        self.ports
            .extend(out.iter().filter_map(|r| Some(r.local?.port())));
        out.extend(self.unowned()?);
        for reading in &mut out {
            if let Some(label) = self.labels.get(&reading.cookie) {
                reading.label.clone_from(label);
            }
        }
        out.sort_by_key(|r| r.cookie);
        Ok(out)
    }

    /// Sockets without a file on this workload's ports: not yet accepted, or orphans.
    pub(crate) fn unowned(&self) -> Result<Vec<Reading>> {
        let ours = |a: Option<SocketAddr>| a.is_some_and(|a| self.ports.contains(&a.port()));
        Ok(oracle::dump()?
            .into_iter()
            .filter(|r| r.unowned && (ours(r.local) || ours(r.remote)))
            .collect())
    }
}

fn print_line(message: &Message) -> Result<()> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    std::io::stdout().lock().write_all(line.as_bytes())?;
    Ok(())
}

/// Runs a workload to its end and tells the runner how it went.
pub(crate) fn play(
    body: fn(&mut Stage) -> Result<()>,
    family: Family,
    host: bool,
    scale: usize,
) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Some(Signal::SIGKILL))?;
    let mut stage = Stage::new(family, host, scale);
    match body(&mut stage) {
        Ok(()) => stage.stop_at("end", false, true),
        Err(e) if e.is::<Skip>() => print_line(&Message {
            skip: Some(e.to_string()),
            ..Message::default()
        }),
        Err(e) => {
            print_line(&Message {
                error: Some(format!("{e:#}")),
                ..Message::default()
            })?;
            std::process::exit(1);
        }
    }
}

/// One byte from one side of a control channel to the other.
pub(crate) fn tell(channel: &mut UnixStream) -> Result<()> {
    Ok(channel.write_all(b"!")?)
}

/// Waits for the other side's byte.
pub(crate) fn hear(channel: &mut UnixStream) -> Result<()> {
    let mut byte = [0];
    channel
        .read_exact(&mut byte)
        .context("the peer ended early")
}

/// Waits until the other side sends a byte or ends.
pub(crate) fn linger(channel: &mut UnixStream) -> Result<()> {
    let mut byte = [0];
    channel.read(&mut byte).map(drop).context("control channel")
}

/// Sends a number over a control channel.
pub(crate) fn tell_u64(channel: &mut UnixStream, value: u64) -> Result<()> {
    Ok(channel.write_all(&value.to_ne_bytes())?)
}

/// Receives a number from a control channel.
pub(crate) fn hear_u64(channel: &mut UnixStream) -> Result<u64> {
    let mut bytes = [0; 8];
    channel
        .read_exact(&mut bytes)
        .context("the peer ended early")?;
    Ok(u64::from_ne_bytes(bytes))
}

//! The runner's side of a workload process.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::case::Cx;
use crate::oracle::Reading;
use crate::workload::stage::{Message, Skip};

/// A workload under way. Dropping it kills the process.
pub(crate) struct Actor {
    name: String,
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<Message>,
    /// The message of the phase it stands at.
    pub(crate) at: Message,
}

impl Actor {
    /// Starts a workload and waits for its first pause.
    ///
    /// # Errors
    /// A [`Skip`] when the workload cannot run on this machine.
    pub(crate) fn start(cx: &Cx, name: &str) -> Result<Actor> {
        Actor::start_with(cx, name, |_| {})
    }

    /// As `start`, with the command adjusted before it runs.
    ///
    /// # Errors
    /// As `start`.
    pub(crate) fn start_with(
        cx: &Cx,
        name: &str,
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Actor> {
        let me = std::env::current_exe().context("own path")?;
        let mut command = Command::new(me);
        command.args(["workload", name]);
        if cx.host {
            command.arg("--host");
        }
        adjust(&mut command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the workload")?;
        let stdin = child.stdin.take().context("stdin")?;
        let stdout = child.stdout.take().context("stdout")?;
        let (tx, messages) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(message) => drop(tx.send(message)),
                    Err(e) => eprintln!("workload printed what is no message ({e}): {line}"),
                }
            }
        });
        let name = name.to_owned();
        let mut actor = Actor {
            name,
            child,
            stdin,
            messages,
            at: Message::default(),
        };
        actor.at = actor.receive(cx)?;
        Ok(actor)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on to its next pause.
    pub(crate) fn step(&mut self, cx: &Cx) -> Result<&Message> {
        self.send("step")?;
        self.at = self.receive(cx)?;
        Ok(&self.at)
    }

    /// Steps until the pause named `phase`.
    pub(crate) fn step_to(&mut self, cx: &Cx, phase: &str) -> Result<()> {
        while self.at.phase.as_deref() != Some(phase) {
            if self.at.end {
                bail!("workload {} has no phase {phase:?}", self.name);
            }
            self.step(cx)?;
        }
        Ok(())
    }

    /// Its sockets' counters now.
    pub(crate) fn report(&mut self, cx: &Cx) -> Result<Vec<Reading>> {
        self.send("report")?;
        let answer = self.receive(cx)?;
        self.at.facts = answer.facts;
        Ok(answer.sockets)
    }

    /// A number it told, by name.
    pub(crate) fn fact(&self, name: &str) -> Result<u64> {
        let fact = self.at.facts.get(name).copied();
        fact.with_context(|| format!("workload {} told no {name:?}", self.name))
    }

    /// Sends a command without waiting for the answer.
    pub(crate) fn send(&mut self, command: &str) -> Result<()> {
        writeln!(self.stdin, "{command}").with_context(|| format!("workload {} is gone", self.name))
    }

    /// Waits for the answer to the last command.
    pub(crate) fn receive(&mut self, cx: &Cx) -> Result<Message> {
        let message = match self.messages.recv_timeout(cx.left()?) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => bail!(
                "time limit: workload {} did not answer after phase {:?}",
                self.name,
                self.at.phase
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!(
                    "workload {} ended after phase {:?}",
                    self.name,
                    self.at.phase
                )
            }
        };
        if let Some(reason) = message.skip {
            bail!(Skip(reason));
        }
        if let Some(error) = message.error {
            bail!(
                "workload {} after phase {:?}: {error}",
                self.name,
                self.at.phase
            );
        }
        Ok(message)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // Both fail only when the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

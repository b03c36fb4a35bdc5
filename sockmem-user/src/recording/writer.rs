//! Writing a recording.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::{BufMut, BytesMut};
use sockmem_common::PressureCounts;

use super::batch::Batch;
use super::frame::{
    Framer, KIND_DATA, KIND_END, KIND_HEADER, KIND_KEY, KIND_KEY_MORE, KIND_TRAILER,
};
use super::index::{End, Index};
use super::put::{Putter, STATES_A_ROW};
use super::{Header, VERSION};
use crate::decode::Record;
use crate::facts::{HostSample, Loss};
use crate::model::{Input, ProcessFacts, TruesizeCounts};

/// The first bytes of every recording.
pub(super) const MAGIC: [u8; 8] = *b"\x89SKMEM\r\n";

/// A frame is closed when its first input is this old.
const OLD_NS: u64 = 1_000_000_000;
/// A keyframe comes after this much, or after so many times its own size: so a long recording of
/// many sockets does not consist of keyframes.
const KEY_BYTES: u64 = 1 << 20;
const KEY_TIMES: u64 = 8;

/// What a recording holds so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of the ring: changes, and those of sockets' and processes' lives.
    pub events: u64,
    /// Inputs of all kinds.
    pub inputs: u64,
    /// Bytes of whole frames.
    pub bytes: u64,
    /// Different sockets.
    pub sockets: u64,
}

/// What a keyframe tells besides the sockets' states.
#[derive(Default)]
struct Facts {
    /// Processes, and when they ended.
    processes: BTreeMap<u32, (ProcessFacts, Option<u64>)>,
    loss: Option<Loss>,
    truesize: Option<TruesizeCounts>,
    host: Option<HostSample>,
    pressure: Option<PressureCounts>,
}

/// Takes inputs and writes them as frames, each in one call of `write`.
pub struct Writer<W: Write> {
    out: W,
    framer: Framer,
    batch: Batch,
    raw: BytesMut,
    putter: Putter,
    facts: Facts,
    /// Time at which the frame begins.
    base_ns: u64,
    /// When its first input came.
    first_ns: Option<u64>,
    /// The latest time of any input.
    latest_ns: u64,
    counts: Counts,
    index: Index,
    /// Bytes from which on a keyframe is due.
    key_due: u64,
    /// `KEY_BYTES`; less in tests.
    key_bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let mut head = BytesMut::new();
        head.put_slice(&MAGIC);
        head.put_u16_le(VERSION.0);
        head.put_u16_le(VERSION.1);
        out.write_all(&head)?;
        let mut framer = Framer::new();
        let bytes = framer.write(&mut out, KIND_HEADER, &header.to_json())?;
        out.flush()?;
        let counts = Counts {
            bytes: head.len() as u64 + bytes,
            ..Counts::default()
        };
        Ok(Writer {
            out,
            framer,
            batch: Batch::new(),
            raw: BytesMut::new(),
            putter: Putter::new(),
            facts: Facts::default(),
            base_ns: 0,
            first_ns: None,
            latest_ns: 0,
            counts,
            index: Index::default(),
            key_due: counts.bytes + KEY_BYTES,
            key_bytes: KEY_BYTES,
        })
    }

    /// Takes one input that the model was given at `t_ns` (`CLOCK_MONOTONIC`). A record's time is its
    /// own. Order is kept; `States` may come back in several parts, which is the same to a model.
    ///
    /// # Errors
    /// Of the destination: what was written before stays readable, what was not is lost.
    #[inline]
    pub fn push(&mut self, t_ns: u64, input: Input<'_>) -> io::Result<()> {
        self.counts.inputs += 1;
        let t_ns = match input {
            Input::Record(record) => {
                self.counts.events += 1;
                record.header().t_ns
            }
            _ => t_ns,
        };
        self.latest_ns = self.latest_ns.max(t_ns);
        let first_ns = *self.first_ns.get_or_insert(t_ns);
        self.putter.put(&mut self.batch, t_ns, input);
        self.learn(input);
        if self.batch.is_full() || t_ns.saturating_sub(first_ns) >= OLD_NS {
            self.flush()?;
        }
        if matches!(input, Input::ScanDone { .. }) && self.counts.bytes >= self.key_due {
            self.keyframe()?;
        }
        Ok(())
    }

    /// Remembers what the next keyframe is to tell.
    #[inline]
    fn learn(&mut self, input: Input<'_>) {
        match input {
            Input::Record(Record::Exit(p)) => self.exited(p.header.id as u32, p.header.t_ns),
            Input::Exited { pid, t_ns } => self.exited(pid, t_ns),
            Input::Process { pid, facts } => {
                let known = self.facts.processes.entry(pid).or_default();
                let old = std::mem::take(&mut known.0);
                known.0 = ProcessFacts {
                    comm: facts.comm.clone().or(old.comm),
                    cgroup: facts.cgroup.clone().or(old.cgroup),
                    cmdline: facts.cmdline.clone().or(old.cmdline),
                };
            }
            Input::Loss(loss) => self.facts.loss = Some(*loss),
            Input::Truesize(counts) => self.facts.truesize = Some(counts.clone()),
            Input::Record(_) | Input::States { .. } | Input::ScanDone { .. } => {}
            Input::Host(sample) => self.facts.host = Some(sample.clone()),
            Input::Pressure(counts) => self.facts.pressure = Some(*counts),
        }
    }

    fn exited(&mut self, pid: u32, t_ns: u64) {
        if let Some(known) = self.facts.processes.get_mut(&pid) {
            known.1.get_or_insert(t_ns);
        }
    }

    /// Ends the frame, so that everything up to here is readable.
    ///
    /// # Errors
    /// Of the destination.
    pub fn flush(&mut self) -> io::Result<()> {
        self.first_ns = None;
        if self.batch.is_empty() {
            return Ok(());
        }
        self.frame(KIND_DATA)?;
        self.out.flush()
    }

    fn frame(&mut self, kind: u8) -> io::Result<()> {
        self.batch.take(self.base_ns, &mut self.raw);
        self.base_ns = self.putter.table.t_ns;
        self.counts.bytes += self.framer.write(&mut self.out, kind, &self.raw)?;
        self.counts.sockets = self.putter.sockets;
        Ok(())
    }

    /// `flush` where the frame's first input is older than a second. To be called often.
    ///
    /// # Errors
    /// Of the destination.
    pub fn flush_if_old(&mut self, now_ns: u64) -> io::Result<()> {
        match self.first_ns {
            Some(first_ns) if now_ns.saturating_sub(first_ns) >= OLD_NS => self.flush(),
            _ => Ok(()),
        }
    }

    /// Writes everything that is known, so that a reader can begin here.
    fn keyframe(&mut self) -> io::Result<()> {
        self.flush()?;
        let (begin, t_ns) = (self.counts.bytes, self.latest_ns);
        let (states, sockets) = (self.putter.table.states(), self.putter.sockets);
        // Who has ended and owns nothing any more is not needed again.
        self.facts.processes.retain(|pid, (_, ended)| {
            ended.is_none() || states.iter().any(|s| s.owner_tgid == *pid)
        });
        self.putter.reset();
        // Its frame begins at its time, so that it can be found without the index.
        self.putter.table.t_ns = t_ns;
        self.base_ns = t_ns;
        let mut kind = KIND_KEY;
        let facts = std::mem::take(&mut self.facts);
        for (pid, (facts, ended)) in &facts.processes {
            self.key_input(&mut kind, t_ns, Input::Process { pid: *pid, facts })?;
            if let Some(t) = ended {
                self.key_input(
                    &mut kind,
                    t_ns,
                    Input::Exited {
                        pid: *pid,
                        t_ns: *t,
                    },
                )?;
            }
        }
        if let Some(loss) = &facts.loss {
            self.key_input(&mut kind, t_ns, Input::Loss(loss))?;
        }
        if let Some(counts) = &facts.truesize {
            self.key_input(&mut kind, t_ns, Input::Truesize(counts))?;
        }
        if let Some(sample) = &facts.host {
            self.key_input(&mut kind, t_ns, Input::Host(sample))?;
        }
        if let Some(counts) = &facts.pressure {
            self.key_input(&mut kind, t_ns, Input::Pressure(counts))?;
        }
        self.facts = facts;
        for states in states.chunks(STATES_A_ROW) {
            self.key_input(
                &mut kind,
                t_ns,
                Input::States {
                    states,
                    now_ns: t_ns,
                },
            )?;
        }
        // Not a scan of the kernel's: nothing is missing from it.
        self.key_input(&mut kind, t_ns, Input::ScanDone { began_ns: 0 })?;
        self.frame(kind)?;
        self.out.flush()?;
        self.putter.sockets = sockets;
        self.counts.sockets = sockets;
        self.index.push(t_ns, begin);
        let size = self.counts.bytes - begin;
        self.key_due = self.counts.bytes + self.key_bytes.max(KEY_TIMES * size);
        Ok(())
    }

    fn key_input(&mut self, kind: &mut u8, t_ns: u64, input: Input<'_>) -> io::Result<()> {
        self.putter.put(&mut self.batch, t_ns, input);
        if self.batch.is_full() {
            self.frame(*kind)?;
            *kind = KIND_KEY_MORE;
        }
        Ok(())
    }

    /// Ends writing without closing the recording, as if it had been killed now. Gives the
    /// destination back.
    ///
    /// # Errors
    /// Of the destination.
    pub fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    /// Ends the recording: it tells of everything up to `end_mono_ns`. Gives the destination back.
    ///
    /// # Errors
    /// Of the destination.
    pub fn finish(mut self, end_mono_ns: u64) -> io::Result<(W, Counts)> {
        self.flush()?;
        let at = self.counts.bytes;
        let end = End {
            end_mono_ns,
            counts: self.counts,
            loss: self.facts.loss.unwrap_or_default(),
            index: std::mem::take(&mut self.index),
        };
        self.raw.clear();
        end.put(&mut self.raw);
        self.counts.bytes += self.framer.write(&mut self.out, KIND_END, &self.raw)?;
        self.counts.bytes += self
            .framer
            .write(&mut self.out, KIND_TRAILER, &at.to_le_bytes())?;
        self.out.flush()?;
        Ok((self.out, self.counts))
    }

    #[cfg(test)]
    pub(super) fn keyframes_every(&mut self, bytes: u64) {
        self.key_bytes = bytes;
        self.key_due = bytes;
    }

    /// What was taken so far.
    pub fn counts(&self) -> Counts {
        Counts {
            sockets: self.putter.sockets,
            ..self.counts
        }
    }
}

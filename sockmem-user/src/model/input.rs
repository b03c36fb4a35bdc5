//! Everything that a model is told, as one type. The live trace hands its inputs to the model and,
//! where it is recorded, to the recording; a replay hands the same inputs to a model of its own.
//! So both give the same answers, to the byte.

use sockmem_common::{PressureCounts, SockState};

use super::{Loss, Model, ProcessFacts, TruesizeCounts};
use crate::decode::Record;
use crate::facts::HostSample;

/// One thing that a model is told. Order matters: see each.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A record from the ring, in order of arrival.
    Record(&'a Record),
    /// (A part of) a scan of the kernel's states, read at `now_ns` at the latest; no id twice in
    /// one scan. See [`Model::absorb`].
    States {
        /// The states.
        states: &'a [SockState],
        /// `CLOCK_MONOTONIC`.
        now_ns: u64,
    },
    /// A scan that began at `began_ns` is complete: all its `States` were handed in before this.
    /// See [`Model::close_missing`].
    ScanDone {
        /// `CLOCK_MONOTONIC`.
        began_ns: u64,
    },
    /// Facts about a process; those not known leave what was known.
    Process {
        /// Thread-group id.
        pid: u32,
        /// What is known.
        facts: &'a ProcessFacts,
    },
    /// A process ended.
    Exited {
        /// Thread-group id.
        pid: u32,
        /// `CLOCK_MONOTONIC`.
        t_ns: u64,
    },
    /// What became of the changes so far.
    Loss(&'a Loss),
    /// What was counted of skb sizes so far.
    Truesize(&'a TruesizeCounts),
    /// Limits and counters of the host. The first is what the others are compared with; one that
    /// does not differ from the one before need not be handed in.
    Host(&'a HostSample),
    /// How often a limit was run into so far.
    Pressure(&'a PressureCounts),
}

impl Model {
    /// Takes one input.
    pub fn feed(&mut self, input: Input<'_>) {
        match input {
            Input::Record(record) => self.apply(record),
            Input::States { states, now_ns } => self.absorb(states.iter(), now_ns),
            Input::ScanDone { began_ns } => {
                self.close_missing(began_ns);
            }
            Input::Process { pid, facts } => self.process(pid, facts.clone()),
            Input::Exited { pid, t_ns } => self.process_exited(pid, t_ns),
            Input::Loss(loss) => self.set_loss(*loss),
            Input::Truesize(counts) => self.set_truesize(counts),
            Input::Host(sample) => self.host(sample),
            Input::Pressure(counts) => self.pressure_counts(counts),
        }
    }
}

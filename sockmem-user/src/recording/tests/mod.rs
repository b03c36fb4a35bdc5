//! From inputs to bytes and back.

mod damage;
mod golden;
mod roundtrip;
mod stories;

use super::*;
use crate::decode::Record;
use crate::facts::Loss;
use crate::model::{Input, ProcessFacts, TruesizeCounts};
use sockmem_common::SockState;

/// An input of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Record(Record),
    States(Vec<SockState>, u64),
    ScanDone(u64),
    Process(u32, ProcessFacts),
    Exited(u32, u64),
    Loss(Loss),
    Truesize(TruesizeCounts),
    Host(crate::facts::HostSample),
    Pressure(sockmem_common::PressureCounts),
}

impl Told {
    pub(super) fn input(&self) -> Input<'_> {
        match self {
            Told::Record(r) => Input::Record(r),
            Told::States(states, now_ns) => Input::States {
                states,
                now_ns: *now_ns,
            },
            Told::ScanDone(began_ns) => Input::ScanDone {
                began_ns: *began_ns,
            },
            Told::Process(pid, facts) => Input::Process { pid: *pid, facts },
            Told::Exited(pid, t_ns) => Input::Exited {
                pid: *pid,
                t_ns: *t_ns,
            },
            Told::Loss(loss) => Input::Loss(loss),
            Told::Truesize(counts) => Input::Truesize(counts),
            Told::Host(sample) => Input::Host(sample),
            Told::Pressure(counts) => Input::Pressure(counts),
        }
    }

    pub(super) fn of(input: Input<'_>) -> Told {
        match input {
            Input::Record(r) => Told::Record(r.clone()),
            Input::States { states, now_ns } => Told::States(states.to_vec(), now_ns),
            Input::ScanDone { began_ns } => Told::ScanDone(began_ns),
            Input::Process { pid, facts } => Told::Process(pid, facts.clone()),
            Input::Exited { pid, t_ns } => Told::Exited(pid, t_ns),
            Input::Loss(loss) => Told::Loss(*loss),
            Input::Truesize(counts) => Told::Truesize(counts.clone()),
            Input::Host(sample) => Told::Host(sample.clone()),
            Input::Pressure(counts) => Told::Pressure(*counts),
        }
    }

    /// The time that a reader gives for it when it was pushed at `t_ns`.
    pub(super) fn time(&self, t_ns: u64) -> u64 {
        match self {
            Told::Record(r) => r.header().t_ns,
            _ => t_ns,
        }
    }
}

/// A stream: when, and what.
pub(super) type Story = Vec<(u64, Told)>;

/// What a story is when it has come back: with the times that a reader gives, and scans in one.
pub(super) fn expected(story: &Story) -> Story {
    story
        .iter()
        .map(|(t, told)| (told.time(*t), told.clone()))
        .collect()
}

pub(super) fn header() -> Header {
    Header {
        start_mono_ns: 500,
        start_unix_ns: 1 << 60,
        target: "pid 7".into(),
        ..Header::default()
    }
}

/// A closed recording of `story`, with a keyframe every `key_bytes`.
pub(super) fn written(story: &Story, key_bytes: u64) -> Vec<u8> {
    let mut w = Writer::new(Vec::new(), &header()).expect("a Vec takes everything");
    w.keyframes_every(key_bytes);
    for (n, (t_ns, told)) in story.iter().enumerate() {
        w.push(*t_ns, told.input()).expect("a Vec takes everything");
        if n % 500 == 499 {
            w.flush().expect("a Vec takes everything");
        }
    }
    let (bytes, counts) = w.finish(1 << 50).expect("a Vec takes everything");
    assert_eq!(counts.bytes, bytes.len() as u64);
    assert_eq!(counts.inputs, story.len() as u64);
    bytes
}

/// All that is left, with the parts of a scan put together again.
pub(super) fn rest<R: std::io::Read>(reader: &mut Reader<R>) -> Story {
    let mut story: Story = Vec::new();
    while let Some((t, input)) = reader.next().expect("a slice reads without errors") {
        let told = Told::of(input);
        if let Some((before, Told::States(all, at))) = story.last_mut()
            && let Told::States(part, now) = &told
            && (*before, *at) == (t, *now)
            && all.len().is_multiple_of(super::put::STATES_A_ROW)
            && !all.is_empty()
        {
            all.extend_from_slice(part);
            continue;
        }
        story.push((t, told));
    }
    story
}

pub(super) fn read(bytes: &[u8]) -> (Story, Ending) {
    let mut reader = Reader::open(bytes).expect("it has a whole head");
    let story = rest(&mut reader);
    (story, reader.ending())
}

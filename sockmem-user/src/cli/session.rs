//! A trace, its owners and its model, held together: the one way data flows.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use sockmem_common::{OWNER_PROCESS, PressureCounts, STATE_CLOSED, SockState, TruesizeSum};

use crate::attach::{self, Options, Trace};
use crate::collect::{HeldBy, Owners, Ring, Spec};
use crate::decode::{Record, decode};
use crate::facts::{HostSample, Loss, Tier};
use crate::host::clock;
use crate::host::watch::Watch;
use crate::model::{Input, Model, ProcessFacts, TruesizeCounts};
use crate::recording::{Counts, Header, HostInfo, Writer};

/// Records taken from the ring before something else gets its turn.
const BATCH: usize = 16_384;
/// Above this many sockets the processes' descriptors are looked through less often.
const MANY: usize = 2_000;
/// Intervals after which the network namespaces are looked for again.
const NAMESPACES_EVERY: u64 = 16;

/// States handed on together. They are not kept: at 100,000 sockets that would be 43 MB.
const STATES: usize = 128;

/// Recording ended before the trace did.
#[derive(Debug, thiserror::Error)]
#[error("writing the recording")]
pub(super) struct RecordingFailed(#[source] pub(super) io::Error);

/// What a recording's head, and a model, need to know.
fn header(trace: &Trace, start: u64, offset: i64) -> Header {
    let host = crate::host::info::HostInfo::read().ok();
    Header {
        host: HostInfo {
            page_size: crate::host::info::page_size(),
            arch: std::env::consts::ARCH.to_owned(),
            kernel: host.as_ref().map(|h| h.kernel.clone()).unwrap_or_default(),
            hostname: host
                .as_ref()
                .map(|h| h.hostname.clone())
                .unwrap_or_default(),
            cpus: host.as_ref().and_then(|h| h.cpus),
            boot_id: host.and_then(|h| h.boot_id),
        },
        tier: trace.tier,
        coverage: trace.coverage.clone(),
        notes: trace.notes.clone(),
        start_mono_ns: start,
        start_unix_ns: clock::to_unix_ns(start, offset),
        idle_after_ns: trace.settings.idle_after_ns,
        coalesce_ns: trace.settings.coalesce_ns,
        keeps_forward_alloc: Some(trace.keeps_forward_alloc),
        ..Header::default()
    }
}

/// From how many bytes on an allocation is given back to the system when it is freed.
#[cfg(target_env = "gnu")]
const RETURNED: libc::c_int = 128 << 10;

/// Has large blocks given back when they are freed. By itself the C library raises the limit for
/// that to the largest block it has seen freed, up to 32 MiB, and keeps what is below: what is made
/// for each picture would be kept, with holes, for good.
fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt has no requirements; a parameter it does not know it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED);
    }
}

/// Attaching parses the kernel's types, some 20 MB for a moment, of which the allocator keeps
/// what lies between longer-lived blocks. The hosts that this is for are short of memory.
fn give_back_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no requirements; it gives free pages back to the system.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes the recording once its head is known.
pub(super) type Maker = Box<dyn FnOnce(Header) -> anyhow::Result<Recorder>>;

/// A recording being written.
pub(super) type Recorder = Writer<Box<dyn io::Write>>;

/// What a trace's inputs go to.
pub(super) struct Taps {
    /// Whether pictures are wanted.
    pub(super) model: bool,
    /// Whether they are recorded.
    pub(super) recorder: Option<Maker>,
}

impl Taps {
    /// Pictures, and no recording.
    pub(super) fn shown() -> Self {
        Self {
            model: true,
            recorder: None,
        }
    }
}

/// The one stream of inputs, and who takes it.
struct Stream {
    model: Option<Model>,
    recorder: Option<Recorder>,
    /// Why recording ended; nothing more is written then.
    failed: Option<io::Error>,
}

impl Stream {
    fn feed(&mut self, t_ns: u64, input: Input<'_>) {
        if let Some(recorder) = &mut self.recorder
            && self.failed.is_none()
        {
            self.failed = recorder.push(t_ns, input).err();
        }
        if let Some(model) = &mut self.model {
            model.feed(input);
        }
    }
}

/// What records told that has to be followed up.
#[derive(Default)]
struct Later {
    forked: Vec<u32>,
    exited: bool,
}

/// The ring, and what cannot be read of it.
struct Records {
    ring: Ring,
    /// Records that could not be decoded: a bug, counted rather than hidden.
    undecodable: u64,
}

impl Records {
    /// Hands waiting records on. Returns whether there may be more.
    fn drain(&mut self, stream: &mut Stream, later: &mut Later) -> bool {
        let undecodable = &mut self.undecodable;
        let n = self.ring.drain(BATCH, |bytes| match decode(bytes) {
            Ok(record) => {
                match &record {
                    Record::Fork(p) => {
                        let child = u32::try_from(p.header.id);
                        later.forked.push(child.unwrap_or(0));
                    }
                    Record::Exit(_) => later.exited = true,
                    _ => {}
                }
                // The time is the record's own.
                stream.feed(0, Input::Record(&record));
            }
            Err(_) => *undecodable += 1,
        });
        n == BATCH
    }
}

/// A running trace.
pub(super) struct Session {
    /// Programs and maps.
    pub(super) trace: Trace,
    owners: Owners,
    stream: Stream,
    loss: Loss,
    records: Records,
    watch: Watch,
    /// What the model was last told of the host, and of pressure.
    host: Option<HostSample>,
    pressure: PressureCounts,
    /// Sockets that the last scan held.
    sockets: usize,
    /// skbs counted when their histogram was last read: it is read again when there are more.
    skbs: u64,
    rounds: u64,
    start: u64,
    offset: i64,
}

impl Session {
    /// Attaches, baselines, and begins.
    pub(super) fn start(spec: Spec, options: &Options, taps: Taps) -> anyhow::Result<Self> {
        return_large_blocks();
        let mut owners = Owners::new(spec)?;
        let mut trace = attach::attach(options)?;
        let events = trace
            .take_events()
            .context("the ring buffer is taken already")?;
        let offset = clock::realtime_offset_ns();
        let start = clock::now_ns();
        owners.start(&mut trace)?;
        let header = header(&trace, start, offset);
        let model = taps.model.then(|| Model::new(header.config()));
        let recorder = taps.recorder.map(|make| make(header)).transpose()?;
        let mut session = Self {
            trace,
            owners,
            stream: Stream {
                model,
                recorder,
                failed: None,
            },
            loss: Loss::default(),
            records: Records {
                ring: Ring::new(events),
                undecodable: 0,
            },
            watch: Watch::new(),
            host: None,
            pressure: PressureCounts::default(),
            sockets: 0,
            skbs: 0,
            rounds: 0,
            start,
            offset,
        };
        session.learn_processes();
        session.round()?;
        give_back_heap();
        Ok(session)
    }

    /// A descriptor of its own to wait on for records.
    pub(super) fn ring_fd(&self) -> std::io::Result<OwnedFd> {
        self.records.ring.as_fd().try_clone_to_owned()
    }

    fn learn_processes(&mut self) {
        let t_ns = clock::now_ns();
        for (pid, process) in self.owners.processes() {
            let facts = ProcessFacts {
                comm: process.comm.clone(),
                cgroup: process.cgroup.clone(),
                cmdline: process.cmdline.clone(),
            };
            self.stream
                .feed(t_ns, Input::Process { pid, facts: &facts });
        }
    }

    /// Asks again who process `pid` is: it runs another program now.
    pub(super) fn relearn(&mut self, pid: u32) {
        self.owners.relearn(pid);
        self.learn_processes();
    }

    /// Feeds waiting records to the model. Returns whether there may be more.
    pub(super) fn drain(&mut self) -> bool {
        let mut later = Later::default();
        let more = self.records.drain(&mut self.stream, &mut later);
        self.follow_up(later);
        more
    }

    fn follow_up(&mut self, later: Later) {
        let any = !later.forked.is_empty();
        for child in later.forked {
            self.owners.forked(&mut self.trace, child);
        }
        if any {
            self.learn_processes();
        }
        if later.exited {
            self.reap();
        }
    }

    /// Notices processes that have ended.
    pub(super) fn reap(&mut self) {
        for ended in self.owners.ended(&mut self.trace) {
            let (pid, t_ns) = (ended.pid, clock::now_ns());
            self.stream.feed(t_ns, Input::Exited { pid, t_ns });
        }
    }

    /// Whether everything that was to be traced has ended.
    pub(super) fn is_over(&self) -> bool {
        self.owners.ends_with_processes() && self.owners.processes().next().is_none()
    }

    /// One interval: follows ownership, reads every socket again where hooks
    /// cannot, and takes over the kernel's states and counters.
    pub(super) fn round(&mut self) -> anyhow::Result<()> {
        while self.drain() {}
        self.reap();
        self.trace
            .resync()
            .context("reading the traced sockets again")?;
        // Looking through descriptors takes some us for each.
        let due = self.sockets < MANY || self.rounds.is_multiple_of(5);
        self.rounds += 1;
        let mut held = Vec::new();
        self.scan(due.then_some(&mut held))?;
        self.host()?;
        if due {
            let new = self.owners.refresh(&mut self.trace, held)?;
            if !new.is_empty() {
                self.learn_processes();
            }
        }
        self.counters()
    }

    /// Takes over the kernel's states, and notes in `held` which sockets processes hold.
    fn scan(&mut self, mut held: Option<&mut Vec<HeldBy>>) -> anyhow::Result<()> {
        while self.drain() {}
        let began_ns = clock::now_ns();
        let mut later = Later::default();
        let mut stale = Vec::new();
        let mut batch: Vec<SockState> = Vec::with_capacity(STATES);
        let (records, stream) = (&mut self.records, &mut self.stream);
        let mut hand_on = |states: &mut Vec<SockState>| {
            // First the records of what had happened when these were read.
            while records.drain(stream, &mut later) {}
            let now_ns = clock::now_ns();
            stream.feed(now_ns, Input::States { states, now_ns });
            states.clear();
        };
        let mut sockets = 0;
        self.trace
            .scan(|place, state| {
                if state.flags & STATE_CLOSED != 0 {
                    stale.push((place, *state));
                    return;
                }
                sockets += 1;
                if let Some(held) = &mut held
                    && state.owner_kind == OWNER_PROCESS
                {
                    held.push(HeldBy {
                        inode: state.inode,
                        tgid: state.owner_tgid,
                    });
                }
                batch.push(*state);
                if batch.len() == STATES {
                    hand_on(&mut batch);
                }
            })
            .context("reading the state map")?;
        hand_on(&mut batch);
        self.sockets = sockets;
        // Closing states that did not fit into the ring are marked as such.
        let mut buried = self.trace.take_graves();
        for (place, state) in stale {
            self.trace
                .forget(place, &state)
                .context("taking a socket out of the states")?;
            buried.push(state);
        }
        if !buried.is_empty() {
            while self.records.drain(&mut self.stream, &mut later) {}
            let now_ns = clock::now_ns();
            let states = &buried;
            self.stream.feed(now_ns, Input::States { states, now_ns });
        }
        let now_ns = clock::now_ns();
        self.stream.feed(now_ns, Input::ScanDone { began_ns });
        self.follow_up(later);
        Ok(())
    }

    /// Reads the host's limits and counters, after the records of what happened before.
    fn host(&mut self) -> anyhow::Result<()> {
        if self.rounds % NAMESPACES_EVERY == 1 {
            self.watch.follow(&self.owners.namespaces());
        }
        let counts = self
            .trace
            .pressure()
            .context("reading the counts of memory pressure")?;
        let sample = self.watch.sample(clock::now_ns());
        let happened = counts != self.pressure;
        if happened {
            self.stream.feed(sample.at_ns, Input::Pressure(&counts));
            self.pressure = counts;
        }
        if happened || self.host.as_ref().is_none_or(|host| sample.differs(host)) {
            while self.drain() {}
            self.stream.feed(sample.at_ns, Input::Host(&sample));
            self.host = Some(sample);
        }
        Ok(())
    }

    fn counters(&mut self) -> anyhow::Result<()> {
        let stats = self
            .trace
            .stats()
            .context("reading the programs' counters")?;
        let t_ns = clock::now_ns();
        self.loss = Loss {
            seen: stats.seen,
            sent: stats.sent,
            merged: stats.merged,
            dropped_ring: stats.dropped_ring,
            dropped_map: stats.dropped_map,
            lost_closed: stats.lost_closed,
            recursion_misses: self.trace.recursion_misses(),
        };
        self.stream.feed(t_ns, Input::Loss(&self.loss));
        if stats.lost_entry > 0 || self.records.undecodable > 0 || stats.pending_full > 0 {
            log::debug!(
                "returns without entry {}, undecodable records {}, touched lists full {}",
                stats.lost_entry,
                self.records.undecodable,
                stats.pending_full
            );
        }
        let [received, allocated] = self
            .trace
            .truesize_sums()
            .context("reading the truesize sums")?;
        if received.count + allocated.count == self.skbs {
            return Ok(());
        }
        self.skbs = received.count + allocated.count;
        let buckets = self
            .trace
            .truesize_buckets()
            .context("reading the truesize histogram")?;
        // Only received skbs carry their payload; the ratio is theirs.
        let counts = TruesizeCounts {
            buckets,
            sum: TruesizeSum {
                count: received.count + allocated.count,
                truesize: received.truesize,
                payload: received.payload,
                max: received.max.max(allocated.max),
            },
        };
        self.stream.feed(t_ns, Input::Truesize(&counts));
        Ok(())
    }

    /// What is known so far; `None` where a trace is only recorded.
    pub(super) fn model(&self) -> Option<&Model> {
        self.stream.model.as_ref()
    }

    /// `CLOCK_REALTIME` of a time of `CLOCK_MONOTONIC`.
    pub(super) fn unix_ns(&self, mono_ns: u64) -> u64 {
        clock::to_unix_ns(mono_ns, self.offset)
    }

    /// The last reading: everything is drained and every socket read once more. Returns its time.
    pub(super) fn finish(&mut self) -> anyhow::Result<u64> {
        while self.drain() {}
        // Sockets in motion a moment ago are left alone by a resync; at rest they are read.
        let quiet = u64::from(self.trace.settings.resync_quiet_ns).min(250_000_000);
        std::thread::sleep(std::time::Duration::from_nanos(quiet + 1_000_000));
        self.round()?;
        Ok(clock::now_ns())
    }

    /// Whether pictures are wanted.
    pub(super) fn is_shown(&self) -> bool {
        self.stream.model.is_some()
    }

    /// What was recorded so far; `None` where nothing is.
    pub(super) fn recorded(&self) -> Option<Counts> {
        self.stream.recorder.as_ref().map(Writer::counts)
    }

    /// What became of the changes, as of the last reading.
    pub(super) fn loss(&self) -> Loss {
        self.loss
    }

    /// Makes everything recorded so far readable, if that was not done for a second.
    pub(super) fn flush(&mut self) {
        if let Some(recorder) = &mut self.stream.recorder
            && self.stream.failed.is_none()
        {
            self.stream.failed = recorder.flush_if_old(clock::now_ns()).err();
        }
    }

    /// Begins to record a trace that runs. States carry each socket's sums since the trace began,
    /// so the recording is of the whole trace, save that it has changes only from now on and
    /// knows nothing of sockets that have closed before; it says so.
    pub(super) fn start_recording(&mut self, make: Maker) -> anyhow::Result<()> {
        let mut header = header(&self.trace, self.start, self.offset);
        let after = clock::now_ns().saturating_sub(self.start);
        header.notes.push(format!(
            "what came before recording began, {} after the trace: sums of open sockets are \
             there, their changes and closed sockets are not",
            crate::sinks::text::span(after)
        ));
        self.stream.recorder = Some(make(header)?);
        self.stream.failed = None;
        // From here on it is told everything; what goes before, the next reading tells.
        self.skbs = 0;
        self.learn_processes();
        self.round()
    }

    /// Leaves a recording that failed as it is.
    pub(super) fn drop_recording(&mut self) {
        self.stream.recorder = None;
        self.stream.failed = None;
    }

    /// Fails where recording has failed.
    pub(super) fn check_recording(&mut self) -> anyhow::Result<()> {
        match self.stream.failed.take() {
            Some(e) => Err(RecordingFailed(e).into()),
            None => Ok(()),
        }
    }

    /// Ends the recording, which tells of everything up to `end_ns`. `None` where there is none.
    pub(super) fn close_recording(&mut self, end_ns: u64) -> anyhow::Result<Option<Counts>> {
        self.check_recording()?;
        let finished = self.stream.recorder.take().map(|r| r.finish(end_ns));
        let counts = finished.transpose().map_err(RecordingFailed)?;
        Ok(counts.map(|(_, counts)| counts))
    }

    /// Kind of hooks.
    pub(super) fn tier(&self) -> Tier {
        self.trace.tier
    }

    /// Traced sockets.
    pub(super) fn sockets(&self) -> usize {
        self.sockets
    }
}

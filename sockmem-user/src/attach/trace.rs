//! The attached trace: its maps, and the runs of its iterators.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramFd};
use sockmem_common::{
    AuditStats, BUCKETS, Owner, PressureCounts, STATE_CLOSED, Settings, SockState, Stats,
    TruesizeSum,
};

use super::bpf;
use super::loader::{AttachError, iterator};
use super::states::States;
use super::table::ProgramSpec;
use crate::facts::{Coverage, Tier};

/// Entries of `WANTED` (`sockmem-ebpf/src/maps.rs`).
const WANTED_AT_ONCE: usize = 8192;

/// An attached program, as `doctor` and the bench list it.
#[derive(Clone, Debug)]
pub struct ProgramInfo {
    /// Symbol.
    pub name: &'static str,
    /// Function, tracepoint or iterator.
    pub hook: &'static str,
    /// Kernel program id; `None` where it cannot be read.
    pub id: Option<u32>,
    /// Instructions after verification, in bytes; `None` where it cannot be read.
    pub xlated_bytes: Option<u32>,
    /// Instructions the verifier walked (5.16 and later).
    pub verified_instructions: Option<u32>,
}

/// Attached programs and their maps. Dropping it detaches everything.
pub struct Trace {
    /// Kind of hooks.
    pub tier: Tier,
    /// How each counter is obtained.
    pub coverage: BTreeMap<&'static str, Coverage>,
    /// What this kernel lacks and what that costs, a sentence each.
    pub notes: Vec<String>,
    /// What was patched into the programs.
    pub settings: Settings,
    /// Whether this kernel keeps `forward_alloc` on drained sockets (before 6.0).
    pub keeps_forward_alloc: bool,
    attached: Vec<&'static ProgramSpec>,
    events: Option<RingBuf<MapData>>,
    states: States,
    graves: HashMap<MapData, u64, SockState>,
    targets: HashMap<MapData, u32, u32>,
    target_bits: Array<MapData, u64>,
    ports: HashMap<MapData, u32, u32>,
    wanted: HashMap<MapData, u64, Owner>,
    stats: PerCpuArray<MapData, Stats>,
    truesize: PerCpuArray<MapData, u64>,
    truesize_sum: PerCpuArray<MapData, TruesizeSum>,
    pressure: PerCpuArray<MapData, PressureCounts>,
    audit: PerCpuArray<MapData, AuditStats>,
    // Last, so that maps outlive the programs' detaching in drop order of no consequence.
    ebpf: Ebpf,
}

/// Takes map `name` out of the object as a typed one.
fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, AttachError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(AttachError::Map {
        name,
        why: "not in the object".into(),
    })?;
    T::try_from(map).map_err(|e| AttachError::Map {
        name,
        why: e.to_string(),
    })
}

impl Trace {
    pub(super) fn new(
        mut ebpf: Ebpf,
        tier: Tier,
        coverage: BTreeMap<&'static str, Coverage>,
        notes: Vec<String>,
        attached: Vec<&'static ProgramSpec>,
        settings: Settings,
    ) -> Result<Self, AttachError> {
        let states = States::new(&mut ebpf)?;
        Ok(Self {
            tier,
            coverage,
            notes,
            settings,
            keeps_forward_alloc: false,
            attached,
            events: Some(take(&mut ebpf, "EVENTS")?),
            graves: take(&mut ebpf, "GRAVES")?,
            targets: take(&mut ebpf, "TARGETS")?,
            target_bits: take(&mut ebpf, "TARGET_BITS")?,
            ports: take(&mut ebpf, "PORTS")?,
            wanted: take(&mut ebpf, "WANTED")?,
            stats: take(&mut ebpf, "STATS")?,
            truesize: take(&mut ebpf, "TRUESIZE")?,
            truesize_sum: take(&mut ebpf, "TRUESIZE_SUM")?,
            pressure: take(&mut ebpf, "PRESSURE_COUNTS")?,
            audit: take(&mut ebpf, "AUDIT")?,
            states,
            ebpf,
        })
    }

    /// The object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// The ring buffer; can be taken once.
    pub fn take_events(&mut self) -> Option<RingBuf<MapData>> {
        self.events.take()
    }

    /// From now on sockets that thread group `tgid` uses are traced.
    ///
    /// # Errors
    /// Of the map; `E2BIG` where there are too many targets.
    pub fn add_target(&mut self, tgid: u32) -> Result<(), MapError> {
        self.targets.insert(tgid, 1, 0)?;
        let bucket = tgid % 4096;
        let word = bucket / 64;
        let bits = self.target_bits.get(&word, 0)? | 1 << (bucket % 64);
        self.target_bits.set(word, bits, 0)
    }

    /// New sockets of `tgid` are traced no more; those already traced still are.
    pub fn remove_target(&mut self, tgid: u32) {
        // Not there any more is as good.
        let _ = self.targets.remove(&tgid);
    }

    /// Sockets with this local or remote port are traced (`SET_PORTS`).
    ///
    /// # Errors
    /// Of the map.
    pub fn add_port(&mut self, port: u16) -> Result<(), MapError> {
        self.ports.insert(u32::from(port), 1, 0)
    }

    /// Adopts the sockets with these cookies, and corrects the owner of those already traced.
    /// Walks the TCP sockets of one network namespace: call it from within.
    ///
    /// # Errors
    /// Of the map or of the iterator, as one sentence.
    pub fn adopt(&mut self, wanted: &[(u64, Owner)]) -> Result<(), AttachError> {
        let failed = |why: String| AttachError::Map {
            name: "WANTED",
            why,
        };
        let mut chunks = wanted.chunks(WANTED_AT_ONCE);
        loop {
            // One walk at least: with SET_ALL it adopts what nobody asked for by cookie.
            let chunk = chunks.next().unwrap_or_default();
            for (cookie, owner) in chunk {
                self.wanted
                    .insert(cookie, owner, 0)
                    .map_err(|e| failed(e.to_string()))?;
            }
            let result = self.walk_tcp();
            for (cookie, _) in chunk {
                let _ = self.wanted.remove(cookie);
            }
            result.map_err(failed)?;
            if chunks.len() == 0 {
                return Ok(());
            }
        }
    }

    fn walk_tcp(&mut self) -> Result<(), String> {
        let program = iterator(&mut self.ebpf, "it_baseline").ok_or("no iterator program")?;
        let id = program.attach().map_err(|e| e.to_string())?;
        let link = program.take_link(id).map_err(|e| e.to_string())?;
        let file = link.into_file().map_err(|e| e.to_string())?;
        bpf::run_to_end(file.into()).map_err(|e| e.to_string())
    }

    /// Reads every traced socket's counters again, in the kernel.
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn resync(&self) -> std::io::Result<()> {
        self.states.resync()
    }

    /// Copies of all states, and the place of each, for `forget()`.
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn scan(&self, each: impl FnMut(u32, &SockState)) -> std::io::Result<()> {
        self.states.scan(each)
    }

    /// Takes a socket whose destruction was missed out of the states (`STATE_CLOSED` in a scan).
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn forget(&self, place: u32, state: &SockState) -> std::io::Result<()> {
        debug_assert!(state.flags & STATE_CLOSED != 0);
        self.states.forget(place)
    }

    /// Final states that did not fit into the ring; each is given out once.
    pub fn take_graves(&mut self) -> Vec<SockState> {
        let states: Vec<SockState> = self.graves.iter().filter_map(|e| Some(e.ok()?.1)).collect();
        for state in &states {
            let _ = self.graves.remove(&state.id);
        }
        states
    }

    /// The programs' own counters, over all CPUs.
    ///
    /// # Errors
    /// Of the map.
    pub fn stats(&self) -> Result<Stats, MapError> {
        let mut sum = Stats::default();
        for s in self.stats.get(&0, 0)?.iter() {
            sum.seen += s.seen;
            sum.sent += s.sent;
            sum.merged += s.merged;
            sum.dropped_ring += s.dropped_ring;
            sum.dropped_map += s.dropped_map;
            sum.parked += s.parked;
            sum.lost_closed += s.lost_closed;
            sum.pending_full += s.pending_full;
            sum.lost_entry += s.lost_entry;
        }
        Ok(sum)
    }

    /// Sums over received and over allocated skbs.
    ///
    /// # Errors
    /// Of the map.
    pub fn truesize_sums(&self) -> Result<[TruesizeSum; 2], MapError> {
        let mut sums = [TruesizeSum::default(); 2];
        for (direction, sum) in (0u32..).zip(&mut sums) {
            for s in self.truesize_sum.get(&direction, 0)?.iter() {
                sum.count += s.count;
                sum.truesize += s.truesize;
                sum.payload += s.payload;
                sum.max = sum.max.max(s.max);
            }
        }
        Ok(sums)
    }

    /// skbs by truesize bucket, received and allocated ones added up. A system call per bucket.
    ///
    /// # Errors
    /// Of the map.
    pub fn truesize_buckets(&self) -> Result<Vec<u64>, MapError> {
        let mut buckets = vec![0; BUCKETS as usize];
        for index in 0..2 * BUCKETS {
            let n: u64 = self.truesize.get(&index, 0)?.iter().sum();
            buckets[(index % BUCKETS) as usize] += n;
        }
        Ok(buckets)
    }

    /// How often a limit was run into, over all CPUs.
    ///
    /// # Errors
    /// Of the map.
    pub fn pressure(&self) -> Result<PressureCounts, MapError> {
        let mut sum = PressureCounts::default();
        for c in self.pressure.get(&0, 0)?.iter() {
            for (total, n) in sum.seen.iter_mut().zip(c.seen) {
                *total += n;
            }
            sum.lost += c.lost;
        }
        Ok(sum)
    }

    /// The audit's result, over all CPUs.
    ///
    /// # Errors
    /// Of the map.
    pub fn audit(&self) -> Result<AuditStats, MapError> {
        let mut sum = AuditStats::default();
        for s in self.audit.get(&0, 0)?.iter() {
            sum.checks += s.checks;
            sum.misses += s.misses;
            sum.miss_rmem_alloc += s.miss_rmem_alloc;
            sum.miss_wmem_queued += s.miss_wmem_queued;
            sum.miss_forward_alloc += s.miss_forward_alloc;
            sum.last_miss_hook = sum.last_miss_hook.max(s.last_miss_hook);
        }
        Ok(sum)
    }

    /// Runs that the kernel skipped because a program was running on that CPU already; `None`
    /// where the kernel does not count them: before 5.12, and those of kprobes before 6.7
    /// (`trace_call_bpf()`, kernel/trace/bpf_trace.c), so that none counted says nothing there.
    #[must_use]
    pub fn recursion_misses(&self) -> Option<u64> {
        let mut sum = None;
        for spec in &self.attached {
            if let Some(fd) = self.program_fd(spec.name)
                && let Ok(Some(n)) = bpf::recursion_misses(fd.as_fd())
            {
                sum = Some(sum.unwrap_or(0) + n);
            }
        }
        if self.tier == Tier::Kprobe && sum == Some(0) {
            return None;
        }
        sum
    }

    /// The attached programs.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramInfo> {
        self.attached
            .iter()
            .map(|spec| {
                let info = self.ebpf.program(spec.name).and_then(|p| p.info().ok());
                ProgramInfo {
                    name: spec.name,
                    hook: spec.hook,
                    id: info.as_ref().map(aya::programs::ProgramInfo::id),
                    xlated_bytes: info
                        .as_ref()
                        .and_then(aya::programs::ProgramInfo::size_translated),
                    verified_instructions: info
                        .as_ref()
                        .and_then(aya::programs::ProgramInfo::verified_instruction_count),
                }
            })
            .collect()
    }

    fn program_fd(&self, name: &str) -> Option<&ProgramFd> {
        match self.ebpf.program(name)? {
            Program::FEntry(p) => p.fd().ok(),
            Program::FExit(p) => p.fd().ok(),
            Program::BtfTracePoint(p) => p.fd().ok(),
            Program::KProbe(p) => p.fd().ok(),
            Program::Iter(p) => p.fd().ok(),
            Program::RawTracePoint(p) => p.fd().ok(),
            _ => None,
        }
    }
}

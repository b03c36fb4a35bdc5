//! The array of states, seen from user space: which entries are in use, copies of them, and the
//! program that reads them again or takes them out of use.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use aya::programs::{ProgramFd, RawTracePoint};
use sockmem_common::{BLOCK, Entry, RUN_FORGET, RUN_FREE, RUN_RESYNC, SockState};

use super::bpf;
use super::loader::AttachError;

/// Blocks copied at a time.
const AT_ONCE: usize = 8;

/// The maps `STATES` and `USED`, and the program `rt_run`.
pub(super) struct States {
    states: MapData,
    used: MapData,
    run: ProgramFd,
    max_sockets: u32,
}

/// Takes array `name` out of the object.
fn array(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, AttachError> {
    let refused = |why: &str| AttachError::Map {
        name,
        why: why.into(),
    };
    match ebpf.take_map(name) {
        Some(Map::Array(data)) => Ok(data),
        Some(_) => Err(refused("not an array")),
        None => Err(refused("not in the object")),
    }
}

impl States {
    /// Takes them out of the loaded object, and lists all entries as free.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, AttachError> {
        let refused = |why: String| AttachError::Map {
            name: "STATES",
            why,
        };
        let states = array(ebpf, "STATES")?;
        let used = array(ebpf, "USED")?;
        let max_sockets = states
            .info()
            .map_err(|e| refused(e.to_string()))?
            .max_entries();
        let program: &mut RawTracePoint = ebpf
            .program_mut("rt_run")
            .and_then(|p| p.try_into().ok())
            .ok_or_else(|| refused("no program rt_run".into()))?;
        let run = program
            .fd()
            .and_then(|fd| Ok(fd.try_clone()?))
            .map_err(|e| refused(e.to_string()))?;
        let all = Self {
            states,
            used,
            run,
            max_sockets,
        };
        // The last one first: what is listed last is taken first.
        for block in (0..max_sockets.div_ceil(BLOCK)).rev() {
            let room = (max_sockets - block * BLOCK).min(BLOCK);
            let mask = u64::MAX >> (64 - room);
            all.run(block, mask, RUN_FREE)
                .map_err(|e| refused(format!("running rt_run: {e}")))?;
        }
        Ok(all)
    }

    fn run(&self, block: u32, mask: u64, what: u64) -> io::Result<()> {
        bpf::run(self.run.as_fd(), &[u64::from(block), mask, what])
    }

    fn fd(map: &MapData) -> BorrowedFd<'_> {
        map.fd().as_fd()
    }

    /// The blocks in which entries are in use, in order.
    fn blocks(&self) -> io::Result<Vec<u32>> {
        let mut counts = vec![0u64; self.max_sockets.div_ceil(BLOCK) as usize];
        bpf::read_array(Self::fd(&self.used), 0, &mut counts)?;
        Ok((0u32..)
            .zip(counts)
            .filter_map(|(block, n)| (n != 0).then_some(block))
            .collect())
    }

    /// Reads every traced socket's counters again, in the kernel.
    pub(super) fn resync(&self) -> io::Result<()> {
        for block in self.blocks()? {
            self.run(block, u64::MAX, RUN_RESYNC)?;
        }
        Ok(())
    }

    /// Copies of all states; with each its place, for `forget()`.
    pub(super) fn scan(&self, mut each: impl FnMut(u32, &SockState)) -> io::Result<()> {
        let blocks = self.blocks()?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut rest = &blocks[..];
        while let Some(&first) = rest.first() {
            // Blocks that follow each other are copied by one call.
            let run = (0u32..)
                .zip(rest)
                .take(AT_ONCE)
                .take_while(|(i, block)| first + i == **block)
                .count();
            rest = &rest[run..];
            // SAFETY: Entry is Pod, so all zeroes is a valid value.
            entries.resize_with(run * BLOCK as usize, || unsafe { std::mem::zeroed() });
            let n = bpf::read_array(Self::fd(&self.states), first * BLOCK, &mut entries)?;
            for (place, entry) in (first * BLOCK..).zip(&entries[..n]) {
                if entry.is_whole() {
                    each(place, &entry.state);
                }
            }
        }
        Ok(())
    }

    /// Takes the entry at `place` out of use.
    pub(super) fn forget(&self, place: u32) -> io::Result<()> {
        self.run(place / BLOCK, 1 << (place % BLOCK), RUN_FORGET)
    }
}

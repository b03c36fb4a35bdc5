//! What writer and reader both remember, and keep alike by doing the same to it in the same order:
//! differences are written against it. A keyframe begins with an empty one.

use sockmem_common::{Change, Counters, KIND_CHANGE, SockState};

/// Sockets that are remembered at once; more are written without a memory of them.
pub(super) const MOST_SLOTS: usize = 1 << 18;
/// Stands for a socket that is not remembered. It is zero again each time.
pub(super) const STRANGER: u32 = 0;
/// Strings that are remembered at once.
const MOST_STRINGS: usize = 1 << 14;
/// Bytes of a string that is remembered.
const LONGEST_STRING: usize = 1 << 10;

/// A change's fields: those that are guessed from what this and other sockets did before...
pub(super) const GUESSED: usize = 12;
/// ... and those that mostly follow from them.
pub(super) const FIELDS: usize = 20;
/// A change's fields, in the order of docs/FORMAT.md.
pub(super) type Fields = [u32; FIELDS];

pub(super) const HOOK: usize = 0;
pub(super) const CPU: usize = 1;
pub(super) const RMEM_ALLOC: usize = 2;
pub(super) const WMEM_QUEUED: usize = 3;
pub(super) const UNREAD: usize = 4;
pub(super) const UNACKED: usize = 5;
pub(super) const FORWARD_ALLOC: usize = 6;
const WMEM_ALLOC: usize = 7;
const OPTMEM: usize = 8;
const BACKLOG: usize = 9;
const RCVBUF: usize = 10;
const SNDBUF: usize = 11;
const D_RMEM_ALLOC: usize = 12;
const D_WMEM_QUEUED: usize = 13;
const D_FORWARD_ALLOC: usize = 14;
const RESIDENT_MIN: usize = 15;
const RESIDENT_MAX: usize = 16;
const MERGED: usize = 17;
const KIND: usize = 18;
const RESERVED: usize = 19;

/// The fields whose steps are remembered in [`Steps`].
const STEPPED: [usize; 7] = [
    RMEM_ALLOC,
    WMEM_QUEUED,
    UNREAD,
    UNACKED,
    WMEM_ALLOC,
    OPTMEM,
    BACKLOG,
];
/// Entries in the table of steps; a power of two.
const STEPS: usize = 1 << 12;

/// What a socket did in one change: where it was observed, and by how much its fields moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Steps {
    hook: u32,
    by: [u32; STEPPED.len()],
}

impl Steps {
    /// Where what comes after these steps is kept.
    fn place(&self) -> u32 {
        let mut hash = u64::from(self.hook);
        for by in self.by {
            hash = (hash.rotate_left(5) ^ u64::from(by)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        (hash >> 52) as u32
    }
}

/// One socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// `SockState::id`.
    pub(super) id: u64,
    /// The last whole state.
    pub(super) state: SockState,
    /// The fields of the last change, or those that a newer state implies.
    fields: Fields,
    /// When they were.
    fields_ns: u64,
    /// Where what comes after its last steps is kept.
    place: u32,
    /// The socket whose change followed its own last one.
    follower: u32,
    /// Number of the scan during which it was last heard of.
    heard: u32,
    /// Position in the last scan, plus one; 0: none.
    position: u32,
    live: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The socket of the last change.
    last: u32,
    /// The CPU of the last change.
    cpu: u32,
    /// Time of the last input.
    pub(super) t_ns: u64,
    steps: Vec<Steps>,
    /// The sockets of the last complete scan in its order.
    order: Vec<u32>,
    /// Those of the present one so far.
    scan: Vec<u32>,
    /// Which of `order` is expected next.
    cursor: usize,
    scans: u32,
    strings: Vec<String>,
}

impl Table {
    pub(super) fn new() -> Self {
        Table {
            slots: vec![Slot {
                live: true,
                ..Slot::default()
            }],
            free: Vec::new(),
            last: STRANGER,
            cpu: 0,
            t_ns: 0,
            steps: vec![Steps::default(); STEPS],
            order: Vec::new(),
            scan: Vec::new(),
            cursor: 0,
            scans: 0,
            strings: Vec::new(),
        }
    }

    /// The slot with this number, if there is a socket in it.
    pub(super) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize).filter(|s| s.live)
    }

    /// A slot for a socket that had none; `STRANGER` where there is no room.
    pub(super) fn take_in(&mut self, id: u64) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < MOST_SLOTS => {
                self.slots.push(Slot::default());
                (self.slots.len() - 1) as u32
            }
            None => STRANGER,
        };
        self.begin(slot, id);
        slot
    }

    /// The stranger's slot, for the socket `id`.
    pub(super) fn stranger(&mut self, id: u64) -> u32 {
        self.begin(STRANGER, id);
        STRANGER
    }

    fn begin(&mut self, slot: u32, id: u64) {
        let mut fields = [0; FIELDS];
        fields[MERGED] = 1;
        self.slots[slot as usize] = Slot {
            id,
            state: SockState {
                id,
                ..SockState::default()
            },
            fields,
            heard: self.scans,
            live: true,
            ..Slot::default()
        };
    }

    /// The socket is gone: its slot is free.
    pub(super) fn remove(&mut self, slot: u32) {
        if slot != STRANGER {
            self.slots[slot as usize] = Slot::default();
            self.free.push(slot);
        }
    }

    /// The socket that is likely to change next.
    pub(super) fn likely(&self) -> u32 {
        self.slots[self.last as usize].follower
    }

    /// Fields of the next change of `slot` as they are likely to be; those after `GUESSED`, and
    /// `forward_alloc`, follow from the others: see `settle`.
    pub(super) fn guess(&self, slot: u32) -> Fields {
        let s = &self.slots[slot as usize];
        let steps = &self.steps[s.place as usize];
        let mut guess = s.fields;
        guess[HOOK] = steps.hook;
        guess[CPU] = self.cpu;
        for (field, by) in STEPPED.into_iter().zip(steps.by) {
            guess[field] = guess[field].wrapping_add(by);
        }
        guess
    }

    /// `forward_alloc` as it is likely to be when the fields before it are known: what was charged
    /// to the queues was taken from it, and it was filled up, or given back, by whole pages.
    pub(super) fn settle_forward_alloc(&self, slot: u32, fields: &mut Fields) {
        let before = &self.slots[slot as usize].fields;
        let queued = |f: &Fields| f[RMEM_ALLOC].wrapping_add(f[WMEM_QUEUED]);
        let left = before[FORWARD_ALLOC]
            .wrapping_add(queued(before))
            .wrapping_sub(queued(fields)) as i32;
        let keeps = before[FORWARD_ALLOC] as i32 >= 4096 && left >= 0;
        fields[FORWARD_ALLOC] = if keeps {
            left as u32
        } else {
            left as u32 & 4095
        };
    }

    /// The fields that follow from the guessed ones when those are known.
    pub(super) fn settle(&self, slot: u32, fields: &mut Fields) {
        let before = &self.slots[slot as usize].fields;
        for (d, of) in [
            (D_RMEM_ALLOC, RMEM_ALLOC),
            (D_WMEM_QUEUED, WMEM_QUEUED),
            (D_FORWARD_ALLOC, FORWARD_ALLOC),
        ] {
            fields[d] = fields[of].wrapping_sub(before[of]);
        }
        let (was, is) = (resident(before), resident(fields));
        fields[RESIDENT_MIN] = was.min(is);
        fields[RESIDENT_MAX] = was.max(is);
        fields[MERGED] = before[MERGED];
        fields[KIND] = KIND_CHANGE.into();
        fields[RESERVED] = 0;
    }

    /// The change of `slot` at `t_ns` is known.
    pub(super) fn changed(&mut self, slot: u32, t_ns: u64, fields: &Fields) {
        self.slots[self.last as usize].follower = slot;
        let s = &mut self.slots[slot as usize];
        let mut steps = Steps {
            hook: fields[HOOK],
            by: [0; STEPPED.len()],
        };
        for (by, field) in steps.by.iter_mut().zip(STEPPED) {
            *by = fields[field].wrapping_sub(s.fields[field]);
        }
        self.steps[s.place as usize] = steps;
        s.place = steps.place();
        s.fields = *fields;
        s.fields_ns = t_ns;
        s.heard = self.scans;
        self.last = slot;
        self.cpu = fields[CPU];
        self.t_ns = t_ns;
    }

    /// The state from which that of `slot` is likely to differ least.
    pub(super) fn base(&self, slot: u32) -> SockState {
        let s = &self.slots[slot as usize];
        let mut state = s.state;
        if s.fields_ns > state.last_ns {
            state.counters = counters(&s.fields);
        }
        state
    }

    /// The whole state of `slot` is known.
    pub(super) fn stated(&mut self, slot: u32, state: &SockState) {
        let s = &mut self.slots[slot as usize];
        s.heard = self.scans;
        if s.state == *state {
            return;
        }
        s.state = *state;
        if state.last_ns >= s.fields_ns {
            set_counters(&mut s.fields, &state.counters);
            s.fields[UNREAD] = state.seqs.unread();
            s.fields[UNACKED] = state.seqs.unacked();
            s.fields_ns = state.last_ns;
        }
    }

    /// The socket that the present scan is likely to hold next, and its position.
    pub(super) fn next_in_scan(&self) -> Option<u32> {
        self.order
            .get(self.cursor)
            .copied()
            .filter(|slot| self.slot(*slot).is_some())
    }

    /// The present scan holds `slot` next.
    pub(super) fn scanned(&mut self, slot: u32) {
        if slot == STRANGER {
            return;
        }
        let position = self.slots[slot as usize].position as usize;
        if position > 0 {
            self.cursor = position;
        }
        self.scan.push(slot);
    }

    /// The scan is complete: forgets the sockets that were not heard of since the one before it
    /// began, and gives each one's id to `gone`.
    pub(super) fn scan_done(&mut self, mut gone: impl FnMut(u64)) {
        self.scans = self.scans.wrapping_add(1);
        for slot in 1..self.slots.len() as u32 {
            let s = &self.slots[slot as usize];
            if s.live && self.scans.wrapping_sub(s.heard) > 2 {
                gone(s.id);
                self.remove(slot);
            }
        }
        for slot in &self.order {
            self.slots[*slot as usize].position = 0;
        }
        std::mem::swap(&mut self.order, &mut self.scan);
        self.scan.clear();
        self.cursor = 0;
        for (slot, position) in self.order.iter().zip(1..) {
            self.slots[*slot as usize].position = position;
        }
    }

    /// The states of all sockets, those of the last scan first and in its order.
    pub(super) fn states(&self) -> Vec<SockState> {
        let mut states = Vec::with_capacity(self.slots.len());
        let mut given = vec![false; self.slots.len()];
        let rest = 1..self.slots.len() as u32;
        for slot in self.order.iter().copied().chain(rest) {
            if let Some(s) = self.slot(slot)
                // Known by its changes alone: there is no state to tell.
                && s.state.first_ns != 0
                && !std::mem::replace(&mut given[slot as usize], true)
            {
                states.push(SockState {
                    id: s.id,
                    ..s.state
                });
            }
        }
        states
    }

    /// The string with this number.
    pub(super) fn string(&self, number: usize) -> Option<&str> {
        self.strings.get(number).map(String::as_str)
    }

    /// The number of a string; looked for from the newest.
    pub(super) fn number(&self, text: &str) -> Option<usize> {
        self.strings.iter().rposition(|s| s == text)
    }

    /// Remembers a string, if there is room.
    pub(super) fn remember(&mut self, text: &str) {
        if self.strings.len() < MOST_STRINGS && text.len() <= LONGEST_STRING {
            self.strings.push(text.to_owned());
        }
    }
}

fn resident(f: &Fields) -> u32 {
    counters(f).resident() as u32
}

fn counters(f: &Fields) -> Counters {
    Counters {
        rmem_alloc: f[RMEM_ALLOC],
        wmem_queued: f[WMEM_QUEUED],
        forward_alloc: f[FORWARD_ALLOC] as i32,
        wmem_alloc: f[WMEM_ALLOC],
        optmem: f[OPTMEM],
        backlog: f[BACKLOG],
        rcvbuf: f[RCVBUF],
        sndbuf: f[SNDBUF],
    }
}

fn set_counters(f: &mut Fields, c: &Counters) {
    f[RMEM_ALLOC] = c.rmem_alloc;
    f[WMEM_QUEUED] = c.wmem_queued;
    f[FORWARD_ALLOC] = c.forward_alloc as u32;
    f[WMEM_ALLOC] = c.wmem_alloc;
    f[OPTMEM] = c.optmem;
    f[BACKLOG] = c.backlog;
    f[RCVBUF] = c.rcvbuf;
    f[SNDBUF] = c.sndbuf;
}

/// A change's fields, without time and id.
pub(super) fn fields(c: &Change) -> Fields {
    let mut f = [0; FIELDS];
    set_counters(&mut f, &c.after);
    f[HOOK] = c.header.hook.into();
    f[CPU] = c.header.cpu;
    f[UNREAD] = c.unread;
    f[UNACKED] = c.unacked;
    f[D_RMEM_ALLOC] = c.d_rmem_alloc as u32;
    f[D_WMEM_QUEUED] = c.d_wmem_queued as u32;
    f[D_FORWARD_ALLOC] = c.d_forward_alloc as u32;
    f[RESIDENT_MIN] = c.resident_min;
    f[RESIDENT_MAX] = c.resident_max;
    f[MERGED] = c.merged;
    f[KIND] = c.header.kind.into();
    f[RESERVED] = c.header.reserved.into();
    f
}

/// The change with these fields. Numbers too large for their field lose their upper bits.
pub(super) fn change(t_ns: u64, id: u64, f: &Fields) -> Change {
    Change {
        header: sockmem_common::Header {
            t_ns,
            id,
            kind: f[KIND] as u8,
            hook: f[HOOK] as u8,
            reserved: f[RESERVED] as u16,
            cpu: f[CPU],
        },
        after: counters(f),
        d_rmem_alloc: f[D_RMEM_ALLOC] as i32,
        d_wmem_queued: f[D_WMEM_QUEUED] as i32,
        d_forward_alloc: f[D_FORWARD_ALLOC] as i32,
        unread: f[UNREAD],
        unacked: f[UNACKED],
        resident_min: f[RESIDENT_MIN],
        resident_max: f[RESIDENT_MAX],
        merged: f[MERGED],
    }
}

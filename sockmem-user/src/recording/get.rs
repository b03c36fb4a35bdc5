//! Inputs out of a frame.

use bytes::Buf;
use sockmem_common::{
    Change, Header, KIND_CLOSE, KIND_EXIT, KIND_FORK, KIND_OPEN, KIND_OWNER, Lifecycle,
    PressureCounts, Process, STATE_CLOSED, SockState, TruesizeSum,
};

use super::batch::{Contents, FLAGS, MASKS, SOCKETS, TIMES_HIGH, TIMES_LOW, VALUES};
use super::happened;
use super::kinds::*;
use super::put::{
    FLAG_EARLIER, FLAG_MASK, SOCKET_LIKELY, SOCKET_NEW, SOCKET_SLOT, SOCKET_STRANGER, STATE_NAMED,
    STATE_NEXT, STATES_A_ROW,
};
use super::table::{self, FIELDS, FORWARD_ALLOC, GUESSED, STRANGER, Table};
use super::varint::{Short, get_bytes, get_u64, unzigzag};
use super::words::{get_difference, state, words};
use crate::decode::Record;
use crate::facts::{HostSample, Loss};
use crate::model::{Input, ProcessFacts, TruesizeCounts};

/// More buckets of skb sizes are not believed.
const MOST_BUCKETS: u64 = 1 << 14;

/// An input of its own; what it needs memory for is used again.
#[derive(Debug)]
pub(super) struct Item {
    what: What,
    record: Record,
    states: Vec<SockState>,
    now_ns: u64,
    pid: u32,
    facts: ProcessFacts,
    loss: Loss,
    truesize: TruesizeCounts,
    host: HostSample,
    pressure: PressureCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Record,
    States,
    ScanDone,
    Process,
    Exited,
    Loss,
    Truesize,
    Host,
    Pressure,
}

impl Item {
    pub(super) fn new() -> Self {
        Item {
            what: What::Record,
            record: Record::Change(Change::default()),
            states: Vec::new(),
            now_ns: 0,
            pid: 0,
            facts: ProcessFacts::default(),
            loss: Loss::default(),
            truesize: TruesizeCounts::default(),
            host: HostSample::default(),
            pressure: PressureCounts::default(),
        }
    }

    #[inline]
    pub(super) fn is_record(&self) -> bool {
        self.what == What::Record
    }

    #[inline]
    pub(super) fn input(&self) -> Input<'_> {
        match self.what {
            What::Record => Input::Record(&self.record),
            What::States => Input::States {
                states: &self.states,
                now_ns: self.now_ns,
            },
            What::ScanDone => Input::ScanDone {
                began_ns: self.now_ns,
            },
            What::Process => Input::Process {
                pid: self.pid,
                facts: &self.facts,
            },
            What::Exited => Input::Exited {
                pid: self.pid,
                t_ns: self.now_ns,
            },
            What::Loss => Input::Loss(&self.loss),
            What::Truesize => Input::Truesize(&self.truesize),
            What::Host => Input::Host(&self.host),
            What::Pressure => Input::Pressure(&self.pressure),
        }
    }
}

/// The reading side's table, and the input it has just read.
pub(super) struct Getter {
    pub(super) table: Table,
    pub(super) item: Item,
    /// Different sockets so far.
    pub(super) sockets: u64,
    /// Whether new ones count: not where a keyframe names them again.
    pub(super) counting: bool,
}

impl Getter {
    pub(super) fn new() -> Self {
        Getter {
            table: Table::new(),
            item: Item::new(),
            sockets: 0,
            counting: true,
        }
    }

    /// Begins anew with an empty table, as a keyframe does.
    pub(super) fn reset(&mut self) {
        self.table = Table::new();
    }

    /// Reads the next input into `item`. `false` where there is none left.
    #[inline]
    pub(super) fn get(&mut self, from: &mut Contents) -> Result<bool, Short> {
        loop {
            match from.kind()? {
                None => return Ok(false),
                Some(kind) if kind == u64::from(CHANGE) => {
                    self.change(from)?;
                    return Ok(true);
                }
                Some(kind) => {
                    if self.rare(from, kind)? {
                        return Ok(true);
                    }
                    from.skip_run();
                }
            }
        }
    }

    #[inline]
    fn change(&mut self, from: &mut Contents) -> Result<(), Short> {
        let (slot, id) = match from.number(SOCKETS)? {
            SOCKET_LIKELY => {
                let slot = self.table.likely();
                let there = self.table.slot(slot).filter(|_| slot != STRANGER);
                (slot, there.ok_or(Short)?.id)
            }
            name => {
                let id = if name < SOCKET_SLOT {
                    from.number(SOCKETS)?
                } else {
                    0
                };
                self.slot(name, id)?
            }
        };
        let flags = from.byte(FLAGS)?;
        let mut mask = if flags & FLAG_MASK != 0 {
            from.number(MASKS)?
        } else {
            0
        };
        let mut fields = self.table.guess(slot);
        if mask == 0 {
            self.table.settle_forward_alloc(slot, &mut fields);
            self.table.settle(slot, &mut fields);
        } else {
            for at in 0..FIELDS {
                if at == FORWARD_ALLOC {
                    self.table.settle_forward_alloc(slot, &mut fields);
                }
                if at == GUESSED {
                    self.table.settle(slot, &mut fields);
                }
                if mask >> at & 1 != 0 {
                    let difference = unzigzag(from.number(VALUES + at)?) as u32;
                    fields[at] = fields[at].wrapping_add(difference);
                }
            }
            mask >>= FIELDS;
            if mask != 0 {
                return Err(Short);
            }
        }
        let since = from.number(TIMES_HIGH)? << 8 | u64::from(from.byte(TIMES_LOW)?);
        let before = self.table.t_ns;
        let t_ns = if flags & FLAG_EARLIER == 0 {
            before.wrapping_add(since)
        } else {
            before.wrapping_sub(since)
        };
        self.table.changed(slot, t_ns, &fields);
        self.item.what = What::Record;
        self.item.record = Record::Change(table::change(t_ns, id, &fields));
        Ok(())
    }

    /// The socket that is named so; `id` is only looked at where the name does not tell it.
    fn slot(&mut self, name: u64, id: u64) -> Result<(u32, u64), Short> {
        match name {
            SOCKET_STRANGER => {
                self.sockets += u64::from(self.counting);
                Ok((self.table.stranger(id), id))
            }
            SOCKET_NEW => {
                self.sockets += u64::from(self.counting);
                Ok((self.table.take_in(id), id))
            }
            _ => {
                let slot = name.checked_sub(SOCKET_SLOT).ok_or(Short)?;
                let slot = u32::try_from(slot).map_err(|_| Short)?;
                let there = self.table.slot(slot).ok_or(Short)?;
                Ok((slot, there.id))
            }
        }
    }

    fn named(&mut self, b: &mut &[u8]) -> Result<(u32, u64), Short> {
        let name = get_u64(b)?;
        let id = if (SOCKET_STRANGER..SOCKET_SLOT).contains(&name) {
            get_u64(b)?
        } else {
            0
        };
        self.slot(name, id)
    }

    /// An input of any other kind; `false` for one that this version does not know.
    fn rare(&mut self, from: &mut Contents, kind: u64) -> Result<bool, Short> {
        let Ok(kind @ OPEN..=PRESSURE_COUNTS) = u8::try_from(kind) else {
            return Ok(false);
        };
        let row = from.row(kind.into())?;
        let mut row = &from.raw[row];
        let b = &mut row;
        let t_ns = self.table.t_ns.wrapping_add(unzigzag(get_u64(b)?));
        self.table.t_ns = t_ns;
        self.item.what = match kind {
            OPEN => {
                self.item.record = Record::Open(self.lifecycle(b, t_ns, KIND_OPEN)?);
                What::Record
            }
            CLOSE => {
                self.item.record = Record::Close(self.lifecycle(b, t_ns, KIND_CLOSE)?);
                What::Record
            }
            OWNER => {
                self.item.record = Record::Owner(self.lifecycle(b, t_ns, KIND_OWNER)?);
                What::Record
            }
            FORK => {
                self.item.record = Record::Fork(process(b, t_ns, KIND_FORK)?);
                What::Record
            }
            EXIT => {
                self.item.record = Record::Exit(process(b, t_ns, KIND_EXIT)?);
                What::Record
            }
            STATES => {
                self.states(b, t_ns)?;
                What::States
            }
            SCAN_DONE => {
                self.item.now_ns = t_ns.wrapping_add(unzigzag(get_u64(b)?));
                self.table.scan_done(|_| {});
                What::ScanDone
            }
            PROCESS => {
                self.item.pid = get_u64(b)? as u32;
                self.item.facts = ProcessFacts {
                    comm: self.text(b)?,
                    cgroup: self.text(b)?,
                    cmdline: self.text(b)?,
                };
                What::Process
            }
            EXITED => {
                self.item.pid = get_u64(b)? as u32;
                self.item.now_ns = t_ns.wrapping_add(unzigzag(get_u64(b)?));
                What::Exited
            }
            LOSS => {
                self.item.loss = loss(b)?;
                What::Loss
            }
            LIMIT => {
                self.item.record = Record::Limit(happened::get_limit(b)?);
                What::Record
            }
            PRESSURE => {
                self.item.record = Record::Pressure(happened::get_pressure(b)?);
                What::Record
            }
            SYSCTL => {
                self.item.record = Record::Sysctl(happened::get_sysctl(b)?);
                What::Record
            }
            HOST => {
                self.item.host = happened::get_host(b)?;
                What::Host
            }
            PRESSURE_COUNTS => {
                self.item.pressure = happened::get_counts(b)?;
                What::Pressure
            }
            _ => {
                truesize(b, &mut self.item.truesize)?;
                What::Truesize
            }
        };
        Ok(true)
    }

    fn lifecycle(&mut self, b: &mut &[u8], t_ns: u64, kind: u8) -> Result<Box<Lifecycle>, Short> {
        let (slot, id) = self.named(b)?;
        let header = header(b, t_ns, id, kind)?;
        let mut numbers = words(&self.table.base(slot));
        get_difference(b, &mut numbers)?;
        let state = state(&numbers);
        self.table.stated(slot, &state);
        if kind == KIND_CLOSE {
            self.table.remove(slot);
        }
        Ok(Box::new(Lifecycle { header, state }))
    }

    fn states(&mut self, b: &mut &[u8], t_ns: u64) -> Result<(), Short> {
        self.item.now_ns = t_ns.wrapping_add(unzigzag(get_u64(b)?));
        let count = get_u64(b)?;
        if count > STATES_A_ROW as u64 {
            return Err(Short);
        }
        self.item.states.clear();
        while (self.item.states.len() as u64) < count {
            let op = get_u64(b)?;
            if op & 1 == 0 {
                let run = op >> 1;
                if run == 0 || run > count - self.item.states.len() as u64 {
                    return Err(Short);
                }
                for _ in 0..run {
                    let slot = self.table.next_in_scan().ok_or(Short)?;
                    let state = self.table.slot(slot).ok_or(Short)?.state;
                    self.table.stated(slot, &state);
                    self.table.scanned(slot);
                    self.item.states.push(state);
                }
                continue;
            }
            let slot = match op {
                STATE_NEXT => self.table.next_in_scan().ok_or(Short)?,
                STATE_NAMED => self.named(b)?.0,
                _ => return Err(Short),
            };
            let mut numbers = words(&self.table.base(slot));
            get_difference(b, &mut numbers)?;
            let state = state(&numbers);
            self.table.stated(slot, &state);
            self.table.scanned(slot);
            if state.flags & STATE_CLOSED != 0 {
                self.table.remove(slot);
            }
            self.item.states.push(state);
        }
        Ok(())
    }

    fn text(&mut self, b: &mut &[u8]) -> Result<Option<String>, Short> {
        match get_u64(b)? {
            0 => Ok(None),
            1 => {
                let text = String::from_utf8_lossy(get_bytes(b)?).into_owned();
                self.table.remember(&text);
                Ok(Some(text))
            }
            number => {
                let number = usize::try_from(number - 2).map_err(|_| Short)?;
                let text = self.table.string(number).ok_or(Short)?;
                Ok(Some(text.to_owned()))
            }
        }
    }
}

fn header(b: &mut &[u8], t_ns: u64, id: u64, expected: u8) -> Result<Header, Short> {
    if !b.has_remaining() {
        return Err(Short);
    }
    let hook = b.get_u8();
    let cpu = get_u64(b)? as u32;
    let odd = get_u64(b)?;
    Ok(Header {
        t_ns,
        id,
        kind: (odd >> 16) as u8 ^ expected,
        hook,
        reserved: odd as u16,
        cpu,
    })
}

fn process(b: &mut &[u8], t_ns: u64, kind: u8) -> Result<Process, Short> {
    let id = get_u64(b)?;
    let header = header(b, t_ns, id, kind)?;
    let (parent, reserved) = (get_u64(b)? as u32, get_u64(b)? as u32);
    let (comm, rest) = b.split_first_chunk::<16>().ok_or(Short)?;
    let comm = *comm;
    *b = rest;
    Ok(Process {
        header,
        parent,
        reserved,
        comm,
    })
}

fn loss(b: &mut &[u8]) -> Result<Loss, Short> {
    let mut loss = Loss {
        seen: get_u64(b)?,
        sent: get_u64(b)?,
        merged: get_u64(b)?,
        dropped_ring: get_u64(b)?,
        dropped_map: get_u64(b)?,
        lost_closed: get_u64(b)?,
        recursion_misses: None,
    };
    let known = get_u64(b)? != 0;
    let misses = get_u64(b)?;
    loss.recursion_misses = known.then_some(misses);
    Ok(loss)
}

fn truesize(b: &mut &[u8], counts: &mut TruesizeCounts) -> Result<(), Short> {
    counts.sum = TruesizeSum {
        count: get_u64(b)?,
        truesize: get_u64(b)?,
        payload: get_u64(b)?,
        max: get_u64(b)?,
    };
    let buckets = get_u64(b)?;
    if buckets > MOST_BUCKETS {
        return Err(Short);
    }
    counts.buckets.clear();
    for _ in 0..buckets {
        counts.buckets.push(get_u64(b)?);
    }
    Ok(())
}

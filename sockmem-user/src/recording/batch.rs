//! The contents of a frame of inputs: which kinds come in which order, and for each kind its own
//! columns or rows.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::varint::{Short, get_u64, put_u64};

/// Which kinds of input follow each other: pairs of kind and how many.
pub(super) const KINDS: usize = 0;
/// A change's flags, a byte each.
pub(super) const FLAGS: usize = 1;
/// Whose change it is.
pub(super) const SOCKETS: usize = 2;
/// The lowest 8 bits of the time since the input before, a byte each.
pub(super) const TIMES_LOW: usize = 3;
/// The other bits.
pub(super) const TIMES_HIGH: usize = 4;
/// Which fields are not as guessed.
pub(super) const MASKS: usize = 5;
/// The first of the columns of fields.
pub(super) const VALUES: usize = 8;
/// The first of the sections that hold rows, one for each kind.
pub(super) const ROWS: usize = 64;
/// Sections that this version knows: kinds below 64.
const SECTIONS: usize = 128;

/// Inputs of these many changes, or rows of these many bytes, are a frame.
const MOST_CHANGES: u32 = 1 << 15;
const MOST_ROWS: usize = 256 << 10;

/// A frame's contents, being written.
pub(super) struct Batch {
    sections: Vec<BytesMut>,
    run: (u8, u32),
    changes: u32,
    rows: usize,
    row: BytesMut,
}

impl Batch {
    pub(super) fn new() -> Self {
        Batch {
            sections: vec![BytesMut::new(); SECTIONS],
            run: (0, 0),
            changes: 0,
            rows: 0,
            row: BytesMut::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.run.1 == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.changes >= MOST_CHANGES || self.rows >= MOST_ROWS
    }

    /// The next input is of this kind.
    #[inline]
    pub(super) fn kind(&mut self, kind: u8) {
        if self.run.0 == kind {
            self.run.1 += 1;
        } else {
            self.end_run();
            self.run = (kind, 1);
        }
    }

    fn end_run(&mut self) {
        let (kind, count) = self.run;
        if count > 0 {
            put_u64(&mut self.sections[KINDS], kind.into());
            put_u64(&mut self.sections[KINDS], count.into());
        }
    }

    /// One column.
    #[inline]
    pub(super) fn column(&mut self, section: usize) -> &mut BytesMut {
        &mut self.sections[section]
    }

    /// Counts a change.
    #[inline]
    pub(super) fn change(&mut self) {
        self.changes += 1;
    }

    /// A row, to be filled and given to `end_row`.
    pub(super) fn begin_row(&mut self) -> BytesMut {
        let mut row = std::mem::take(&mut self.row);
        row.clear();
        row
    }

    /// Ends a row of this kind.
    pub(super) fn end_row(&mut self, kind: u8, row: BytesMut) {
        self.kind(kind);
        let section = &mut self.sections[ROWS + usize::from(kind)];
        put_u64(section, row.len() as u64);
        section.put_slice(&row);
        self.rows += row.len();
        self.row = row;
    }

    /// Everything as the contents of a frame that begins at `t_ns`; nothing is left.
    pub(super) fn take(&mut self, t_ns: u64, out: &mut BytesMut) {
        self.end_run();
        out.clear();
        put_u64(out, t_ns);
        for (tag, section) in (0u64..).zip(&mut self.sections) {
            if !section.is_empty() {
                put_u64(out, tag);
                put_u64(out, section.len() as u64);
                out.put_slice(section);
                section.clear();
            }
        }
        self.run = (0, 0);
        self.changes = 0;
        self.rows = 0;
    }
}

/// A frame's contents, being read.
pub(super) struct Contents {
    pub(super) raw: Vec<u8>,
    /// What is left of each section.
    sections: Vec<Range<usize>>,
    run: (u64, u64),
}

impl Contents {
    pub(super) fn new() -> Self {
        Contents {
            raw: Vec::new(),
            sections: vec![0..0; SECTIONS],
            run: (0, 0),
        }
    }

    /// Nothing is left.
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.sections.fill(0..0);
        self.run = (0, 0);
    }

    /// Takes what is in `raw`; gives the time at which it begins.
    pub(super) fn parse(&mut self) -> Result<u64, Short> {
        self.sections.fill(0..0);
        self.run = (0, 0);
        let mut rest = self.raw.as_slice();
        let t_ns = get_u64(&mut rest)?;
        while !rest.is_empty() {
            let tag = get_u64(&mut rest)?;
            let length = usize::try_from(get_u64(&mut rest)?).map_err(|_| Short)?;
            if length > rest.len() {
                return Err(Short);
            }
            let begin = self.raw.len() - rest.len();
            // One of a later minor version is read over.
            if let Some(section) = usize::try_from(tag)
                .ok()
                .and_then(|t| self.sections.get_mut(t))
            {
                *section = begin..begin + length;
            }
            rest = &rest[length..];
        }
        Ok(t_ns)
    }

    /// The kind of the next input; `None` where there is none.
    #[inline]
    pub(super) fn kind(&mut self) -> Result<Option<u64>, Short> {
        while self.run.1 == 0 {
            if self.sections[KINDS].is_empty() {
                return Ok(None);
            }
            self.run = (self.number(KINDS)?, self.number(KINDS)?);
        }
        self.run.1 -= 1;
        Ok(Some(self.run.0))
    }

    /// Passes over what is left of a run of inputs of an unknown kind.
    pub(super) fn skip_run(&mut self) {
        self.run.1 = 0;
    }

    /// The next number of a section.
    #[inline]
    pub(super) fn number(&mut self, section: usize) -> Result<u64, Short> {
        let left = &mut self.sections[section];
        let mut bytes = &self.raw[left.clone()];
        let number = get_u64(&mut bytes)?;
        left.start = left.end - bytes.len();
        Ok(number)
    }

    /// The next byte of a section.
    #[inline]
    pub(super) fn byte(&mut self, section: usize) -> Result<u8, Short> {
        let left = &mut self.sections[section];
        if left.start >= left.end {
            return Err(Short);
        }
        left.start += 1;
        Ok(self.raw[left.start - 1])
    }

    /// Where the next row of this kind is in `raw`.
    pub(super) fn row(&mut self, kind: usize) -> Result<Range<usize>, Short> {
        let length = usize::try_from(self.number(ROWS + kind)?).map_err(|_| Short)?;
        let left = &mut self.sections[ROWS + kind];
        if length > left.len() {
            return Err(Short);
        }
        let row = left.start..left.start + length;
        left.start = row.end;
        Ok(row)
    }
}

//! Recordings: everything that a live trace's model was told, in a file. A model that is told the
//! same again gives the same answers, to the byte. docs/FORMAT.md describes the bytes.
//!
//! Pure: any `Write` takes a recording, any `Read` gives one back; times are handed in.
//!
//! * `header`: what is known when the recording begins. * `writer`, `reader`: the two ends.
//! * `frame`: lengths, checksums and compression. * `batch`: what a frame of inputs holds.
//! * `put`, `get`: inputs into it and out of it. * `table`: what both remember.
//! * `index`: the last frame. * `words`, `varint`: how numbers are written.
#![deny(unsafe_code)]

mod batch;
mod frame;
mod get;
mod happened;
mod header;
mod index;
mod kinds;
mod put;
mod reader;
mod table;
mod varint;
mod words;
mod writer;

#[cfg(test)]
mod tests;

use std::io::Read;

pub use header::{Header, HostInfo};
pub use reader::{Ending, ReadError, Reader};
pub use writer::{Counts, Writer};

use crate::model::Model;

/// The version that this library writes: another major number means that older readers cannot
/// read it; a higher minor one, that they can and miss something.
pub const VERSION: (u16, u16) = (1, 0);

/// What reading a whole recording found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub ending: Ending,
    /// Until when it tells; `CLOCK_MONOTONIC`.
    pub end_mono_ns: u64,
    /// What was read.
    pub counts: Counts,
}

/// Feeds all that is left of a recording to `model`. The model's picture at the end is
/// `model.view(end_mono_ns, header.unix_ns(end_mono_ns))`.
///
/// # Errors
/// Of the source. Damage is no error: it ends the recording, see [`Summary::ending`].
pub fn read_all<R: Read>(reader: &mut Reader<R>, model: &mut Model) -> Result<Summary, ReadError> {
    let mut last_ns = reader.header().start_mono_ns;
    while let Some((t_ns, input)) = reader.next()? {
        last_ns = last_ns.max(t_ns);
        model.feed(input);
    }
    let ending = reader.ending();
    let end_mono_ns = match ending {
        Ending::Clean { end_mono_ns, .. } => end_mono_ns,
        Ending::Truncated { .. } => last_ns,
    };
    Ok(Summary {
        ending,
        end_mono_ns,
        counts: reader.counts(),
    })
}

//! Where in the list of live sockets the one with an id is.

use hashbrown::HashTable;

use super::hash::hash_of;
use super::sockets::Socket;

/// Four bytes a socket: the ids themselves are read where they are, in the sockets.
#[derive(Clone, Debug, Default)]
pub(super) struct Index(HashTable<u32>);

impl Index {
    /// The place of `id` in `sockets`.
    pub(super) fn find(&self, id: u64, sockets: &[Socket]) -> Option<usize> {
        let here = |&at: &u32| sockets[at as usize].id == id;
        self.0.find(hash_of(id), here).map(|&at| at as usize)
    }

    /// A socket with an id of its own was added at the end of `sockets`.
    pub(super) fn added(&mut self, sockets: &[Socket]) {
        let Some(last) = sockets.last() else { return };
        let at = (sockets.len() - 1) as u32;
        self.0.insert_unique(hash_of(last.id), at, |&other| {
            hash_of(sockets[other as usize].id)
        });
    }

    /// The socket at `at` is about to be taken out, and the last one to be put in its place.
    pub(super) fn removing(&mut self, at: usize, sockets: &[Socket]) {
        let entry = |at: usize| (hash_of(sockets[at].id), at as u32);
        let (hash, gone) = entry(at);
        if let Ok(found) = self.0.find_entry(hash, |&other| other == gone) {
            found.remove();
        }
        let (hash, last) = entry(sockets.len() - 1);
        // Not there any more where the last is the one that goes.
        if let Some(moved) = self.0.find_mut(hash, |&other| other == last) {
            *moved = gone;
        }
    }
}

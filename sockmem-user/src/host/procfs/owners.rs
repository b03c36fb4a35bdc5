//! Which processes hold which sockets open, over many processes.

use super::{ProcError, Procfs};

/// Sockets and the processes that hold them: 16 bytes for each pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOwners {
    /// Inode and pid, in order.
    pairs: Vec<(u64, u32)>,
    /// Processes whose descriptors this process may not see: their sockets are missing.
    pub denied: u32,
}

impl SocketOwners {
    /// The processes that hold the socket of this inode, ascending. Several share
    /// one after a fork or when it was passed on.
    pub fn of(&self, inode: u64) -> impl Iterator<Item = u32> + '_ {
        let first = self.pairs.partition_point(|&(other, _)| other < inode);
        let same = self.pairs[first..]
            .iter()
            .take_while(move |&&(other, _)| other == inode);
        same.map(|&(_, pid)| pid)
    }

    /// How many pairs of a socket and a process there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether no process holds a socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

impl Procfs {
    /// Looks through the descriptors of the given processes. Those that end
    /// meanwhile are left out, those that may not be seen are counted.
    ///
    /// # Errors
    /// `ProcError::Io` where reading fails for any other reason.
    pub fn socket_owners(
        &self,
        pids: impl IntoIterator<Item = u32>,
    ) -> Result<SocketOwners, ProcError> {
        let mut owners = SocketOwners::default();
        for pid in pids {
            match self.socket_inodes(pid) {
                Ok(inodes) => owners
                    .pairs
                    .extend(inodes.into_iter().map(|inode| (inode, pid))),
                Err(ProcError::Gone(_)) => {}
                Err(ProcError::Denied { .. }) => owners.denied += 1,
                Err(error) => return Err(error),
            }
        }
        owners.pairs.sort_unstable();
        owners.pairs.dedup();
        Ok(owners)
    }
}

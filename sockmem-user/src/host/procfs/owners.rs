//! Which processes hold which sockets open, over many processes.

use super::fds::FdWalk;
use super::{ProcError, Procfs};
use crate::facts::inventory::{Holder, Holders};

impl Procfs {
    /// Looks through the descriptors of the given processes, alone. Those that end
    /// meanwhile are left out, those that may not be seen are counted.
    ///
    /// # Errors
    /// `ProcError::Io` where reading fails for any other reason.
    pub fn socket_holders(
        &self,
        pids: impl IntoIterator<Item = u32>,
    ) -> Result<Holders, ProcError> {
        let walk = FdWalk::default();
        let mut found = Vec::new();
        let denied = self.list_holders(pids, &walk, &mut found);
        walk.help(&mut found);
        Ok(Holders::new(found, denied?))
    }

    /// Lists the descriptors of the given processes for `walk`, which other threads may help with,
    /// and closes it. How many processes may not be seen.
    ///
    /// # Errors
    /// As `socket_holders`.
    pub fn list_holders(
        &self,
        pids: impl IntoIterator<Item = u32>,
        walk: &FdWalk,
        found: &mut Vec<Holder>,
    ) -> Result<u32, ProcError> {
        // Whatever happens here, those who help must not wait for ever.
        struct Close<'a>(&'a FdWalk);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _close = Close(walk);
        let mut denied = 0;
        for pid in pids {
            let path = self.path(pid, "fd");
            match walk.list(&path, pid, found) {
                Ok(()) => {}
                Err(source) => match self.error(pid, path, source) {
                    ProcError::Gone(_) => {}
                    ProcError::Denied { .. } => denied += 1,
                    error => return Err(error),
                },
            }
        }
        Ok(denied)
    }
}

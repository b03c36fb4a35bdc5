//! Facts about the host: `/proc`, sock_diag, sysctl, namespaces, capabilities.
//!
//! Parsers are pure functions over bytes or text; whatever touches the system
//! is a thin wrapper around one, and takes the root of the tree it reads where
//! a test may want another.

pub mod caps;
pub mod cgroup;
pub mod clock;
pub mod facts;
pub mod gate;
pub mod info;
pub mod memcg;
pub mod meminfo;
pub mod netns;
pub mod netstat;
pub mod newfile;
pub mod pidfd;
pub mod prerequisites;
pub mod procfs;
pub mod slabinfo;
pub mod sock_diag;
pub mod sockstat;
pub mod sysctl;
pub mod watch;

//! Every socket at one moment: one dump for each network namespace and kind, and one walk
//! through the processes' descriptors beside it, on another thread.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use super::owners::{OwnersError, Spec};
use crate::facts::inventory::{
    Holder, Holders, Inventory, Listed, NamespaceFact, ProcessFact, Selection,
};
use crate::facts::socket::{AF_INET, DiagSocket, LISTEN, Protocol};
use crate::host::cgroup::{self, CgroupMounts};
use crate::host::clock;
use crate::host::netns::{self, Door, in_netns};
use crate::host::procfs::{FdWalk, ProcError, Procfs};
use crate::host::sock_diag::{DiagError, DumpInfo, SockDiag};

/// Control groups looked at, at most, to learn which path has which id.
const MAX_CGROUPS: usize = 20_000;

/// Which kinds of sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds {
    /// TCP.
    pub tcp: bool,
    /// UDP.
    pub udp: bool,
    /// Unix.
    pub unix: bool,
}

/// Which network namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Those that the target is in.
    Target,
    /// All that can be found.
    Every,
}

/// The processes that `spec` names, each of which exists; and how else sockets are chosen.
///
/// # Errors
/// `OwnersError` where a process does not exist, or a name or control group matches none.
pub fn select(spec: &Spec) -> Result<Selection, OwnersError> {
    let procfs = Procfs::default();
    let mut pids = BTreeSet::new();
    for pid in &spec.pids {
        if !procfs.exists(*pid) {
            return Err(ProcError::Gone(*pid).into());
        }
        pids.insert(*pid);
    }
    for name in &spec.comms {
        let found = procfs.find_by_comm(name)?;
        if found.is_empty() {
            return Err(OwnersError::NoComm(name.clone()));
        }
        pids.extend(found);
    }
    for path in &spec.cgroups {
        let found = procfs.pids_in_cgroup(path).unwrap_or_default();
        if found.is_empty() {
            return Err(OwnersError::NoCgroup(path.clone()));
        }
        pids.extend(found);
    }
    if spec.follow {
        for pid in pids.clone() {
            pids.extend(procfs.descendants(pid)?);
        }
    }
    Ok(Selection {
        all: spec.all,
        pids,
        ports: spec.ports.clone(),
        listeners: spec.listeners.clone(),
    })
}

/// Reads the sockets of these kinds. Sockets that open or close meanwhile may be missing or be
/// there; none is there twice.
///
/// # Errors
/// `OwnersError` where the target's own sockets cannot be read, or no socket at all. Namespaces
/// beside the target's that cannot be read are noted in the inventory.
pub fn read(
    selection: &Selection,
    kinds: Kinds,
    namespaces: Namespaces,
) -> Result<Inventory, OwnersError> {
    let procfs = Procfs::default();
    let begun = clock::now_unix_ns();
    let everybody = selection.all
        || !selection.ports.is_empty()
        || !selection.listeners.is_empty()
        || namespaces == Namespaces::Every;
    let pids = if everybody {
        procfs.pids()?
    } else {
        selection.pids.iter().copied().collect()
    };
    let (doors, hidden) = doors(&procfs, selection, namespaces, &pids);
    let walk = FdWalk::default();
    let (mut lister, mut helper) = (Vec::new(), Vec::new());
    let mut found = Found::default();
    let (dumped, denied) = thread::scope(|scope| {
        let lists = scope.spawn(|| {
            let denied = procfs.list_holders(pids.iter().copied(), &walk, &mut lister);
            walk.help(&mut lister);
            denied
        });
        let dumped = doors
            .iter()
            .try_for_each(|(inode, door)| found.add(*inode, door, kinds, selection));
        walk.help(&mut helper);
        let denied = lists
            .join()
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        (dumped, denied)
    });
    if hidden > 0 && everybody {
        found.namespaces.push(NamespaceFact {
            inode: 0,
            via: format!("{hidden} processes"),
            missing: Some(
                "they do not show which namespace they are in, so that there may be others: run it with sudo".into(),
            ),
        });
    }
    lister.append(&mut helper);
    let holders = Holders::new(lister, denied?);
    // Before the dumps' own errors: where descriptors are not shown, namespaces are not either, and the former
    // say better what is missing.
    refuse_blind(&procfs, selection, &holders)?;
    dumped?;
    let processes = processes(&procfs, &holders, &found.sockets);
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map(|text| cgroup::parse_mounts(&text))
        .unwrap_or_default();
    let cgroups = cgroups(&mounts, &found.sockets);
    Ok(Inventory {
        sockets: found.sockets,
        holders,
        processes,
        cgroups,
        namespaces: found.namespaces,
        taken_unix_ns: (begun, clock::now_unix_ns()),
    })
}

/// The namespaces to read, the caller's own first; and how many processes do not show theirs.
fn doors(
    procfs: &Procfs,
    selection: &Selection,
    namespaces: Namespaces,
    pids: &[u32],
) -> (Vec<(u64, Door)>, u32) {
    let own = std::process::id();
    let own_inode = procfs.netns_inode(own).unwrap_or(0);
    let (mut doors, mut hidden) = (BTreeMap::new(), 0);
    if selection.all || namespaces == Namespaces::Every {
        (doors, hidden) = netns::list(procfs, pids);
    } else {
        for pid in &selection.pids {
            match procfs.netns_inode(*pid) {
                Ok(inode) => {
                    doors.entry(inode).or_insert(Door::Process(*pid));
                }
                // Its descriptors are not shown either, which is what will be said.
                Err(ProcError::Denied { .. }) => hidden += 1,
                // It has ended.
                Err(_) => {}
            }
        }
    }
    let by_address = !selection.ports.is_empty() || !selection.listeners.is_empty();
    if selection.all || by_address || namespaces == Namespaces::Every || doors.is_empty() {
        doors.insert(own_inode, Door::Process(own));
    }
    let mut doors: Vec<_> = doors.into_iter().collect();
    doors.sort_by_key(|(inode, _)| *inode != own_inode);
    (doors, hidden)
}

/// What the dumps gave.
#[derive(Default)]
struct Found {
    sockets: Vec<Listed>,
    namespaces: Vec<NamespaceFact>,
}

impl Found {
    /// Dumps one namespace.
    fn add(
        &mut self,
        inode: u64,
        door: &Door,
        kinds: Kinds,
        selection: &Selection,
    ) -> Result<(), OwnersError> {
        let namespace = self.namespaces.len() as u32;
        let mut fact = NamespaceFact {
            inode,
            via: match door {
                Door::Process(pid) => format!("process {pid}"),
                Door::File(path) => path.display().to_string(),
            },
            missing: None,
        };
        // The target's own, or the caller's: without it there is nothing to say.
        let needed = match door {
            Door::Process(pid) => {
                selection.pids.contains(pid) && !selection.all || *pid == std::process::id()
            }
            Door::File(_) => false,
        };
        let opened = match in_netns(door, SockDiag::open) {
            Ok(opened) => opened.map_err(OwnersError::from),
            Err(error) => Err(error.into()),
        };
        let dumped = opened.and_then(|mut diag| Ok(self.dump(&mut diag, namespace, kinds)?));
        match dumped {
            Ok(info) if info.incomplete => {
                fact.missing = Some(
                    "the kernel's tables changed while they were read: some may be missing".into(),
                );
            }
            Ok(_) => {}
            Err(error) if needed => return Err(error),
            Err(error) => fact.missing = Some(error.to_string()),
        }
        self.namespaces.push(fact);
        Ok(())
    }

    fn dump(
        &mut self,
        diag: &mut SockDiag,
        namespace: u32,
        kinds: Kinds,
    ) -> Result<DumpInfo, DiagError> {
        // Cookies of one namespace are unique on every kernel.
        let mut seen: HashMap<u64, usize> = HashMap::new();
        let sockets = &mut self.sockets;
        let mut add = |socket: &DiagSocket, protocol, name: &[u8]| {
            let listed = Listed {
                socket: *socket,
                protocol,
                namespace,
                name: (!name.is_empty()).then(|| name.into()),
            };
            match seen.insert(socket.cookie, sockets.len()) {
                // Met again: the later reading counts.
                Some(at) => {
                    sockets[at] = listed;
                    seen.insert(socket.cookie, at);
                }
                None => sockets.push(listed),
            }
        };
        let mut info = DumpInfo::default();
        if kinds.tcp {
            info.add(diag.dump_tcp(|s| add(s, Protocol::Tcp, &[]))?);
        }
        if kinds.udp {
            info.add(diag.dump_udp(|s| add(s, Protocol::Udp, &[]))?);
        }
        if kinds.unix {
            info.add(diag.dump_unix(|s, name| add(s, Protocol::Unix, name))?);
        }
        Ok(info)
    }
}

/// A target whose descriptors may not be seen would look as if it had no sockets.
fn refuse_blind(
    procfs: &Procfs,
    selection: &Selection,
    holders: &Holders,
) -> Result<(), OwnersError> {
    if holders.denied == 0 {
        return Ok(());
    }
    for pid in &selection.pids {
        if let Err(error @ ProcError::Denied { .. }) = procfs.socket_inodes(*pid) {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Names of the processes that hold one of the sockets.
fn processes(procfs: &Procfs, holders: &Holders, sockets: &[Listed]) -> BTreeMap<u32, ProcessFact> {
    let mut inodes: Vec<u64> = sockets.iter().map(|s| s.socket.inode).collect();
    inodes.sort_unstable();
    let mut processes = BTreeMap::new();
    let mut last: Option<u32> = None;
    for Holder { inode, pid, .. } in holders.all() {
        // Holders come by inode: mostly long runs of one process.
        if last == Some(*pid) || processes.contains_key(pid) || inodes.binary_search(inode).is_err()
        {
            continue;
        }
        last = Some(*pid);
        processes.insert(
            *pid,
            ProcessFact {
                comm: procfs.comm(*pid).ok(),
                cgroup: procfs.cgroup_path(*pid).ok(),
            },
        );
    }
    processes
}

/// Paths of the version 2 control groups that the sockets were made in.
fn cgroups(mounts: &CgroupMounts, sockets: &[Listed]) -> HashMap<u64, String> {
    let mut wanted: BTreeSet<u64> = sockets.iter().filter_map(|s| s.socket.cgroup_id).collect();
    let mut paths = HashMap::new();
    let Some(root) = &mounts.v2 else {
        return paths;
    };
    // An id is the inode number of the group's directory (kernfs, from 5.5).
    let mut queue = vec![String::new()];
    let mut looked = 0;
    while let Some(relative) = queue.pop() {
        let directory = root.join(&relative);
        let Ok(metadata) = fs::metadata(&directory) else {
            continue;
        };
        if wanted.remove(&metadata.ino()) {
            paths.insert(metadata.ino(), format!("/{relative}"));
        }
        looked += 1;
        if wanted.is_empty() || looked > MAX_CGROUPS {
            break;
        }
        queue.extend(children(&directory, &relative));
    }
    paths
}

fn children(directory: &Path, relative: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            if relative.is_empty() {
                name
            } else {
                format!("{relative}/{name}")
            }
        })
        .collect()
}

/// Refuses a listener that is not there, as a trace does.
///
/// # Errors
/// `OwnersError::NoListener`.
pub fn check_listeners(selection: &Selection, inventory: &Inventory) -> Result<(), OwnersError> {
    for (addr, port) in &selection.listeners {
        let there = inventory.sockets.iter().any(|l| {
            let s = &l.socket;
            s.state == LISTEN
                && l.protocol == Protocol::Tcp
                && s.local.1 == *port
                && addr.is_none_or(|a| a == address(s))
        });
        if !there {
            let shown = addr.map_or_else(
                || format!("*:{port}"),
                |a| std::net::SocketAddr::new(a, *port).to_string(),
            );
            return Err(OwnersError::NoListener(shown));
        }
    }
    Ok(())
}

fn address(s: &DiagSocket) -> IpAddr {
    if s.family == AF_INET {
        IpAddr::from([s.local.0[0], s.local.0[1], s.local.0[2], s.local.0[3]])
    } else {
        IpAddr::from(s.local.0)
    }
}

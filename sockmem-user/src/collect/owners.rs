//! Which processes are traced, which sockets they hold, which have ended.
//!
//! The programs follow sockets by themselves once a process uses them. What they cannot
//! know is done here: sockets older than the trace, sockets passed to a process that has not
//! used them yet, and the ends of processes (by pidfd, so that a pid that is used
//! again is not taken for the process that was meant).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sockmem_common::{OWNER_LISTENER, OWNER_PROCESS, OWNER_UNKNOWN, Owner};

use crate::attach::{AttachError, Trace};
use crate::host::netns::{NetnsError, in_netns_of};
use crate::host::pidfd::{has_ended, pidfd_open};
use crate::host::procfs::{ProcError, Procfs};
use crate::host::sock_diag::{AF_INET, DiagError, DiagSocket, SockDiag};

/// `TCP_LISTEN`.
const LISTEN: u8 = 10;

/// Which sockets are traced: those that match any of these.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Sockets of these processes.
    pub pids: Vec<u32>,
    /// Sockets of processes of these names.
    pub comms: Vec<String>,
    /// Sockets of the processes in these control groups.
    pub cgroups: Vec<PathBuf>,
    /// Sockets with these ports at either end.
    pub ports: Vec<u16>,
    /// Listeners and what comes through them; no address stands for any.
    pub listeners: Vec<(Option<IpAddr>, u16)>,
    /// Every socket.
    pub all: bool,
    /// Children of the traced processes too.
    pub follow: bool,
}

/// A traced socket that a process holds.
#[derive(Clone, Copy, Debug)]
pub struct HeldBy {
    /// The inode of its file.
    pub inode: u64,
    /// The process, as the programs know it.
    pub tgid: u32,
}

/// Why the target cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcError),
    /// Its network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The sockets' inventory.
    #[error(transparent)]
    Diag(#[from] DiagError),
    /// The programs' maps.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// `--comm` matched nothing.
    #[error("no process is named {0:?}; `ps -e -o pid,comm` lists those that run")]
    NoComm(String),
    /// `--cgroup` matched nothing.
    #[error("there is no process in control group {}; `systemd-cgls` or `cat /proc/PID/cgroup` shows the paths", .0.display())]
    NoCgroup(PathBuf),
    /// `--listener` matched nothing.
    #[error("nothing listens on {0}; `ss -tln` lists what does")]
    NoListener(String),
}

/// A traced process.
#[derive(Debug)]
pub struct Process {
    /// `None` where the kernel gave none: its end is then seen by `/proc` alone.
    pidfd: Option<OwnedFd>,
    /// Start time, to tell it from a later process of the same pid.
    start: Option<u64>,
    /// Name.
    pub comm: Option<String>,
    /// Control group.
    pub cgroup: Option<String>,
    /// Command line, the arguments joined by blanks, up to `procfs::CMDLINE_MOST` bytes.
    pub cmdline: Option<String>,
    netns: u64,
    /// Sockets it holds that are not TCP, or that the kernel does not list: not asked for again.
    other_inodes: HashSet<u64>,
}

/// A traced process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub pid: u32,
}

/// The traced processes.
pub struct Owners {
    procfs: Procfs,
    spec: Spec,
    processes: BTreeMap<u32, Process>,
    /// What `refresh()` found when it last looked at descriptors, and how often it has not since.
    looked: (Fingerprint, u32),
}

/// What tells, at little cost, that descriptors may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fingerprint {
    /// Descriptors of each process; `None` where the kernel does not tell how many there are.
    descriptors: Vec<(u32, Option<u64>)>,
    /// Traced sockets, and the sum of their ids.
    sockets: (usize, u64),
}

/// Calls of `refresh()` that may pass without a look at descriptors.
const UNLOOKED: u32 = 4;

impl Owners {
    /// Finds the processes that `spec` names; none is touched yet.
    ///
    /// # Errors
    /// `OwnersError` where one does not exist or may not be read.
    pub fn new(spec: Spec) -> Result<Self, OwnersError> {
        let mut owners = Self {
            procfs: Procfs::default(),
            spec,
            processes: BTreeMap::new(),
            looked: (Fingerprint::default(), 0),
        };
        for pid in owners.spec.pids.clone() {
            owners.learn(pid)?;
        }
        owners.find_more(true)?;
        if owners.spec.follow {
            for pid in owners.processes.keys().copied().collect::<Vec<_>>() {
                for child in owners.procfs.descendants(pid)? {
                    let _ = owners.learn(child);
                }
            }
        }
        Ok(owners)
    }

    /// Processes that match by name or control group; with `must` an error where none does.
    fn find_more(&mut self, must: bool) -> Result<Vec<u32>, OwnersError> {
        let mut found = Vec::new();
        for name in &self.spec.comms {
            let pids = self.procfs.find_by_comm(name)?;
            if must && pids.is_empty() {
                return Err(OwnersError::NoComm(name.clone()));
            }
            found.extend(pids);
        }
        for path in &self.spec.cgroups {
            let pids = self.procfs.pids_in_cgroup(path).unwrap_or_default();
            if must && pids.is_empty() {
                return Err(OwnersError::NoCgroup(path.clone()));
            }
            found.extend(pids);
        }
        let own = std::process::id();
        let new: Vec<u32> = found
            .into_iter()
            .filter(|pid| *pid != own && !self.processes.contains_key(pid))
            .collect();
        // One that ends just now is not an error.
        Ok(new
            .into_iter()
            .filter(|pid| self.learn(*pid).is_ok())
            .collect())
    }

    fn learn(&mut self, pid: u32) -> Result<(), OwnersError> {
        let pidfd = match pidfd_open(pid) {
            Ok(fd) => Some(fd),
            Err(ProcError::Gone(pid)) => return Err(ProcError::Gone(pid).into()),
            Err(_) => None,
        };
        let process = Process {
            start: self.procfs.start_time(pid).ok(),
            comm: self.procfs.comm(pid).ok(),
            cgroup: self.procfs.cgroup_path(pid).ok(),
            cmdline: self.procfs.cmdline(pid).ok().flatten(),
            netns: self.procfs.netns_inode(pid)?,
            other_inodes: HashSet::new(),
            pidfd,
        };
        self.processes.insert(pid, process);
        Ok(())
    }

    /// Reads name and command line of a traced process again.
    pub fn relearn(&mut self, pid: u32) {
        if let Some(process) = self.processes.get_mut(&pid) {
            process.comm = self.procfs.comm(pid).ok();
            process.cmdline = self.procfs.cmdline(pid).ok().flatten();
        }
    }

    /// The traced processes that still run.
    pub fn processes(&self) -> impl Iterator<Item = (u32, &Process)> {
        self.processes.iter().map(|(pid, process)| (*pid, process))
    }

    /// Whether the trace ends when the last process does: when it was given by processes alone.
    #[must_use]
    pub fn ends_with_processes(&self) -> bool {
        let s = &self.spec;
        !s.all
            && s.ports.is_empty()
            && s.listeners.is_empty()
            && s.comms.is_empty()
            && s.cgroups.is_empty()
    }

    /// Tells the programs whose sockets to trace, and adopts the sockets that exist already.
    ///
    /// # Errors
    /// `OwnersError`.
    pub fn start(&mut self, trace: &mut Trace) -> Result<(), OwnersError> {
        for pid in self.processes.keys() {
            trace.add_target(*pid).map_err(|e| target_full(&e))?;
        }
        for port in &self.spec.ports {
            trace.add_port(*port).map_err(|e| target_full(&e))?;
        }
        let namespaces = self.namespaces();
        let mut listeners_found = HashSet::new();
        for (_, representative) in namespaces {
            self.inventory(trace, representative, &mut listeners_found)?;
        }
        for (addr, port) in &self.spec.listeners {
            if !listeners_found.contains(&(*addr, *port)) {
                let shown = addr.map_or_else(|| format!("*:{port}"), |a| format!("{a}:{port}"));
                return Err(OwnersError::NoListener(shown));
            }
        }
        Ok(())
    }

    /// The network namespaces concerned, each with a process that is in it.
    #[must_use]
    pub fn namespaces(&self) -> BTreeMap<u64, u32> {
        let mut map: BTreeMap<u64, u32> = BTreeMap::new();
        let own = std::process::id();
        let everybody =
            self.spec.all || !self.spec.ports.is_empty() || !self.spec.listeners.is_empty();
        if everybody && let Ok(inode) = self.procfs.netns_inode(own) {
            map.insert(inode, own);
        }
        if self.spec.all {
            for pid in self.procfs.pids().unwrap_or_default() {
                if let Ok(inode) = self.procfs.netns_inode(pid) {
                    map.entry(inode).or_insert(pid);
                }
            }
        }
        for (pid, process) in &self.processes {
            map.entry(process.netns).or_insert(*pid);
        }
        map
    }

    /// Adopts the sockets of one network namespace that belong to the target: first those held
    /// open, then the children that wait in the accept queues of the listeners among them.
    fn inventory(
        &mut self,
        trace: &mut Trace,
        representative: u32,
        listeners_found: &mut HashSet<(Option<IpAddr>, u16)>,
    ) -> Result<(), OwnersError> {
        let sockets = dump(representative)?;
        let holders = self.holders()?;
        let mut wanted: Vec<(u64, Owner)> = Vec::new();
        let mut listeners: Vec<&DiagSocket> = Vec::new();
        for s in &sockets {
            let holder = (s.inode != 0).then(|| holders.get(&s.inode)).flatten();
            let by_listener = s.state == LISTEN && self.listener_wanted(s, listeners_found);
            let by_port = self.spec.ports.contains(&s.local.1)
                || (s.state != LISTEN && self.spec.ports.contains(&s.remote.1));
            let targeted = holder.is_some_and(|pid| self.processes.contains_key(pid));
            if !(targeted || by_listener || by_port || self.spec.all) {
                continue;
            }
            if s.state == LISTEN {
                listeners.push(s);
            }
            wanted.push((s.cookie, Self::owner(holder.copied(), s.inode != 0)));
        }
        if !wanted.is_empty() || self.spec.all {
            adopt(trace, representative, &wanted)?;
        }
        let children: Vec<&DiagSocket> = sockets
            .iter()
            .filter(|s| s.inode == 0 && s.state != LISTEN)
            .collect();
        if listeners.is_empty() || children.is_empty() {
            return Ok(());
        }
        let mut by_cookie: HashMap<u64, (u64, u32)> = HashMap::new();
        trace
            .scan(|_, st| {
                by_cookie.insert(st.cookie, (st.id, st.owner_tgid));
            })
            .map_err(|e| AttachError::Map {
                name: "STATES",
                why: e.to_string(),
            })?;
        let mut wanted = Vec::new();
        for child in children {
            let parent = listeners
                .iter()
                .filter(|l| is_parent(l, child))
                .max_by_key(|l| {
                    // The one bound to the address itself before the one bound to any.
                    l.local.0 == child.local.0
                });
            if let Some((id, tgid)) = parent.and_then(|l| by_cookie.get(&l.cookie)) {
                let owner = Owner {
                    listener_id: *id,
                    tgid: *tgid,
                    kind: u32::from(OWNER_LISTENER),
                };
                wanted.push((child.cookie, owner));
            }
        }
        if !wanted.is_empty() {
            adopt(trace, representative, &wanted)?;
        }
        Ok(())
    }

    fn listener_wanted(&self, s: &DiagSocket, found: &mut HashSet<(Option<IpAddr>, u16)>) -> bool {
        let mut any = false;
        for (addr, port) in &self.spec.listeners {
            if *port == s.local.1 && addr.is_none_or(|a| a == address(s)) {
                found.insert((*addr, *port));
                any = true;
            }
        }
        any
    }

    /// Who holds which socket: of the traced processes, or of all where sockets of any owner are traced.
    fn holders(&self) -> Result<HashMap<u64, u32>, OwnersError> {
        let mut map = HashMap::new();
        let everybody =
            self.spec.all || !self.spec.ports.is_empty() || !self.spec.listeners.is_empty();
        if everybody {
            for pid in self.procfs.pids()? {
                for inode in self.procfs.socket_inodes(pid).unwrap_or_default() {
                    map.entry(inode).or_insert(pid);
                }
            }
        }
        for pid in self.processes.keys() {
            match self.procfs.socket_inodes(*pid) {
                Ok(inodes) => map.extend(inodes.into_iter().map(|inode| (inode, *pid))),
                Err(ProcError::Gone(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(map)
    }

    fn owner(holder: Option<u32>, has_file: bool) -> Owner {
        let mut owner = Owner::default();
        if let (Some(pid), true) = (holder, has_file) {
            owner.tgid = pid;
            owner.kind = u32::from(OWNER_PROCESS);
        } else {
            owner.kind = u32::from(OWNER_UNKNOWN);
        }
        owner
    }

    /// Adopts sockets that a traced process holds and that the programs have not seen in use:
    /// passed to it, or accepted while only sampled. `traced` are those of the trace that a process
    /// holds. Where the kernel tells that the number of descriptors is the same, they are looked at
    /// in every fifth call.
    /// Finds new processes of the target's names and control groups. Returns the pids of new processes.
    ///
    /// # Errors
    /// `OwnersError`; a process that has ended meanwhile is none.
    pub fn refresh(
        &mut self,
        trace: &mut Trace,
        traced: Vec<HeldBy>,
    ) -> Result<Vec<u32>, OwnersError> {
        let new = self.find_more(false)?;
        for pid in &new {
            trace.add_target(*pid).map_err(|e| target_full(&e))?;
        }
        if !self.may_have_changed(&traced) {
            return Ok(new);
        }
        let held: BTreeMap<u32, Vec<u64>> = self
            .processes
            .keys()
            .filter_map(|pid| Some((*pid, self.procfs.socket_inodes(*pid).ok()?)))
            .collect();
        // A socket is accounted for while its owner holds it still, or is none of these
        // processes; one that was passed on belongs to whoever of them has it now.
        let mut known: Vec<u64> = traced
            .into_iter()
            .filter(|s| match held.get(&s.tgid) {
                Some(inodes) => inodes.binary_search(&s.inode).is_ok(),
                None => !self.spec.pids.contains(&s.tgid),
            })
            .map(|s| s.inode)
            .collect();
        known.sort_unstable();
        let mut by_netns: BTreeMap<u64, (u32, HashMap<u64, u32>)> = BTreeMap::new();
        for (pid, inodes) in &held {
            let process = &self.processes[pid];
            for inode in inodes {
                if known.binary_search(inode).is_err() && !process.other_inodes.contains(inode) {
                    let entry = by_netns.entry(process.netns);
                    entry
                        .or_insert_with(|| (*pid, HashMap::new()))
                        .1
                        .insert(*inode, *pid);
                }
            }
        }
        for (representative, mut unknown) in by_netns.into_values() {
            let sockets = match dump(representative) {
                Err(OwnersError::Netns(NetnsError::Gone(_))) => continue,
                other => other?,
            };
            let mut wanted = Vec::new();
            for s in &sockets {
                if s.inode != 0
                    && let Some(pid) = unknown.remove(&s.inode)
                {
                    wanted.push((s.cookie, Self::owner(Some(pid), true)));
                }
            }
            if !wanted.is_empty() {
                adopt(trace, representative, &wanted)?;
            }
            for (inode, pid) in unknown {
                if let Some(process) = self.processes.get_mut(&pid) {
                    process.other_inodes.insert(inode);
                }
            }
        }
        Ok(new)
    }

    /// Whether descriptors are to be looked at again, some us each: not while processes have as
    /// many as before and the same sockets are traced, except now and then, because a socket that
    /// takes the place of another one leaves the number as it is.
    fn may_have_changed(&mut self, traced: &[HeldBy]) -> bool {
        let count = |pid: &u32| (*pid, self.procfs.descriptors(*pid));
        let now = Fingerprint {
            descriptors: self.processes.keys().map(count).collect(),
            sockets: (
                traced.len(),
                traced
                    .iter()
                    .fold(0, |sum: u64, s| sum.wrapping_add(s.inode)),
            ),
        };
        let told = now.descriptors.iter().all(|(_, n)| n.is_some());
        if told && now == self.looked.0 && self.looked.1 < UNLOOKED {
            self.looked.1 += 1;
            return false;
        }
        self.looked = (now, 0);
        true
    }

    /// A traced process forked: its child is traced already; learn its name and watch for its end.
    pub fn forked(&mut self, trace: &mut Trace, child: u32) {
        if self.processes.contains_key(&child) {
            return;
        }
        if self.learn(child).is_ok() {
            // The program has set it already; its bit may have been lost to another fork.
            let _ = trace.add_target(child);
        }
    }

    /// Processes that have ended since the last call; their pids are free for others to use.
    pub fn ended(&mut self, trace: &mut Trace) -> Vec<Ended> {
        let procfs = &self.procfs;
        let gone: Vec<u32> = self
            .processes
            .iter()
            .filter(|(pid, p)| match &p.pidfd {
                Some(fd) => has_ended(fd).unwrap_or(false),
                None => procfs.start_time(**pid).ok() != p.start,
            })
            .map(|(pid, _)| *pid)
            .collect();
        for pid in &gone {
            self.processes.remove(pid);
            trace.remove_target(*pid);
        }
        gone.into_iter().map(|pid| Ended { pid }).collect()
    }
}

fn target_full(e: &aya::maps::MapError) -> OwnersError {
    AttachError::Map {
        name: "TARGETS",
        why: e.to_string(),
    }
    .into()
}

/// Every TCP socket in the network namespace of `pid`.
fn dump(pid: u32) -> Result<Vec<DiagSocket>, OwnersError> {
    let mut diag = in_netns_of(pid, SockDiag::open)??;
    let mut sockets = Vec::new();
    diag.dump_tcp(|s| sockets.push(*s))?;
    Ok(sockets)
}

/// Runs the baseline in the network namespace of `pid`.
fn adopt(trace: &mut Trace, pid: u32, wanted: &[(u64, Owner)]) -> Result<(), OwnersError> {
    in_netns_of(pid, || trace.adopt(wanted))?.map_err(Into::into)
}

fn address(s: &DiagSocket) -> IpAddr {
    if s.family == AF_INET {
        IpAddr::from([s.local.0[0], s.local.0[1], s.local.0[2], s.local.0[3]])
    } else {
        IpAddr::from(s.local.0)
    }
}

/// Whether `child` can have come through `listener`: same port, and an address that the listener takes.
fn is_parent(listener: &DiagSocket, child: &DiagSocket) -> bool {
    let any = listener.local.0 == [0; 16];
    listener.local.1 == child.local.1
        && if any {
            listener.family == child.family || listener.family != AF_INET
        } else {
            listener.family == child.family && listener.local.0 == child.local.0
        }
}

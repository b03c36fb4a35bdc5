//! Sums by process, listener, remote address, control group or state.

use std::collections::HashMap;

use super::{Entry, Snapshot, Sums};
use crate::model::OwnerKind;
use crate::model::address::{push_endpoint, push_number};

/// What sockets are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The process that holds them; orphans and unknown ones apart.
    Process,
    /// The listener that they came through.
    Listener,
    /// The remote address, without the port.
    Remote,
    /// The control group.
    Cgroup,
    /// The state.
    State,
}

impl By {
    /// The name on the command line and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            By::Process => "process",
            By::Listener => "listener",
            By::Remote => "remote",
            By::Cgroup => "cgroup",
            By::State => "state",
        }
    }
}

/// Sockets that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What; unescaped.
    pub key: String,
    /// Of a process.
    pub pid: Option<u32>,
    /// Its name; unescaped.
    pub comm: Option<String>,
    /// Their sums.
    pub sums: Sums,
}

pub(super) fn groups(snapshot: &Snapshot<'_>, by: By) -> Vec<Group> {
    let mut at: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut key = String::new();
    for entry in snapshot.entries() {
        key.clear();
        push_key(&entry, by, &mut key);
        let place = match at.get(key.as_str()) {
            Some(place) => *place,
            None => {
                let of_process = by == By::Process && entry.pid().is_some();
                groups.push(Group {
                    key: key.clone(),
                    pid: entry.pid().filter(|_| of_process),
                    comm: entry
                        .process()
                        .filter(|_| of_process)
                        .and_then(|p| p.comm.clone()),
                    sums: Sums::default(),
                });
                at.insert(key.clone(), groups.len() - 1);
                groups.len() - 1
            }
        };
        groups[place].sums.add(&entry);
    }
    groups.sort_by(|a, b| {
        (b.sums.resident, b.sums.sockets)
            .cmp(&(a.sums.resident, a.sums.sockets))
            .then_with(|| a.key.cmp(&b.key))
    });
    groups
}

fn push_key(e: &Entry<'_>, by: By, out: &mut String) {
    match by {
        By::Process => match e.pid() {
            Some(pid) => {
                if let Some(comm) = e.process().and_then(|p| p.comm.as_deref()) {
                    out.push_str(comm);
                    out.push('[');
                    push_number(out, u64::from(pid));
                    out.push(']');
                } else {
                    out.push_str("pid ");
                    push_number(out, u64::from(pid));
                }
            }
            None => out.push_str(match e.kind() {
                OwnerKind::Orphan => "orphans",
                OwnerKind::Listener => "unaccepted, listener's process not known",
                _ => "owner not known",
            }),
        },
        By::Listener => match e.listener() {
            Some(l) => push_endpoint(out, l.family, &l.local.0, l.local.1),
            None => out.push_str("no listener"),
        },
        By::Remote => e.push_remote_address(out),
        By::Cgroup => match e.cgroup() {
            Some(path) => out.push_str(&path),
            None => out.push_str("not known"),
        },
        By::State => out.push_str(e.state()),
    }
}

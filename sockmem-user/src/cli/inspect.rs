//! `snapshot` and `where`: one reading, no tracing.

use std::io::{self, IsTerminal, Write};

use super::args::{Format, SnapshotArgs, SnapshotFormat, WhereArgs};
use super::exit::Exit;
use super::live;
use super::run::{host_facts, write_all};
use super::target::Target;
use crate::collect::{
    Kinds, MemoryOptions, Namespaces, OwnersError, Spec, check_listeners, memory, read, select,
};
use crate::facts::inventory::Selection;
use crate::host::procfs::ProcError;
use crate::model::snapshot::Snapshot;
use crate::model::statement::Statement;
use crate::sinks::{snapshot, statement};

/// The target as the layers beneath have it; nothing named is everything.
fn spec(target: &Target) -> Spec {
    Spec {
        pids: target.pids.clone(),
        comms: target.comms.clone(),
        cgroups: target.cgroups.clone(),
        ports: target.ports.clone(),
        listeners: target.listeners.iter().map(|l| (l.addr, l.port)).collect(),
        all: target.all || target.is_empty(),
        follow: target.follow,
    }
}

/// In words.
fn describe(target: &Target, what: &str) -> String {
    if target.is_empty() || target.all {
        format!("all {what}")
    } else {
        target.describe()
    }
}

/// Reads every socket that is meant and prints it.
pub(super) fn snapshot(args: &SnapshotArgs) -> anyhow::Result<Exit> {
    if args.explain {
        write_all(&snapshot::explain())?;
        return Ok(Exit::Done);
    }
    let none = !(args.kinds.tcp || args.kinds.udp || args.kinds.unix);
    let kinds = Kinds {
        tcp: args.kinds.tcp || none,
        udp: args.kinds.udp,
        unix: args.kinds.unix,
    };
    let selection = select(&spec(&args.target))?;
    let inventory = read(&selection, kinds, Namespaces::Target)?;
    check_listeners(&selection, &inventory)?;
    let mut found = Snapshot::new(&inventory, &selection);
    if let Some(sort) = snapshot::sort_by(&args.sort) {
        found.sort(sort);
    }
    let words: Vec<&str> = [(kinds.tcp, "TCP"), (kinds.udp, "UDP"), (kinds.unix, "unix")]
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
        .collect();
    let report = snapshot::Report {
        snapshot: &found,
        target: describe(&args.target, &format!("{} sockets", words.join(", "))),
        top: args.top,
        groups: args.group.map(|g| (g.by(), found.groups(g.by()))),
    };
    let host = host_facts();
    let mut out = io::stdout().lock();
    match args.format {
        SnapshotFormat::Json => snapshot::write_json(&report, &host, &mut out)?,
        SnapshotFormat::Csv => snapshot::write_csv(&report, &mut out)?,
        SnapshotFormat::Text => {
            let look = live::look(&args.output(), io::stdout().is_terminal());
            snapshot::write_text(&report, &host, &look, &mut out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Draws up the statement and prints it.
pub(super) fn account(args: &WhereArgs) -> anyhow::Result<Exit> {
    if args.explain {
        write_all(&statement::explain())?;
        return Ok(Exit::Done);
    }
    let options = MemoryOptions {
        ebpf: !args.no_ebpf,
    };
    let mut selection = select(&spec(&args.target))?;
    let mut blind = None;
    let (inventory, facts) = match memory(&selection, &selection, options) {
        // Whose sockets they are cannot be seen; all the rest of the statement can.
        Err(OwnersError::Process(error @ ProcError::Denied { .. })) => {
            blind = Some(error.to_string());
            let whole = Selection {
                all: true,
                ..Selection::default()
            };
            let read = memory(&whole, &selection, options)?;
            selection.all = false;
            read
        }
        other => other?,
    };
    let account = Statement::new(&inventory, &selection, &facts, blind.as_deref());
    let report = statement::Report {
        statement: &account,
        facts: &facts,
        target: describe(&args.target, "TCP sockets"),
        unix_ns: inventory.taken_unix_ns.1,
    };
    let host = host_facts();
    let mut out = io::BufWriter::new(io::stdout().lock());
    match args.output.format {
        Format::Json => statement::write_json(&report, &host, &mut out)?,
        Format::Text => {
            let look = live::look(&args.output, io::stdout().is_terminal());
            statement::write_text(&report, &host, &look, &mut out)?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

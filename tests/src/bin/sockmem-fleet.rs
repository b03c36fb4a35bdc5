//! `sockmem-fleet DIR HOSTS`: recordings of hosts that do not exist, `DIR/front-NNN.smt`, written as
//! `record` writes them. What each process of each host held while idle is known beforehand and
//! printed, a line of tab-separated values each: host, pid, comm, sockets, idle byte·ns.
//!
//! For tests of exports, and for trying queries over many hosts.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sockmem::decode::Record;
use sockmem::facts::{COUNTERS, Coverage, Loss, Tier};
use sockmem::model::{Input, ProcessFacts};
use sockmem::recording::{Header, HostInfo, Writer};
use sockmem_common::{
    Change, Counters, KIND_CHANGE, KIND_CLOSE, KIND_OPEN, Lifecycle, OWNER_PROCESS, SEQ_VALID,
    Seqs, SockState, hook,
};

const S: u64 = 1_000_000_000;
/// `--idle-after`.
const IDLE_AFTER: u64 = S;
/// When the recordings begin and end.
const START: u64 = 1000 * S;
const END: u64 = START + 60 * S;

/// Name, first pid, sockets, and bytes that each of them holds, on host `n`.
fn processes(n: u32) -> [(&'static str, u32, u32, u32); 3] {
    [
        ("nginx", 1000 + n, 8, 2304 * (1 + n % 7)),
        (
            "envoy",
            2000 + n,
            5,
            if n.is_multiple_of(10) { 400_000 } else { 0 },
        ),
        ("redis-server", 3000 + n, 3, 768 * (n % 3)),
    ]
}

/// A socket on its way through the trace, with the kernel's arithmetic.
struct Socket {
    state: SockState,
}

impl Socket {
    fn open(id: u64, pid: u32, comm: &str, t_ns: u64) -> Socket {
        let mut state = SockState {
            id,
            cookie: 10_000 + id,
            inode: 50_000 + id,
            owner_tgid: pid,
            owner_kind: OWNER_PROCESS,
            tcp_state: 1,
            family: 2,
            local_port: 443,
            remote_port: 20_000 + id as u16,
            netns: 1,
            ..SockState::default()
        };
        state.owner_comm[..comm.len()].copy_from_slice(comm.as_bytes());
        state.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        state.remote[..4].copy_from_slice(&[10, 1, 0, 1]);
        let limits = Counters {
            rcvbuf: 131_072,
            sndbuf: 87_040,
            ..Counters::default()
        };
        let seqs = Seqs {
            flags: SEQ_VALID,
            ..Seqs::default()
        };
        state.start(t_ns, &limits, &seqs);
        Socket { state }
    }

    /// `bytes` wait to be read from `t_ns` on.
    fn receive(&mut self, t_ns: u64, bytes: u32, rcvbuf: u32) -> Record {
        let before = self.state.counters;
        let after = Counters {
            rmem_alloc: bytes,
            rcvbuf,
            ..before
        };
        let mut seqs = self.state.seqs;
        seqs.rcv_nxt = seqs.rcv_nxt.wrapping_add(100);
        seqs.copied_seq = seqs.rcv_nxt.wrapping_sub(bytes / 2);
        self.state.advance(t_ns, IDLE_AFTER);
        self.state.take(t_ns, &after, &seqs);
        self.state.last_activity_ns = t_ns;
        let record = Change {
            header: self.header(t_ns, KIND_CHANGE),
            after,
            d_rmem_alloc: after.rmem_alloc as i32 - before.rmem_alloc as i32,
            unread: seqs.unread(),
            resident_min: self.state.window_min,
            resident_max: self.state.window_max,
            merged: 1,
            ..Change::default()
        };
        self.state.reset_window(t_ns);
        Record::Change(record)
    }

    fn header(&self, t_ns: u64, kind: u8) -> sockmem_common::Header {
        sockmem_common::Header {
            t_ns,
            id: self.state.id,
            kind,
            hook: hook::RCV_ESTABLISHED,
            ..sockmem_common::Header::default()
        }
    }

    fn life(&self, t_ns: u64, kind: u8) -> Record {
        let l = Box::new(Lifecycle {
            header: self.header(t_ns, kind),
            state: self.state,
        });
        match kind {
            KIND_OPEN => Record::Open(l),
            _ => Record::Close(l),
        }
    }
}

fn header(n: u32) -> Header {
    Header {
        host: HostInfo {
            kernel: "6.12.0".into(),
            hostname: format!("front-{n:03}"),
            boot_id: Some(format!("00000000-0000-4000-8000-{n:012}")),
            page_size: 4096,
            cpus: Some(2),
            arch: "x86_64".into(),
        },
        target: "all TCP sockets".into(),
        tier: Tier::Fentry,
        coverage: COUNTERS
            .iter()
            .map(|name| (*name, Coverage::Exact))
            .collect(),
        start_mono_ns: START,
        start_unix_ns: 1_767_225_600 * S + u64::from(n),
        idle_after_ns: IDLE_AFTER,
        ..Header::default()
    }
}

/// Writes the recording of host `n`, and prints what it holds.
fn host(dir: &Path, n: u32) -> Result<()> {
    let header = header(n);
    let path = dir.join(format!("{}.smt", header.host.hostname));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut out = Writer::new(BufWriter::new(file), &header)?;
    let mut sockets = Vec::new();
    let mut ids = 1..;
    for (comm, pid, count, bytes) in processes(n) {
        let facts = ProcessFacts {
            comm: Some(comm.to_owned()),
            cgroup: Some(format!("/system.slice/{comm}.service")),
            ..ProcessFacts::default()
        };
        out.push(START, Input::Process { pid, facts: &facts })?;
        let mut closed_byte_ns = 0;
        for _ in 0..count {
            let Some(id) = ids.next() else { break };
            let mut s = Socket::open(id, pid, comm, START);
            out.push(START, Input::Record(&s.life(START, KIND_OPEN)))?;
            // Traffic for a while, the last of which stays.
            for step in 1..=20u64 {
                let left = if step == 20 { bytes } else { 700 * step as u32 };
                let t_ns = START + step * S / 10;
                out.push(t_ns, Input::Record(&s.receive(t_ns, left, 131_072 + left)))?;
            }
            sockets.push(s);
        }
        // One connection of nginx closes half-way.
        if comm == "nginx" {
            let mut s = sockets.remove(0);
            let t_ns = START + 30 * S;
            s.state.advance(t_ns, IDLE_AFTER);
            closed_byte_ns = idle(bytes, t_ns);
            let seqs = s.state.seqs;
            s.state.take(t_ns, &Counters::default(), &seqs);
            s.state.flags |= sockmem_common::STATE_CLOSED;
            out.push(t_ns, Input::Record(&s.life(t_ns, KIND_CLOSE)))?;
        }
        let live = u128::from(count - u32::from(comm == "nginx"));
        let byte_ns = live * idle(bytes, END) + closed_byte_ns;
        println!(
            "{}\t{pid}\t{comm}\t{count}\t{byte_ns}",
            header.host.hostname
        );
    }
    for second in 3..=60u64 {
        let now_ns = START + second * S;
        let states: Vec<SockState> = sockets.iter().map(|s| s.state).collect();
        let states = &states[..];
        out.push(now_ns, Input::States { states, now_ns })?;
        out.push(now_ns, Input::ScanDone { began_ns: now_ns })?;
    }
    let loss = Loss {
        seen: 320,
        sent: 320,
        ..Loss::default()
    };
    out.push(END, Input::Loss(&loss))?;
    out.finish(END)?;
    Ok(())
}

/// What a socket that got its last data 2 s after the start held while idle until `t_ns`. byte·ns.
fn idle(bytes: u32, t_ns: u64) -> u128 {
    let quiet_from = START + 2 * S + IDLE_AFTER;
    u128::from(bytes) * u128::from(t_ns - quiet_from)
}

fn run(args: &[String]) -> Result<()> {
    let [dir, hosts] = args else {
        bail!("usage: sockmem-fleet DIR HOSTS");
    };
    let hosts: u32 = hosts.parse().context("HOSTS is a number")?;
    std::fs::create_dir_all(dir)?;
    (0..hosts).try_for_each(|n| host(Path::new(dir), n))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sockmem-fleet: {e:#}");
            ExitCode::FAILURE
        }
    }
}

//! `snapshot` and `where`: against the kernel's own numbers, in two namespaces, without root, while
//! thousands of sockets come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::{Case, Cx, Place, UNTRACED, case};
use crate::actor::Actor;
use crate::net::{self, Family};
use crate::oracle::{self, Reading};
use crate::trace;
use crate::workload::stage::Skip;

/// No tier: nothing is traced.
pub(super) fn cases() -> Vec<Case> {
    let vm = |case: Case| Case {
        place: Place::Vm,
        ..case
    };
    vec![
        case("inspect_sockets", UNTRACED, sockets),
        case("inspect_owners", UNTRACED, owners),
        case("inspect_ss", UNTRACED, like_ss),
        case("inspect_other_kinds", UNTRACED, other_kinds),
        case("inspect_netns", UNTRACED, namespaces),
        case("inspect_no_root", UNTRACED, no_root),
        case("inspect_churn", UNTRACED, churn),
        case("inspect_flood", UNTRACED, flood),
        vm(case("inspect_identity", UNTRACED, identity)),
        vm(case("inspect_fixed_cost", UNTRACED, fixed_cost)),
        vm(case("inspect_procfiles", UNTRACED, procfiles)),
        case("inspect_pages", UNTRACED, pages),
    ]
}

/// The document that a command prints.
fn document(cx: &Cx, args: &[&str]) -> Result<Value> {
    let (status, out, err) = trace::run(cx, args, |_| {})?;
    ensure!(status.success(), "{args:?} ended with {status}: {err}");
    serde_json::from_str(&out)
        .with_context(|| format!("{args:?} printed what is no JSON: {out:.200}"))
}

fn snapshot(cx: &Cx, args: &[&str]) -> Result<Value> {
    document(cx, &[&["snapshot", "--format", "json"], args].concat())
}

fn account(cx: &Cx, args: &[&str]) -> Result<Value> {
    document(cx, &[&["where", "--format", "json"], args].concat())
}

fn by_cookie(snapshot: &Value) -> Result<BTreeMap<u64, &Value>> {
    let list = snapshot["sockets"].as_array().context("no sockets")?;
    let mut map = BTreeMap::new();
    for s in list {
        let cookie = s["cookie"].as_u64().context("no cookie")?;
        ensure!(
            map.insert(cookie, s).is_none(),
            "cookie {cookie} is there twice"
        );
    }
    Ok(map)
}

/// Every counter, and the sums over them.
fn compare(snapshot: &Value, expected: &[Reading]) -> Result<()> {
    let found = by_cookie(snapshot)?;
    for reading in expected {
        let cookie = reading.cookie;
        let socket = found
            .get(&cookie)
            .with_context(|| format!("socket {cookie} ({}) is missing", reading.label))?;
        for (name, value) in reading.mem.named() {
            let said = trace::number(socket, name)?;
            ensure!(
                said == value,
                "{name} of {cookie}: {said}, sock_diag {value}"
            );
        }
        let drops = trace::number(socket, "drops")?;
        ensure!(
            drops == i64::from(reading.mem.drops),
            "drops of {cookie}: {drops}"
        );
        ensure!(trace::number(socket, "resident")? == reading.mem.resident().max(0));
    }
    let sum = found
        .values()
        .map(|s| trace::number(s, "resident"))
        .sum::<Result<i64>>()?;
    ensure!(
        trace::number(&snapshot["totals"], "resident")? == sum,
        "totals are not the sum {sum}"
    );
    Ok(())
}

/// Compares at a moment when nothing moves: the oracle says the same before and after.
fn at_rest(cx: &Cx, pid: u32, mut expected: impl FnMut() -> Result<Vec<Reading>>) -> Result<Value> {
    for _ in 0..40 {
        let before = expected()?;
        let shown = snapshot(cx, &["--pid", &pid.to_string()])?;
        if expected()? == before {
            compare(&shown, &before)?;
            return Ok(shown);
        }
    }
    bail!("the sockets never came to rest")
}

fn sockets(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "many")?;
    actor.step_to(cx, "mixed")?;
    let pid = actor.pid();
    let shown = at_rest(cx, pid, || actor.report(cx))?;
    for s in shown["sockets"].as_array().context("no sockets")? {
        ensure!(
            s["owner"]["pid"] == pid && s["owner"]["kind"] == "process",
            "{s}"
        );
        ensure!(s["holders"][0]["pid"] == pid, "{s}");
    }
    // Fewer rows, the same sums; and as many lines of CSV as rows.
    let whole = &shown["totals"];
    let few = snapshot(cx, &["--pid", &pid.to_string(), "--top", "3"])?;
    ensure!(few["sockets"].as_array().is_some_and(|l| l.len() == 3));
    ensure!(few["totals"]["resident"] == whole["resident"], "{few}");
    let (_, csv, _) = trace::run(
        cx,
        &["snapshot", "--pid", &pid.to_string(), "--format", "csv"],
        |_| {},
    )?;
    let sockets = trace::number(whole, "sockets")?;
    ensure!(
        csv.lines().count() as i64 == sockets + 1,
        "{} lines",
        csv.lines().count()
    );
    Ok(())
}

/// What waits to be accepted belongs to the listener's process, what was closed is an orphan.
fn owners(cx: &Cx) -> Result<()> {
    for (name, kind) in [("accept-queue", "listener"), ("close-orphan", "orphan")] {
        let mut actor = Actor::start(cx, name)?;
        let mut seen = 0;
        loop {
            let without_file: Vec<u64> = actor
                .at
                .sockets
                .iter()
                .filter(|r| r.unowned)
                .map(|r| r.cookie)
                .collect();
            let ports: BTreeSet<String> = actor
                .at
                .sockets
                .iter()
                .filter_map(|r| Some(r.local?.port().to_string()))
                .collect();
            if actor.at.rest && !without_file.is_empty() {
                let args: Vec<&str> = ports.iter().flat_map(|p| ["--port", p]).collect();
                let shown = snapshot(cx, &args)?;
                let found = by_cookie(&shown)?;
                for cookie in without_file {
                    if let Some(socket) = found.get(&cookie)
                        && socket["owner"]["kind"] == kind
                    {
                        seen += 1;
                        ensure!(socket["inode"].is_null(), "{socket}");
                        if kind == "listener" {
                            ensure!(socket["owner"]["pid"] == actor.pid(), "{socket}");
                        }
                    }
                }
            }
            if actor.at.end {
                break;
            }
            actor.step(cx)?;
        }
        ensure!(seen > 0, "{name}: no socket was of kind {kind}");
    }
    Ok(())
}

/// `ss` reads the same kernel interface: all nine numbers, and the process. Where there is no `ss`, the
/// other tests' own reader of sock_diag stands in for it.
fn like_ss(cx: &Cx) -> Result<()> {
    if Command::new("ss")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        bail!(Skip("there is no ss here".into()));
    }
    let mut actor = Actor::start(cx, "many")?;
    actor.step_to(cx, "mixed")?;
    let pid = actor.pid();
    for _ in 0..20 {
        let before = actor.report(cx)?;
        let shown = snapshot(cx, &["--pid", &pid.to_string()])?;
        let out = Command::new("ss")
            .args(["-tmnpeaOH"])
            .output()
            .context("ss")?;
        if actor.report(cx)? != before {
            continue;
        }
        let found = by_cookie(&shown)?;
        let text = String::from_utf8_lossy(&out.stdout);
        let mut compared = 0;
        for line in text.lines().filter(|l| l.contains(&format!("pid={pid},"))) {
            let cookie = line
                .split_once(" sk:")
                .and_then(|(_, r)| u64::from_str_radix(r.split_whitespace().next()?, 16).ok());
            let socket = cookie
                .and_then(|c| found.get(&c))
                .with_context(|| format!("ss has a socket that the snapshot lacks: {line}"))?;
            let skmem = line
                .split_once("skmem:(")
                .and_then(|(_, r)| r.split(')').next())
                .context("no skmem")?;
            for part in skmem.split(',') {
                let digits = part
                    .find(|c: char| c.is_ascii_digit())
                    .context("no number")?;
                let (letters, number) = part.split_at(digits);
                let name = match letters {
                    "r" => "rmem_alloc",
                    "rb" => "rcvbuf",
                    "t" => "wmem_alloc",
                    "tb" => "sndbuf",
                    "f" => "forward_alloc",
                    "w" => "wmem_queued",
                    "o" => "optmem",
                    "bl" => "backlog",
                    "d" => "drops",
                    other => bail!("ss has a field {other} that is not known"),
                };
                let said = trace::number(socket, name)?;
                ensure!(
                    said == number.parse::<i64>()?,
                    "{name}: {said}, ss {number}"
                );
            }
            compared += 1;
        }
        ensure!(
            compared == found.len(),
            "{compared} of {} in ss",
            found.len()
        );
        return Ok(());
    }
    bail!("the sockets never came to rest")
}

fn other_kinds(cx: &Cx) -> Result<()> {
    let udp = std::net::UdpSocket::bind("127.0.0.1:0")?;
    udp.send_to(&[1; 100], udp.local_addr()?)?;
    let (mut a, _b) = std::os::unix::net::UnixStream::pair()?;
    std::io::Write::write_all(&mut a, &[1; 5000])?;
    let pid = std::process::id().to_string();
    let shown = snapshot(cx, &["--pid", &pid, "--udp", "--unix"])?;
    let list = shown["sockets"].as_array().context("no sockets")?;
    let local = udp.local_addr()?.to_string();
    let u = list
        .iter()
        .find(|s| s["local"] == local.as_str())
        .context("no UDP socket")?;
    let held = oracle::mem_info(&udp)?;
    ensure!(
        u["protocol"] == "udp" && u["rmem_alloc"] == held.rmem_alloc && held.rmem_alloc > 0,
        "{u}"
    );
    ensure!(u["unread_bytes"].is_null(), "UDP's queue is memory: {u}");
    // The sender is charged for what its peer has not read.
    let sent = list
        .iter()
        .filter(|s| s["protocol"] == "unix")
        .filter_map(|s| s["resident"].as_i64())
        .max();
    ensure!(sent.is_some_and(|n| n >= 5000), "unix sockets: {list:?}");
    ensure!(
        list.iter().all(|s| s["protocol"] != "tcp"),
        "TCP was not asked for"
    );
    Ok(())
}

/// Brings up the loopback interface of the namespace that the caller is in.
fn loopback_up() -> std::io::Result<()> {
    // SAFETY: an ifreq is plain data; all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: no pointers are involved.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    let rc = unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request) };
    let result = if rc == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    };
    // SAFETY: `fd` is this function's own.
    unsafe { libc::close(fd) };
    result
}

/// The target's namespace is entered for reading, and what it holds is told apart from the rest.
fn namespaces(cx: &Cx) -> Result<()> {
    let mut here = Actor::start(cx, "stalled-reader")?;
    let mut there = Actor::start_with(cx, "stalled-reader", |command| {
        // SAFETY: both are system calls without memory of their own.
        unsafe {
            command.pre_exec(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                loopback_up()
            });
        }
    })?;
    while there.at.sockets.iter().all(|r| r.mem.resident() == 0) {
        ensure!(!there.at.end, "the workload holds nothing");
        there.step(cx)?;
        here.step(cx)?;
    }
    let own = std::fs::metadata("/proc/self/ns/net")?;
    let own = std::os::unix::fs::MetadataExt::ino(&own);
    let pid = there.pid();
    let shown = at_rest(cx, pid, || there.report(cx))?;
    for s in shown["sockets"].as_array().context("no sockets")? {
        ensure!(s["netns"].as_u64().is_some_and(|n| n != own), "{s}");
    }
    let cookies: BTreeSet<u64> = by_cookie(&shown)?.into_keys().collect();
    let mine = at_rest(cx, here.pid(), || here.report(cx))?;
    ensure!(
        by_cookie(&mine)?.keys().all(|c| !cookies.contains(c)),
        "namespaces are mixed up"
    );
    let said = account(cx, &["--pid", &pid.to_string()])?;
    let held = trace::number(&shown["totals"], "resident")?;
    ensure!(
        held > 0 && said["target_sockets"]["resident"] == held,
        "{said}"
    );
    let all = trace::number(&said["sum_of_sockets"], "resident")?;
    let both = held + trace::number(&mine["totals"], "resident")?;
    ensure!(all >= both, "all namespaces hold {all}, two of them {both}");
    Ok(())
}

/// As user nobody: what can be read is, what cannot is null with a reason.
fn no_root(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "many")?;
    actor.step_to(cx, "mixed")?;
    let pid = actor.pid().to_string();
    let dir = std::env::temp_dir().join(format!("sockmem-e2e-inspect-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let copy = dir.join("sockmem-trace");
    std::fs::copy(&cx.tool, &copy).with_context(|| cx.tool.display().to_string())?;
    let other = cx.with_tool(copy);
    let nobody = |command: &mut Command| {
        command.uid(65534).gid(65534);
    };
    let run = |args: &[&str]| trace::run(&other, args, nobody);
    let result = (|| {
        let (status, out, err) = run(&["snapshot", "--format", "json"])?;
        ensure!(status.success(), "snapshot: {status}: {err}");
        let shown: Value = serde_json::from_str(&out)?;
        let found = by_cookie(&shown)?;
        for r in actor.report(cx)? {
            let s = found.get(&r.cookie).context("a socket is missing")?;
            ensure!(
                s["owner"]["pid"].is_null() && s["owner"]["kind"] == "unknown",
                "{s}"
            );
            ensure!(s["rcvbuf"] == r.mem.rcvbuf, "counters need no root: {s}");
        }
        ensure!(
            shown["processes_denied"].as_u64().is_some_and(|n| n > 0),
            "{out:.300}"
        );
        // A process of root's: there is nothing to show, and that is said.
        let (status, out, err) = run(&["snapshot", "--pid", &pid])?;
        ensure!(
            status.code() == Some(2) && out.is_empty(),
            "{status}: {out}"
        );
        ensure!(
            err.contains(&format!("/proc/{pid}/fd")) && err.contains("sudo"),
            "{err}"
        );
        let (status, out, err) = run(&["where", "--pid", &pid, "--format", "json"])?;
        ensure!(status.success(), "where: {status}: {err}");
        let said: Value = serde_json::from_str(&out)?;
        ensure!(
            said["target_sockets"].is_null() && said["fixed_cost"].is_null(),
            "{said}"
        );
        for name in ["target", "payload", "fixed_objects", "fixed_cost"] {
            ensure!(
                said["unknown"][name].is_string(),
                "no reason for {name}: {}",
                said["unknown"]
            );
        }
        ensure!(
            said["sockstat"]["tcp_mem_pages"].is_u64()
                && said["meminfo"]["mem_free_bytes"].is_u64()
        );
        ensure!(
            said["rss"]["rss_bytes"].is_u64(),
            "RES needs no root: {said}"
        );
        let (status, out, _) = run(&["where"])?;
        ensure!(status.success() && out.contains("not known"), "{out}");
        Ok(())
    })();
    std::fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    result
}

/// Sockets open and close all the while: every reading is sound, none is in twice.
fn churn(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "churn")?;
    actor.send("step")?;
    let pid = actor.pid().to_string();
    for _ in 0..10 {
        let shown = snapshot(cx, &["--pid", &pid])?;
        compare(&shown, &[])?;
        let count = by_cookie(&shown)?.len() as u64;
        ensure!(
            count >= 11,
            "the eleven that stay are always there, of which {count} were seen"
        );
        ensure!(shown["totals"]["sockets"] == count);
        let said = account(cx, &["--pid", &pid])?;
        ensure!(
            said["remainder"]["answer"] != "suspected-leak",
            "{}",
            said["remainder"]
        );
    }
    actor.at = actor.receive(cx)?;
    Ok(())
}

/// Bytes of one line of `/proc/meminfo`.
fn meminfo(name: &str) -> Result<i64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let kib: i64 = line
        .context("no such line")?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kib * 1024)
}

fn step(said: &Value, name: &str) -> Result<i64> {
    let list = said["steps"].as_array().context("no steps")?;
    let step = list.iter().find(|s| s["name"] == name);
    step.and_then(|s| s["bytes"].as_i64())
        .with_context(|| format!("no bytes of step {name}: {}", said["unknown"]))
}

const PAIRS: usize = 16;
const EACH: usize = 1 << 20;

/// Connections whose reader does not read, with `EACH` bytes in each.
fn unread_pairs(cx: &Cx) -> Result<Vec<(TcpStream, TcpStream)>> {
    const SO_RCVBUFFORCE: i32 = 33;
    let big =
        |fd: &std::os::fd::OwnedFd| net::set_int(fd, libc::SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20);
    let mut pairs: Vec<(TcpStream, TcpStream)> = Vec::new();
    for _ in 0..PAIRS {
        let listener = net::listener(Family::V4, 0, 1, &big)?;
        let a = net::dial(listener.local_addr()?, &net::plain)?;
        let (b, _) = listener.accept()?;
        std::io::Write::write_all(&mut &a, &vec![7; EACH])?;
        pairs.push((a, b));
    }
    // Until the last byte is acknowledged.
    while pairs
        .iter()
        .any(|(a, _)| oracle::unacked(a).is_ok_and(|n| n > 0))
    {
        cx.left()?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(pairs)
}

/// 16 MB that nobody reads: in the account to the byte, in nobody's RES, and not in the caches.
fn flood(cx: &Cx) -> Result<()> {
    let pid = std::process::id().to_string();
    let before = account(cx, &["--pid", &pid])?;
    let pairs = unread_pairs(cx)?;
    let after = account(cx, &["--pid", &pid])?;
    let grew = |name: &str| Ok::<i64, anyhow::Error>(step(&after, name)? - step(&before, name)?);
    let payload = (PAIRS * EACH) as i64;
    ensure!(
        grew("payload")? == payload,
        "payload grew by {}",
        grew("payload")?
    );
    let charged: i64 = oracle::own_sockets()?
        .iter()
        .map(|r| r.mem.resident())
        .sum();
    ensure!(
        step(&after, "target")? == charged,
        "target {charged}: {after}"
    );
    let truesize = grew("truesize")?;
    ensure!(
        (payload..payload * 3 / 2).contains(&truesize),
        "truesize {truesize}"
    );
    ensure!(grew("all_sockets")? >= truesize);
    // The process itself has grown by next to nothing, and Slab by the buffers' heads.
    let rss = |v: &Value| trace::number(&v["rss"], "rss_bytes");
    ensure!(
        rss(&after)? - rss(&before)? < payload / 4,
        "RES grew with the flood"
    );
    if !cx.host {
        // Pages on the CPUs' own free lists are in the hole before, and are used up first.
        let hole = grew("memfree_hole")?;
        ensure!(
            hole > payload / 3,
            "the hole in MemFree grew by {hole} for {payload}"
        );
        let mem = |v: &Value, name| trace::number(&v["meminfo"], name);
        let slab = mem(&after, "slab_bytes")? - mem(&before, "slab_bytes")?;
        ensure!(slab < payload / 2, "Slab grew by {slab}");
        let sockstat = grew("sockstat_mem")?;
        ensure!(sockstat > payload / 2, "sockstat grew by {sockstat}");
    }
    ensure!(
        after["remainder"]["answer"] != "suspected-leak",
        "{}",
        after["remainder"]
    );
    drop(pairs);
    Ok(())
}

/// sockstat to the page: exactly where the CPUs' shares are read or do not exist, within the bound else.
fn identity(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "many")?;
    actor.step_to(cx, "mixed")?;
    for _ in 0..20 {
        let before: i64 = oracle::dump()?.iter().map(|r| r.mem.resident()).sum();
        let said = account(cx, &[])?;
        let bounded = account(cx, &["--no-ebpf"])?;
        let after: i64 = oracle::dump()?.iter().map(|r| r.mem.resident()).sum();
        if before != after {
            continue;
        }
        ensure!(
            said["sum_of_sockets"]["resident"] == after,
            "{}",
            said["sum_of_sockets"]
        );
        println!(
            "TABLE where {} reserve={} pages={} remainder={} bound={}",
            cx.release,
            said["per_cpu_reserve"]["how"],
            said["per_cpu_reserve"]["pages"],
            said["remainder_bytes"],
            said["remainder_bound_bytes"]
        );
        let how = if cx.kernel < (6, 0) {
            "absent"
        } else {
            "exact"
        };
        ensure!(
            said["per_cpu_reserve"]["how"] == how,
            "{}",
            said["per_cpu_reserve"]
        );
        ensure!(said["remainder_bytes"] == 0, "{}", said["remainder"]);
        ensure!(
            said["remainder"]["answer"] == "explained",
            "{}",
            said["remainder"]
        );
        let how = if cx.kernel < (6, 0) {
            "absent"
        } else {
            "bound"
        };
        ensure!(
            bounded["per_cpu_reserve"]["how"] == how,
            "{}",
            bounded["per_cpu_reserve"]
        );
        ensure!(
            bounded["remainder"]["answer"] == "explained",
            "{}",
            bounded["remainder"]
        );
        return Ok(());
    }
    bail!("the sockets never came to rest")
}

/// What `where` says a connection costs, against what Slab grows by.
fn fixed_cost(cx: &Cx) -> Result<()> {
    const PAIRS: i64 = 1500;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 4096, 4096)
        .context("RLIMIT_NOFILE")?;
    let said = account(cx, &[])?;
    let cost = &said["fixed_cost"];
    let each = trace::number(cost, "slab_bytes_per_socket")?;
    let port = trace::number(cost, "slab_bytes_per_client_port")?;
    let listener = net::listener(Family::V4, 0, 128, &net::plain)?;
    let before = meminfo("Slab")?;
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let a = net::dial(listener.local_addr()?, &net::plain)?;
        let (b, _) = listener.accept()?;
        pairs.push((a, b));
    }
    let grew = meminfo("Slab")? - before;
    let expected = PAIRS * (2 * each + port);
    println!(
        "TABLE fixed cost {}: {each} B a socket, {port} B a client port; Slab grew by {grew} for {PAIRS} pairs, \
         expected {expected}",
        cx.release
    );
    ensure!(
        (expected * 8 / 10..expected * 13 / 10).contains(&grew),
        "Slab grew by {grew}, expected {expected}"
    );
    let caches = cost["objects"].as_array().context("no objects")?;
    ensure!(
        caches
            .iter()
            .any(|o| o["name"] == "TCP" && o["object_bytes"].as_u64() > Some(2000))
    );
    Ok(())
}

/// The files that the readers' unit tests have saved, line by line, to be saved again.
fn procfiles(_cx: &Cx) -> Result<()> {
    for name in [
        "/proc/meminfo",
        "/proc/slabinfo",
        "/proc/net/sockstat",
        "/proc/net/sockstat6",
    ] {
        for line in std::fs::read_to_string(name)
            .with_context(|| name.to_owned())?
            .lines()
        {
            println!("PROCFILE {name} {line}");
        }
    }
    let links = std::fs::read_dir("/sys/kernel/slab")
        .into_iter()
        .flatten()
        .flatten();
    for entry in links {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            println!(
                "PROCFILE /sys/kernel/slab {} {}",
                entry.file_name().to_string_lossy(),
                target.display()
            );
        }
    }
    Ok(())
}

/// Prints what a user sees, for three questions, so that documents can quote it: where 16 MB of unread data
/// are, what a lowered limit does to queued data, what drained connections hold.
fn pages(cx: &Cx) -> Result<()> {
    let show = |question: &str, args: &[&str]| -> Result<String> {
        let (status, out, err) = trace::run(cx, args, |_| {})?;
        ensure!(
            status.success() && err.is_empty(),
            "{args:?}: {status}: {err}"
        );
        println!("PAGE {question} $ sockmem-trace {}", args.join(" "));
        for line in out.lines() {
            println!("PAGE {question} {line}");
        }
        Ok(out)
    };
    let pid = std::process::id().to_string();
    let pairs = unread_pairs(cx)?;
    let page = show("q1", &["where", "--pid", &pid])?;
    ensure!(
        page.contains("16,777,216"),
        "the payload is not on the page: {page}"
    );
    drop(pairs);
    let listener = net::listener(Family::V4, 0, 1, &net::plain)?;
    let a = net::dial(listener.local_addr()?, &net::plain)?;
    let (b, _) = listener.accept()?;
    // In one piece: before 6.12 small ones take so much room each that the window closes.
    net::fill(&a, 60_000, 60_000)?;
    while oracle::unacked(&a)? > 0 {
        cx.left()?;
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let held = oracle::mem_info(&b)?;
    let port = listener.local_addr()?.port().to_string();
    show("q2", &["snapshot", "--port", &port])?;
    net::set_rcvbuf(&b, 8192)?;
    show("q2", &["snapshot", "--port", &port])?;
    let after = oracle::mem_info(&b)?;
    ensure!(
        after.rcvbuf < held.rcvbuf && after.rmem_alloc == held.rmem_alloc,
        "a lower limit gave memory back: {after:?}, before {held:?}"
    );
    let mut actor = Actor::start(cx, "burst")?;
    actor.step_to(cx, "idle")?;
    let pid = actor.pid().to_string();
    show("q3", &["where", "--pid", &pid])?;
    show("q3", &["snapshot", "--pid", &pid, "--top", "3"])?;
    Ok(())
}

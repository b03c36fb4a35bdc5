//! Who changes a limit: setsockopt calls, and writes to the sysctls.
//!
//! kprobes in both event-exact tiers: the option's value is a struct passed by value
//! (`sockptr_t`), and functions with such an argument take fentry programs only from 6.1 on.
//! The calls are rare. A change that nobody asked for (autotuning) needs no hook here:
//! `observe()` sees it.

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid,
    generated::{bpf_get_current_task, bpf_probe_read_user},
};
use sockmem_common::{
    ABSENT, KIND_LIMIT, KIND_SYSCTL, LIMIT_ASKED, LIMIT_NOTSENT_LOWAT, LIMIT_RCVBUF,
    LIMIT_RESERVED_MEM, LIMIT_SNDBUF, LIMIT_WINDOW_CLAMP, LimitSet, OptCall, SysctlWrite, hook,
};

use crate::{
    adopt, emit,
    maps::{OPT_CALLS, off, setting},
    memory::{self, Memory, Probed, at, copy},
    observe::{now, state},
    pressure, program,
    tier_kprobe::{arg0, arg1, arg2, arg3, arg4, returned},
};

/// `SOL_SOCKET`.
const SOL_SOCKET: u32 = 1;
/// `SOL_TCP`.
const SOL_TCP: u32 = 6;
/// `SO_RCVLOWAT`: the kernel raises `sk_rcvbuf` to twice of it (`tcp_set_rcvlowat`).
const SO_RCVLOWAT: u32 = 18;

/// Which field an option sets; 0 for every other option. Numbers as on x86-64 and aarch64
/// (asm-generic/socket.h, uapi/linux/tcp.h).
#[inline(always)]
fn field_of(level: u32, optname: u32) -> u8 {
    match (level, optname) {
        // SO_SNDBUF, SO_SNDBUFFORCE.
        (SOL_SOCKET, 7 | 32) => LIMIT_SNDBUF,
        // SO_RCVBUF, SO_RCVBUFFORCE.
        (SOL_SOCKET, 8 | 33 | SO_RCVLOWAT) => LIMIT_RCVBUF,
        // SO_RESERVE_MEM.
        (SOL_SOCKET, 73) => LIMIT_RESERVED_MEM,
        // TCP_WINDOW_CLAMP.
        (SOL_TCP, 10) => LIMIT_WINDOW_CLAMP,
        // TCP_NOTSENT_LOWAT.
        (SOL_TCP, 25) => LIMIT_NOTSENT_LOWAT,
        _ => 0,
    }
}

/// Where that field is in a `struct sock` or the `struct tcp_sock` that begins with one.
#[inline(always)]
fn read_field(sk: u64, what: u8) -> Option<u32> {
    let field = match what {
        LIMIT_RCVBUF => off!(rcvbuf),
        LIMIT_SNDBUF => off!(sndbuf),
        LIMIT_RESERVED_MEM => off!(reserved_mem),
        LIMIT_WINDOW_CLAMP => off!(window_clamp),
        LIMIT_NOTSENT_LOWAT => off!(notsent_lowat),
        _ => ABSENT,
    };
    (field != ABSENT).then(|| Probed::read(sk, field))
}

// int sock_setsockopt(struct socket *, int level, int optname, sockptr_t optval, unsigned int
// optlen), for SOL_SOCKET; optval takes two registers: the pointer, and whether the kernel's.
program!("kprobe", kp_sock_opt, |ctx| {
    if off!(socket_sk) != ABSENT {
        let sk = Probed::read::<u64>(arg0(ctx), off!(socket_sk));
        let value = (arg3(ctx), arg4(ctx));
        begin(sk, SOL_SOCKET, arg1(ctx) as u32, arg2(ctx) as u32, value);
    }
});

// int tcp_setsockopt(struct sock *, int level, int optname, sockptr_t optval, unsigned int optlen)
program!("kprobe", kp_tcp_opt, |ctx| {
    let value = (arg3(ctx), arg4(ctx));
    begin(
        arg0(ctx),
        SOL_TCP,
        arg1(ctx) as u32,
        arg2(ctx) as u32,
        value,
    );
});

/// A call began: keeps what it is about until it returns.
#[inline(always)]
fn begin(sk: u64, expected: u32, level: u32, optname: u32, value: (u64, u64)) {
    let what = field_of(level, optname);
    if sk == 0 || what == 0 || level != expected {
        return;
    }
    let key = bpf_get_current_pid_tgid();
    let tgid = (key >> 32) as u32;
    // One that is not traced yet is so when the call returns, if its user is a target.
    if tgid == setting!(self_tgid) || (state::<Probed>(sk).is_none() && !adopt::is_target(tgid)) {
        return;
    }
    if expected == SOL_TCP && !memory::is_tcp::<Probed>(sk) {
        return;
    }
    let Some(from) = read_field(sk, what) else {
        return;
    };
    let mut asked = 0i32;
    let to = (&raw mut asked).cast();
    let read = if value.1 & 1 != 0 {
        asked = at(value.0);
        0
    } else {
        // SAFETY: the helper writes 4 bytes to `asked`, zeroes on a fault.
        unsafe { bpf_probe_read_user(to, 4, value.0 as *const core::ffi::c_void) }
    };
    let call = OptCall {
        sk,
        began_ns: now(),
        from,
        asked,
        optname,
        level: level as u16,
        what,
        flags: if read == 0 { LIMIT_ASKED } else { 0 },
    };
    let _ = OPT_CALLS.insert(key, call, 0);
}

// At the return of both. A thread makes one call at a time, and the two do not nest.
program!("kretprobe", kr_set_opt, |ctx| {
    let key = bpf_get_current_pid_tgid();
    if let Some(call) = OPT_CALLS.get_ptr(key) {
        // SAFETY: points to a map value that only this thread writes.
        let call = unsafe { *call };
        let _ = OPT_CALLS.remove(key);
        if returned(ctx) as u32 == 0 {
            done(&call, (key >> 32) as u32);
        }
    }
});

#[inline(always)]
fn done(call: &OptCall, tgid: u32) {
    let Some(st) = state::<Probed>(call.sk) else {
        return;
    };
    let Some(to) = read_field(call.sk, call.what) else {
        return;
    };
    if call.optname == SO_RCVLOWAT && to == call.from {
        return; // No limit was set.
    }
    let hook = if call.level as u32 == SOL_TCP {
        hook::TCP_SETSOCKOPT
    } else {
        hook::SOCK_SETSOCKOPT
    };
    let sent = emit::send(LimitSet {
        header: emit::header(KIND_LIMIT, hook, st.id, now()),
        began_ns: call.began_ns,
        asked: call.asked,
        from: call.from,
        to,
        tgid,
        what: call.what,
        flags: call.flags,
        level: call.level,
        optname: call.optname,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    });
    if !sent {
        pressure::lost();
    }
}

// ssize_t proc_sys_write(struct kiocb *, struct iov_iter *): the name of the file decides, and
// no two settings below /proc/sys share these.
program!("kprobe", kp_sysctl, |ctx| sysctl(arg0(ctx)));

/// Eight letters of a name; shorter ones end in zeroes.
const fn letters(name: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*name)
}

#[inline(always)]
fn sysctl(kiocb: u64) {
    if off!(kiocb_file) == ABSENT || off!(file_dentry) == ABSENT || off!(dentry_name) == ABSENT {
        return;
    }
    let file: u64 = Probed::read(kiocb, off!(kiocb_file));
    let dentry: u64 = Probed::read(file, off!(file_dentry));
    let text: u64 = Probed::read(dentry, off!(dentry_name));
    let first: u64 = at(text);
    const TCP_MEM: u64 = letters(b"tcp_mem\0");
    const TCP_RMEM: u64 = letters(b"tcp_rmem");
    const TCP_WMEM: u64 = letters(b"tcp_wmem");
    const RMEM_MAX: u64 = letters(b"rmem_max");
    const WMEM_MAX: u64 = letters(b"wmem_max");
    match first {
        TCP_MEM => {}
        // Nothing follows.
        TCP_RMEM | TCP_WMEM | RMEM_MAX | WMEM_MAX if at::<u8>(text + 8) == 0 => {}
        _ => return,
    }
    let mut name = [0u8; 16];
    name[..8].copy_from_slice(&first.to_le_bytes());
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let sent = emit::send(SysctlWrite {
        header: emit::header(KIND_SYSCTL, hook::SYSCTL_WRITE, tgid as u64, now()),
        name,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
        netns: current_netns(),
        reserved: 0,
    });
    if !sent {
        pressure::lost();
    }
}

/// Network namespace of the current task; 0 where not known.
#[inline(always)]
fn current_netns() -> u32 {
    if off!(task_nsproxy) == ABSENT || off!(nsproxy_net) == ABSENT || off!(net_inum) == ABSENT {
        return 0;
    }
    // SAFETY: a helper call without arguments.
    let task = unsafe { bpf_get_current_task() };
    let nsproxy: u64 = Probed::read(task, off!(task_nsproxy));
    let net: u64 = Probed::read(nsproxy, off!(nsproxy_net));
    let mut inum = [0u8; 4];
    copy::<4>(net, off!(net_inum), &mut inum);
    u32::from_ne_bytes(inum)
}

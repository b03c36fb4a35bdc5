//! kprobes and kretprobes, for kernels that refuse fentry. Nothing is typed here: arguments
//! come from saved registers and memory is read with `bpf_probe_read_kernel`.
//!
//! A kretprobe has no arguments, so the entry probe keeps the first one under the stack
//! pointer that the return will have. It tells concurrent calls apart on every CPU, in
//! process context and in softirqs.

use core::{arch::asm, ffi::c_void};

use sockmem_common::{SET_AARCH64, hook};

use crate::{
    adopt,
    emit::count,
    maps::{ENTERED, off, setting},
    memory::{Memory, Probed, is_tcp},
    observe::{
        Context, destroy, observe, observe_backlog, observe_number, observe_wmem_alloc, state,
    },
    program, truesize,
};

/// The saved register at byte `$x86` of x86-64's `struct pt_regs`, or `$arm` of aarch64's
/// `struct user_pt_regs`.
macro_rules! register {
    ($ctx:ident, $x86:literal, $arm:literal) => {{
        let value: u64;
        // In assembly, so that the offset stays an immediate of the load: the verifier refuses
        // a context pointer to which a register was added, as a compiler may do here.
        if setting!(flags) & SET_AARCH64 != 0 {
            // SAFETY: the verifier checks the context access.
            unsafe {
                asm!(concat!("{v} = *(u64 *)({c} + ", $arm, ")"), v = out(reg) value, c = in(reg) $ctx, options(nostack, readonly));
            }
        } else {
            // SAFETY: as above.
            unsafe {
                asm!(concat!("{v} = *(u64 *)({c} + ", $x86, ")"), v = out(reg) value, c = in(reg) $ctx, options(nostack, readonly));
            }
        }
        value
    }};
}

#[inline(always)]
pub fn arg0(ctx: *mut c_void) -> u64 {
    register!(ctx, 112, 0)
}

#[inline(always)]
pub fn arg1(ctx: *mut c_void) -> u64 {
    register!(ctx, 104, 8)
}

#[inline(always)]
pub fn arg2(ctx: *mut c_void) -> u64 {
    register!(ctx, 96, 16)
}

#[inline(always)]
pub fn arg3(ctx: *mut c_void) -> u64 {
    register!(ctx, 88, 24)
}

#[inline(always)]
pub fn arg4(ctx: *mut c_void) -> u64 {
    register!(ctx, 72, 32)
}

#[inline(always)]
pub fn returned(ctx: *mut c_void) -> u64 {
    register!(ctx, 80, 0)
}

/// Stack pointer as it will be (entry) or is (return) after the return: on
/// x86-64 the call pushed the return address, on aarch64 it did not.
#[inline(always)]
fn stack_at_entry(ctx: *mut c_void) -> u64 {
    let pushed = if setting!(flags) & SET_AARCH64 != 0 {
        0
    } else {
        8
    };
    register!(ctx, 152, 248) + pushed
}

#[inline(always)]
fn stack_at_return(ctx: *mut c_void) -> u64 {
    register!(ctx, 152, 248)
}

/// The first argument of the call that returns now.
#[inline(always)]
fn entered(ctx: *mut c_void) -> Option<u64> {
    let key = stack_at_return(ctx);
    let Some(value) = ENTERED.get_ptr(key) else {
        count!(lost_entry);
        return None;
    };
    // SAFETY: points to a map value of 8 bytes.
    let value = unsafe { *value };
    let _ = ENTERED.remove(key);
    Some(value)
}

// Attached at the entry of every function below that has a kretprobe.
program!("kprobe", kp_enter, |ctx| {
    let _ = ENTERED.insert(stack_at_entry(ctx), arg0(ctx), 0);
});

/// Defines a kretprobe program that observes the call's argument 0.
macro_rules! section_end {
    ($name:ident, $hook:ident, $context:ident) => {
        program!("kretprobe", $name, |ctx| {
            if let Some(sk) = entered(ctx) {
                observe::<Probed>(sk, hook::$hook, Context::$context);
            }
        });
    };
}

section_end!(kr_release_cb, RELEASE_CB, Process);
section_end!(kr_rcv_established, RCV_ESTABLISHED, Any);
section_end!(kr_rcv_state, RCV_STATE_PROCESS, Any);
section_end!(kr_write_timer, WRITE_TIMER, Any);
section_end!(kr_delack_timer, DELACK_TIMER, Any);
section_end!(kr_queue_purge, WRITE_QUEUE_PURGE, Any);
section_end!(kr_kill_queues, KILL_QUEUES, Any);
section_end!(kr_backlog_done, RELEASE_BACKLOG, Process);

program!("kprobe", kp_release_sock, |ctx| {
    let sk = arg0(ctx);
    if is_tcp::<Probed>(sk) {
        observe::<Probed>(sk, hook::RELEASE_SOCK, Context::Process);
    }
});

program!("kretprobe", kr_write_xmit, |ctx| {
    if let Some(sk) = entered(ctx)
        && Probed::read::<u32>(sk, off!(lock_owned)) & 0xff == 0
    {
        observe::<Probed>(sk, hook::WRITE_XMIT, Context::Any);
    }
});

program!("kretprobe", kr_destruct, |ctx| {
    if let Some(sk) = entered(ctx) {
        destroy::<Probed>(sk, hook::DESTRUCT, true);
    }
});

program!("kretprobe", kr_add_backlog, |ctx| {
    if let Some(sk) = entered(ctx) {
        observe_backlog::<Probed>(sk, hook::ADD_BACKLOG);
    }
});

program!("kretprobe", kr_wfree, |ctx| {
    if let Some(skb) = entered(ctx) {
        observe_wmem_alloc::<Probed>(Probed::read(skb, off!(skb_sk)), hook::TCP_WFREE);
    }
});

program!("kretprobe", kr_ack_wfree, |ctx| {
    if let Some(skb) = entered(ctx) {
        observe_wmem_alloc::<Probed>(Probed::read(skb, off!(skb_sk)), hook::PURE_ACK_WFREE);
    }
});

program!("kprobe", kp_reqsk_add, |ctx| {
    let child = arg2(ctx);
    adopt::child::<Probed>(child, Some(arg0(ctx)), hook::REQSK_QUEUE_ADD);
    if let Some(st) = state::<Probed>(child) {
        adopt::give_cookie::<Probed>(child, st);
    }
    observe_number(child, hook::REQSK_QUEUE_ADD as u64);
});

program!("kprobe", kp_hashdance, |ctx| {
    let child = arg1(ctx);
    if child != 0 {
        adopt::child::<Probed>(child, Some(arg0(ctx)), hook::HASHDANCE);
        observe_number(child, hook::HASHDANCE as u64);
    }
});

program!("kprobe", kp_rfree, |ctx| {
    let skb = arg0(ctx);
    if state::<Probed>(Probed::read(skb, off!(skb_sk))).is_some() {
        truesize::received::<Probed>(skb);
    }
});

program!("kretprobe", kr_alloc, |ctx| {
    if let Some(sk) = entered(ctx) {
        let skb = returned(ctx);
        if skb != 0 && state::<Probed>(sk).is_some() {
            truesize::allocated::<Probed>(skb);
        }
    }
});

//! The eBPF programs of sockmem-trace.
//!
//! A hook is a thin wrapper that finds the `struct sock *` and calls the one
//! `observe()`. Which programs are loaded is decided by user space's program table
//! (`sockmem-user/src/attach/table.rs`); program names here are that table's keys.
//!
//! * `tier_fentry`: fentry/fexit, every change observed.
//! * `tier_kprobe`: kprobes and kretprobes on the same functions.
//! * `tier_tracepoint`: BTF tracepoints alone.
//! * `limits`, `pressure`: who sets limits, and what happens where they are reached.
//! * `common`: tracepoints that every tier uses (states, processes) and the iterators.
//! * `audit`: test-only; compares live counters with the last observed ones.
//! * `bench`: measuring only.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod adopt;
mod audit;
mod bench;
mod common;
mod emit;
mod limits;
mod maps;
mod memory;
mod observe;
mod pressure;
mod tier_fentry;
mod tier_kprobe;
mod tier_tracepoint;
mod truesize;

use core::ffi::c_void;

/// The macros of aya-log ask for a context and do not use it.
pub struct LogContext;

impl aya_ebpf::EbpfContext for LogContext {
    fn as_ptr(&self) -> *mut c_void {
        core::ptr::null_mut()
    }
}

/// Argument `$n` of a BTF-typed program: the context is an array of 8-byte arguments.
macro_rules! arg {
    ($ctx:ident, $n:literal) => {
        // SAFETY: the verifier checks that the hooked function has this argument.
        unsafe { core::ptr::read_volatile(($ctx as *const u64).add($n)) }
    };
}
pub(crate) use arg;

/// Defines a program: `program!("section/hook", name, |ctx| body)`.
macro_rules! program {
    ($section:literal, $name:ident, |$ctx:ident| $body:expr) => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = $section)]
        pub extern "C" fn $name($ctx: *mut core::ffi::c_void) -> i32 {
            let () = $body;
            0
        }
    };
}
pub(crate) use program;

/// Nothing here may be used under another licence than the kernel's helpers ask for.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

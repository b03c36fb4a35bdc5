//! Reads a per-CPU variable of the kernel, exactly, through a program of seven instructions.
//!
//! The kernel shows `tcp_memory_per_cpu_fw_alloc` nowhere, but its type information lists it (from
//! 6.1) and `bpf_per_cpu_ptr` gives its place on any CPU. The program is run once for each CPU by
//! `BPF_PROG_TEST_RUN`, is attached to nothing, takes the CPU as its argument and returns the value.
//! It is written as instructions here, because the number of the variable's type is only known now.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_type};

use super::bpf::{bpf, owned, zeroed};

/// `struct bpf_insn`: code, registers (source in the upper four bits), offset, immediate.
type Insn = (u8, u8, i16, i32);

/// `BPF_LD | BPF_IMM | BPF_DW`, of two instructions' length.
const LD_IMM64: u8 = 0x18;
/// `BPF_PSEUDO_BTF_ID`, as the source register of `LD_IMM64`.
const PSEUDO_BTF_ID: u8 = 3;
/// `BPF_LDX | BPF_MEM | BPF_DW`.
const LDX_DW: u8 = 0x79;
/// `BPF_LDX | BPF_MEM | BPF_W`.
const LDX_W: u8 = 0x61;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const JEQ_K: u8 = 0x15;
/// `BPF_JMP | BPF_EXIT`.
const EXIT: u8 = 0x95;
/// `BPF_FUNC_per_cpu_ptr`.
const PER_CPU_PTR: i32 = 153;

/// r2 = the argument; r1 = the variable; r0 = its place on CPU r2; r0 = the int there, 0 for no such CPU.
fn program(var: u32) -> [Insn; 7] {
    let dst_src = |dst: u8, src: u8| dst | src << 4;
    [
        (LDX_DW, dst_src(2, 1), 0, 0),
        (LD_IMM64, dst_src(1, PSEUDO_BTF_ID), 0, var.cast_signed()),
        (0, 0, 0, 0),
        (CALL, 0, 0, PER_CPU_PTR),
        (JEQ_K, 0, 1, 0),
        (LDX_W, dst_src(0, 0), 0, 0),
        (EXIT, 0, 0, 0),
    ]
}

/// A loaded reader of one variable of type `int`.
#[derive(Debug)]
pub struct PerCpuInt(OwnedFd);

impl PerCpuInt {
    /// Loads the program for the variable of that BTF number.
    ///
    /// # Errors
    /// Of bpf(2): `EPERM` without CAP_BPF and CAP_PERFMON; `ENOENT` where the kernel does not
    /// list its variables' addresses (no `CONFIG_KALLSYMS_ALL`); `EINVAL` before 5.10.
    pub fn load(var: u32) -> io::Result<Self> {
        let code: Vec<u8> = program(var)
            .into_iter()
            .flat_map(|(code, regs, off, imm)| {
                let mut bytes = [0; 8];
                bytes[0] = code;
                bytes[1] = regs;
                bytes[2..4].copy_from_slice(&off.to_ne_bytes());
                bytes[4..8].copy_from_slice(&imm.to_ne_bytes());
                bytes
            })
            .collect();
        let license = CString::from(c"Dual MIT/GPL");
        let mut attr = zeroed();
        // SAFETY: the union is all zeroes, which is valid for this member.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_RAW_TRACEPOINT as u32;
        load.insn_cnt = (code.len() / 8) as u32;
        load.insns = code.as_ptr() as u64;
        load.license = license.as_ptr() as u64;
        Ok(PerCpuInt(owned(bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)?)))
    }

    /// The value on one CPU; 0 for one that there is not.
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn read(&self, cpu: u32) -> io::Result<i32> {
        let argument = u64::from(cpu);
        let mut attr: bpf_attr = zeroed();
        // SAFETY: the union is all zeroes, which is valid for this member.
        let test = unsafe { &mut attr.test };
        test.prog_fd = self.0.as_raw_fd() as u32;
        test.ctx_size_in = size_of_val(&argument) as u32;
        test.ctx_in = (&raw const argument) as u64;
        bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
        // SAFETY: the kernel wrote `retval` of the member that was passed in.
        Ok(unsafe { attr.test.retval }.cast_signed())
    }

    /// The sum over CPUs 0 to `cpus` - 1.
    ///
    /// # Errors
    /// Of bpf(2).
    pub fn sum(&self, cpus: u32) -> io::Result<i64> {
        (0..cpus).map(|cpu| self.read(cpu).map(i64::from)).sum()
    }
}

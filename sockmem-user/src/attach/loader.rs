//! From what the user asked for and what the kernel offers to attached programs.

use std::collections::BTreeMap;

use aya::programs::{Iter, KProbe, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader};
use sockmem_common::{ABSENT, Layout, SET_AARCH64, SET_COOKIE, SET_TRUESIZE, Settings};

use super::object::{self, Cast};
use super::table::{Group, Kind, Need, PROGRAMS, ProgramSpec};
use super::trace::Trace;
use crate::facts::{Coverage, Tier};
use crate::kernel;

/// The programs, built from `sockmem-ebpf` by `cargo xtask build-ebpf`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/sockmem.bpf.o");

/// What a trace is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None`: the best that the kernel offers.
    pub tier: Option<Tier>,
    /// As patched into the programs; the loader adds what it finds out.
    pub settings: Settings,
    /// Most sockets traced at once.
    pub max_sockets: u32,
    /// Bytes of the ring buffer; rounded up to a power of two of pages.
    pub ring_bytes: u32,
    /// Count skbs by truesize.
    pub truesize: bool,
    /// Load the audit, too.
    pub audit: bool,
    /// Load an empty program, too (measuring).
    pub bench: bool,
    /// Another object than the built-in one (tests).
    pub object: Option<std::path::PathBuf>,
}

/// Why a trace could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No BTF, or not a usable one.
    #[error(
        "the kernel's type information (BTF) is needed and cannot be read from \
         /sys/kernel/btf/vmlinux: {0}; use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all \
         current distributions' are"
    )]
    Btf(String),
    /// The field layout cannot be resolved.
    #[error(transparent)]
    Layout(#[from] kernel::LayoutError),
    /// The object cannot be loaded.
    #[error("loading the eBPF maps failed: {0}; `sockmem-trace doctor` names what is missing")]
    Object(String),
    /// A tier was asked for that the kernel refuses.
    #[error(
        "tier {} is not available on this host: {why}; run without --tier to take the best that \
         is, or `sockmem-trace doctor` to see why", tier.name()
    )]
    Tier {
        /// Which.
        tier: Tier,
        /// The first program that failed, and how.
        why: String,
    },
    /// No tier works.
    #[error(
        "no kind of hook can be attached on this host ({0}); `sockmem-trace doctor` names what is \
         missing and how to get it"
    )]
    NoTier(String),
    /// A map of the object is missing or refused.
    #[error("map {name}: {why}")]
    Map {
        /// Which.
        name: &'static str,
        /// What happened.
        why: String,
    },
}

impl AttachError {
    /// What was refused, without the advice; for a table that has a column for that.
    #[must_use]
    pub fn refusal(&self) -> String {
        match self {
            AttachError::Tier { why, .. } => why.clone(),
            other => other.to_string(),
        }
    }
}

/// Attaches the best tier, or the one asked for.
///
/// # Errors
/// `AttachError`; nothing stays attached.
pub fn attach(options: &Options) -> Result<Trace, AttachError> {
    let kernel_btf = kernel::Btf::from_sys_fs().map_err(|e| AttachError::Btf(e.to_string()))?;
    let resolved = kernel::resolve(&kernel_btf)?;
    let btf = Btf::from_sys_fs().map_err(|e| AttachError::Btf(e.to_string()))?;
    let tiers: &[Tier] = match &options.tier {
        Some(tier) => std::slice::from_ref(tier),
        None => &[Tier::Fentry, Tier::Kprobe, Tier::Tracepoint],
    };
    let cast = object::cast(&btf);
    let mut refused = Vec::new();
    for &tier in tiers {
        // Whether a kernel has what came later shows when a program that calls it is loaded:
        // bpf_rdonly_cast (6.2), and bpf_get_socket_cookie in tracing programs (5.12).
        let attempts = [(true, cast), (true, None), (false, None)];
        let mut result = Err(Refused::Load(String::new()));
        for (i, (cookies, cast)) in attempts.into_iter().enumerate() {
            if i > 0 && attempts[i - 1] == (cookies, cast) {
                continue;
            }
            let calls = Calls { cookies, cast };
            result = attach_tier(options, tier, calls, &resolved.layout, &kernel_btf, &btf);
            if !matches!(result, Err(Refused::Load(_))) {
                break;
            }
        }
        match result {
            Ok(mut trace) => {
                trace.keeps_forward_alloc =
                    !kernel::Features::from_btf(&kernel_btf).forward_alloc_is_returned();
                trace.notes.extend(
                    resolved
                        .missing
                        .iter()
                        .map(|m| format!("{} ({}: {})", m.feature_lost, m.path, m.why)),
                );
                return Ok(trace);
            }
            Err(Refused::Map(e)) => return Err(e),
            Err(Refused::Load(why) | Refused::Attach(why)) => refused.push((tier, why)),
        }
    }
    match options.tier {
        Some(tier) => {
            let why = refused.pop().map_or_else(String::new, |(_, why)| why);
            Err(AttachError::Tier { tier, why })
        }
        None => {
            let all: Vec<_> = refused
                .iter()
                .map(|(tier, why)| format!("{}: {why}", tier.name()))
                .collect();
            Err(AttachError::NoTier(all.join("; ")))
        }
    }
}

/// Which of the later calls the programs make.
#[derive(Clone, Copy)]
struct Calls {
    cookies: bool,
    cast: Option<Cast>,
}

/// Why one tier was not attached.
enum Refused {
    /// A required program could not be loaded; one that calls less may be.
    Load(String),
    /// A required program is not to be had, whatever it calls.
    Attach(String),
    /// Maps: no other tier would fare better.
    Map(AttachError),
}

fn attach_tier(
    options: &Options,
    tier: Tier,
    calls: Calls,
    layout: &Layout,
    kernel_btf: &kernel::Btf,
    btf: &Btf,
) -> Result<Trace, Refused> {
    let mut settings = options.settings;
    if calls.cookies {
        settings.flags |= SET_COOKIE;
    }
    settings.tcp_sock_type = calls.cast.map_or(0, |c| c.tcp_sock);
    if options.truesize {
        settings.flags |= SET_TRUESIZE;
    }
    // Hooks in every section make reading again a formality; the tracepoint tier rests on it.
    settings.resync_quiet_ns = if tier == Tier::Tracepoint {
        1_000_000
    } else {
        200_000_000
    };
    if cfg!(target_arch = "aarch64") {
        settings.flags |= SET_AARCH64;
    }
    let mut ebpf =
        load_object(options, &settings, layout, calls.cast, btf).map_err(Refused::Map)?;
    let mut notes = Vec::new();
    let mut attached: Vec<&'static ProgramSpec> = Vec::new();
    for spec in PROGRAMS.iter().filter(|s| wanted(s, tier, options)) {
        if spec.if_release_cb_is_conditional && !release_cb_is_conditional(kernel_btf) {
            continue;
        }
        if let Err(why) = present(spec, kernel_btf) {
            match spec.need {
                Need::Required => return Err(Refused::Attach(format!("{}: {why}", spec.hook))),
                Need::Optional(lost) => notes.push(format!("{lost} ({}: {why})", spec.hook)),
                Need::Either(_) => {}
            }
            continue;
        }
        let done = load(&mut ebpf, spec, btf)
            .map_err(|why| Refused::Load(format!("{}: {why}", spec.hook)))
            .and_then(|()| {
                attach_loaded(&mut ebpf, spec)
                    .map_err(|why| Refused::Attach(format!("{}: {why}", spec.hook)))
            });
        match (done, spec.need) {
            (Ok(()), _) => attached.push(spec),
            (Err(refused), Need::Required) => return Err(refused),
            (Err(Refused::Map(e)), _) => return Err(Refused::Map(e)),
            (Err(Refused::Load(why) | Refused::Attach(why)), Need::Optional(lost)) => {
                notes.push(format!("{lost} ({why})"));
            }
            (Err(Refused::Load(why) | Refused::Attach(why)), Need::Either(_)) => {
                log::debug!("{}: {why}", spec.name);
            }
        }
    }
    let coverage = coverage(tier, layout, &attached);
    Trace::new(ebpf, tier, coverage, notes, attached, settings).map_err(Refused::Map)
}

/// Whether `tcp_release_cb` alone does not see the end of every section.
fn release_cb_is_conditional(btf: &kernel::Btf) -> bool {
    // An unreadable release counts as new: hooking `release_sock` too is harmless.
    kernel::features::Release::running().map_or(true, |release| {
        kernel::Features::from_btf(btf).release_cb_is_conditional(&release)
    })
}

/// Whether `spec` belongs to this trace.
fn wanted(spec: &ProgramSpec, tier: Tier, options: &Options) -> bool {
    (spec.tiers.is_empty() || spec.tiers.contains(&tier))
        && match spec.group {
            Group::Truesize => options.truesize,
            Group::Audit => options.audit,
            Group::Bench => options.bench,
            _ => true,
        }
}

/// Whether the kernel has what `spec` hooks, as its BTF tells.
fn present(spec: &ProgramSpec, btf: &kernel::Btf) -> Result<(), String> {
    match spec.kind {
        Kind::TpBtf if btf.find_tracepoint(spec.hook).is_err() => Err("no such tracepoint".into()),
        Kind::Fentry | Kind::Fexit | Kind::Kprobe | Kind::Kretprobe | Kind::Return => {
            let prototype = btf.find_func(spec.hook).map_err(|e| e.to_string())?;
            let params = prototype.params.len();
            match spec.params {
                Some(n) if n != params => Err(format!("has {params} parameters, not {n}")),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn load_object(
    options: &Options,
    settings: &Settings,
    layout: &Layout,
    cast: Option<Cast>,
    btf: &Btf,
) -> Result<Ebpf, AttachError> {
    let page = 4096u32;
    let ring = options.ring_bytes.max(page).next_power_of_two();
    let read;
    let object = match &options.object {
        Some(path) => {
            read = std::fs::read(path)
                .map_err(|e| AttachError::Object(format!("{}: {e}", path.display())))?;
            &read[..]
        }
        None => OBJECT,
    };
    let object = object::with_cast(object, cast);
    EbpfLoader::new()
        .btf(Some(btf))
        .override_global("LAYOUT", layout, true)
        .override_global("SETTINGS", settings, true)
        .map_max_entries("SOCKS", options.max_sockets)
        .map_max_entries("STATES", options.max_sockets)
        .map_max_entries("FREE", options.max_sockets)
        .map_max_entries("USED", options.max_sockets.div_ceil(sockmem_common::BLOCK))
        .map_max_entries("EVENTS", ring)
        .load(&object)
        .map_err(|e| AttachError::Object(chain(&e)))
}

/// Loads the program of `spec`, and where there is one the entry probe that goes with it.
fn load(ebpf: &mut Ebpf, spec: &ProgramSpec, btf: &Btf) -> Result<(), String> {
    if spec.kind == Kind::Kretprobe {
        load_one(ebpf, "kp_enter", spec, btf)?;
    }
    load_one(ebpf, spec.name, spec, btf)
}

fn load_one(ebpf: &mut Ebpf, name: &str, spec: &ProgramSpec, btf: &Btf) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("not in the object")?;
    let done = match (spec.kind, program) {
        (Kind::Fentry, Program::FEntry(p)) => p.load(spec.hook, btf),
        (Kind::Fexit, Program::FExit(p)) => p.load(spec.hook, btf),
        (Kind::TpBtf, Program::BtfTracePoint(p)) => p.load(spec.hook, btf),
        (Kind::Iter, Program::Iter(p)) => p.load(spec.hook, btf),
        (Kind::Run, Program::RawTracePoint(p)) => p.load(),
        (Kind::Kprobe | Kind::Kretprobe | Kind::Return, Program::KProbe(p)) => p.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    match done {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(e) => Err(chain(&e)),
    }
}

/// Attaches what was loaded; iterators and what is run on demand are not.
fn attach_loaded(ebpf: &mut Ebpf, spec: &ProgramSpec) -> Result<(), String> {
    if spec.kind == Kind::Kretprobe {
        // First the entry, so that no return goes without its argument.
        attach_kprobe(ebpf, "kp_enter", spec.hook)?;
    }
    let done: Result<(), ProgramError> = match ebpf.program_mut(spec.name) {
        Some(Program::FEntry(p)) => p.attach().map(drop),
        Some(Program::FExit(p)) => p.attach().map(drop),
        Some(Program::BtfTracePoint(p)) => p.attach().map(drop),
        Some(Program::KProbe(_)) => return attach_kprobe(ebpf, spec.name, spec.hook),
        _ => Ok(()),
    };
    done.map_err(|e| chain(&e))
}

fn attach_kprobe(ebpf: &mut Ebpf, name: &str, function: &str) -> Result<(), String> {
    let program = ebpf.program_mut(name).ok_or("not in the object")?;
    let program: &mut KProbe = program.try_into().map_err(|e: ProgramError| chain(&e))?;
    program.attach(function, 0).map(drop).map_err(|e| chain(&e))
}

/// An error with its causes, in one line; of a verifier log only the last lines.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(e) = next {
        let one = e.to_string();
        if !text.contains(&one) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&one);
        }
        next = e.source();
    }
    log::debug!("{text}");
    // An empty log has a title all the same.
    let text = text
        .trim_end()
        .strip_suffix(". Verifier output:")
        .unwrap_or(&text);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    if lines.len() > 6 {
        let tail = &lines[lines.len() - 4..];
        return format!("{} … {}", lines[0], tail.join(" | "));
    }
    lines.join(" ")
}

/// What is observed when it happens and what is read at intervals, with this set of programs.
fn coverage(
    tier: Tier,
    layout: &Layout,
    attached: &[&ProgramSpec],
) -> BTreeMap<&'static str, Coverage> {
    let has = |group: Group| {
        let all: Vec<_> = PROGRAMS
            .iter()
            .filter(|s| s.group == group && s.tiers.contains(&tier))
            .collect();
        !all.is_empty()
            && all
                .iter()
                .all(|s| attached.iter().any(|a| a.name == s.name))
    };
    let exact_if = |yes: bool| {
        if yes {
            Coverage::Exact
        } else {
            Coverage::Sampled
        }
    };
    let sections = tier != Tier::Tracepoint;
    let mut map = BTreeMap::new();
    let mut put = |name, offset: u32, coverage| {
        if offset != ABSENT {
            map.insert(name, coverage);
        }
    };
    put("rmem_alloc", layout.rmem_alloc, exact_if(sections));
    put("wmem_queued", layout.wmem_queued, exact_if(sections));
    put("forward_alloc", layout.forward_alloc, exact_if(sections));
    put("resident", layout.forward_alloc, exact_if(sections));
    put("rcvbuf", layout.rcvbuf, exact_if(sections));
    put("sndbuf", layout.sndbuf, exact_if(sections));
    put(
        "wmem_alloc",
        layout.wmem_alloc,
        exact_if(has(Group::WmemAlloc)),
    );
    put("backlog", layout.backlog_len, exact_if(has(Group::Backlog)));
    // Also freed outside the socket lock (zerocopy completions), where nothing is hooked.
    put("optmem", layout.omem_alloc, Coverage::Sampled);
    map
}

/// The iterator program `name`.
pub(super) fn iterator<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Option<&'a mut Iter> {
    ebpf.program_mut(name)?.try_into().ok()
}

//! Nothing of the tool stays in the kernel, however it ends.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Case, Cx, ONCE, case};
use crate::actor::Actor;
use crate::bpf::{self, Objects};
use crate::trace::Trace;

/// By its own end and by force.
pub(super) fn cases() -> Vec<Case> {
    vec![
        case("detach_exit", ONCE, |cx| {
            leaves_nothing(cx, |t| t.finish(cx).map(drop))
        }),
        case("detach_sigkill", ONCE, |cx| leaves_nothing(cx, Trace::kill)),
    ]
}

fn leaves_nothing(cx: &Cx, end: impl FnOnce(Trace) -> Result<()>) -> Result<()> {
    let pins = bpf::pins();
    let mut actor = Actor::start(cx, "pingpong")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.next_line(cx)?;
    actor.step(cx)?;
    let mine = Objects::of_process(trace.pid())?;
    ensure!(
        !mine.programs.is_empty(),
        "the tool holds no BPF program while it traces"
    );
    ensure!(
        !mine.maps.is_empty(),
        "the tool holds no BPF map while it traces"
    );
    ensure!(
        bpf::pins() == pins,
        "the tool pins into bpffs: {:?}",
        bpf::pins()
    );
    end(trace)?;
    // The kernel frees programs and maps from RCU callbacks and work queues.
    for _ in 0..100 {
        if mine.alive()?.is_empty() {
            break;
        }
        cx.left()?;
        thread::sleep(Duration::from_millis(50));
    }
    let left = mine.alive()?;
    ensure!(left.is_empty(), "still in the kernel: {}", left.join(", "));
    ensure!(
        bpf::pins() == pins,
        "left behind in bpffs: {:?}",
        bpf::pins()
    );
    // The workload goes on as if nothing had been.
    actor
        .report(cx)
        .map(drop)
        .context("the traced process suffered")
}

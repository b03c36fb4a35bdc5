//! Whose socket it is: processes, listeners, orphans, children, passed descriptors.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::scene::{Cast, Scene};
use super::{Case, Cx, EVERY, ONCE, case, sharing};
use crate::actor::Actor;
use crate::trace::{self, Trace};

/// One test per way to own a socket.
pub(super) fn cases() -> Vec<Case> {
    vec![
        sharing("owner_process", EVERY, |cx| {
            owned(cx, "close-half", process)
        }),
        sharing("owner_listener", EVERY, |cx| {
            owned(cx, "accept-queue", listener)
        }),
        sharing("owner_orphan", EVERY, |cx| {
            owned(cx, "close-orphan", orphan)
        }),
        sharing("owner_fdpass", EVERY, |cx| owned(cx, "fdpass", fd_passing)),
        case("owner_follow", EVERY, follow),
        case("owner_no_follow", ONCE, no_follow),
        case("owner_exit", EVERY, exit),
    ]
}

/// Workloads that are traced together, each from its first phase on.
const OWNERS: Cast = &[
    ("close-half", "answered"),
    ("accept-queue", "accepted"),
    ("close-orphan", "orphaned"),
    ("fdpass", "passed"),
];

fn owned(
    cx: &Cx,
    name: &str,
    test: impl FnOnce(&Cx, &mut Trace, &mut Actor) -> Result<()>,
) -> Result<()> {
    let mut scene = Scene::take(cx, OWNERS)?;
    let (trace, actor) = scene.playing(name)?;
    let outcome = test(cx, trace, actor);
    if cx.left().is_ok() {
        scene.leave(cx);
    }
    outcome
}

fn is(socket: &Value, kind: &str, pid: u64) -> bool {
    socket["owner"]["kind"] == kind && socket["owner"]["pid"].as_u64() == Some(pid)
}

/// Waits until every one of `cookies` is shown with this owner.
fn wait_owner(cx: &Cx, trace: &mut Trace, cookies: &[u64], kind: &str, pid: u64) -> Result<Value> {
    ensure!(!cookies.is_empty(), "no socket to look for");
    let mut last = Vec::new();
    let found = trace.until(cx, &format!("owner {kind} {pid}"), |line| {
        last = line["sockets"]
            .as_array()
            .into_iter()
            .flatten()
            .map(brief)
            .collect();
        let owned = |&c: &u64| trace::by_cookie(line, c).is_some_and(|s| is(s, kind, pid));
        cookies.iter().all(owned).then(|| line.clone())
    });
    found.with_context(|| format!("cookies {cookies:?}; last shown: {}", last.join(", ")))
}

fn brief(socket: &Value) -> String {
    let owner = &socket["owner"];
    let (cookie, local, remote) = (&socket["cookie"], &socket["local"], &socket["remote"]);
    format!(
        "{cookie} {local}>{remote} {} {}",
        owner["kind"], owner["pid"]
    )
}

fn process(cx: &Cx, trace: &mut Trace, actor: &mut Actor) -> Result<()> {
    let pid = actor.pid();
    let cookies = [actor.fact("cookie.client")?, actor.fact("cookie.server")?];
    // Older than the trace, and nothing has moved yet.
    let line = wait_owner(cx, trace, &cookies, "process", pid.into())?;
    let socket = trace::by_cookie(&line, cookies[0]).context("shown a moment ago")?;
    ensure!(
        socket["owner"]["comm"] == "sockmem-e2e",
        "comm: {}",
        socket["owner"]
    );
    actor.step_to(cx, "answered")?;
    wait_owner(cx, trace, &cookies, "process", pid.into()).map(drop)
}

/// The cookies of the workload's sockets that have no file.
fn unowned(actor: &Actor) -> Vec<u64> {
    actor
        .at
        .sockets
        .iter()
        .filter(|r| r.unowned)
        .map(|r| r.cookie)
        .collect()
}

fn listener(cx: &Cx, trace: &mut Trace, actor: &mut Actor) -> Result<()> {
    let pid = actor.pid().into();
    // One child is older than the trace.
    wait_owner(cx, trace, &unowned(actor), "listener", pid)?;
    actor.step_to(cx, "unaccepted")?;
    let before = unowned(actor);
    ensure!(
        before.len() == 8,
        "{} unaccepted children, not 8",
        before.len()
    );
    wait_owner(cx, trace, &before, "listener", pid)?;
    actor.step_to(cx, "accepted")?;
    let after = unowned(actor);
    let accepted: Vec<u64> = before.into_iter().filter(|c| !after.contains(c)).collect();
    wait_owner(cx, trace, &accepted, "process", pid)?;
    wait_owner(cx, trace, &after, "listener", pid).map(drop)
}

fn orphan(cx: &Cx, trace: &mut Trace, actor: &mut Actor) -> Result<()> {
    actor.step_to(cx, "orphaned")?;
    let line = wait_owner(cx, trace, &unowned(actor), "orphan", actor.pid().into())?;
    let orphan = trace::by_cookie(&line, actor.fact("cookie.client")?).context("the orphan")?;
    ensure!(
        trace::number(orphan, "wmem_queued")? > 100_000,
        "the orphan holds {orphan}"
    );
    Ok(())
}

fn follow(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "fork")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &["--follow"])?;
    actor.step_to(cx, "child-unread")?;
    let child = actor.fact("child")?;
    let cookie = actor.fact("cookie.child")?;
    let line = wait_owner(cx, &mut trace, &[cookie], "process", child)?;
    let socket = trace::by_cookie(&line, cookie).context("shown a moment ago")?;
    ensure!(
        trace::number(socket, "rmem_alloc")? > 20_000,
        "the child's unread data: {socket}"
    );
    actor.step_to(cx, "child-ended")?;
    trace.until(cx, "the child's sockets are gone", |line| {
        trace::by_cookie(line, cookie).is_none().then_some(())
    })?;
    let report = trace.finish(cx)?.json;
    let processes = report["processes"].as_array().context("no \"processes\"")?;
    ensure!(
        processes.iter().any(|p| p["pid"].as_u64() == Some(child)),
        "child {child} is not among the processes: {}",
        report["processes"]
    );
    Ok(())
}

fn no_follow(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "fork")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    actor.step_to(cx, "child-unread")?;
    let cookie = actor.fact("cookie.child")?;
    for _ in 0..4 {
        let line = trace.next_line(cx)?;
        ensure!(
            trace::by_cookie(&line, cookie).is_none(),
            "without --follow a child's socket is shown"
        );
    }
    trace.finish(cx).map(drop)
}

fn fd_passing(cx: &Cx, trace: &mut Trace, actor: &mut Actor) -> Result<()> {
    let helper = actor.fact("helper")?;
    let cookie = actor.fact("cookie.passed")?;
    wait_owner(cx, trace, &[cookie], "process", actor.pid().into())?;
    actor.step_to(cx, "passed")?;
    wait_owner(cx, trace, &[cookie], "process", helper).map(drop)
}

/// The target ends by itself, and so does the tool, with its report.
fn exit(cx: &Cx) -> Result<()> {
    let mut actor = Actor::start(cx, "exit")?;
    let mut trace = Trace::start(cx, &[actor.pid()], &[])?;
    trace.next_line(cx)?;
    actor.send("step")?;
    ensure!(actor.receive(cx).is_err(), "the workload was to end");
    // Reaps it: a zombie still has its pid.
    drop(actor);
    let report = trace.wait(cx)?;
    ensure!(
        report.status.code() == Some(0),
        "the tool ended with {}",
        report.status
    );
    let shown = trace::sockets(&report.json)?;
    ensure!(
        shown.len() >= 2,
        "{} sockets in the report, at least 2 were seen",
        shown.len()
    );
    super::rest::balanced(&report.json)
}

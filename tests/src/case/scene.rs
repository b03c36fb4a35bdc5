//! What consecutive tests share: starting the tool takes seconds on an emulated machine.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};

use super::Cx;
use super::rest::Followed;
use crate::actor::Actor;
use crate::trace::{Report, Trace};
use crate::workload::stage::Skip;

/// What the tests of one tier left for the next one.
#[derive(Default)]
pub(crate) struct Shared {
    /// The trace that follows the runner's children.
    pub(super) followed: Option<Followed>,
    /// The workloads that are traced together.
    scene: Option<Scene>,
}

/// Workloads that are traced together, and the phase to play each to.
pub(super) type Cast = &'static [(&'static str, &'static str)];

/// Several workloads, each in a process of its own, under one trace.
pub(super) struct Scene {
    cast: Cast,
    actors: HashMap<&'static str, Result<Actor, Absence>>,
    trace: Option<Trace>,
    /// Set when the trace has ended.
    pub(super) report: Option<Report>,
}

/// Why a workload is not on the scene.
enum Absence {
    Skipped(String),
    Failed(String),
}

impl Scene {
    /// The scene of this cast that the test before left, or a new one. Each workload
    /// has done its first phase when the trace starts.
    pub(super) fn take(cx: &Cx, cast: Cast) -> Result<Scene> {
        if let Some(mut scene) = cx.shared.borrow_mut().scene.take()
            && scene.cast == cast
            && (scene.report.is_some() || scene.trace.as_mut().is_some_and(Trace::runs))
        {
            return Ok(scene);
        }
        let mut scene = Scene {
            cast,
            actors: HashMap::new(),
            trace: None,
            report: None,
        };
        let mut pids = Vec::new();
        for &(name, _) in cast {
            let actor = Actor::start(cx, name).map_err(Absence::from);
            if let Ok(actor) = &actor {
                pids.push(actor.pid());
                // Descriptors are passed to it.
                if let Ok(helper) = actor.fact("helper") {
                    pids.push(u32::try_from(helper)?);
                }
            }
            scene.actors.insert(name, actor);
        }
        scene.trace = Some(Trace::start(cx, &pids, &[])?);
        Ok(scene)
    }

    /// Leaves the scene to the next test.
    pub(super) fn leave(self, cx: &Cx) {
        cx.shared.borrow_mut().scene = Some(self);
    }

    /// The trace, while it runs, and the workload of this name.
    pub(super) fn playing(&mut self, name: &str) -> Result<(&mut Trace, &mut Actor)> {
        let trace = self.trace.as_mut().context("the shared trace has ended")?;
        Ok((trace, present(&mut self.actors, name)?))
    }

    /// The workload of this name.
    pub(super) fn actor(&mut self, name: &str) -> Result<&mut Actor> {
        present(&mut self.actors, name)
    }

    /// Plays every workload to its phase; one that cannot get there is absent from then on.
    pub(super) fn play(&mut self, cx: &Cx) {
        for &(name, phase) in self.cast {
            if let Some(Ok(actor)) = self.actors.get_mut(name)
                && let Err(e) = actor.step_to(cx, phase)
            {
                self.actors.insert(name, Err(Absence::from(e)));
            }
        }
    }

    /// Lets the trace see `lines` more intervals and ends it.
    pub(super) fn finish(&mut self, cx: &Cx, lines: usize) -> Result<()> {
        let mut trace = self.trace.take().context("the shared trace has ended")?;
        trace.catch_up()?;
        for _ in 0..lines {
            trace.next_line(cx)?;
        }
        self.report = Some(trace.finish(cx)?);
        Ok(())
    }
}

impl From<anyhow::Error> for Absence {
    fn from(e: anyhow::Error) -> Absence {
        if e.is::<Skip>() {
            Absence::Skipped(e.to_string())
        } else {
            Absence::Failed(format!("{e:#}"))
        }
    }
}

fn present<'a>(
    actors: &'a mut HashMap<&'static str, Result<Actor, Absence>>,
    name: &str,
) -> Result<&'a mut Actor> {
    match actors.get_mut(name) {
        Some(Ok(actor)) => Ok(actor),
        Some(Err(Absence::Skipped(why))) => Err(Skip(why.clone()).into()),
        Some(Err(Absence::Failed(why))) => Err(anyhow!("{why}")),
        None => Err(anyhow!("workload {name} is not on this scene")),
    }
}

//! The answer to "is less memory held now?".

use super::load::Load;
use super::metrics::{DECIDING, Metric};
use crate::model::words;

/// Answers to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Less is held.
    Reduced,
    /// More is held.
    Increased,
    /// No difference, beyond chance and large enough to matter, was found.
    NoChange,
    /// The traces cannot be compared.
    NotComparable,
}

impl Answer {
    /// The name used in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Answer::Reduced => "reduced",
            Answer::Increased => "increased",
            Answer::NoChange => "no-change",
            Answer::NotComparable => "not-comparable",
        }
    }
}

/// The answer, and its reasons in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// In plain words.
    pub text: String,
}

fn title(name: &str) -> &'static str {
    match name {
        "resident_peak_bytes" => "the peak of all sockets",
        "resident_mean_bytes" => "the mean over time",
        _ => "what is held while idle",
    }
}

fn signed(n: i64) -> String {
    let size = words::bytes(n.unsigned_abs());
    match n {
        0 => size,
        1.. => format!("+{size}"),
        _ => format!("-{size}"),
    }
}

/// `the peak of all sockets went from 9.8 MiB to 1.2 MiB (12 %; change -9.0 MiB to -8.1 MiB)`.
fn told(m: &Metric) -> Option<String> {
    let (base, new) = m.base.zip(m.new)?;
    let mut text = format!(
        "{} went from {} to {}",
        title(m.name),
        words::bytes(base),
        words::bytes(new)
    );
    if let Some((lo, hi)) = m.interval_95 {
        let of = m
            .ratio
            .map_or_else(String::new, |r| format!("{:.0} % of it; ", r * 100.0));
        text.push_str(&format!(
            " ({of}with 95 % confidence a change of {} to {})",
            signed(lo),
            signed(hi)
        ));
    }
    Some(text)
}

fn sentence(found: &[&Metric]) -> String {
    let parts: Vec<String> = found.iter().filter_map(|m| told(m)).collect();
    parts.join("; ")
}

pub(super) fn outcome(load: &Load, metrics: &[Metric]) -> Outcome {
    // What all sockets hold together decides. What single connections hold, and what was
    // charged, is evidence.
    let deciding: Vec<&Metric> = metrics.iter().take(DECIDING).collect();
    let answer = |answer, text| Outcome { answer, text };
    if !load.matched {
        return answer(
            Answer::NotComparable,
            format!(
                "Not comparable: the loads differ ({}). The numbers below are what was seen; they \
                 do not say what a changed limit did.",
                load.why
            ),
        );
    }
    if deciding.iter().all(|m| m.interval_95.is_none()) {
        return answer(
            Answer::NotComparable,
            "Not comparable: too little was recorded to tell a difference from chance. Record for \
             longer, or with more connections."
                .to_owned(),
        );
    }
    let up: Vec<&Metric> = deciding.iter().copied().filter(|m| m.increased()).collect();
    let down: Vec<&Metric> = deciding.iter().copied().filter(|m| m.reduced()).collect();
    match (up.is_empty(), down.is_empty()) {
        (true, true) => answer(
            Answer::NoChange,
            format!(
                "No change: under the same load {}. That is within chance, or too little to matter.",
                sentence(&deciding)
            ),
        ),
        (true, false) => answer(
            Answer::Reduced,
            format!("Reduced: under the same load {}.", sentence(&down)),
        ),
        (false, true) => answer(
            Answer::Increased,
            format!("Increased: under the same load {}.", sentence(&up)),
        ),
        // Both ways. What got worse is what must not be missed.
        (false, false) => answer(
            Answer::Increased,
            format!(
                "Increased, though not in every way: under the same load {}; but {}.",
                sentence(&up),
                sentence(&down)
            ),
        ),
    }
}

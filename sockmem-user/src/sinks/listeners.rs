//! What came from each listener: its connections, accepted or not, closed or not.

use std::collections::BTreeMap;

use super::groups::{marked, who};
use super::look::Look;
use super::table::{self, Align, Cell, Column};
use super::text;
use crate::model::{OwnerView, SocketView, View};

/// Sums over the connections of one listener.
#[derive(Default)]
struct Sums {
    connections: u64,
    closed: u64,
    resident: u64,
    peak: u64,
    idle: Option<u64>,
    owner: Option<OwnerView>,
}

/// `address:port` in two.
fn split(endpoint: &str) -> (&str, &str) {
    endpoint.rsplit_once(':').unwrap_or((endpoint, ""))
}

/// Whether a listener there gets connections to `local`.
fn serves(listener: &str, local: &str) -> bool {
    let ((at, port), (ip, to)) = (split(listener), split(local));
    port == to && (at == ip || matches!(at, "0.0.0.0" | "[::]" | "*"))
}

fn sums(view: &View) -> BTreeMap<&str, Sums> {
    let all = || view.sockets.iter().chain(&view.closed);
    let mut out: BTreeMap<&str, Sums> = all()
        .filter(|s| s.state == "LISTEN")
        .map(|s| {
            let owner = Some(s.owner.clone());
            (
                s.local.as_str(),
                Sums {
                    owner,
                    ..Sums::default()
                },
            )
        })
        .collect();
    for g in &view.groups {
        if let Some(at) = &g.listener {
            out.entry(at)
                .or_default()
                .owner
                .get_or_insert_with(|| g.owner.clone());
        }
    }
    let listeners: Vec<&str> = out.keys().copied().collect();
    let connection = |s: &&SocketView| s.state != "LISTEN" && !s.remote.ends_with(":*");
    for s in all().filter(connection) {
        // The address itself goes before one that stands for all.
        let mut serving = listeners.iter().filter(|l| serves(l, &s.local));
        let exact = listeners.iter().find(|l| **l == s.local);
        let Some(sums) = exact.or(serving.next()).and_then(|l| out.get_mut(l)) else {
            continue;
        };
        sums.connections += 1;
        sums.closed += u64::from(s.closed);
        sums.resident += if s.closed { 0 } else { s.resident };
        sums.peak = sums.peak.max(s.resident_peak_bytes);
        if let (Some(mean), false) = (s.idle_resident_mean_bytes, s.closed) {
            sums.idle = Some(sums.idle.unwrap_or(0) + mean);
        }
    }
    out.retain(|_, s| s.connections > 0);
    out
}

/// The table, or nothing where no listener was seen.
pub(super) fn table(view: &View, look: &Look) -> Option<String> {
    let sums = sums(view);
    if sums.is_empty() {
        return None;
    }
    let column = |title: String, align, rank| Column {
        title,
        band: "",
        apart: false,
        align,
        rank,
    };
    let columns = [
        column("LISTENER".to_owned(), Align::Left, 0),
        column("owner".to_owned(), Align::Left, 4),
        column("connections".to_owned(), Align::Right, 0),
        column("closed".to_owned(), Align::Right, 3),
        column(marked(view, "resident now", "resident"), Align::Right, 1),
        column(
            marked(view, "largest peak", "resident_peak_bytes"),
            Align::Right,
            1,
        ),
        column(
            marked(view, "open ones held idle", "idle_resident_mean_bytes"),
            Align::Right,
            2,
        ),
    ];
    let rows: Vec<Vec<Cell>> = sums
        .iter()
        .map(|(at, s)| {
            vec![
                look.foreign(at).into_owned().into(),
                s.owner
                    .as_ref()
                    .map_or_else(|| text::UNKNOWN.to_owned(), |o| who(o, look))
                    .into(),
                text::count(s.connections).into(),
                text::count(s.closed).into(),
                text::bytes(s.resident).into(),
                text::bytes(s.peak).into(),
                text::maybe_bytes(s.idle).into(),
            ]
        })
        .collect();
    Some(table::render(&columns, &rows, look).text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_serves_its_own_address_or_all() {
        assert!(serves("0.0.0.0:443", "10.0.0.1:443"));
        assert!(serves("[::]:443", "[2001:db8::1]:443"));
        assert!(serves("[::]:443", "[::ffff:10.0.0.1]:443"));
        assert!(serves("10.0.0.1:443", "10.0.0.1:443"));
        assert!(!serves("10.0.0.2:443", "10.0.0.1:443"));
        assert!(!serves("0.0.0.0:80", "10.0.0.1:443"));
    }
}

//! Sockets one by one with their exact totals, for exports: what a view rounds to means is here as
//! byte·ns, and closed sockets are handed out as they go, so that none is dropped however many.

use sockmem_common::{REASONS, SockState};

use super::groups::GroupKey;
use super::sockets::{LATEST_NS, Socket};
use super::{Closed, Detail, Model, SocketView};

/// One socket and its integrals.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketTotals {
    /// As every output shows it, without its timeline.
    pub view: SocketView,
    /// `resident` over the time it was seen. byte·ns.
    pub resident_byte_ns: u128,
    /// `resident` over its idle time, by reason (index: `Reason`). byte·ns.
    pub idle_byte_ns: [u128; REASONS],
}

/// Only the socket itself.
const DETAIL: Detail = Detail {
    closed: true,
    timelines: false,
    most: None,
};

impl Model {
    /// Closed sockets kept so far and not yet taken.
    #[must_use]
    pub fn closed_kept(&self) -> usize {
        self.closed.len()
    }

    /// Takes the closed sockets out, oldest first: no view has them afterwards, all sums do.
    pub fn take_closed(&mut self) -> Vec<SocketTotals> {
        let closed = std::mem::take(&mut self.closed);
        let of = |Closed { socket, key }: &Closed| {
            let state = socket.state();
            self.socket_totals(socket, key, &state, state.last_ns, true)
        };
        closed.iter().map(of).collect()
    }

    /// Each live socket as of `now_ns` (`CLOCK_MONOTONIC`), in the order in which they came.
    pub fn live_totals(&self, now_ns: u64) -> impl Iterator<Item = SocketTotals> + '_ {
        let now_ns = now_ns.min(LATEST_NS);
        let mut order: Vec<&Socket> = self.sockets.iter().collect();
        order.sort_by_key(|s| s.id);
        order.into_iter().map(move |s| {
            let state = s.at(now_ns, self.config.idle_after_ns);
            let key = &self.groups[s.group as usize].key;
            self.socket_totals(s, key, &state, now_ns, false)
        })
    }

    fn socket_totals(
        &self,
        socket: &Socket,
        key: &GroupKey,
        state: &SockState,
        now_ns: u64,
        closed: bool,
    ) -> SocketTotals {
        SocketTotals {
            view: self.socket(socket, key, state, now_ns, DETAIL, closed, &mut Vec::new()),
            resident_byte_ns: state.resident_time.byte_ns(),
            idle_byte_ns: state.idle_time.map(|part| part.byte_ns()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, synthetic};
    use super::*;
    use crate::decode::Record;
    use sockmem_common::{KIND_CLOSE, Lifecycle};

    /// Three sockets with changes; the second is closed.
    fn model(max_closed: usize) -> Model {
        let mut model = Model::new(Config {
            max_closed,
            ..Config::default()
        });
        let opens: Vec<Record> = synthetic::opens(3, 0).collect();
        opens.iter().for_each(|r| model.apply(r));
        synthetic::changes(3, 0, 300).for_each(|r| model.apply(&r));
        let Record::Open(open) = &opens[1] else {
            unreachable!("opens are Open records")
        };
        let mut close = Lifecycle { ..**open };
        close.header.kind = KIND_CLOSE;
        close.header.t_ns = 5_000_000_000;
        close.state.last_ns = 5_000_000_000;
        close.state.resident_time.add(1000, 5_000_000_000);
        close.state.idle_time[0].add(1000, 4_000_000_000);
        close.state.idle_ns = 4_000_000_000;
        model.apply(&Record::Close(Box::new(close)));
        model
    }

    #[test]
    fn they_are_the_sockets_of_a_view_with_their_integrals() {
        let (mut taken, whole) = (model(4096), model(4096));
        let now = 10_000_000_000;
        let mut view = whole.view(now, now);
        assert_eq!(taken.closed_kept(), 1);
        let closed = taken.take_closed();
        assert_eq!(taken.closed_kept(), 0);
        assert_eq!(closed[0].resident_byte_ns, 5_000_000_000_000);
        assert_eq!(closed[0].idle_byte_ns[0], 4_000_000_000_000);
        view.closed.iter_mut().for_each(|s| s.timeline.clear());
        assert_eq!(closed[0].view, view.closed[0]);
        view.sockets.iter_mut().for_each(|s| s.timeline.clear());
        view.sockets.sort_by_key(|s| s.id);
        let live: Vec<SocketTotals> = taken.live_totals(now).collect();
        let views: Vec<_> = live.iter().map(|s| s.view.clone()).collect();
        assert_eq!(views, view.sockets);
        for s in &live {
            let idle: u128 = s.idle_byte_ns.iter().sum();
            let mean = s.view.idle_resident_mean_bytes.expect("it was idle");
            let ns = u128::from(s.view.idle_ns);
            assert!(idle.abs_diff(u128::from(mean) * ns) <= ns * REASONS as u128);
            assert!(s.resident_byte_ns >= idle);
        }
        // What was taken is still in the sums.
        assert_eq!(taken.view(now, now).verdict, whole.view(now, now).verdict);
    }
}

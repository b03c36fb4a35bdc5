//! The rows of the table: which sockets or groups, in which order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::list::CELLS;
use crate::model::{Answer, Bucket, GroupView, OwnerKind, SocketView, View, reason_name};
use crate::sinks::fields::{Field, Value};
use crate::sinks::groups;
use crate::sinks::look::Look;
use crate::sinks::spark::Axis;

/// What a row of the table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    /// One socket.
    #[default]
    Socket,
    /// An owner, as the model has them.
    Process,
    /// The connections that a listener of the trace took in; the others together.
    Listener,
    /// A remote address, whatever the port.
    Remote,
    /// A control group.
    Cgroup,
}

impl By {
    pub(super) fn next(self) -> By {
        match self {
            By::Socket => By::Process,
            By::Process => By::Listener,
            By::Listener => By::Remote,
            By::Remote => By::Cgroup,
            By::Cgroup => By::Socket,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            By::Socket => "SOCKETS",
            By::Process => "OWNERS",
            By::Listener => "LISTENERS",
            By::Remote => "REMOTE ADDRESSES",
            By::Cgroup => "CONTROL GROUPS",
        }
    }
}

/// What is sorted by, in the order in which `s` goes through them.
pub(super) const SOCKET_SORTS: &[&str] = &[
    "resident",
    "resident_peak_bytes",
    "idle_resident_mean_bytes",
    "rmem_alloc",
    "wmem_queued",
    "rate_bytes_per_s",
    "quiet_ns",
    "remote",
];
/// The same for groups; `sockets` and `name` are not fields of a socket.
pub(super) const GROUP_SORTS: &[&str] = &[
    "resident",
    "resident_peak_bytes",
    "idle_resident_mean_bytes",
    "rmem_alloc",
    "wmem_queued",
    "sockets",
    "name",
];

/// An order: numbers from the largest, text from A, unless turned round. Unknown comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) field: &'static str,
    pub(super) reversed: bool,
}

impl Default for Sort {
    fn default() -> Self {
        Sort {
            field: "resident",
            reversed: false,
        }
    }
}

impl Sort {
    /// The next one of `all`, not turned round.
    pub(super) fn next(self, all: &[&'static str]) -> Sort {
        let at = all.iter().position(|f| *f == self.field);
        Sort {
            field: all[at.map_or(0, |at| (at + 1) % all.len())],
            reversed: false,
        }
    }

    /// Sorted by `field`; the other way round where it already was.
    pub(super) fn by(self, field: &'static str) -> Sort {
        Sort {
            field,
            reversed: self.field == field && !self.reversed,
        }
    }

    fn compare(self, a: Value<'_>, b: Value<'_>) -> Ordering {
        let number = |v: Value<'_>| match v {
            Value::Bytes(n) | Value::Ns(n) | Value::Count(n) => Some(i128::from(n)),
            Value::SignedBytes(n) | Value::Rate(n) => Some(i128::from(n)),
            Value::Flag(on) => Some(i128::from(on)),
            Value::Text(_) | Value::Unknown => None,
        };
        let turned = |o: Ordering| if self.reversed { o.reverse() } else { o };
        match (a, b) {
            (Value::Unknown, Value::Unknown) => Ordering::Equal,
            (Value::Unknown, _) => Ordering::Greater,
            (_, Value::Unknown) => Ordering::Less,
            (Value::Text(a), Value::Text(b)) => turned(a.cmp(b)),
            (a, b) => turned(number(b).cmp(&number(a))),
        }
    }
}

/// Words that a row must hold, and (`!word`) those that it must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    words: Vec<(bool, String)>,
}

impl Filter {
    pub(super) fn new(text: &str) -> Filter {
        let words = text.split_whitespace().filter_map(|word| {
            let word = word.to_lowercase();
            match word.strip_prefix('!') {
                // Still being typed.
                Some("") => None,
                Some(rest) => Some((false, rest.to_owned())),
                None => Some((true, word)),
            }
        });
        Filter {
            words: words.collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    fn passes(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.words
            .iter()
            .all(|(wanted, word)| text.contains(word.as_str()) == *wanted)
    }
}

/// What a filter looks through.
fn words(s: &SocketView, look: &Look) -> String {
    let gone = if s.closed { "gone" } else { "" };
    let idle = if s.idle { "idle" } else { "active" };
    [
        &s.local,
        &s.remote,
        s.state,
        &groups::who(&s.owner, look),
        s.owner.cgroup.as_deref().unwrap_or(""),
        reason_name(s.idle_reason),
        s.verdict.name(),
        gone,
        idle,
    ]
    .join(" ")
}

/// A group that was gone into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) by: By,
    pub(super) key: String,
    pub(super) title: String,
}

/// Positions in `view.sockets` of those in the group and through the filter, in order.
pub(super) fn sockets(
    view: &View,
    within: Option<&Within>,
    filter: &Filter,
    sort: Sort,
    look: &Look,
) -> Vec<usize> {
    let keys = within.map(|w| (Keys::new(view, w.by), w));
    let mut rows: Vec<usize> = view
        .sockets
        .iter()
        .enumerate()
        .filter(|(_, s)| {
            let inside = keys
                .as_ref()
                .is_none_or(|(keys, w)| keys.of(s).is_some_and(|key| key == w.key));
            inside && (filter.is_empty() || filter.passes(&words(s, look)))
        })
        .map(|(i, _)| i)
        .collect();
    let get = Field::named(sort.field).get;
    rows.sort_by(|a, b| {
        let (a, b) = (&view.sockets[*a], &view.sockets[*b]);
        sort.compare(get(a), get(b))
            .then_with(|| b.resident_peak_bytes.cmp(&a.resident_peak_bytes))
            .then_with(|| a.id.cmp(&b.id))
    });
    rows
}

/// Whether two connections have the same remote end: then only their local ends tell them apart.
pub(super) fn has_twins(view: &View) -> bool {
    let mut seen = HashSet::new();
    let mut remotes = view.sockets.iter().filter(|s| s.state != "LISTEN");
    !remotes.all(|s| seen.insert(s.remote.as_str()))
}

/// A row of a table of groups. What is not known of this kind of group is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GroupRow {
    pub(super) key: String,
    /// Harmless.
    pub(super) title: String,
    pub(super) sockets: u64,
    pub(super) idle: u64,
    pub(super) resident: u64,
    pub(super) rmem_alloc: u64,
    pub(super) wmem_queued: u64,
    pub(super) forward_alloc: i64,
    pub(super) peak: Option<u64>,
    pub(super) mean: Option<u64>,
    pub(super) held_idle: Option<u64>,
    pub(super) answer: Option<Answer>,
    pub(super) timeline: Option<Vec<Bucket>>,
}

impl GroupRow {
    fn value(&self, field: &str) -> Value<'_> {
        let known = |v: Option<u64>| v.map_or(Value::Unknown, Value::Bytes);
        match field {
            "resident" => Value::Bytes(self.resident),
            "rmem_alloc" => Value::Bytes(self.rmem_alloc),
            "wmem_queued" => Value::Bytes(self.wmem_queued),
            "forward_alloc" => Value::SignedBytes(self.forward_alloc),
            "resident_peak_bytes" => known(self.peak),
            "resident_mean_bytes" => known(self.mean),
            "idle_resident_mean_bytes" => known(self.held_idle),
            "sockets" => Value::Count(self.sockets),
            "idle" => Value::Count(self.idle),
            "verdict" => self
                .answer
                .map_or(Value::Unknown, |a| Value::Text(a.name())),
            _ => Value::Text(&self.title),
        }
    }

    /// As the model has it: peaks, means and answers are exact.
    fn of(group: &GroupView, key: String, look: &Look) -> GroupRow {
        let t = &group.totals;
        GroupRow {
            key,
            title: groups::title(group, look),
            sockets: t.sockets,
            idle: t.idle_sockets,
            resident: t.resident,
            rmem_alloc: t.rmem_alloc,
            wmem_queued: t.wmem_queued,
            forward_alloc: t.forward_alloc,
            peak: Some(group.resident_peak_bytes),
            mean: group.resident_mean_bytes,
            held_idle: group.verdict.idle_resident_mean_bytes,
            answer: Some(group.verdict.answer),
            timeline: Some(group.timeline.clone()),
        }
    }

    fn add(&mut self, s: &SocketView) {
        self.sockets += 1;
        self.idle += u64::from(s.idle);
        self.resident += s.resident;
        self.rmem_alloc += s.rmem_alloc;
        self.wmem_queued += s.wmem_queued;
        self.forward_alloc += s.forward_alloc;
        if let Some(mean) = s.idle_resident_mean_bytes {
            *self.held_idle.get_or_insert(0) += mean;
        }
    }
}

/// End of a cell of the axis.
fn cell_end(axis: Axis, cell: usize) -> u64 {
    let span = u128::from(axis.to.saturating_sub(axis.from));
    axis.from + (span * (cell as u128 + 1) / CELLS as u128) as u64
}

/// Adds what the socket held at the end of each cell.
fn add_levels(sums: &mut [u64; CELLS], s: &SocketView, axis: Axis) {
    let mut buckets = s.timeline.iter().peekable();
    let mut held = 0;
    for (cell, sum) in sums.iter_mut().enumerate() {
        while let Some(b) = buckets.next_if(|b| b.start_ns < cell_end(axis, cell)) {
            held = b.last;
        }
        *sum += held;
    }
}

/// Sums at the ends of cells as a timeline of one bucket a cell.
fn levels(sums: &[u64; CELLS], axis: Axis) -> Vec<Bucket> {
    let starts = (0..CELLS).map(|cell| match cell {
        0 => axis.from,
        cell => cell_end(axis, cell - 1),
    });
    starts
        .zip(sums)
        .map(|(start_ns, sum)| Bucket {
            start_ns,
            min: *sum,
            max: *sum,
            last: *sum,
        })
        .collect()
}

/// Address and port of `address:port`.
fn split_port(at: &str) -> (&str, &str) {
    at.rsplit_once(':').unwrap_or((at, ""))
}

/// Which group a socket is in.
struct Keys<'a> {
    by: By,
    /// Listeners of the trace: port, then address and namespace.
    listeners: BTreeMap<&'a str, Vec<&'a SocketView>>,
}

impl<'a> Keys<'a> {
    fn new(view: &'a View, by: By) -> Self {
        let mut listeners: BTreeMap<&str, Vec<&SocketView>> = BTreeMap::new();
        if by == By::Listener {
            for s in view.sockets.iter().filter(|s| s.state == "LISTEN") {
                let port = split_port(&s.local).1;
                listeners.entry(port).or_default().push(s);
            }
        }
        Keys { by, listeners }
    }

    fn of(&self, s: &SocketView) -> Option<String> {
        match self.by {
            By::Socket => None,
            By::Process => Some(owner_key(s.owner.kind, s.owner.pid)),
            By::Listener => Some(self.listener(s).unwrap_or_default()),
            By::Remote if s.state == "LISTEN" => None,
            By::Remote => Some(split_port(&s.remote).0.to_owned()),
            By::Cgroup => Some(s.owner.cgroup.clone().unwrap_or_default()),
        }
    }

    /// The listener that took this connection in, by its local end; its own for a listener.
    fn listener(&self, s: &SocketView) -> Option<String> {
        let (address, port) = split_port(&s.local);
        let here = self.listeners.get(port)?;
        let mut fitting = here.iter().filter(|l| l.netns == s.netns);
        let exact = fitting.clone().find(|l| split_port(&l.local).0 == address);
        let any = fitting.find(|l| matches!(split_port(&l.local).0, "0.0.0.0" | "[::]" | "*"));
        exact.or(any).map(|l| l.local.clone())
    }
}

fn owner_key(kind: OwnerKind, pid: Option<u32>) -> String {
    format!(
        "{} {}",
        kind.name(),
        pid.map_or_else(String::new, |p| p.to_string())
    )
}

/// The groups through the filter, in order.
pub(super) fn group_rows(
    view: &View,
    by: By,
    filter: &Filter,
    sort: Sort,
    look: &Look,
) -> Vec<GroupRow> {
    let mut rows = if by == By::Process {
        owners(view, look)
    } else {
        let keys = Keys::new(view, by);
        let axis = Axis::of(&view.timeline, view.duration_ns);
        let mut rows: BTreeMap<String, (GroupRow, [u64; CELLS])> = BTreeMap::new();
        for s in &view.sockets {
            if let Some(key) = keys.of(s) {
                let (row, sums) = rows.entry(key).or_default();
                row.add(s);
                add_levels(sums, s, axis);
            }
        }
        rows.into_iter()
            .map(|(key, (row, sums))| GroupRow {
                title: title(by, &key, look),
                key,
                timeline: Some(levels(&sums, axis)),
                ..row
            })
            .collect()
    };
    rows.retain(|r| filter.is_empty() || filter.passes(&r.title));
    rows.sort_by(|a, b| {
        sort.compare(a.value(sort.field), b.value(sort.field))
            .then_with(|| a.key.cmp(&b.key))
    });
    rows
}

/// The model's groups. The listeners of one process are one row: a socket does not say which.
fn owners(view: &View, look: &Look) -> Vec<GroupRow> {
    let mut rows: Vec<GroupRow> = Vec::new();
    for group in groups::ordered(view) {
        let key = owner_key(group.owner.kind, group.owner.pid);
        let row = GroupRow::of(group, key, look);
        match rows.iter_mut().find(|r| r.key == row.key) {
            None => rows.push(row),
            Some(first) => {
                first.title = groups::who(&group.owner, look);
                first.sockets += row.sockets;
                first.idle += row.idle;
                first.resident += row.resident;
                first.rmem_alloc += row.rmem_alloc;
                first.wmem_queued += row.wmem_queued;
                first.forward_alloc += row.forward_alloc;
                // Peaks of different moments and answers do not add up.
                first.peak = None;
                first.answer = None;
                first.timeline = None;
                first.mean = first.mean.zip(row.mean).map(|(a, b)| a + b);
                first.held_idle = match (first.held_idle, row.held_idle) {
                    (Some(a), Some(b)) => Some(a + b),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    rows
}

fn title(by: By, key: &str, look: &Look) -> String {
    match (by, key) {
        (By::Listener, "") => "no listener in the trace".to_owned(),
        (By::Cgroup, "") => "not known".to_owned(),
        _ => look.foreign(key).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::fixture;

    fn ids(view: &View, filter: &str, sort: Sort) -> Vec<u64> {
        let look = Look::default();
        sockets(view, None, &Filter::new(filter), sort, &look)
            .into_iter()
            .map(|i| view.sockets[i].id)
            .collect()
    }

    #[test]
    fn largest_first_and_turned_round() {
        let view = fixture::many(3);
        let sort = Sort::default();
        assert_eq!(ids(&view, "", sort), [3, 2, 1]);
        assert_eq!(ids(&view, "", sort.by("resident")), [1, 2, 3]);
        assert_eq!(
            ids(&view, "", sort.by("resident").by("resident")),
            [3, 2, 1]
        );
        assert_eq!(ids(&view, "", sort.by("remote")), [1, 2, 3], "text from A");
    }

    #[test]
    fn unknown_is_last_either_way() {
        let mut view = fixture::many(2);
        view.sockets.push(fixture::unknown_socket());
        let sort = Sort::default().by("unread_bytes");
        assert_eq!(ids(&view, "", sort).last(), Some(&0));
        assert_eq!(ids(&view, "", sort.by("unread_bytes")).last(), Some(&0));
    }

    #[test]
    fn every_sort_of_sockets_is_a_field_and_comes_round() {
        let mut sort = Sort::default();
        for _ in SOCKET_SORTS {
            let _ = Field::named(sort.field);
            sort = sort.next(SOCKET_SORTS);
        }
        assert_eq!(sort, Sort::default());
        assert_eq!(sort.by("state").next(SOCKET_SORTS).field, "resident");
    }

    #[test]
    fn every_word_must_fit_and_no_forbidden_one() {
        let view = fixture::three_groups();
        let sort = Sort::default();
        let all = ids(&view, "", sort).len();
        let postgres = ids(&view, "POSTGRES", sort).len();
        assert_eq!(postgres, 1);
        assert_eq!(ids(&view, "!postgres", sort).len(), all - 1);
        assert_eq!(ids(&view, "postgres nginx", sort).len(), 0);
        assert_eq!(ids(&view, "!", sort).len(), all, "a word not yet typed");
        assert_eq!(ids(&view, "10.0.0.9 unread", sort).len(), 3);
    }

    #[test]
    fn groups_hold_each_socket_once() {
        let view = fixture::three_groups();
        let look = Look::default();
        for by in [By::Process, By::Listener, By::Remote, By::Cgroup] {
            let rows = group_rows(&view, by, &Filter::default(), Sort::default(), &look);
            let sum: u64 = rows.iter().map(|r| r.sockets).sum();
            let resident: u64 = rows.iter().map(|r| r.resident).sum();
            assert_eq!(sum, view.totals.sockets, "{by:?}");
            assert_eq!(resident, view.totals.resident, "{by:?}");
            for row in &rows {
                let within = Within {
                    by,
                    key: row.key.clone(),
                    title: row.title.clone(),
                };
                let inside = sockets(
                    &view,
                    Some(&within),
                    &Filter::default(),
                    Sort::default(),
                    &look,
                );
                assert_eq!(inside.len() as u64, row.sockets, "{by:?} {row:?}");
            }
        }
    }

    #[test]
    fn levels_of_a_group_are_the_sums_of_its_sockets() {
        let view = fixture::many(3);
        let look = Look::default();
        let rows = group_rows(
            &view,
            By::Remote,
            &Filter::default(),
            Sort::default(),
            &look,
        );
        let timeline = rows[0].timeline.as_ref().expect("a timeline");
        assert_eq!(timeline.last().map(|b| b.last), Some(view.totals.resident));
        assert_eq!(timeline[0].last, 0);
        assert!(!has_twins(&view));
        assert!(has_twins(&fixture::three_groups()));
    }

    #[test]
    fn a_connection_belongs_to_the_listener_at_its_local_end() {
        let mut view = fixture::many(2);
        let listener = |id, local: &str| SocketView {
            id,
            state: "LISTEN",
            local: local.to_owned(),
            remote: "0.0.0.0:*".to_owned(),
            ..fixture::socket(id)
        };
        view.sockets.push(listener(8, "0.0.0.0:443"));
        view.sockets.push(listener(9, "10.0.0.2:443"));
        let look = Look::default();
        let rows = |view: &View| -> Vec<(String, u64)> {
            group_rows(
                view,
                By::Listener,
                &Filter::default(),
                Sort::default(),
                &look,
            )
            .into_iter()
            .map(|r| (r.title, r.sockets))
            .collect()
        };
        assert!(rows(&view).contains(&("0.0.0.0:443".to_owned(), 3)));
        assert!(rows(&view).contains(&("10.0.0.2:443".to_owned(), 1)));
        // An address of its own goes before any address; another namespace is another machine.
        view.sockets[0].local = "10.0.0.2:443".to_owned();
        view.sockets[1].netns = Some(1);
        let rows = rows(&view);
        assert!(rows.contains(&("10.0.0.2:443".to_owned(), 2)), "{rows:?}");
        assert!(
            rows.contains(&("no listener in the trace".to_owned(), 1)),
            "{rows:?}"
        );
    }
}

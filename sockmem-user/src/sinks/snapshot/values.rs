//! What a snapshot has of the table of fields: names, kernel fields, units and help are from
//! there, only where the value is found differs.

use std::sync::LazyLock;

use crate::model::snapshot::{Entry, Sort};
use crate::sinks::fields::{FIELDS, Field, Value};

/// Where a value is found.
#[derive(Clone, Copy)]
pub(super) enum Get {
    /// As it is.
    Plain(for<'a> fn(&Entry<'a>) -> Value<'a>),
    /// Written out; false where it is not known.
    Written(fn(&Entry<'_>, &mut String) -> bool),
}

/// Fields of a snapshot in the order of the table, and where their values are.
pub(super) fn columns() -> &'static [(&'static Field, Get)] {
    static COLUMNS: LazyLock<Vec<(&'static Field, Get)>> = LazyLock::new(|| {
        FIELDS
            .iter()
            .filter_map(|f| Some((f, get(f.json)?)))
            .collect()
    });
    &COLUMNS
}

/// Of one field.
pub(super) fn column(json: &str) -> (&'static Field, Get) {
    let found = columns().iter().find(|(f, _)| f.json == json);
    match found {
        Some(column) => *column,
        // Names are literals of this module's neighbours, and the tests use each.
        None => panic!("a snapshot has no field {json}"),
    }
}

fn bytes<'a>(v: Option<u32>) -> Value<'a> {
    v.map_or(Value::Unknown, |n| Value::Bytes(u64::from(n)))
}

fn wide<'a>(v: Option<u64>) -> Value<'a> {
    v.map_or(Value::Unknown, Value::Bytes)
}

fn count<'a>(v: Option<u64>) -> Value<'a> {
    v.map_or(Value::Unknown, Value::Count)
}

fn get(json: &str) -> Option<Get> {
    Some(match json {
        "cookie" => Get::Plain(|e| Value::Count(e.socket().cookie)),
        "inode" => Get::Plain(|e| count(Some(e.socket().inode).filter(|i| *i != 0))),
        "protocol" => Get::Plain(|e| Value::Text(e.protocol().name())),
        "family" => Get::Plain(|e| Value::Text(e.family())),
        "state" => Get::Plain(|e| Value::Text(e.state())),
        "local" => Get::Written(|e, out| {
            e.push_local(out);
            true
        }),
        "remote" => Get::Written(|e, out| {
            e.push_remote(out);
            true
        }),
        "netns" => Get::Plain(|e| count(Some(e.namespace().inode).filter(|i| *i != 0))),
        "owner.pid" => Get::Plain(|e| count(e.pid().map(u64::from))),
        "owner.comm" => Get::Plain(|e| {
            let comm = e.process().and_then(|p| p.comm.as_deref());
            comm.map_or(Value::Unknown, Value::Text)
        }),
        "owner.cgroup" => Get::Written(|e, out| match e.cgroup() {
            Some(path) => {
                out.push_str(&path);
                true
            }
            None => false,
        }),
        "owner.kind" => Get::Plain(|e| Value::Text(e.kind().name())),
        "rmem_alloc" => Get::Plain(|e| bytes(e.mem().map(|m| m.rmem_alloc))),
        "rcvbuf" => Get::Plain(|e| bytes(e.mem().map(|m| m.rcvbuf))),
        "wmem_alloc" => Get::Plain(|e| bytes(e.mem().map(|m| m.wmem_alloc))),
        "sndbuf" => Get::Plain(|e| bytes(e.mem().map(|m| m.sndbuf))),
        "forward_alloc" => Get::Plain(|e| {
            e.mem().map_or(Value::Unknown, |m| {
                Value::SignedBytes(i64::from(m.forward_alloc))
            })
        }),
        "wmem_queued" => Get::Plain(|e| bytes(e.mem().map(|m| m.wmem_queued))),
        "optmem" => Get::Plain(|e| bytes(e.mem().map(|m| m.optmem))),
        "backlog" => Get::Plain(|e| bytes(e.mem().map(|m| m.backlog))),
        "drops" => Get::Plain(|e| count(e.mem().map(|m| u64::from(m.drops)))),
        "resident" => Get::Plain(|e| wide(e.resident())),
        "unread_bytes" => Get::Plain(|e| wide(e.unread_bytes())),
        "unacked_bytes" => Get::Plain(|e| wide(e.unacked_bytes())),
        _ => return None,
    })
}

/// Names that a snapshot can be ordered by.
pub const SORTS: [&str; 16] = [
    "resident",
    "rmem_alloc",
    "wmem_queued",
    "wmem_alloc",
    "forward_alloc",
    "optmem",
    "backlog",
    "drops",
    "rcvbuf",
    "sndbuf",
    "unread_bytes",
    "unacked_bytes",
    "pid",
    "local",
    "remote",
    "state",
];

/// The order that a field's name stands for; `None` for one that is not in `SORTS`.
#[must_use]
pub fn sort_by(name: &str) -> Option<Sort> {
    macro_rules! number {
        ($field:ident) => {
            Sort::Number(|e| e.mem().map_or(-1, |m| i64::from(m.$field)))
        };
    }
    Some(match name {
        "resident" => Sort::Resident,
        "rmem_alloc" => number!(rmem_alloc),
        "wmem_queued" => number!(wmem_queued),
        "wmem_alloc" => number!(wmem_alloc),
        "forward_alloc" => number!(forward_alloc),
        "optmem" => number!(optmem),
        "backlog" => number!(backlog),
        "drops" => number!(drops),
        "rcvbuf" => number!(rcvbuf),
        "sndbuf" => number!(sndbuf),
        "unread_bytes" => Sort::Number(|e| known(e.unread_bytes())),
        "unacked_bytes" => Sort::Number(|e| known(e.unacked_bytes())),
        "pid" => Sort::Pid,
        "local" => Sort::Local,
        "remote" => Sort::Remote,
        "state" => Sort::State,
        _ => return None,
    })
}

/// What is not known comes last.
fn known(n: Option<u64>) -> i64 {
    n.map_or(-1, |n| i64::try_from(n).unwrap_or(i64::MAX))
}

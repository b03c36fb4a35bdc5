//! `/proc/PID/stat`. Pure.

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The process.
    pub pid: u32,
    /// Its name, as `Procfs::comm` gives it.
    pub comm: String,
    /// `R`, `S`, `D`, `Z`, …, as proc(5) lists them.
    pub state: char,
    /// Its parent; 0 for a process without one in this pid namespace.
    pub ppid: u32,
    /// When it started: clock ticks since boot.
    pub start_ticks: u64,
}

/// Reads it; `None` where it is not in the form that proc(5) describes.
///
/// The name stands in parentheses and may itself contain parentheses, blanks
/// and newlines. Nothing behind it can contain one, so the last `)` ends it.
#[must_use]
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|&b| b == b'(')?;
    let close = bytes.iter().rposition(|&b| b == b')')?;
    let comm = bytes.get(open + 1..close)?;
    let pid = std::str::from_utf8(&bytes[..open])
        .ok()?
        .trim_end()
        .parse()
        .ok()?;
    // Field 3 is the first behind the name.
    let mut fields = std::str::from_utf8(&bytes[close + 1..])
        .ok()?
        .split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(22 - 5)?.parse().ok()?;
    Some(Stat {
        pid,
        comm: String::from_utf8_lossy(comm).into_owned(),
        state,
        ppid,
        start_ticks,
    })
}

//! Arguments of the commands that read and do not trace: `snapshot` and `where`.

use clap::{ArgAction, Args, ValueEnum};

use super::{Color, Format, Output};
use crate::cli::target::Target;
use crate::model::snapshot::By;
use crate::sinks::snapshot::{SORTS, sort_by};

/// How a snapshot is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SnapshotFormat {
    /// For people.
    Text,
    /// One document.
    Json,
    /// A header and a line for each socket.
    Csv,
}

/// `--group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// The process that holds them.
    Process,
    /// The listener that they came through.
    Listener,
    /// The remote address.
    Remote,
    /// The control group.
    Cgroup,
    /// The state.
    State,
}

impl GroupBy {
    /// As the model has it.
    #[must_use]
    pub fn by(self) -> By {
        match self {
            GroupBy::Process => By::Process,
            GroupBy::Listener => By::Listener,
            GroupBy::Remote => By::Remote,
            GroupBy::Cgroup => By::Cgroup,
            GroupBy::State => By::State,
        }
    }
}

/// Kinds of sockets; with none given, TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Kind of sockets")]
pub struct InspectKinds {
    /// TCP sockets (the default)
    #[arg(long)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(long)]
    pub udp: bool,
    /// Unix sockets
    #[arg(long)]
    pub unix: bool,
}

/// Arguments of `snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SnapshotArgs {
    /// Which sockets; with none named, all.
    #[command(flatten)]
    pub target: Target,
    /// Which kinds.
    #[command(flatten)]
    pub kinds: InspectKinds,
    /// At most so many rows; totals are over all sockets nonetheless
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub top: Option<usize>,
    /// Order: a number's name, most first, or pid, local, remote, state
    #[arg(long, value_name = "FIELD", default_value = "resident", value_parser = parse_sort, help_heading = "Output")]
    pub sort: String,
    /// Sums by process, listener, remote address, control group or state
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Output")]
    pub group: Option<GroupBy>,
    /// Prints what each field means, and where the manual of ss misleads, and ends
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
    /// Text for people, JSON or CSV for programs
    #[arg(long, value_enum, default_value_t = SnapshotFormat::Text, help_heading = "Output")]
    pub format: SnapshotFormat,
    /// Colour in text; `auto` is on a terminal and unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = "Output")]
    pub color: Color,
    /// ASCII only; also where the locale is not UTF-8
    #[arg(long, help_heading = "Output")]
    pub ascii: bool,
    /// More about what the tool does, on stderr
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

impl SnapshotArgs {
    /// How text looks.
    #[must_use]
    pub fn output(&self) -> Output {
        Output {
            format: Format::Text,
            color: self.color,
            ascii: self.ascii,
            verbose: self.verbose,
        }
    }
}

/// Arguments of `where`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct WhereArgs {
    /// Whose sockets the statement begins with; with none named, all.
    #[command(flatten)]
    pub target: Target,
    /// Reads nothing through eBPF: what the CPUs hold back from sockstat is then a bound
    #[arg(long, help_heading = "Output")]
    pub no_ebpf: bool,
    /// Prints what each step and field means, and where the manual of ss misleads, and ends
    #[arg(long, help_heading = "Output")]
    pub explain: bool,
    /// Format, colour, verbosity.
    #[command(flatten)]
    pub output: Output,
}

fn parse_sort(text: &str) -> Result<String, String> {
    match sort_by(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("write one of {}", SORTS.join(", "))),
    }
}

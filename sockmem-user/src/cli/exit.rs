//! Exit codes: part of the contract with scripts.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done; also after SIGINT or SIGTERM, and when the reader of a pipe has gone.
    Done,
    /// A limit that was to be checked is exceeded.
    Exceeded,
    /// Wrong usage, unreadable input, or a host that cannot do it.
    Failed,
    /// The status of the command that was run.
    Passed(u8),
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Exceeded => 1,
            Exit::Failed => 2,
            Exit::Passed(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_scripts_rely_on() {
        assert_eq!(
            [Exit::Done, Exit::Exceeded, Exit::Failed].map(Exit::code),
            [0, 1, 2]
        );
    }
}

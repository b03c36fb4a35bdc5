//! Commands, arguments and exit codes.

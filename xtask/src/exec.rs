//! Running other programs: found or refused with the package that has them,
//! and with the whole command line in every error.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};

/// A command as a person would type it, for messages.
pub(crate) fn shown(command: &Command) -> String {
    let mut text = String::new();
    for word in std::iter::once(command.get_program()).chain(command.get_args()) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&quoted(&word.to_string_lossy()));
    }
    text
}

/// One word in single quotes if a shell would not take it as it is.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs a command on this terminal.
///
/// # Errors
/// When it cannot be started or does not end with status 0; both name the
/// command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs a command and gives back its standard output.
///
/// # Errors
/// When it cannot be started or does not end with status 0; the error then
/// carries what it wrote to standard error.
pub(crate) fn capture(command: &mut Command) -> Result<Vec<u8>> {
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        bail!("`{}` failed: {status}\n{}", shown(command), said.trim_end());
    }
    Ok(stdout)
}

/// [`capture`] as text.
pub(crate) fn capture_text(command: &mut Command) -> Result<String> {
    let stdout = capture(command)?;
    String::from_utf8(stdout)
        .with_context(|| format!("`{}` wrote text that is not UTF-8", shown(command)))
}

/// The folders in which programs are looked for: `PATH`, then the two that an
/// ordinary user's `PATH` lacks on Debian.
fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    folders
}

/// Where a program is, if it is installed.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    find_in(program, search_path())
}

/// The first of these folders that holds `program`.
pub(crate) fn find_in<P: AsRef<Path>>(
    program: &str,
    folders: impl IntoIterator<Item = P>,
) -> Option<PathBuf> {
    folders
        .into_iter()
        .map(|folder| folder.as_ref().join(program))
        .find(|path| path.is_file())
}

/// A command for a program of a Debian package.
///
/// # Errors
/// When the program is not installed; the error names the package.
pub(crate) fn tool(program: &str, package: &str) -> Result<Command> {
    match find(program) {
        Some(path) => Ok(Command::new(path)),
        None => bail!(
            "`{program}` is not installed, and this step needs it: \
             apt-get install {package} (or run `cargo xtask setup`)"
        ),
    }
}

/// The cargo that runs this program, or the one in `PATH`.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Removes what the surrounding cargo and rustup put into the environment, so
/// that another toolchain can be chosen.
pub(crate) fn without_toolchain_env(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let foreign = [
            "CARGO",
            "RUSTC",
            "RUSTDOC",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
        ]
        .iter()
        .any(|own| text == *own)
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST")
            || text.ends_with("RUSTFLAGS");
        if foreign {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether this process has the rights of root.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Replaces a folder by a new, empty one.
///
/// # Errors
/// When the old one cannot be removed or the new one not made.
pub(crate) fn fresh_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    make_folder(path)
}

/// Makes a folder with those above it.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a file.
///
/// # Errors
/// When it cannot be written; the error names it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read; the error names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// `name=value` as one argument, for values that are paths.
pub(crate) fn joined(name: &str, value: impl AsRef<OsStr>) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(name);
    text.push(value);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_would_take_it() {
        let mut command = Command::new("qemu");
        command.args(["-append", "console=ttyS0 quiet", "it's", "-m", "1536", ""]);
        assert_eq!(
            shown(&command),
            r"qemu -append 'console=ttyS0 quiet' 'it'\''s' -m 1536 ''"
        );
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = tool("no-such-program-here", "the-package")
            .unwrap_err()
            .to_string();
        assert!(error.contains("apt-get install the-package"), "{error}");
    }

    #[test]
    fn a_failed_command_names_itself_and_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason >&2; exit 3"]);
        let error = capture(&mut command).unwrap_err().to_string();
        assert!(
            error.contains("the reason") && error.contains("exit 3"),
            "{error}"
        );
    }
}

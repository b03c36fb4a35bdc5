//! `completions` and `man`: what shells and `man` need to know, made from the parser itself.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args;
use super::exit::Exit;

/// Arguments of `completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ManArgs {
    /// Writes a page for each command into this folder instead; existing pages are replaced
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Prints the completions of one shell.
pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    // Into memory first: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut args::command(),
        "sockmem-trace",
        &mut script,
    );
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

/// Prints the manual page, or writes that of each command.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.dir {
        None => {
            let page = page(&args::command())?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(dir) => {
            for (name, page) in pages()? {
                write(dir, &name, &page)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn write(dir: &Path, name: &str, page: &[u8]) -> anyhow::Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, page)
        .with_context(|| format!("cannot write {}; name a folder that exists", path.display()))
}

/// File name and text of every page: `sockmem-trace.1`, `sockmem-trace-live.1`, ….
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = args::command();
    command.build();
    let mut pages = vec![("sockmem-trace.1".to_owned(), page(&command)?)];
    for sub in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let name = format!("sockmem-trace-{}", sub.get_name());
        pages.push((format!("{name}.1"), page(sub)?));
    }
    Ok(pages)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .manual("sockmem-trace")
        .source(concat!("sockmem-trace ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_command_has_a_page_and_is_named_in_the_first() {
        let pages = pages().expect("pages are made in memory");
        let first = String::from_utf8(pages[0].1.clone()).expect("UTF-8");
        let commands = args::command();
        for sub in commands.get_subcommands().filter(|c| !c.is_hide_set()) {
            let file = format!("sockmem-trace-{}.1", sub.get_name());
            let page = pages.iter().find(|(name, _)| *name == file);
            let text = String::from_utf8(page.expect("a page").1.clone()).expect("UTF-8");
            assert!(text.starts_with(".ie"), "{file}: {}", &text[..40]);
            assert!(text.contains(".SH SYNOPSIS") && text.contains(".SH OPTIONS"));
            // roff writes a hyphen as \-.
            let name = sub.get_name().replace('-', "\\-");
            assert!(first.contains(&name), "{name} is missing");
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut args::command(), "sockmem-trace", &mut script);
            let script = String::from_utf8(script).expect("UTF-8");
            for sub in args::command().get_subcommands() {
                assert!(script.contains(sub.get_name()), "{shell}");
            }
        }
    }
}

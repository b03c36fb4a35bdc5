//! The guest's only file system: a newc cpio archive, compressed.
//!
//! The format is in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::modules::Module;
use crate::exec;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// A newc archive that grows entry by entry.
#[derive(Debug, Default)]
pub(crate) struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// Adds a folder; its parent must have been added before.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a regular file with these permission bits.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, FILE | permissions, (0, 0), content);
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = u32::MAX;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode = self.inode.wrapping_add(1);
        let size = u32::try_from(content.len()).expect("newc holds files below 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        self.bytes.extend_from_slice(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
        // rdevmajor, rdevminor, namesize, check. Times stay 0, so that the same
        // content is the same archive.
        for field in [
            self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ] {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Both name and content end on a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// What goes into a guest.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// The guest's process 1.
    pub(crate) init: &'a [u8],
    /// Programs for `/bin`, by name.
    pub(crate) programs: &'a [(&'a str, Vec<u8>)],
    /// Loaded by init in this order.
    pub(crate) modules: &'a [Module],
    /// The eBPF object to test in place of the one inside the programs.
    pub(crate) object: Option<&'a [u8]>,
}

/// The archive of a guest.
pub(crate) fn archive(contents: &Contents<'_>) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for folder in [
        "bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tmp",
    ] {
        cpio.folder(folder);
    }
    // The kernel opens it as standard output of init before devtmpfs is there.
    cpio.device("dev/console", 5, 1);
    cpio.file("init", 0o755, contents.init);
    cpio.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n");
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    for (name, content) in contents.programs {
        cpio.file(&format!("bin/{name}"), 0o755, content);
    }
    for (at, module) in contents.modules.iter().enumerate() {
        cpio.file(
            &format!("modules/{at:02}-{}.ko", module.name),
            0o644,
            &module.content,
        );
    }
    if let Some(object) = contents.object {
        cpio.file("sockmem.bpf.o", 0o644, object);
    }
    cpio.finish()
}

/// Compresses an archive into a file.
///
/// # Errors
/// When gzip is missing or fails.
pub(crate) fn write_compressed(archive: &[u8], path: &Path) -> Result<()> {
    let file =
        std::fs::File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut gzip: Command = exec::tool("gzip", "gzip")?;
    // Level 1: the guest unpacks either as fast, and the file lives for one run.
    gzip.args(["-1", "-n", "-c"])
        .stdin(Stdio::piped())
        .stdout(file);
    let mut child = gzip
        .spawn()
        .with_context(|| format!("cannot start {}", exec::shown(&gzip)))?;
    let written = child
        .stdin
        .take()
        .expect("stdin was piped")
        .write_all(archive);
    let status = child.wait()?;
    written.context("gzip did not take the archive")?;
    if !status.success() {
        bail!("`{}` failed: {status}", exec::shown(&gzip));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields and the name of the entry at `at`, and where the next begins.
    fn entry(bytes: &[u8], at: usize) -> (Vec<u32>, String, usize) {
        assert_eq!(&bytes[at..at + 6], b"070701", "magic at {at}");
        let field = |n: usize| {
            let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).expect("hex");
            u32::from_str_radix(text, 16).expect("hex")
        };
        let fields: Vec<u32> = (0..13).map(field).collect();
        let name_at = at + 110;
        let name_end = name_at + fields[11] as usize;
        let name = String::from_utf8(bytes[name_at..name_end - 1].to_vec()).expect("name");
        assert_eq!(bytes[name_end - 1], 0, "{name} is terminated");
        let next = (name_end.next_multiple_of(4) + fields[6] as usize).next_multiple_of(4);
        (fields, name, next)
    }

    #[test]
    fn an_archive_is_read_back_entry_by_entry() {
        let mut cpio = Cpio::default();
        cpio.folder("dev");
        cpio.device("dev/console", 5, 1);
        cpio.file("a", 0o755, b"12345");
        let bytes = cpio.finish();

        let (dev, name, at) = entry(&bytes, 0);
        assert_eq!((name.as_str(), dev[1], dev[4]), ("dev", 0o040_755, 2));
        let (console, name, at) = entry(&bytes, at);
        assert_eq!((name.as_str(), console[1]), ("dev/console", 0o020_600));
        assert_eq!((console[9], console[10]), (5, 1));
        let (file, name, next) = entry(&bytes, at);
        assert_eq!((name.as_str(), file[1], file[6]), ("a", 0o100_755, 5));
        assert_eq!(&bytes[next - 8..next - 3], b"12345");
        assert_ne!(dev[0], file[0], "inodes differ");
        let (_, name, end) = entry(&bytes, next);
        assert_eq!((name.as_str(), end), ("TRAILER!!!", bytes.len()));
    }

    #[test]
    fn a_guest_has_init_programs_and_modules_in_order() {
        let module = |name: &str| Module {
            name: name.to_owned(),
            content: vec![1],
        };
        let bytes = archive(&Contents {
            init: b"init",
            programs: &[("sockmem-e2e", b"e2e".to_vec())],
            modules: &[module("inet_diag"), module("tcp_diag")],
            object: Some(b"elf"),
        });
        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let (_, name, next) = entry(&bytes, at);
            names.push(name);
            at = next;
        }
        for name in [
            "init",
            "bin/sockmem-e2e",
            "modules/00-inet_diag.ko",
            "modules/01-tcp_diag.ko",
            "sockmem.bpf.o",
        ] {
            assert!(names.iter().any(|had| had == name), "{name} in {names:?}");
        }
        assert_eq!(names.last().map(String::as_str), Some("TRAILER!!!"));
    }
}

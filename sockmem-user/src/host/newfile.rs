//! Making a file that did not exist, for the user behind `sudo`, in a place that others may write to.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// Why there is no new file.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    /// Something is there.
    #[error("{} exists already; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// It could be replaced if it were a file.
    #[error("{} is not a regular file, and only such are replaced", .0.display())]
    NotAFile(PathBuf),
    /// It does not name a file.
    #[error("{} does not name a file", .0.display())]
    NoName(PathBuf),
    /// The way there leads through a link that somebody else may have put there.
    #[error(
        "{} is a symbolic link in a directory that everybody may write to: name the file by its real path",
        .0.display()
    )]
    Link(PathBuf),
    /// The system refused.
    #[error("creating {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Creates `path`: mode 0600, for the user that `sudo` was called by. What is there already is
/// only replaced with `force`, and only if it is a regular file; never written to, and no link
/// is followed at its place.
///
/// # Errors
/// `NewFileError`.
pub fn create(path: &Path, force: bool) -> Result<File, NewFileError> {
    let owner = Uid::effective().is_root().then(sudo_user).flatten();
    create_for(path, force, owner)
}

/// As `create`, without creating it: whether it could be.
///
/// # Errors
/// `NewFileError`.
pub fn check(path: &Path, force: bool) -> Result<(), NewFileError> {
    let (_, dir) = parts(path)?;
    links(&dir)?;
    let io = |source| NewFileError::Io {
        path: path.to_owned(),
        source,
    };
    nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK).map_err(|e| io(e.into()))?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(e)),
        Ok(_) if !force => Err(NewFileError::Exists(path.to_owned())),
        Ok(there) if !there.is_file() => Err(NewFileError::NotAFile(path.to_owned())),
        Ok(_) => Ok(()),
    }
}

fn create_for(path: &Path, force: bool, owner: Option<(Uid, Gid)>) -> Result<File, NewFileError> {
    check(path, force)?;
    let (name, dir) = parts(path)?;
    let io = |source: nix::Error| NewFileError::Io {
        path: path.to_owned(),
        source: source.into(),
    };
    let dir = open(
        &dir,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(io)?;
    if force {
        match unlinkat(dir.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(e) => return Err(io(e)),
        }
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = match openat(dir.as_fd(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(fd) => fd,
        Err(nix::Error::EEXIST) => return Err(NewFileError::Exists(path.to_owned())),
        Err(e) => return Err(io(e)),
    };
    if let Some((uid, gid)) = owner {
        fchown(&fd, Some(uid), Some(gid)).map_err(io)?;
    }
    let file = File::from(fd);
    // Whatever the umask.
    file.set_permissions(Permissions::from_mode(0o600))
        .map_err(|source| NewFileError::Io {
            path: path.to_owned(),
            source,
        })?;
    Ok(file)
}

/// The name of the file, and its directory.
fn parts(path: &Path) -> Result<(&OsStr, PathBuf), NewFileError> {
    let ends_as_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let name = path.file_name().filter(|_| !ends_as_directory);
    let name = name.ok_or_else(|| NewFileError::NoName(path.to_owned()))?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((name, dir))
}

/// Refuses links on the way that lie in a directory to which everybody may write. Those of root
/// and of the directory's owner are theirs to make.
fn links(dir: &Path) -> Result<(), NewFileError> {
    let mut way = PathBuf::new();
    for part in dir.components() {
        let within = if way.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            way.clone()
        };
        way.push(part);
        if !matches!(part, Component::Normal(_)) {
            continue;
        }
        let io = |source| NewFileError::Io {
            path: way.clone(),
            source,
        };
        let link = fs::symlink_metadata(&way).map_err(io)?;
        if !link.is_symlink() {
            continue;
        }
        let around = fs::metadata(&within).map_err(io)?;
        if around.mode() & 0o002 != 0 && link.uid() != 0 && link.uid() != around.uid() {
            return Err(NewFileError::Link(way));
        }
    }
    Ok(())
}

/// Who called `sudo`; `None` where nobody did.
fn sudo_user() -> Option<(Uid, Gid)> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    Some((
        Uid::from_raw(number("SUDO_UID")?),
        Gid::from_raw(number("SUDO_GID")?),
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_no_file_yet_is_made_and_it_is_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.smt");
        let mut file = create(&path, false).expect("nothing is there");
        file.write_all(b"old").expect("room");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let again = create(&path, false).unwrap_err();
        assert!(matches!(again, NewFileError::Exists(_)), "{again}");
        assert!(again.to_string().contains("--force"));
        // Another name for the old file keeps its contents: it is replaced, not written to.
        let other = dir.path().join("other");
        fs::hard_link(&path, &other).unwrap();
        drop(create(&path, true).expect("forced"));
        assert_eq!(fs::read(&other).unwrap(), b"old");
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("target");
        fs::write(&target, "precious").unwrap();
        let link = dir.path().join("link");
        symlink(&target, &link).unwrap();
        for force in [false, true] {
            let e = create(&link, force).unwrap_err();
            assert!(
                matches!(e, NewFileError::Exists(_) | NewFileError::NotAFile(_)),
                "{e}"
            );
        }
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let e = create(&dir.path().join("none/x"), false).unwrap_err();
        assert!(matches!(e, NewFileError::Io { .. }), "{e}");
        assert!(matches!(
            create(Path::new("a/"), false),
            Err(NewFileError::NoName(_))
        ));
        assert!(matches!(
            create(Path::new(".."), false),
            Err(NewFileError::NoName(_))
        ));
    }

    #[test]
    fn strangers_links_in_open_directories_are_refused() {
        if !Uid::effective().is_root() {
            return; // Only root can make a link that is somebody else's.
        }
        let dir = tempfile::tempdir().expect("a directory");
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        let way = open.join("way");
        symlink(&real, &way).unwrap();
        create(&way.join("by-root"), false).expect("root's own link");
        std::os::unix::fs::lchown(&way, Some(12_345), Some(12_345)).unwrap();
        let e = create(&way.join("by-stranger"), false).unwrap_err();
        assert!(matches!(e, NewFileError::Link(_)), "{e}");
        assert!(!real.join("by-stranger").exists());
        // The user behind sudo gets the file.
        let path = real.join("owned");
        let owner = (Uid::from_raw(12_345), Gid::from_raw(54_321));
        create_for(&path, false, Some(owner)).expect("root may");
        let made = fs::metadata(&path).unwrap();
        assert_eq!((made.uid(), made.gid()), (12_345, 54_321));
    }
}

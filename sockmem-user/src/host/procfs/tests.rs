use std::os::unix::fs::symlink;

use super::fds::{names, parse_socket_link};
use super::*;
use crate::facts::inventory::{Holder, Holders};

/// A tree that looks like `/proc`, with the given files per process.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Tree(tempfile::tempdir().expect("a temporary directory"))
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("inside of the tree")).expect("mkdir");
        fs::write(path, content).expect("write");
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("inside of the tree")).expect("mkdir");
        symlink(target, path).expect("symlink");
        self
    }

    fn process(self, pid: u32, ppid: u32, comm: &str) -> Self {
        let stat = format!(
            "{pid} ({comm}) S {ppid} 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {} 99 98\n",
            1000 + pid
        );
        self.file(&format!("{pid}/stat"), stat)
            .file(&format!("{pid}/comm"), format!("{comm}\n"))
    }

    fn procfs(&self) -> Procfs {
        Procfs::at(self.0.path())
    }
}

#[test]
fn socket_links_are_recognised_exactly() {
    assert_eq!(parse_socket_link(b"socket:[12345]"), Some(12345));
    assert_eq!(
        parse_socket_link(b"socket:[18446744073709551615]"),
        Some(u64::MAX)
    );
    for other in [
        &b"socket:[18446744073709551616]"[..],
        b"socket:[]",
        b"socket:[+1]",
        b"socket:[12",
        b"socket:12]",
        b"pipe:[12]",
        b"/tmp/socket:[12]",
        b"",
    ] {
        assert_eq!(
            parse_socket_link(other),
            None,
            "{}",
            String::from_utf8_lossy(other)
        );
    }
}

#[test]
fn sockets_of_a_process_are_listed_once_each() {
    let tree = Tree::new()
        .link("7/fd/0", "/dev/null")
        .link("7/fd/3", "socket:[900]")
        .link("7/fd/4", "socket:[20]")
        .link("7/fd/5", "socket:[900]")
        .link("7/fd/6", "anon_inode:[eventpoll]")
        .link(
            "7/fd/7",
            "/a/path/that/is/longer/than/any/link/to/a/socket/could/be/socket:[1]",
        );
    assert_eq!(tree.procfs().socket_inodes(7).unwrap(), [20, 900]);
}

#[test]
fn owners_of_many_processes_are_found() {
    let tree = Tree::new()
        .link("7/fd/3", "socket:[900]")
        .link("7/fd/4", "socket:[20]")
        .link("5/fd/9", "socket:[900]")
        .link("6/fd/0", "/dev/null");
    let holders = tree
        .procfs()
        .socket_holders([7, 5, 6, 8, 7])
        .expect("8 is only gone");
    let of = |inode| -> Vec<_> { holders.of(inode).iter().map(|h| (h.pid, h.fd)).collect() };
    assert_eq!(of(900), [(5, 9), (7, 3)]);
    assert_eq!(of(20), [(7, 4)]);
    assert!(of(0).is_empty() && of(21).is_empty() && of(u64::MAX).is_empty());
    assert_eq!((holders.all().len(), holders.denied), (3, 0));
    let tree = tree.file("9/fd", "not a directory");
    assert!(matches!(
        tree.procfs().socket_holders([9]),
        Err(ProcError::Io { .. })
    ));
}

/// More links than fit into the blocks that may wait, with and without a thread that helps.
#[test]
fn thousands_of_descriptors_are_all_found() {
    let mut tree = Tree::new();
    for fd in 0..6000 {
        tree = tree.link(&format!("7/fd/{fd}"), &format!("socket:[{}]", 100_000 + fd));
    }
    let alone = tree.procfs().socket_holders([7]).unwrap();
    let walk = FdWalk::default();
    let (mut own, mut helped) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let helper = scope.spawn(|| walk.help(&mut helped));
        tree.procfs().list_holders([7], &walk, &mut own).unwrap();
        walk.help(&mut own);
        helper.join().unwrap();
    });
    own.extend(helped);
    let together = Holders::new(own, 0);
    assert_eq!(together, alone);
    assert_eq!(alone.all().len(), 6000);
    assert!((0..6000).all(|fd| alone.of(100_000 + fd)
        == [Holder {
            inode: 100_000 + fd,
            pid: 7,
            fd: fd as u32
        }]));
}

#[test]
fn a_broken_block_of_entries_ends_it() {
    let entry = |len: u16, name: &[u8]| {
        let mut e = vec![0; 16];
        e.extend(len.to_ne_bytes());
        e.push(10);
        e.extend(name);
        e.resize(usize::from(len).max(19), 0);
        e
    };
    let block = [entry(24, b"12\0"), entry(24, b"7\0")].concat();
    let all: Vec<_> = names(&block).map(|n| n.to_bytes().to_vec()).collect();
    assert_eq!(all, [b"12".to_vec(), b"7".to_vec()]);
    for len in 0..block.len() {
        assert!(names(&block[..len]).count() <= 1, "{len}");
    }
    // A length less than its own header, and a name without an end.
    assert_eq!(names(&entry(0, b"1\0")).count(), 0);
    assert_eq!(names(&entry(18, b"")).count(), 0);
    assert_eq!(names(&entry(24, b"12345")).count(), 0);
}

#[test]
fn own_sockets_are_listed() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let fd = std::os::fd::OwnedFd::from(socket);
    let inode = fs::File::from(fd.try_clone().expect("dup"))
        .metadata()
        .expect("fstat")
        .ino();
    let found = Procfs::default()
        .socket_inodes(std::process::id())
        .expect("own fds");
    assert!(found.contains(&inode), "{inode} in {found:?}");
}

#[test]
fn stat_survives_odd_names() {
    let line = |comm: &str| {
        format!(
            "42 ({comm}) R 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777 4096 1 184467440737095516\n"
        )
    };
    for comm in [
        "nginx", "", "a b", "(sd-pam)", ") S 1 (", "a\nb", "))((", " 9 9 ", "日本",
    ] {
        let stat = parse_stat(line(comm).as_bytes()).expect(comm);
        assert_eq!(
            stat,
            Stat {
                pid: 42,
                comm: comm.to_owned(),
                state: 'R',
                ppid: 1,
                start_ticks: 777
            }
        );
    }
    let mut bytes = line("XY").into_bytes();
    let at = bytes.iter().position(|&b| b == b'X').expect("is there");
    bytes[at] = 0xff;
    assert_eq!(parse_stat(&bytes).expect("lossy").comm, "\u{fffd}Y");
}

#[test]
fn broken_stat_is_refused() {
    let whole = "42 (a) R 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777";
    assert!(parse_stat(whole.as_bytes()).is_some());
    for end in 0..whole.len() - 3 {
        assert_eq!(
            parse_stat(&whole.as_bytes()[..end]),
            None,
            "{}",
            &whole[..end]
        );
    }
    assert_eq!(parse_stat(b")42("), None);
    assert_eq!(
        parse_stat(b"x (a) R 1 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 777"),
        None
    );
}

#[test]
fn a_command_line_is_joined_and_bounded() {
    let long = format!("a\0{}", "b".repeat(5000));
    let tree = Tree::new()
        .file("7/cmdline", "redis-server\0--port\x007000\0\0\0")
        .file("8/cmdline", "")
        .file("9/cmdline", long);
    let procfs = tree.procfs();
    assert_eq!(
        procfs.cmdline(7).unwrap().as_deref(),
        Some("redis-server --port 7000")
    );
    assert_eq!(procfs.cmdline(8).unwrap(), None);
    assert_eq!(
        procfs.cmdline(9).unwrap().map(|c| c.len()),
        Some(CMDLINE_MOST)
    );
    assert!(matches!(procfs.cmdline(10), Err(ProcError::Gone(10))));
}

#[test]
fn comm_keeps_what_the_kernel_gives() {
    let tree = Tree::new()
        .file("1/comm", "plain\n")
        .file("2/comm", "a\nb)\n\n")
        .file("3/comm", b"\xff\xfe\n")
        .file("4/comm", "\x1b[31mred\n");
    let comm = |pid| tree.procfs().comm(pid).unwrap();
    assert_eq!(comm(1), "plain");
    assert_eq!(comm(2), "a\nb)\n");
    assert_eq!(comm(3), "\u{fffd}\u{fffd}");
    assert_eq!(comm(4), "\x1b[31mred");
}

#[test]
fn families_are_followed() {
    let tree = Tree::new()
        .process(1, 0, "init")
        .process(10, 1, "web")
        .process(11, 10, "web) S 1 (")
        .process(12, 10, "web")
        .process(13, 11, "cgi")
        .process(20, 1, "db")
        .file("21/stat", "not a stat")
        .file("self", "")
        .file("+5/stat", "");
    let procfs = tree.procfs();
    assert_eq!(procfs.pids().unwrap(), [1, 10, 11, 12, 13, 20, 21]);
    assert_eq!(procfs.children(10).unwrap(), [11, 12]);
    assert_eq!(procfs.descendants(10).unwrap(), [11, 12, 13]);
    assert_eq!(procfs.descendants(1).unwrap(), [10, 20, 11, 12, 13]);
    assert!(procfs.descendants(99).unwrap().is_empty());
    assert_eq!(procfs.start_time(12).unwrap(), 1012);
}

#[test]
fn a_loop_of_parents_ends() {
    let parents = BTreeMap::from([(1, 3), (2, 1), (3, 2), (4, 4)]);
    assert_eq!(descendants(&parents, 1), [2, 3]);
    assert!(descendants(&parents, 4).is_empty());
}

#[test]
fn processes_are_found_by_name() {
    let tree = Tree::new()
        .process(5, 1, "nginx")
        .process(3, 1, "nginx")
        .process(4, 1, "nginx: worker")
        .process(6, 1, "a-very-long-pro");
    let find = |name| tree.procfs().find_by_comm(name).unwrap();
    assert_eq!(find("nginx"), [3, 5]);
    assert_eq!(find("a-very-long-process-name"), [6]);
    assert!(find("ngin").is_empty());
    assert!(
        find("日本語日本語日本語").is_empty(),
        "cut in the middle of a character"
    );
}

#[test]
fn cgroups_are_read() {
    let tree = Tree::new()
        .file("7/cgroup", "0::/web.slice\n")
        .file("8/cgroup", "");
    assert_eq!(tree.procfs().cgroup_path(7).unwrap(), "/web.slice");
    assert!(matches!(
        tree.procfs().cgroup_path(8),
        Err(ProcError::Malformed { .. })
    ));

    let mount = tree.0.path().join("cgroup");
    let tree = tree.file("cgroup/web.slice/cgroup.procs", "9\n7\n").file(
        "self/mountinfo",
        format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", mount.display()),
    );
    assert_eq!(
        tree.procfs()
            .pids_in_cgroup(Path::new("/web.slice"))
            .unwrap(),
        [7, 9]
    );
    let error = tree
        .procfs()
        .pids_in_cgroup(Path::new("/db"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("reading /db: no cgroup of this name"),
        "{error}"
    );
}

#[test]
fn resident_memory_is_split() {
    let status =
        "Name:\tx\nVmRSS:\t    5000 kB\nRssAnon:\t 3000 kB\nRssFile:\t1999 kB\nRssShmem:\t1 kB\n";
    let split = parse_rss(status).expect("complete");
    assert_eq!(
        split,
        RssSplit {
            total: 5000 << 10,
            anon: 3000 << 10,
            file: 1999 << 10,
            shmem: 1 << 10
        }
    );
    assert_eq!(parse_rss("Name:\tkthreadd\n"), None);
    assert_eq!(parse_rss(&status.replace("5000", "many")), None);
    assert_eq!(
        parse_rss(&status.replace("5000", &u64::MAX.to_string())),
        None
    );
    let own = Procfs::default()
        .rss_split(std::process::id())
        .expect("own")
        .expect("has memory");
    assert_eq!(own.total, own.anon + own.file + own.shmem);
}

#[test]
fn a_process_that_is_gone_is_told_apart() {
    let tree = Tree::new().file("7/comm", "x\n");
    let procfs = tree.procfs();
    assert!(procfs.exists(7) && !procfs.exists(8));
    assert!(matches!(procfs.comm(8), Err(ProcError::Gone(8))));
    assert!(matches!(procfs.socket_inodes(8), Err(ProcError::Gone(8))));
    assert!(matches!(procfs.netns_inode(8), Err(ProcError::Gone(8))));
    assert!(
        matches!(procfs.stat(7), Err(ProcError::Io { .. })),
        "only this file is missing"
    );
    assert_eq!(
        procfs.comm(8).unwrap_err().to_string(),
        "there is no process 8: it has ended, or never was; `ps -e` lists those that run"
    );
    let died = io::Error::from_raw_os_error(libc::ESRCH);
    assert!(matches!(
        procfs.error(7, PathBuf::new(), died),
        ProcError::Gone(7)
    ));
    let denied = io::Error::from_raw_os_error(libc::EACCES);
    assert_eq!(
        procfs
            .error(7, PathBuf::from("/proc/7/fd"), denied)
            .to_string(),
        "reading /proc/7/fd needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, and this process may \
         not: run it with sudo"
    );
}

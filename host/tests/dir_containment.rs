//! Nothing outside a directory's export can be reached through it, by any name, link or race.
//!
//! What broke other servers has the names by which it became known. (What they were sent through a socket is sent to
//! this one in `hostile_names`.)

mod dir_support;

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use dir_support::*;
use ninering::backend::{DirBackend, DirError, DirOptions, NodeRef, XattrName};
use ninering_wire::{Errno, Name, Qid, QidType, lopen, mode, setattr};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

/// CVE-2016-9602: symbolic links out of the share were followed.
#[test]
fn absolute_symlinks_are_served_as_links() {
    let export = Export::new();
    export.symlink(export.outside("outside"), "link");
    export.symlink("/", "root");
    let link = export.root.lookup(name("link")).unwrap();
    assert_eq!(link.qid().kind, QidType::SYMLINK);
    assert_eq!(link.read_link().unwrap(), export.outside("outside").as_os_str().as_bytes());
    assert_eq!(link.open(lopen::RDONLY).err(), Some(Errno::ELOOP));
    assert_eq!(link.open(lopen::RDWR | lopen::TRUNC).err(), Some(Errno::ELOOP));
    assert_eq!(walk(&export.root, "root/etc").err(), Some(Errno::ENOTDIR));
}

#[test]
fn relative_symlinks_are_served_as_links() {
    let export = Export::new();
    export.directory("directory");
    export.symlink("../outside", "link");
    export.symlink("../..", "directory/up");
    export.symlink("directory", "inside");
    assert_eq!(export.root.lookup(name("link")).unwrap().open(lopen::RDONLY).err(), Some(Errno::ELOOP));
    assert_eq!(walk(&export.root, "directory/up").unwrap().qid().kind, QidType::SYMLINK);
    assert_eq!(walk(&export.root, "directory/up/outside").err(), Some(Errno::ENOTDIR));
    // Not even where it leads to something served: to follow links is for the client.
    assert_eq!(walk(&export.root, "inside/up").err(), Some(Errno::ENOTDIR));
}

/// CVE-2016-9602, for what changes something.
#[test]
fn nothing_is_changed_through_a_symlink() {
    let export = Export::new();
    export.symlink(export.outside("outside"), "link");
    export.symlink(export.outside("new"), "dangling");
    export.symlink("..", "up");
    let link = export.root.lookup(name("link")).unwrap();
    let up = export.root.lookup(name("up")).unwrap();

    for flags in [lopen::WRONLY, lopen::RDWR | lopen::TRUNC, lopen::WRONLY | lopen::CREATE | lopen::APPEND] {
        assert_eq!(export.root.create(name("link"), flags, 0o644, !0).err(), Some(Errno::ELOOP));
        assert_eq!(export.root.create(name("dangling"), flags, 0o644, !0).err(), Some(Errno::ELOOP));
    }
    assert_eq!(export.root.create(name("link"), lopen::WRONLY | lopen::EXCL, 0o644, !0).err(), Some(Errno::EEXIST));
    assert_eq!(link.set_attributes(&change(setattr::SIZE)), Err(Errno::EINVAL));
    assert_eq!(link.set_attributes(&change(setattr::MODE)), Err(Errno::EOPNOTSUPP));
    assert_eq!(up.create(name("new"), lopen::WRONLY, 0o644, !0).err(), Some(Errno::ENOTDIR));
    assert_eq!(up.make_directory(name("new"), 0o755, !0), Err(Errno::ENOTDIR));
    assert_eq!(up.symlink(name("new"), b"x", !0), Err(Errno::ENOTDIR));
    assert_eq!(up.make_node(name("new"), mode::IFIFO | 0o644, (0, 0), !0), Err(Errno::ENOTDIR));
    assert_eq!(up.unlink(name("outside"), false), Err(Errno::ENOTDIR));
    assert_eq!(up.link(name("new"), &*link), Err(Errno::ENOTDIR));
    assert_eq!(up.rename(name("outside"), &*export.root, name("stolen")), Err(Errno::ENOTDIR));
    assert_eq!(export.root.rename(name("link"), &*up, name("new")), Err(Errno::ENOTDIR));

    assert_eq!(fs::read(export.outside("outside")).unwrap(), b"secret");
    assert!(!export.outside("new").exists());
}

#[test]
fn the_way_up_ends_at_the_root() {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b")).unwrap();
    assert!(export.root.parent().unwrap().is_none());
    let a = walk(&export.root, "a").unwrap();
    let b = walk(&export.root, "a/b").unwrap();
    assert_eq!(b.parent().unwrap().unwrap().qid().path, a.qid().path);
    let top = b.parent().unwrap().unwrap().parent().unwrap().unwrap();
    assert_eq!(top.qid().path, export.root.qid().path);
    assert!(top.parent().unwrap().is_none());
    // Moved somewhere else by the host, it still leads to where it was reached from, and never above the root.
    fs::rename(export.path("a/b"), export.outside("b")).unwrap();
    assert_eq!(b.parent().unwrap().unwrap().qid().path, a.qid().path);
}

#[test]
fn a_listing_does_not_tell_what_is_above_the_root() {
    let export = Export::new();
    export.directory("a");
    let above = |node: &NodeRef| {
        let listed = list(&*node.open(lopen::RDONLY).unwrap(), 0, usize::MAX).unwrap();
        listed.into_iter().find(|entry| entry.name == b"..").unwrap().qid.path
    };
    assert_eq!(above(&export.root), export.root.qid().path);
    assert_eq!(above(&walk(&export.root, "a").unwrap()), export.root.qid().path);
}

/// CVE-2016-7116, and rust-p9's escape of 2026: `..`, `/` and NUL in names.
#[test]
fn names_that_are_paths_are_none() {
    for bytes in [&b"."[..], b"..", b"/", b"a/b", b"/etc", b"../x", b"a/", b"nul\0", b"/proc/self/fd/3"] {
        assert_eq!(Name::new(bytes), Err(Errno::EINVAL));
    }
    assert_eq!(Name::new(b""), Err(Errno::ENOENT));
}

#[test]
fn magic_links_are_not_followed() {
    // Links that the kernel follows to where no path leads.
    let process = serve(Path::new("/proc/self"), DirOptions::default());
    for link in ["root", "cwd", "exe"] {
        let node = process.lookup(name(link)).unwrap();
        assert_eq!(node.qid().kind, QidType::SYMLINK, "{link}");
        assert_eq!(node.open(lopen::RDONLY).err(), Some(Errno::ELOOP), "{link}");
        assert_eq!(process.create(name(link), lopen::RDONLY, 0, !0).err(), Some(Errno::ELOOP), "{link}");
        assert_eq!(walk(&process, &format!("{link}/etc")).err(), Some(Errno::ENOTDIR), "{link}");
    }
    let node = walk(&process, "fd/0").unwrap();
    assert_eq!(node.open(lopen::RDONLY).err(), Some(Errno::ELOOP));

    let export = Export::new();
    export.symlink("/proc/self/root", "magic");
    export.symlink("/proc/self/fd/0", "0");
    assert_eq!(walk(&export.root, "magic/etc").err(), Some(Errno::ENOTDIR));
    assert_eq!(export.root.lookup(name("0")).unwrap().open(lopen::RDONLY).err(), Some(Errno::ELOOP));
}

/// CVE-2016-9602: a directory becomes a symbolic link between a walk to it and the next.
#[test]
fn a_directory_swapped_for_a_symlink_stays_what_was_looked_up() {
    let export = Export::new();
    export.directory("directory");
    export.file("directory/outside", "harmless");
    let directory = export.root.lookup(name("directory")).unwrap();
    fs::rename(export.path("directory"), export.path("moved")).unwrap();
    export.symlink("..", "directory");

    let file = directory.lookup(name("outside")).unwrap();
    assert_eq!(contents(&file).unwrap(), b"harmless");
    directory.create(name("new"), lopen::WRONLY, 0o644, !0).unwrap();
    directory.unlink(name("outside"), false).unwrap();
    assert!(export.path("moved/new").exists());
    assert!(!export.outside("new").exists());
    assert_eq!(fs::read(export.outside("outside")).unwrap(), b"secret");
}

#[test]
fn a_file_swapped_for_a_symlink_stays_what_was_looked_up() {
    let export = Export::new();
    export.file("file", "harmless");
    let file = export.root.lookup(name("file")).unwrap();
    fs::rename(export.path("file"), export.path("moved")).unwrap();
    export.symlink("../outside", "file");

    assert_eq!(contents(&file).unwrap(), b"harmless");
    file.open(lopen::WRONLY | lopen::TRUNC).unwrap();
    file.set_attributes(&change(setattr::SIZE)).unwrap();
    assert_eq!(fs::read(export.path("moved")).unwrap(), b"");
    assert_eq!(fs::read(export.outside("outside")).unwrap(), b"secret");
}

/// Exchanges two names of the export again and again while `attack` runs.
fn while_swapping(export: &Export, one: &str, other: &str, mut attack: impl FnMut()) {
    let (one, other) = (export.path(one), export.path(other));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            attack();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_directory_that_becomes_a_symlink_all_the_time_never_leads_out() {
    let export = Export::new();
    export.directory("directory");
    export.file("directory/outside", "harmless");
    export.symlink("..", "link");
    let (mut inside, mut refused) = (0, 0);
    while_swapping(&export, "directory", "link", || {
        match walk(&export.root, "directory/outside").and_then(|file| contents(&file)) {
            Ok(bytes) => {
                assert_eq!(bytes, b"harmless");
                inside += 1;
            }
            Err(error) => {
                assert_eq!(error, Errno::ENOTDIR);
                refused += 1;
            }
        }
    });
    assert!(inside > 0 && refused > 0, "no race: {inside} times inside, {refused} times refused");
}

#[test]
fn a_file_that_becomes_a_symlink_all_the_time_is_never_written_through() {
    let export = Export::new();
    export.file("file", "");
    export.symlink("../outside", "link");
    let (mut inside, mut refused) = (0, 0);
    while_swapping(&export, "file", "link", || {
        match export.root.create(name("file"), lopen::WRONLY | lopen::TRUNC, 0o644, !0) {
            Ok((_, file)) => {
                write_at(&*file, 0, "attack").unwrap();
                inside += 1;
            }
            Err(error) => {
                assert_eq!(error, Errno::ELOOP);
                refused += 1;
            }
        }
    });
    assert!(inside > 0 && refused > 0, "no race: {inside} times inside, {refused} times refused");
    assert_eq!(fs::read(export.outside("outside")).unwrap(), b"secret");
}

/// CVE-2023-2861 and CVE-2020-35517: special files were opened on the host.
#[test]
fn fifos_and_sockets_are_never_opened() {
    let export = Export::new();
    mknodat(CWD, export.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(export.path("socket")).unwrap();
    for special in ["fifo", "socket"] {
        let node = export.root.lookup(name(special)).unwrap();
        // To open a fifo on the host would wait for whoever opens its other end: forever, here.
        for flags in [lopen::RDONLY, lopen::WRONLY, lopen::RDWR | lopen::NONBLOCK, lopen::RDONLY | lopen::TRUNC] {
            assert_eq!(node.open(flags).err(), Some(Errno::ENXIO), "{special}");
            assert_eq!(export.root.create(name(special), flags, 0o644, !0).err(), Some(Errno::ENXIO), "{special}");
        }
        assert_eq!(node.set_attributes(&change(setattr::SIZE)), Err(Errno::EINVAL), "{special}");
        assert_eq!(node.lookup(name("x")).err(), Some(Errno::ENOTDIR), "{special}");
    }
}

/// CVE-2023-2861 and CVE-2020-35517, for devices.
#[test]
fn devices_are_never_opened() {
    if !is_root() {
        return skip("devices_are_never_opened", "making a device takes root");
    }
    let export = Export::new();
    // The null device, which would open without an error.
    export.root.make_node(name("null"), mode::IFCHR | 0o666, (1, 3), !0).unwrap();
    let node = export.root.lookup(name("null")).unwrap();
    assert_eq!(node.attributes(!0).unwrap().rdev, 0x103);
    assert_eq!(node.open(lopen::RDWR).err(), Some(Errno::ENXIO));
    assert_eq!(export.root.create(name("null"), lopen::WRONLY, 0o644, !0).err(), Some(Errno::ENXIO));
}

/// CVE-2017-7471: `mv bar/link .`, after which a path that was safe before leads out.
#[test]
fn a_link_that_is_moved_up_leads_nowhere() {
    let export = Export::new();
    fs::create_dir_all(export.path("bar/inner")).unwrap();
    export.symlink("../../outside", "bar/inner/link");
    export.symlink("..", "bar/up");
    let (link, up) = (walk(&export.root, "bar/inner/link").unwrap(), walk(&export.root, "bar/up").unwrap());
    let (bar, inner) = (walk(&export.root, "bar").unwrap(), walk(&export.root, "bar/inner").unwrap());
    inner.rename(name("link"), &*export.root, name("link")).unwrap();
    bar.rename(name("up"), &*export.root, name("up")).unwrap();
    for (link, now) in [(link, "link"), (up, "up")] {
        for node in [link, walk(&export.root, now).unwrap()] {
            assert_eq!(node.qid().kind, QidType::SYMLINK);
            for flags in [lopen::RDONLY, lopen::RDWR | lopen::TRUNC, lopen::DIRECTORY] {
                assert_eq!(node.open(flags).err(), Some(Errno::ELOOP));
            }
            assert_eq!(node.lookup(name("outside")).err(), Some(Errno::ENOTDIR));
            assert_eq!(node.create(name("new"), lopen::WRONLY, 0o644, !0).err(), Some(Errno::ENOTDIR));
        }
    }
    // Nor does the directory itself, where it is moved with what is below it.
    bar.rename(name("inner"), &*export.root, name("inner")).unwrap();
    let above = walk(&export.root, "inner").unwrap().parent().unwrap().unwrap();
    assert_eq!(above.qid().path, export.root.qid().path);
    assert_eq!(fs::read(export.outside("outside")).unwrap(), b"secret");
}

/// Sets a flag when it is dropped: by a failed assertion too, so that no thread goes on for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// CVE-2017-7471 as a race: a directory that is moved out of the export and back, all the time, has no way out in it.
#[test]
fn a_directory_that_is_moved_out_all_the_time_leads_nowhere_else() {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b/c")).unwrap();
    let (inside, outside) = (export.path("a/b"), export.outside("b"));
    let known: Vec<_> = ["a", "a/b", "a/b/c"].iter().map(|path| walk(&export.root, path).unwrap().qid().path).collect();
    let stop = AtomicBool::new(false);
    let (mut walked, mut missed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&inside, &outside).unwrap();
                fs::rename(&outside, &inside).unwrap();
            }
        });
        let _stopping = SetOnDrop(&stop);
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            match walk(&export.root, "a/b/c") {
                Ok(lowest) => {
                    let mut at = lowest;
                    for level in (0..3).rev() {
                        assert_eq!(at.qid().path, known[level]);
                        assert_eq!(at.lookup(name("outside")).err(), Some(Errno::ENOENT));
                        at = at.parent().unwrap().expect("three are below the root");
                    }
                    assert_eq!(at.qid().path, export.root.qid().path);
                    assert!(at.parent().unwrap().is_none());
                    walked += 1;
                }
                Err(error) => {
                    assert_eq!(error, Errno::ENOENT);
                    missed += 1;
                }
            }
        }
    });
    assert!(walked > 0, "no race: {walked} times walked, {missed} times missed");
}

/// CVE-2017-7493: a server's own files in the share, which its clients could change. Here no name is the server's.
#[test]
fn no_name_is_reserved() {
    let export = Export::new();
    for special in [".virtfs_metadata", ".virtfs_metadata_root", ".diod", "ctl", ".ninering"] {
        let (_, file) = export.root.create(name(special), lopen::RDWR | lopen::EXCL, 0o644, !0).unwrap();
        write_at(&*file, 0, "client's").unwrap();
        let attributes = export.root.lookup(name(special)).unwrap().attributes(!0).unwrap();
        assert_eq!((attributes.size, attributes.mode & 0o777), (8, 0o644), "{special}");
        export.root.unlink(name(special), false).unwrap();
    }
    assert_eq!(names(&*export.root.open(lopen::RDONLY).unwrap()), Vec::<String>::new(), "nor does it leave any");
}

/// A name of an attribute is a name, and no path to another file's.
#[test]
fn names_of_attributes_are_no_paths() {
    let export = Export::new();
    export.file("file", "");
    let file = export.root.lookup(name("file")).unwrap();
    for path in [&b"user./../../outside"[..], b"user.../x", b"../outside", b"/", b"system.data", b"user"] {
        let Ok(attribute) = XattrName::new(path) else { continue };
        match file.set_xattr(attribute, b"x", 0) {
            Ok(()) => assert_eq!(file.xattr(attribute).unwrap(), b"x"),
            Err(error) => assert!(matches!(error, Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM), "{error}"),
        }
    }
    for none in [&b""[..], b"user.nul\0x"] {
        assert!(XattrName::new(none).is_err());
    }
    assert_eq!(rustix::fs::listxattr(export.outside("outside"), &mut [0; 0]), Ok(0));
}

/// Without openat2(2), which Linux has since 5.6 and some sandboxes refuse, nothing is served: no lesser way is taken.
#[test]
fn kernels_without_openat2_are_refused() {
    for refusal in [libc::ENOSYS, libc::EPERM] {
        let refused = std::thread::spawn(move || {
            let export = tempfile::tempdir().unwrap();
            refuse_openat2(refusal);
            DirBackend::new(export.path(), DirOptions::default()).err()
        });
        let error = refused.join().unwrap().expect("it is not served");
        assert!(matches!(error, DirError::NoOpenat2 { .. }), "{error}");
        assert!(error.to_string().contains("Linux 5.6"), "{error}");
    }
}

/// Has the kernel answer this thread's calls of openat2 with an errno, for good.
fn refuse_openat2(errno: i32) {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // Load the number of the call; if it is openat2's, return the errno; else let it pass.
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, libc::SYS_openat2 as u32),
        step(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: both change this thread alone, and the program is valid while it is copied.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn what_belongs_to_another_export_is_neither_linked_nor_moved() {
    let (export, other) = (Export::new(), Export::new());
    other.file("file", "x");
    let file = other.root.lookup(name("file")).unwrap();
    assert_eq!(export.root.link(name("link"), &*file), Err(Errno::EXDEV));
    assert_eq!(other.root.rename(name("file"), &*export.root, name("file")), Err(Errno::EXDEV));
    // The same directory, but another export of it.
    let again = serve(&other.path(""), DirOptions::default());
    assert_eq!(again.link(name("link"), &*file), Err(Errno::EXDEV));
    assert_eq!(names(&*export.root.open(lopen::RDONLY).unwrap()), Vec::<String>::new());
}

#[test]
fn a_hard_link_to_a_symlink_is_one_to_the_link_itself() {
    let export = Export::new();
    export.symlink("../outside", "link");
    let link = export.root.lookup(name("link")).unwrap();
    export.root.link(name("second"), &*link).unwrap();
    let second = export.root.lookup(name("second")).unwrap();
    assert_eq!(second.qid(), Qid { version: second.qid().version, ..link.qid() });
    assert_eq!(second.read_link().unwrap(), b"../outside");
    assert_eq!(fs::metadata(export.outside("outside")).unwrap().nlink(), 1);
}

#[test]
fn an_attach_can_name_a_directory_below_but_nothing_else() {
    let export = Export::new();
    fs::create_dir_all(export.path("a/b")).unwrap();
    export.file("a/b/file", "x");
    export.symlink("a", "link");
    let backend = DirBackend::new(&export.path(""), DirOptions::default()).unwrap();
    for aname in ["a/b", "/a/b", "a//b/"] {
        let root = attach(&backend, aname).unwrap();
        assert_eq!(contents(&root.lookup(name("file")).unwrap()).unwrap(), b"x");
        assert!(root.parent().unwrap().is_none());
    }
    assert_eq!(attach(&backend, "/").unwrap().qid(), attach(&backend, "").unwrap().qid());
    assert_eq!(attach(&backend, "..").err(), Some(Errno::EINVAL));
    assert_eq!(attach(&backend, "a/../../outside").err(), Some(Errno::EINVAL));
    assert_eq!(attach(&backend, "link").err(), Some(Errno::ENOTDIR));
    assert_eq!(attach(&backend, "a/b/file").err(), Some(Errno::ENOTDIR));
    assert_eq!(attach(&backend, "missing").err(), Some(Errno::ENOENT));
}

#[test]
fn what_cannot_be_served_is_named() {
    let export = Export::new();
    export.file("file", "");
    for (path, reason) in [(export.path("missing"), "No such file"), (export.path("file"), "Not a directory")] {
        let error = DirBackend::new(&path, DirOptions::default()).err().unwrap();
        assert!(matches!(error, DirError::Open { .. }));
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains(reason), "{text}");
    }
}

#[test]
fn files_of_several_filesystems_have_different_qids() {
    let export = Export::new();
    export.directory("mount");
    let Some(_tmpfs) = Tmpfs::mount(export.path("mount"), "files_of_several_filesystems_have_different_qids") else {
        return;
    };
    let inode = |path: &str| fs::metadata(export.path(path)).unwrap().ino();
    export.file("mount/file", "mounted");
    export.file("here", "");
    let here = export.root.lookup(name("here")).unwrap();
    let mounted = walk(&export.root, "mount/file").unwrap();
    assert_eq!(here.qid().path, inode("here"), "the first filesystem's are its inode numbers");
    assert_ne!(mounted.qid().path, inode("mount/file"));
    assert_eq!(mounted.qid().path, walk(&export.root, "mount/file").unwrap().qid().path);
    assert_eq!(contents(&mounted).unwrap(), b"mounted");
    // And a listing agrees with a lookup.
    let listed = list(&*walk(&export.root, "mount").unwrap().open(lopen::RDONLY).unwrap(), 0, usize::MAX).unwrap();
    assert_eq!(listed.iter().find(|entry| entry.name == b"file").unwrap().qid.path, mounted.qid().path);

    let export_one = serve(&export.path(""), DirOptions { one_filesystem: true });
    assert_eq!(export_one.lookup(name("mount")).err(), Some(Errno::EXDEV));
    assert!(export_one.lookup(name("here")).is_ok());
}

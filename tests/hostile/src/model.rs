//! What a server must know of its clients: which fids each has, and what was written to the files in memory.

use std::collections::HashMap;

use crate::reply::{Dialect, dialect, kind, number, visited};

/// A session as its client sees it.
pub(crate) struct Session {
    pub(crate) dialect: Dialect,
    pub(crate) msize: u32,
    fids: HashMap<u32, Fid>,
}

#[derive(Clone, Copy)]
struct Fid {
    /// Its file, where its qid was told.
    path: Option<u64>,
    /// What is known of it when it is opened: it may append.
    appends: bool,
}

/// The contents of files, by their qid's path.
#[derive(Default)]
pub(crate) struct Contents(HashMap<u64, Vec<u8>>);

/// Files that grow longer than this are followed no more.
const LONGEST: u64 = 1 << 20;

impl Session {
    pub(crate) fn new() -> Self {
        Self { dialect: Dialect::None, msize: 0, fids: HashMap::new() }
    }

    /// How many fids there are.
    pub(crate) fn count(&self) -> usize {
        self.fids.len()
    }

    /// Follows what a request did. `granted` is what [`crate::reply::check`] found; `contents` is given where each file
    /// has a qid of its own for good.
    pub(crate) fn follow(&mut self, request: &[u8], reply: &[u8], granted: bool, contents: Option<&mut Contents>) {
        let asked = request[4];
        if asked == kind::TVERSION {
            // Even one that is refused ends the session, if it is one: what cannot be read changes nothing.
            if granted || request.len() >= 13 && request.len() == 13 + number::<2>(request, 11) as usize {
                self.fids.clear();
                self.dialect = if granted { dialect(reply) } else { Dialect::None };
                self.msize = if self.dialect == Dialect::None { 0 } else { number::<4>(reply, 7) as u32 };
            }
            return;
        }
        let (fid, other) = (number::<4>(request, 7) as u32, number::<4>(request, 11) as u32);
        if !granted {
            // A fid is gone after its remove, whatever came of that, and after its clunk, even where that tells an error.
            let goes = asked == kind::TREMOVE || asked == kind::TCLUNK;
            if goes && request.len() == 11 && self.dialect != Dialect::None && number::<2>(request, 5) != 0xffff {
                self.fids.remove(&fid);
            }
            return;
        }
        assert!(self.dialect != Dialect::None, "{request:?} was granted before a version");
        match asked {
            kind::TFLUSH => {}
            kind::TAUTH => panic!("nobody asks for a proof here"),
            kind::TATTACH => {
                assert_ne!(fid, u32::MAX);
                let path = Some(number::<8>(reply, 12));
                assert!(self.fids.insert(fid, Fid { path, appends: false }).is_none(), "fid {fid} was in use");
            }
            kind::TWALK => {
                let from = *self.known(fid);
                let (walked, names) = (number::<2>(reply, 7), number::<2>(request, 15));
                if walked == names {
                    assert_ne!(other, u32::MAX);
                    let path = match walked {
                        0 => from.path,
                        _ => Some(number::<8>(reply, 9 + 13 * (walked as usize - 1) + 5)),
                    };
                    let old = self.fids.insert(other, Fid { path, appends: false });
                    assert!(old.is_none() || fid == other, "fid {other} was in use");
                }
            }
            kind::TVISIT => {
                let from = *self.known(fid);
                let (walked, names) = (number::<2>(reply, 7) as usize, number::<2>(request, 15) as usize);
                let inner = &reply[9 + 13 * walked..];
                if walked == names && inner[4] != kind::RLERROR {
                    let path =
                        if walked == 0 { from.path } else { Some(number::<8>(reply, 9 + 13 * (walked - 1) + 5)) };
                    let old = self.fids.insert(other, Fid { path, appends: false });
                    assert!(old.is_none(), "fid {other} was in use");
                    self.follow(visited(request), inner, true, contents);
                    // No fid at all, but for the one request.
                    self.fids.remove(&u32::MAX);
                }
            }
            kind::TXATTRWALK => {
                self.known(fid);
                assert_ne!(other, u32::MAX);
                let old = self.fids.insert(other, Fid { path: None, appends: false });
                assert!(old.is_none(), "fid {other} was in use");
            }
            kind::TXATTRCREATE => self.known(fid).path = None,
            kind::TCLUNK | kind::TREMOVE => {
                self.known(fid);
                self.fids.remove(&fid);
            }
            kind::TLCREATE | kind::TCREATE | kind::TLOPEN | kind::TOPEN => {
                let known = self.known(fid);
                known.path = Some(number::<8>(reply, 12));
                if asked == kind::TLOPEN || asked == kind::TLCREATE {
                    let at = if asked == kind::TLOPEN { 11 } else { 13 + number::<2>(request, 11) as usize };
                    let flags = number::<4>(request, at);
                    known.appends = flags & 0o2000 != 0;
                    if let (Some(contents), Some(path)) = (contents, known.path.filter(|_| flags & 0o1000 != 0)) {
                        contents.0.insert(path, Vec::new());
                    }
                } else if let (Some(contents), Some(path)) = (contents, known.path) {
                    // What OTRUNC and DMAPPEND do is not modelled.
                    contents.forget(path);
                }
            }
            kind::TREAD => {
                let known = *self.known(fid);
                if let (Some(contents), Some(path), Dialect::Linux) = (contents, known.path, self.dialect) {
                    contents.read(path, number::<8>(request, 11), number::<4>(request, 19), self.msize, &reply[11..]);
                }
            }
            kind::TWRITE => {
                let known = *self.known(fid);
                if let (Some(contents), Some(path)) = (contents, known.path) {
                    let bytes = &request[23..][..number::<4>(reply, 7) as usize];
                    let offset = if known.appends { contents.length(path) } else { Some(number::<8>(request, 11)) };
                    contents.write(path, offset, bytes);
                }
            }
            kind::TSETATTR => {
                let known = *self.known(fid);
                if let (Some(contents), Some(path), true) = (contents, known.path, number::<4>(request, 11) & 8 != 0) {
                    contents.resize(path, number::<8>(request, 27));
                }
            }
            kind::TWSTAT => {
                let known = *self.known(fid);
                if let (Some(contents), Some(path)) = (contents, known.path) {
                    contents.forget(path);
                }
            }
            // All that there is besides begins with a fid that must be known.
            _ => _ = self.known(fid),
        }
    }

    fn known(&mut self, fid: u32) -> &mut Fid {
        self.fids.get_mut(&fid).unwrap_or_else(|| panic!("what was asked of fid {fid}, which is unknown, was granted"))
    }
}

impl Contents {
    fn forget(&mut self, path: u64) {
        // A file too long to be followed: no file that is has this many bytes.
        self.0.insert(path, vec![0; LONGEST as usize + 1]);
    }

    /// The bytes of a file, empty as long as nothing is known to have been written; none if it is not followed.
    fn followed(&mut self, path: u64) -> Option<&mut Vec<u8>> {
        let bytes = self.0.entry(path).or_default();
        (bytes.len() as u64 <= LONGEST).then_some(bytes)
    }

    fn length(&mut self, path: u64) -> Option<u64> {
        self.followed(path).map(|bytes| bytes.len() as u64)
    }

    fn resize(&mut self, path: u64, length: u64) {
        if length > LONGEST {
            self.forget(path);
        } else if let Some(bytes) = self.followed(path) {
            bytes.resize(length as usize, 0);
        } else if length == 0 {
            self.0.insert(path, Vec::new());
        }
    }

    fn write(&mut self, path: u64, offset: Option<u64>, bytes: &[u8]) {
        let Some(offset) = offset.filter(|offset| *offset <= LONGEST) else { return self.forget(path) };
        let (Some(file), false) = (self.followed(path), bytes.is_empty()) else { return };
        let start = offset as usize;
        file.resize(file.len().max(start + bytes.len()), 0);
        file[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&mut self, path: u64, offset: u64, count: u64, msize: u32, read: &[u8]) {
        let Some(file) = self.followed(path) else { return };
        let rest = file.get(offset.min(file.len() as u64) as usize..).unwrap_or_default();
        let expected = &rest[..rest.len().min(count as usize).min(msize as usize - 11)];
        assert_eq!(read, expected, "what was written to file {path} and is read at {offset}");
    }
}

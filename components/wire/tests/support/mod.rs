//! Strategies for every message, of both directions.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod legacy;

use ninering_wire::{
    Attributes, DirEntry, Far, Inner, Lock, LockStatus, LockType, Names, Qid, QidType, Qids, Rmessage, SetAttributes,
    Statfs, Str, Tmessage,
};
use proptest::{collection::vec, prelude::*};

/// Strings live as long as the program: messages borrow theirs, and a test is short.
pub(crate) fn leak(bytes: Vec<u8>) -> Str<'static> {
    Str(bytes.leak())
}

pub(crate) fn string() -> impl Strategy<Value = Str<'static>> + Clone {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40).prop_map(leak),
        1 => Just(Str(&[b'x'; 255])),
        1 => Just(Str(&[0xff; u16::MAX as usize])),
    ]
}

/// The bytes of a message within another one, of which nobody asks there what they mean.
pub(crate) fn inner() -> impl Strategy<Value = Inner<'static>> {
    vec(any::<u8>(), 3..40).prop_map(|bytes| match bytes.len() {
        3 => Inner(&[]),
        rest => Inner(leak([&(4 + rest as u32).to_le_bytes(), &bytes[..]].concat()).0),
    })
}

prop_compose! {
    pub(crate) fn qid()(kind: u8, version: u32, path: u64) -> Qid {
        Qid { kind: QidType(kind), version, path }
    }
}

pub(crate) fn names() -> impl Strategy<Value = Names<'static>> {
    vec(string(), 0..=16).prop_map(|names| Names::new(names.leak()).unwrap())
}

pub(crate) fn qids() -> impl Strategy<Value = Qids<'static>> {
    vec(qid(), 0..=16).prop_map(|qids| Qids::new(qids.leak()).unwrap())
}

/// Records live as long, too.
macro_rules! far {
    ($records:expr) => {
        $records.prop_map(|record| Far::from(&*Box::leak(Box::new(record))))
    };
}

fn lock_type() -> impl Strategy<Value = LockType> + Clone {
    prop_oneof![Just(LockType::Read), Just(LockType::Write), Just(LockType::Unlock)]
}

fn lock_status() -> impl Strategy<Value = LockStatus> {
    prop_oneof![Just(LockStatus::Success), Just(LockStatus::Blocked), Just(LockStatus::Error), Just(LockStatus::Grace)]
}

prop_compose! {
    fn lock()(kind in lock_type(), start: u64, length: u64, proc_id: u32, client_id in string()) -> Lock<'static> {
        Lock { kind, start, length, proc_id, client_id }
    }
}

prop_compose! {
    fn statfs()(
        (kind, bsize, blocks, bfree, bavail) in any::<(u32, u32, u64, u64, u64)>(),
        (files, ffree, fsid, namelen) in any::<(u64, u64, u64, u32)>(),
    ) -> Statfs {
        Statfs { kind, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen }
    }
}

prop_compose! {
    fn set_attributes()(
        (valid, mode, uid, gid, size) in any::<(u32, u32, u32, u32, u64)>(),
        (atime_sec, atime_nsec, mtime_sec, mtime_nsec) in any::<(u64, u64, u64, u64)>(),
    ) -> SetAttributes {
        SetAttributes { valid, mode, uid, gid, size, atime_sec, atime_nsec, mtime_sec, mtime_nsec }
    }
}

prop_compose! {
    fn attributes()(
        qid in qid(),
        (valid, mode, uid, gid, nlink, rdev) in any::<(u64, u32, u32, u32, u64, u64)>(),
        (size, blksize, blocks, generation, data_version) in any::<(u64, u64, u64, u64, u64)>(),
        (atime_sec, atime_nsec, mtime_sec, mtime_nsec) in any::<(u64, u64, u64, u64)>(),
        (ctime_sec, ctime_nsec, btime_sec, btime_nsec) in any::<(u64, u64, u64, u64)>(),
    ) -> Attributes {
        Attributes {
            valid, qid, mode, uid, gid, nlink, rdev, size, blksize, blocks,
            atime_sec, atime_nsec, mtime_sec, mtime_nsec, ctime_sec, ctime_nsec, btime_sec, btime_nsec,
            generation, data_version,
        }
    }
}

prop_compose! {
    pub(crate) fn dir_entry()(qid in qid(), offset: u64, kind: u8, name in string()) -> DirEntry<'static> {
        DirEntry { qid, offset, kind, name }
    }
}

/// One strategy a line: `NAME { field: strategy, … }`.
macro_rules! strategies {
    ($message:ident: $($name:ident { $($field:ident: $strategy:expr),* })*) => {
        vec![$({
            #[allow(unused_parens, reason = "it is a tuple but where the message has one field")]
            let strategy = ($($strategy),*).prop_map(|($($field),*)| $message::$name { $($field),* });
            strategy.boxed()
        },)*]
    };
}

pub(crate) use strategies;

/// Bytes of payload: not so many that `size` would overflow.
pub(crate) fn count() -> impl Strategy<Value = u32> {
    prop_oneof![0..100_u32, 0..=u32::MAX - 64]
}

/// A strategy for each request.
pub(crate) fn requests() -> Vec<BoxedStrategy<Tmessage<'static>>> {
    let (n, q, s) = (any::<u32>, any::<u64>, string);
    strategies! { Tmessage:
        Tstatfs { fid: n() }
        Tlopen { fid: n(), flags: n() }
        Tlcreate { fid: n(), name: s(), flags: n(), mode: n(), gid: n() }
        Tsymlink { fid: n(), name: s(), target: s(), gid: n() }
        Tmknod { fid: n(), name: s(), mode: n(), major: n(), minor: n(), gid: n() }
        Trename { fid: n(), dfid: n(), name: s() }
        Treadlink { fid: n() }
        Tgetattr { fid: n(), request_mask: q() }
        Tsetattr { fid: n(), attributes: far!(set_attributes()) }
        Txattrwalk { fid: n(), newfid: n(), name: s() }
        Txattrcreate { fid: n(), name: s(), size: q(), flags: n() }
        Treaddir { fid: n(), offset: q(), count: n() }
        Tfsync { fid: n(), datasync: n() }
        Tlock { fid: n(), kind: lock_type(), flags: n(), start: q(), length: q(), proc_id: n(), client_id: s() }
        Tgetlock { fid: n(), lock: lock() }
        Tlink { dfid: n(), fid: n(), name: s() }
        Tmkdir { dfid: n(), name: s(), mode: n(), gid: n() }
        Trenameat { olddirfid: n(), oldname: s(), newdirfid: n(), newname: s() }
        Tunlinkat { dirfid: n(), name: s(), flags: n() }
        Tversion { msize: n(), version: s() }
        Tauth { afid: n(), uname: s(), aname: s(), n_uname: n() }
        Tattach { fid: n(), afid: n(), uname: s(), aname: s(), n_uname: n() }
        Tflush { oldtag: any::<u16>() }
        Twalk { fid: n(), newfid: n(), names: names() }
        Tread { fid: n(), offset: q(), count: n() }
        Twrite { fid: n(), offset: q(), count: count() }
        Tclunk { fid: n() }
        Tremove { fid: n() }
        Tvisit { fid: n(), newfid: n(), names: names(), message: inner() }
    }
}

/// A message without fields.
macro_rules! bare {
    ($($name:ident)*) => { [$(Just(Rmessage::$name {}).boxed(),)*] };
}

/// A strategy for each reply.
pub(crate) fn replies() -> Vec<BoxedStrategy<Rmessage<'static>>> {
    let (n, q, s) = (any::<u32>, any::<u64>, string);
    let mut replies = strategies! { Rmessage:
        Rlerror { ecode: n() }
        Rstatfs { statfs: far!(statfs()) }
        Rlopen { qid: qid(), iounit: n() }
        Rlcreate { qid: qid(), iounit: n() }
        Rsymlink { qid: qid() }
        Rmknod { qid: qid() }
        Rreadlink { target: s() }
        Rgetattr { attributes: far!(attributes()) }
        Rxattrwalk { size: q() }
        Rreaddir { count: count() }
        Rlock { status: lock_status() }
        Rgetlock { lock: lock() }
        Rmkdir { qid: qid() }
        Rversion { msize: n(), version: s() }
        Rauth { aqid: qid() }
        Rattach { qid: qid() }
        Rwalk { qids: qids() }
        Rvisit { qids: qids(), message: inner() }
        Rread { count: count() }
        Rwrite { count: n() }
    };
    replies.extend(bare! { Rrename Rsetattr Rxattrcreate Rfsync Rlink Rrenameat Runlinkat Rflush Rclunk Rremove });
    replies
}

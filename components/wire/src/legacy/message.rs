//! The messages of 9P2000 and 9P2000.u.

use super::{
    dialect::{Dialect, UnixOnly},
    stat::{Counted, Stat},
};
use crate::{
    HEADER_LEN, Header, Message, Names, Qid, Qids, Str,
    field::{Field, Reader, WireError, Writer},
    message::messages,
};

messages! {
    /// A request.
    Tmessage in D: Dialect;
    /// Begins a session: dialect and largest message.
    100 Tversion { msize: u32, version: Str<'a> };
    /// Asks for an authentication fid.
    102 Tauth { afid: u32, uname: Str<'a>, aname: Str<'a>, n_uname: UnixOnly<u32, D> };
    /// Makes `fid` stand for the root of the export `aname`.
    104 Tattach { fid: u32, afid: u32, uname: Str<'a>, aname: Str<'a>, n_uname: UnixOnly<u32, D> };
    /// Gives up on a request.
    108 Tflush { oldtag: u16 };
    /// Makes `newfid` stand for what is reached from `fid` by the names.
    110 Twalk { fid: u32, newfid: u32, names: Names<'a> };
    /// Opens the file that `fid` stands for; `mode` is of [`open`](super::open).
    112 Topen { fid: u32, mode: u8 };
    /// Makes a file in the directory `fid`, which then stands for the new, open file.
    114 Tcreate { fid: u32, name: Str<'a>, perm: u32, mode: u8, extension: UnixOnly<Str<'a>, D> };
    /// Reads from an open file or directory.
    116 Tread { fid: u32, offset: u64, count: u32 };
    /// Writes to an open file the `count` bytes that follow.
    118 Twrite { fid: u32, offset: u64, count: u32 } + payload of count;
    /// Forgets a fid.
    120 Tclunk { fid: u32 };
    /// Removes the file and forgets the fid.
    122 Tremove { fid: u32 };
    /// Asks for attributes.
    124 Tstat { fid: u32 };
    /// Changes attributes: all but those that say "leave it" ([`super::Stat::unchanged`]).
    126 Twstat { fid: u32, stat: Counted<Stat<'a, D>> };
}

messages! {
    /// A reply.
    Rmessage in D: Dialect;
    /// To [`Tmessage::Tversion`].
    101 Rversion { msize: u32, version: Str<'a> };
    /// To [`Tmessage::Tauth`].
    103 Rauth { aqid: Qid };
    /// To [`Tmessage::Tattach`].
    105 Rattach { qid: Qid };
    /// The request failed, and why; in 9P2000.u also by an error number.
    107 Rerror { ename: Str<'a>, errno: UnixOnly<u32, D> };
    /// To [`Tmessage::Tflush`].
    109 Rflush {};
    /// To [`Tmessage::Twalk`].
    111 Rwalk { qids: Qids<'a> };
    /// To [`Tmessage::Topen`]; `iounit` 0 means that `msize` alone is the limit.
    113 Ropen { qid: Qid, iounit: u32 };
    /// To [`Tmessage::Tcreate`].
    115 Rcreate { qid: Qid, iounit: u32 };
    /// To [`Tmessage::Tread`]: the `count` bytes follow, of a directory whole [`Stat`]s.
    117 Rread { count: u32 } + payload of count;
    /// To [`Tmessage::Twrite`].
    119 Rwrite { count: u32 };
    /// To [`Tmessage::Tclunk`].
    121 Rclunk {};
    /// To [`Tmessage::Tremove`].
    123 Rremove {};
    /// To [`Tmessage::Tstat`].
    125 Rstat { stat: Counted<Stat<'a, D>> };
    /// To [`Tmessage::Twstat`].
    127 Rwstat {};
}

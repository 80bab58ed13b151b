//! Strategies for the messages of 9P2000 and 9P2000.u.

use ninering_wire::{
    Str,
    legacy::{Counted, Dialect, Rmessage, Stat, Tmessage, UnixOnly},
};
use proptest::{collection::vec, prelude::*};

use super::{count, leak, names, qid, qids, strategies, string};

/// A string of a stat, whose `size` has two bytes for all of them together.
fn short_string() -> impl Strategy<Value = Str<'static>> {
    prop_oneof![8 => vec(any::<u8>(), 0..40).prop_map(leak), 1 => Just(Str(&[b'x'; 4096]))]
}

fn unix_only<T: Copy + Default + std::fmt::Debug, D: Dialect>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = UnixOnly<T, D>> {
    value.prop_map(UnixOnly::new)
}

pub(crate) fn stat<D: Dialect>() -> impl Strategy<Value = Stat<'static, D>> {
    let numbers = any::<(u16, u32, u32, u32, u32, u64)>();
    let names = (short_string(), short_string(), short_string(), short_string(), short_string());
    let stat = (numbers, qid(), names, any::<[u32; 3]>()).prop_map(
        |((kind, dev, mode, atime, mtime, length), qid, (name, uid, gid, muid, extension), ids)| Stat {
            kind,
            dev,
            qid,
            mode,
            atime,
            mtime,
            length,
            name,
            uid,
            gid,
            muid,
            extension: UnixOnly::new(extension),
            n_uid: UnixOnly::new(ids[0]),
            n_gid: UnixOnly::new(ids[1]),
            n_muid: UnixOnly::new(ids[2]),
        },
    );
    prop_oneof![9 => stat, 1 => Just(Stat::unchanged())]
}

/// A strategy for each request.
pub(crate) fn requests<D: Dialect>() -> Vec<BoxedStrategy<Tmessage<'static, D>>> {
    let (n, q, s, b) = (any::<u32>, any::<u64>, string, any::<u8>);
    strategies! { Tmessage:
        Tversion { msize: n(), version: s() }
        Tauth { afid: n(), uname: s(), aname: s(), n_uname: unix_only(n()) }
        Tattach { fid: n(), afid: n(), uname: s(), aname: s(), n_uname: unix_only(n()) }
        Tflush { oldtag: any::<u16>() }
        Twalk { fid: n(), newfid: n(), names: names() }
        Topen { fid: n(), mode: b() }
        Tcreate { fid: n(), name: s(), perm: n(), mode: b(), extension: unix_only(s()) }
        Tread { fid: n(), offset: q(), count: n() }
        Twrite { fid: n(), offset: q(), count: count() }
        Tclunk { fid: n() }
        Tremove { fid: n() }
        Tstat { fid: n() }
        Twstat { fid: n(), stat: stat().prop_map(Counted) }
    }
}

/// A strategy for each reply.
pub(crate) fn replies<D: Dialect>() -> Vec<BoxedStrategy<Rmessage<'static, D>>> {
    let (n, s) = (any::<u32>, string);
    let mut replies = strategies! { Rmessage:
        Rversion { msize: n(), version: s() }
        Rauth { aqid: qid() }
        Rattach { qid: qid() }
        Rerror { ename: s(), errno: unix_only(n()) }
        Rwalk { qids: qids() }
        Ropen { qid: qid(), iounit: n() }
        Rcreate { qid: qid(), iounit: n() }
        Rread { count: count() }
        Rwrite { count: n() }
        Rstat { stat: stat().prop_map(Counted) }
    };
    let bare = [Rmessage::Rflush {}, Rmessage::Rclunk {}, Rmessage::Rremove {}, Rmessage::Rwstat {}];
    replies.extend(bare.map(|reply| Just(reply).boxed()));
    replies
}

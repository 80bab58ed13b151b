//! How long a reply may be, and how much it may count.

use ninering_wire::{HEADER_LEN, Message, PATH_MAX, Qid, RREAD_LEN, Tmessage};
/// The most bytes of payload in one request: whole pages, if there is room for one.
pub(super) fn payload_max(msize: u32) -> u32 {
    const PAGE: u32 = 4096;
    let room = msize - ninering_wire::IOHDRSZ; // `MIN_MSIZE` is more
    if room < PAGE { room } else { room / PAGE * PAGE }
}

/// The most that the reply to this request may count.
pub(super) fn limit(message: &Tmessage<'_>) -> u32 {
    match message {
        Tmessage::Tread { count, .. } | Tmessage::Twrite { count, .. } | Tmessage::Treaddir { count, .. } => *count,
        Tmessage::Twalk { names, .. } | Tmessage::Tvisit { names, .. } => names.len() as u32, // at most 16
        _ => 0,
    }
}

/// Bytes of the longest reply to this request, without its payload.
pub(super) fn reply_len(message: &Tmessage<'_>) -> u32 {
    const QIDS: usize = HEADER_LEN + 2;
    match message {
        Tmessage::Twalk { names, .. } => (QIDS + names.len() * Qid::LEN).max(RREAD_LEN) as u32, // of at most 16
        Tmessage::Tvisit { names, message, .. } => {
            let inner = reply_len_of(message.0.get(4).copied().unwrap_or_default());
            (QIDS + names.len() * Qid::LEN) as u32 + inner
        }
        message => reply_len_of(message.kind()),
    }
}

/// The same of the requests of a kind, but for those that carry names.
fn reply_len_of(kind: u8) -> u32 {
    const STRING: usize = 2;
    // An `Rversion` of another dialect should be understood well enough to say so.
    const VERSION: usize = 4 + STRING + 64;
    const GETATTR: usize = 8 + Qid::LEN + 3 * 4 + 15 * 8;
    // The other client's name may be longer than ours.
    const LOCK: usize = 1 + 8 + 8 + 4 + STRING + 1024;
    const STATFS: usize = 2 * 4 + 6 * 8 + 4;
    let body = match kind {
        // Tstatfs
        8 => STATFS,
        // Tlopen, Tlcreate
        12 | 14 => Qid::LEN + 4,
        // Tsymlink, Tmknod, Tmkdir, Tauth, Tattach
        16 | 18 | 72 | 102 | 104 => Qid::LEN,
        // Treadlink
        22 => STRING + PATH_MAX,
        // Tgetattr
        24 => GETATTR,
        // Txattrwalk
        30 => 8,
        // Tlock
        52 => 1,
        // Tgetlock
        54 => LOCK,
        // Tversion
        100 => VERSION,
        _ => 0,
    };
    // Any request may be answered by an `Rlerror`, which is as long as an `Rread` without its payload.
    (HEADER_LEN + body).max(RREAD_LEN) as u32 // about 4 KiB at the most
}

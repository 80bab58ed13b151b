//! The flags of `Tlopen` and `Tlcreate`, as this machine's `open(2)` takes them.

use ninering_wire::{Errno, lopen};
use rustix::fs::OFlags;

/// The flags that are passed on to the host.
///
/// Not among them: `CREATE` and `EXCL`, which are for whoever makes a file; `DIRECT`, for a reply's memory is not aligned
/// as a device wants it, and the client's own cache is passed already; `NONBLOCK`, `NOCTTY`, `NOFOLLOW` and
/// `CLOEXEC`, which are about the client's side.
///
/// # Errors
/// `EINVAL` for the access mode 3, which only `ioctl` is for.
pub(super) fn open_flags(flags: u32) -> Result<OFlags, Errno> {
    const PASSED_ON: [(u32, OFlags); 6] = [
        (lopen::TRUNC, OFlags::TRUNC),
        (lopen::APPEND, OFlags::APPEND),
        (lopen::DSYNC, OFlags::DSYNC),
        (lopen::SYNC, OFlags::SYNC),
        (lopen::NOATIME, OFlags::NOATIME),
        (lopen::DIRECTORY, OFlags::DIRECTORY),
    ];
    let access = match flags & lopen::ACCMODE {
        lopen::RDONLY => OFlags::RDONLY,
        lopen::WRONLY => OFlags::WRONLY,
        lopen::RDWR => OFlags::RDWR,
        _ => return Err(Errno::EINVAL),
    };
    let passed_on = PASSED_ON.iter().filter(|(flag, _)| flags & flag != 0);
    Ok(passed_on.fold(access, |all, &(_, flag)| all | flag))
}

/// Do `flags` ask for more than to read?
pub(super) fn would_change(flags: u32) -> bool {
    flags & lopen::ACCMODE != lopen::RDONLY || flags & lopen::TRUNC != 0
}

//! Errors, from mounts to programs.

use ninering_wire::Errno;
use wasmtime_wasi::p2::{FsError, bindings::filesystem::types::ErrorCode};

use crate::mount::Error;

/// The WASI error that stands for an errno; `io` for those that have none.
pub(super) fn error_code(errno: Errno) -> ErrorCode {
    match errno {
        Errno::EACCES => ErrorCode::Access,
        Errno::EAGAIN => ErrorCode::WouldBlock,
        Errno::EALREADY => ErrorCode::Already,
        Errno::EBADF => ErrorCode::BadDescriptor,
        Errno::EBUSY => ErrorCode::Busy,
        Errno::EDEADLK => ErrorCode::Deadlock,
        Errno::EDQUOT => ErrorCode::Quota,
        Errno::EEXIST => ErrorCode::Exist,
        Errno::EFBIG => ErrorCode::FileTooLarge,
        Errno::EILSEQ => ErrorCode::IllegalByteSequence,
        Errno::EINPROGRESS => ErrorCode::InProgress,
        Errno::EINTR => ErrorCode::Interrupted,
        Errno::EINVAL => ErrorCode::Invalid,
        Errno::EISDIR => ErrorCode::IsDirectory,
        Errno::ELOOP => ErrorCode::Loop,
        Errno::EMLINK => ErrorCode::TooManyLinks,
        Errno::ENAMETOOLONG => ErrorCode::NameTooLong,
        Errno::ENODEV => ErrorCode::NoDevice,
        Errno::ENOENT => ErrorCode::NoEntry,
        Errno::ENOLCK => ErrorCode::NoLock,
        Errno::ENOMEM | Errno::ENOBUFS | Errno::ENFILE | Errno::EMFILE => ErrorCode::InsufficientMemory,
        Errno::ENOSPC => ErrorCode::InsufficientSpace,
        Errno::ENOSYS | Errno::EOPNOTSUPP => ErrorCode::Unsupported,
        Errno::ENOTDIR => ErrorCode::NotDirectory,
        Errno::ENOTEMPTY => ErrorCode::NotEmpty,
        Errno::ENOTTY => ErrorCode::NoTty,
        Errno::ENXIO => ErrorCode::NoSuchDevice,
        Errno::EOVERFLOW => ErrorCode::Overflow,
        Errno::EPERM => ErrorCode::NotPermitted,
        Errno::EPIPE => ErrorCode::Pipe,
        Errno::EROFS => ErrorCode::ReadOnly,
        Errno::ESPIPE => ErrorCode::InvalidSeek,
        Errno::ETXTBSY => ErrorCode::TextFileBusy,
        Errno::EXDEV => ErrorCode::CrossDevice,
        _ => ErrorCode::Io,
    }
}

/// What a program is told of a failure on a mount. The errno is all it learns; why a mount broke is for the log.
pub(super) fn fs_error(error: Error) -> FsError {
    if let Error::Broken(reason) = &error {
        tracing::warn!(%reason, "a program's filesystem operation failed: the mount is broken");
    }
    error_code(error.errno()).into()
}

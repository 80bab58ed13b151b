//! Descriptors that this process was started with.

use std::{
    fs::OpenOptions,
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use parking_lot::Mutex;
use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    stdio::{dup2_stdin, dup2_stdout},
};

/// Takes the descriptor `number`, above 2, that this process was started with, for good.
///
/// # Errors
/// `EBADF` where there is none of this number, where it was opened by this process itself, and where it was taken.
pub(super) fn take(number: RawFd) -> io::Result<OwnedFd> {
    static TAKING: Mutex<()> = Mutex::new(());
    let _alone = TAKING.lock();
    let unknown = || io::Error::from(rustix::io::Errno::BADF);
    if number <= 2 {
        return Err(unknown());
    }
    // SAFETY: it is not -1, and used for system calls alone, which say so if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // What a process is started with does not have the flag, since it would have been closed. What Rust code opens does,
    // and what was taken here gets it.
    if fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC) {
        return Err(unknown());
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, was not opened by this process, and is given out once: so nobody owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes standard input and output, and leaves `/dev/null` in their places: nobody else reads a request, and nothing
/// that is printed gets between replies.
///
/// # Errors
/// Those of the system calls.
pub(super) fn take_standard() -> io::Result<(OwnedFd, OwnedFd)> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok((input, output))
}

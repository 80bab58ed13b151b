//! Error numbers. `io::ErrorKind` does not do: std on WASI gives most of them no kind.

/// wasi-libc's numbers, which are those of WASI preview 1.
#[cfg(target_os = "wasi")]
mod numbers {
    pub(crate) const EBADF: i32 = 8;
    pub(crate) const EEXIST: i32 = 20;
    pub(crate) const EINVAL: i32 = 28;
    pub(crate) const EISDIR: i32 = 31;
    pub(crate) const ELOOP: i32 = 32;
    pub(crate) const ENAMETOOLONG: i32 = 37;
    pub(crate) const ENOENT: i32 = 44;
    pub(crate) const ENOTDIR: i32 = 54;
    pub(crate) const ENOTEMPTY: i32 = 55;
    pub(crate) const EPERM: i32 = 63;
}

/// Linux's numbers.
#[cfg(not(target_os = "wasi"))]
mod numbers {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EBADF: i32 = 9;
    pub(crate) const EEXIST: i32 = 17;
    pub(crate) const ENOTDIR: i32 = 20;
    pub(crate) const EISDIR: i32 = 21;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENAMETOOLONG: i32 = 36;
    pub(crate) const ENOTEMPTY: i32 = 39;
    pub(crate) const ELOOP: i32 = 40;
}

pub(crate) use numbers::*;

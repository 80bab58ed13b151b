//! As whom the calling thread reaches the host's files.
//!
//! Linux keeps user, group and capabilities per thread; it is only the C library that makes all threads of a process
//! change them together. The system calls are made past it here, so that each request of a server that runs as root
//! can be done with the rights of the user who attached, while another thread does one of somebody else.
//!
//! A [`Turn`] is a time in which a thread answers requests. Within it, [`assume`] makes the thread somebody, which
//! costs nothing if it is that already. When the outermost turn ends, by a panic too, the thread is the process again,
//! as it was lent.
//!
//! The *effective* user and group are changed, which take the ones that filesystems look at with them. `setfsuid(2)`
//! would be no cheaper, cannot report a failure, and leaves capabilities effective that reach further than a user's
//! rights (`CAP_SYS_ADMIN` for `trusted.*` attributes, `CAP_SETFCAP` for `security.capability`); when the effective
//! user ceases to be 0, the kernel takes them all. Real and saved user stay 0, so that the way back is open, and no
//! user of the machine may signal or trace the process.

use std::{
    cell::{Cell, RefCell},
    io,
    marker::PhantomData,
    sync::{Arc, OnceLock},
};

use ninering_wire::Errno;
use rustix::{
    fs::{Gid, Uid},
    process::{getegid, geteuid, getgroups},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use crate::backend::{Credentials, Overrides};

/// Why a process cannot act as its users.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It is not root.
    #[error("only root can act as other users")]
    NotRoot,
    /// A system call is refused, for want of a capability or in a user namespace that knows one user.
    #[error("this process runs as root but cannot act as other users: {0}")]
    Refused(#[source] io::Error),
    /// A user keeps root's capabilities (`SECBIT_NO_SETUID_FIXUP`).
    #[error(
        "this process runs as root but other users would keep its capabilities: the securebit NO_SETUID_FIXUP is set"
    )]
    KeepsCapabilities,
}

/// What the process itself is.
struct Process {
    gid: Gid,
    groups: Vec<Gid>,
    capabilities: CapabilitySets,
}

static PROCESS: OnceLock<Process> = OnceLock::new();

/// Checks that this process can act as its users, by doing so on a thread of its own. To be asked before anything is
/// served to users: until it has said so, [`assume`] refuses.
///
/// # Errors
/// Why it cannot.
pub(super) fn prepare() -> Result<(), SwitchError> {
    /// Who has no rights on any Linux.
    const NOBODY: u32 = 65534;
    if !geteuid().is_root() {
        return Err(SwitchError::NotRoot);
    }
    let refused = |error: rustix::io::Errno| SwitchError::Refused(error.into());
    let process = Process {
        gid: getegid(),
        groups: getgroups().map_err(refused)?,
        capabilities: capabilities(None).map_err(refused)?,
    };
    let probe = || -> Result<(), SwitchError> {
        let nobody = Credentials { uid: NOBODY, gid: NOBODY, groups: vec![NOBODY], overrides: Overrides::Nothing };
        become_user(&process, &nobody).map_err(refused)?;
        let left = capabilities(None).map_err(refused)?.effective;
        become_process(&process).map_err(refused)?;
        if left == CapabilitySet::empty() { Ok(()) } else { Err(SwitchError::KeepsCapabilities) }
    };
    let probed = std::thread::scope(|scope| scope.spawn(probe).join());
    probed.unwrap_or_else(|_| Err(SwitchError::Refused(io::Error::other("the probing thread failed"))))?;
    // If it is there already, it says the same.
    let _ = PROCESS.set(process);
    Ok(())
}

/// Who the thread is now.
enum Now {
    Process,
    User(Arc<Credentials>),
    /// Not known: the thread is new, and may have been started by one that was a user, or a change has failed on its
    /// way. Nothing is done by it until one succeeds.
    Unknown,
}

thread_local! {
    static NOW: RefCell<Now> = const { RefCell::new(Now::Unknown) };
    /// Is it the process? What [`NOW`] says, cheaper to ask.
    static IS_PROCESS: Cell<bool> = const { Cell::new(false) };
    /// How many turns have begun and not ended.
    static TURNS: Cell<u32> = const { Cell::new(0) };
}

/// A time in which the thread answers requests, and may be somebody else. Turns nest; the end of the outermost makes
/// the thread the process again. Who answers several requests on one thread does so in one turn, and those of one user
/// then switch once.
#[must_use = "the turn ends when this is dropped"]
pub struct Turn {
    /// It is the thread's own.
    _of_this_thread: PhantomData<*const ()>,
}

impl Turn {
    /// Begins one.
    pub fn begin() -> Self {
        TURNS.set(TURNS.get() + 1);
        Self { _of_this_thread: PhantomData }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let left = TURNS.get() - 1;
        TURNS.set(left);
        if left == 0
            && let Err(error) = assume(None)
        {
            // Whoever uses the thread for requests tries again, and other work has fewer rights.
            tracing::error!(%error, "a thread that acted as a user cannot be the process again");
        }
    }
}

/// Makes this thread `user`, or the process itself, for the rest of the [`Turn`] or until the next call.
///
/// # Errors
/// `EPERM` where the kernel refuses it, `EIO` outside a turn or before [`prepare`] has succeeded. The request must not
/// be done then.
#[inline]
pub(super) fn assume(user: Option<&Arc<Credentials>>) -> Result<(), Errno> {
    if user.is_none() && IS_PROCESS.get() { Ok(()) } else { change(user) }
}

fn change(user: Option<&Arc<Credentials>>) -> Result<(), Errno> {
    NOW.with_borrow_mut(|now| {
        match (&*now, user) {
            (Now::Process, None) => return Ok(()),
            (Now::User(is), Some(user)) if Arc::ptr_eq(is, user) || is == user => return Ok(()),
            _ => {}
        }
        if user.is_some() && TURNS.get() == 0 {
            return Err(Errno::EIO);
        }
        let process = match (PROCESS.get(), user) {
            (Some(process), _) => process,
            // Nobody here is ever anything else.
            (None, None) => {
                *now = Now::Process;
                IS_PROCESS.set(true);
                return Ok(());
            }
            (None, Some(_)) => return Err(Errno::EIO),
        };
        let failed = |error: rustix::io::Errno| {
            tracing::error!(error = %io::Error::from(error), ?user, "cannot change whom a thread acts as");
            Errno::EPERM
        };
        // From one user to the next the way leads over the process: only that may.
        let is_process = matches!(now, Now::Process);
        *now = Now::Unknown;
        IS_PROCESS.set(false);
        if !is_process {
            become_process(process).map_err(failed)?;
        }
        if let Some(user) = user {
            become_user(process, user).map_err(failed)?;
            *now = Now::User(Arc::clone(user));
        } else {
            *now = Now::Process;
            IS_PROCESS.set(true);
        }
        Ok(())
    })
}

/// From the process to a user: groups first, for the user may not change them.
fn become_user(process: &Process, user: &Credentials) -> rustix::io::Result<()> {
    // !0 would mean to leave what is, which is root.
    if user.uid == !0 || user.gid == !0 || user.groups.contains(&!0) {
        return Err(rustix::io::Errno::INVAL);
    }
    let groups: Vec<_> = user.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    if groups != process.groups {
        set_thread_groups(&groups)?;
    }
    set_thread_res_gid(None, Gid::from_raw(user.gid), None)?;
    set_thread_res_uid(None, Uid::from_raw(user.uid), None)?;
    if user.overrides != Overrides::Nothing {
        let effective = capabilities_for(user.overrides) & process.capabilities.permitted;
        set_capabilities(None, CapabilitySets { effective, ..process.capabilities })?;
    }
    Ok(())
}

/// The capabilities by which Linux lets somebody do so.
fn capabilities_for(overrides: Overrides) -> CapabilitySet {
    let permissions =
        CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER;
    match overrides {
        Overrides::Nothing => CapabilitySet::empty(),
        Overrides::Permissions => permissions | CapabilitySet::FSETID,
        Overrides::PermissionsNotSetIds => permissions,
    }
}

/// Back to the process, from wherever: the user first, who gives the capabilities back.
fn become_process(process: &Process) -> rustix::io::Result<()> {
    set_thread_res_uid(None, Uid::ROOT, None)?;
    set_thread_res_gid(None, process.gid, None)?;
    set_thread_groups(&process.groups)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn user(uid: u32) -> Arc<Credentials> {
        Arc::new(Credentials { uid, gid: uid + 1, groups: vec![uid + 2, uid + 3], overrides: Overrides::Nothing })
    }

    /// Real, effective, saved and filesystem user and group, groups, effective capabilities, as the kernel tells.
    fn status() -> Vec<String> {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let told = |line: &&str| ["Uid:", "Gid:", "Groups:", "CapEff:"].iter().any(|key| line.starts_with(key));
        status.lines().filter(told).map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect()
    }

    fn expected(uid: u32) -> Vec<String> {
        let (gid, groups) = (uid + 1, [uid + 2, uid + 3]);
        vec![
            format!("0 {uid} 0 {uid}"),
            format!("0 {gid} 0 {gid}"),
            format!("{} {}", groups[0], groups[1]),
            "0".repeat(16),
        ]
    }

    fn can_switch() -> bool {
        let prepared = prepare();
        if let Err(reason) = &prepared {
            use io::Write;
            let _ = writeln!(io::stderr(), "SKIPPED: a test of identities: {reason}");
        }
        prepared.is_ok()
    }

    #[test]
    fn a_thread_is_the_user_until_its_turn_ends() {
        if !can_switch() {
            return;
        }
        let process = status();
        let turn = Turn::begin();
        assume(Some(&user(1000))).unwrap();
        assert_eq!(status(), expected(1000));
        assume(Some(&user(2000))).unwrap();
        assert_eq!(status(), expected(2000));
        drop(Turn::begin());
        assert_eq!(status(), expected(2000), "an inner turn ends nothing");
        let started_by_a_user = std::thread::spawn(|| {
            let inherited = status();
            drop(Turn::begin());
            (inherited, status())
        });
        assert_eq!(started_by_a_user.join().unwrap(), (expected(2000), process.clone()));
        assume(None).unwrap();
        assert_eq!(status(), process);
        assume(Some(&user(1000))).unwrap();
        drop(turn);
        assert_eq!(status(), process);
    }

    #[test]
    fn other_threads_stay_what_they_are() {
        if !can_switch() {
            return;
        }
        let process = status();
        let (ask, asked) = std::sync::mpsc::channel();
        let (answer, answered) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || asked.iter().for_each(|()| answer.send(status()).unwrap()));
        let _turn = Turn::begin();
        assume(Some(&user(1000))).unwrap();
        ask.send(()).unwrap();
        assert_eq!(answered.recv().unwrap(), process);
        drop(ask);
        other.join().unwrap();
    }

    #[test]
    fn a_panic_ends_a_turn() {
        if !can_switch() {
            return;
        }
        let process = status();
        let panicked = std::panic::catch_unwind(|| {
            let _turn = Turn::begin();
            assume(Some(&user(1000))).unwrap();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        assert_eq!(status(), process);
    }

    #[test]
    fn nobody_acts_as_root_by_mistake() {
        if !can_switch() {
            return;
        }
        let process = status();
        assert_eq!(assume(Some(&user(1000))), Err(Errno::EIO), "outside a turn");
        let turn = Turn::begin();
        for (uid, gid, groups) in [(!0, 1, vec![]), (1, !0, vec![]), (1, 1, vec![!0]), (1, 1, vec![1; 70_000])] {
            let nobody = Credentials { uid, gid, groups, overrides: Overrides::Nothing };
            assert_eq!(assume(Some(&Arc::new(nobody))), Err(Errno::EPERM));
        }
        assume(Some(&user(1000))).unwrap();
        assert_eq!(status(), expected(1000), "and it can be somebody after that");
        drop(turn);
        assert_eq!(status(), process);
    }

    #[test]
    fn overrides_are_capabilities_over_files_alone() {
        if !can_switch() {
            return;
        }
        // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER are 0 to 3, FSETID is 4.
        for (overrides, effective) in [(Overrides::Permissions, 0x1f), (Overrides::PermissionsNotSetIds, 0xf)] {
            let process = status();
            let turn = Turn::begin();
            assume(Some(&Arc::new(Credentials { overrides, ..(*user(1000)).clone() }))).unwrap();
            let mut expected = expected(1000);
            expected[3] = format!("{effective:016x}");
            assert_eq!(status(), expected);
            assume(Some(&user(1000))).unwrap();
            assert_eq!(status()[3], "0".repeat(16));
            drop(turn);
            assert_eq!(status(), process);
        }
    }

    #[test]
    fn threads_in_numbers_are_never_somebody_else() {
        if !can_switch() {
            return;
        }
        let process = status();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let process = &process;
                scope.spawn(move || {
                    for round in 0..300 {
                        let turn = Turn::begin();
                        let uid = 1000 + 10 * ((thread * 7 + round) % 5);
                        assume(Some(&user(uid))).unwrap();
                        assert_eq!(status(), expected(uid));
                        drop(turn);
                        assert_eq!(&status(), process);
                    }
                });
            }
        });
    }
}

//! The locks that are held, so that they can be taken again at another connection.
//!
//! As with `fcntl(2)`, they belong to a process and a file: what a process changes through one fid replaces what it
//! held there through others. A fid that is gone takes those with it that were taken through it.

use std::collections::HashMap;

use ninering_wire::LockType;

/// So many ranges of a file are known.
const MOST: usize = 1024;

/// Who holds locks: what `Tlock` says of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) client_id: Vec<u8>,
    pub(super) proc_id: u32,
}

/// A range that is locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    fid: u32,
    pub(super) owner: Owner,
    pub(super) kind: LockType,
    pub(super) start: u64,
    /// `u64::MAX` where it has none.
    end: u64,
}

impl Held {
    /// A range that is `length` bytes long; with 0, all from `start` on.
    pub(super) fn new(fid: u32, owner: Owner, kind: LockType, start: u64, length: u64) -> Self {
        let end = if length == 0 { u64::MAX } else { start.saturating_add(length) };
        Self { fid, owner, kind, start, end }
    }

    /// As `Tlock` has it.
    pub(super) fn length(&self) -> u64 {
        if self.end == u64::MAX { 0 } else { self.end - self.start }
    }
}

/// All locks, by the number of the file.
#[derive(Default)]
pub(super) struct Locks(HashMap<u64, Vec<Held>>);

/// There are more ranges than are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Locks {
    /// A range was locked, or unlocked.
    ///
    /// # Errors
    /// [`TooMany`] where it cannot be remembered that it was locked.
    pub(super) fn change(&mut self, file: u64, change: Held) -> Result<(), TooMany> {
        let all = self.0.entry(file).or_default();
        let mut pieces = Vec::new();
        all.retain_mut(|held| {
            if held.owner != change.owner || held.end <= change.start || change.end <= held.start {
                return true;
            }
            if held.end > change.end {
                pieces.push(Held { start: change.end, ..held.clone() });
            }
            held.end = change.start;
            held.start < held.end
        });
        if change.kind != LockType::Unlock {
            pieces.push(change);
        }
        let fits = all.len() + pieces.len() <= MOST;
        if fits {
            all.append(&mut pieces);
        }
        if all.is_empty() {
            self.0.remove(&file);
        }
        if fits { Ok(()) } else { Err(TooMany) }
    }

    /// What was locked through a fid.
    pub(super) fn held_by(&self, file: u64, fid: u32) -> Vec<Held> {
        self.0.get(&file).into_iter().flatten().filter(|held| held.fid == fid).cloned().collect()
    }

    /// The same is not locked any more.
    pub(super) fn forget(&mut self, file: u64, fid: u32) {
        if let Some(all) = self.0.get_mut(&file) {
            all.retain(|held| held.fid != fid);
            if all.is_empty() {
                self.0.remove(&file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn owner(proc_id: u32) -> Owner {
        Owner { client_id: b"client".to_vec(), proc_id }
    }

    proptest! {
        /// Equal to a note at each byte of who locks it how, by which fid.
        #[test]
        fn locks_are_those_of_each_byte(
            changes in prop::collection::vec((0..3_u32, 0..2_u32, 0..3_u8, 0..20_u64, 0..12_u64), 0..60),
            gone in 0..3_u32,
        ) {
            const BYTES: u64 = 40;
            let (mut locks, mut model) = (Locks::default(), HashMap::new());
            for (fid, proc_id, kind, start, length) in changes {
                let kind = [LockType::Read, LockType::Write, LockType::Unlock][usize::from(kind)];
                prop_assert_eq!(locks.change(7, Held::new(fid, owner(proc_id), kind, start, length)), Ok(()));
                for byte in start..if length == 0 { BYTES } else { start + length } {
                    match kind {
                        LockType::Unlock => model.remove(&(proc_id, byte)),
                        kind => model.insert((proc_id, byte), (fid, kind)),
                    };
                }
            }
            locks.forget(7, gone);
            model.retain(|_, (fid, _)| *fid != gone);
            let mut found = HashMap::new();
            for fid in 0..3 {
                for held in locks.held_by(7, fid) {
                    let end = if held.length() == 0 { BYTES } else { held.start + held.length() };
                    for byte in held.start..end {
                        prop_assert_eq!(found.insert((held.owner.proc_id, byte), (fid, held.kind)), None);
                    }
                }
            }
            prop_assert_eq!(found, model.clone());
            prop_assert_eq!(locks.0.is_empty(), model.is_empty());
        }
    }

    #[test]
    fn more_ranges_than_are_known_are_said_to_be_so() {
        let mut locks = Locks::default();
        for place in 0..MOST as u64 {
            assert_eq!(locks.change(1, Held::new(2, owner(3), LockType::Write, 2 * place, 1)), Ok(()));
        }
        let one_more = Held::new(2, owner(3), LockType::Write, u64::MAX / 2, 1);
        assert_eq!(locks.change(1, one_more), Err(TooMany));
        assert_eq!(locks.change(1, Held::new(2, owner(3), LockType::Unlock, 0, 0)), Ok(()));
        assert!(locks.held_by(1, 2).is_empty());
    }
}

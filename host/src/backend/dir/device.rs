//! One numbering for the inodes of several devices.

use std::collections::HashMap;

use parking_lot::RwLock;

/// How many low bits of an inode number are always kept.
const KEPT_BITS: u32 = 48;

/// Numbers files so that no two have the same number: those on the first device by their inode numbers, the
/// others by theirs with the upper 16 bits exchanged.
///
/// (Linux numbers inodes per device; a client of 9P sees one device, and takes two files with one number for one.)
pub(super) struct Devices {
    first: u64,
    table: RwLock<Table>,
}

/// Which upper bits stand for which device and upper bits of an inode number.
#[derive(Default)]
struct Table {
    assigned: HashMap<(u64, u16), u16>,
    /// The inverse; the first device's zero has no entry in either, and is taken all the same.
    taken: HashMap<u16, (u64, u16)>,
    /// The last upper bits that were given to another than their owner: nothing up to there is free.
    last: u16,
}

impl Devices {
    /// A numbering that leaves the inode numbers of the device `first` as they are.
    pub(super) fn new(first: u64) -> Self {
        Self { first, table: RwLock::default() }
    }

    /// The number of the file `inode` on `device`; `None` when there are no upper bits left to give away.
    pub(super) fn path(&self, device: u64, inode: u64) -> Option<u64> {
        let upper = (inode >> KEPT_BITS) as u16;
        if device == self.first && upper == 0 {
            return Some(inode);
        }
        let key = (device, upper);
        let known = self.table.read().assigned.get(&key).copied();
        let assigned = match known {
            Some(assigned) => assigned,
            None => self.table.write().assign(key, device == self.first)?,
        };
        Some(u64::from(assigned) << KEPT_BITS | inode & ((1 << KEPT_BITS) - 1))
    }
}

impl Table {
    /// Gives `key` upper bits that nothing has: its own if it is `first`'s and they are free, else the least.
    fn assign(&mut self, key: (u64, u16), first: bool) -> Option<u16> {
        // Another thread may have been faster.
        if let Some(&assigned) = self.assigned.get(&key) {
            return Some(assigned);
        }
        let own = Some(key.1).filter(|upper| first && !self.taken.contains_key(upper));
        let assigned = match own {
            Some(own) => own,
            None => {
                self.last = (self.last.checked_add(1)?..=u16::MAX).find(|upper| !self.taken.contains_key(upper))?;
                self.last
            }
        };
        self.assigned.insert(key, assigned);
        self.taken.insert(assigned, key);
        Some(assigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_device_keeps_its_inode_numbers() {
        let devices = Devices::new(7);
        for inode in [0, 1, 42, (1 << 48) - 1, 1 << 48, u64::MAX] {
            assert_eq!(devices.path(7, inode), Some(inode));
        }
    }

    #[test]
    fn no_two_files_have_the_same_number() {
        let devices = Devices::new(7);
        let mut seen = HashMap::new();
        for round in 0..2 {
            for device in [9, 7, 8, 1 << 40] {
                for inode in [1, 2, 1 << 48, 1 << 48 | 1, 2 << 48 | 1, 3 << 48 | 1, u64::MAX] {
                    let path = devices.path(device, inode).unwrap();
                    let owner = *seen.entry(path).or_insert((device, inode));
                    assert_eq!(owner, (device, inode), "{path:#x} in round {round}");
                }
            }
        }
        assert_eq!(seen.len(), 28);
    }

    #[test]
    fn numbers_are_refused_rather_than_given_twice() {
        let devices = Devices::new(0);
        for device in 1..=u64::from(u16::MAX) {
            assert!(devices.path(device, 1).is_some());
        }
        assert_eq!(devices.path(1 << 20, 1), None);
        assert_eq!(devices.path(1, 5), Some(1 << 48 | 5), "what was given stays");
        assert_eq!(devices.path(0, 5), Some(5));
    }
}

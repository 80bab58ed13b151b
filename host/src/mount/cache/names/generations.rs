//! A table that forgets what was not used for long.

use std::{collections::HashMap, hash::Hash};

use super::MOST;

/// A table of bounded size. What was used since it was last half full stays; the rest goes at once when it is full.
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Hash + Eq, V> Generations<K, V> {
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        if !self.young.contains_key(key)
            && let Some((key, value)) = self.old.remove_entry(key)
        {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut table = Generations::default();
        for key in 0..10 * MOST {
            table.insert(key, key);
            assert_eq!(table.get(&0), Some(&0), "used all the time");
            assert!(table.young.len() + table.old.len() <= 2 * MOST);
        }
        assert_eq!(table.get(&1), None);
        table.remove(&0);
        assert_eq!(table.get(&0), None);
    }
}

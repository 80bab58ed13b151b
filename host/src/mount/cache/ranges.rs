//! Sets of bytes: which of a folio are valid, which are dirty.

use std::ops::Range;

use smallvec::SmallVec;

/// A set of numbers, as ranges: sorted, none empty, no two that touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(SmallVec<[Range<u32>; 1]>);

impl Ranges {
    /// Adds all of `range`.
    pub(super) fn insert(&mut self, mut range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end < range.start);
        let last = self.0.partition_point(|other| other.start <= range.end);
        if let Some(touched) = self.0.get(first..last).filter(|touched| !touched.is_empty()) {
            range.start = range.start.min(touched[0].start);
            range.end = range.end.max(touched[touched.len() - 1].end);
        }
        self.0.drain(first..last);
        self.0.insert(first, range);
    }

    /// Takes all of `range` away.
    pub(super) fn remove(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end <= range.start);
        let last = self.0.partition_point(|other| other.start < range.end);
        let Some(touched) = self.0.get(first..last).filter(|touched| !touched.is_empty()) else { return };
        let (before, behind) = (touched[0].start..range.start, range.end..touched[touched.len() - 1].end);
        self.0.drain(first..last);
        for left in [behind, before] {
            if left.start < left.end {
                self.0.insert(first, left);
            }
        }
    }

    /// The end of the run that `at` is in; `at` where it is in none.
    pub(super) fn run_end(&self, at: u32) -> u32 {
        let index = self.0.partition_point(|range| range.end <= at);
        self.0.get(index).filter(|range| range.start <= at).map_or(at, |range| range.end)
    }

    /// The start of the first run at or behind `at`.
    pub(super) fn next_start(&self, at: u32) -> Option<u32> {
        let index = self.0.partition_point(|range| range.end <= at);
        self.0.get(index).map(|range| range.start.max(at))
    }

    /// The runs within `range` that are not in the set.
    pub(super) fn gaps(&self, range: Range<u32>) -> SmallVec<[Range<u32>; 2]> {
        let mut gaps = SmallVec::new();
        let mut at = range.start;
        while at < range.end {
            at = self.run_end(at);
            let end = self.next_start(at).unwrap_or(range.end).min(range.end);
            if at < end {
                gaps.push(at..end);
            }
            at = end;
        }
        gaps
    }

    /// The end of the last run; 0 where there is none.
    pub(super) fn end(&self) -> u32 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// How many runs there are.
    pub(super) fn runs(&self) -> usize {
        self.0.len()
    }

    /// Are there none?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The runs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Equal to a set of numbers, whatever is added and taken away.
        #[test]
        fn ranges_are_sets(operations in prop::collection::vec((any::<bool>(), 0..64_u32, 0..20_u32), 0..60)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (adds, start, length) in operations {
                let range = start..start + length;
                if adds {
                    ranges.insert(range.clone());
                    model.extend(range);
                } else {
                    ranges.remove(range.clone());
                    model.retain(|number| !range.contains(number));
                }
                prop_assert_eq!(ranges.iter().flatten().collect::<BTreeSet<_>>(), model.clone());
                let apart = ranges.0.windows(2).all(|pair| pair[0].end < pair[1].start);
                prop_assert!(apart && ranges.iter().all(|range| !range.is_empty()), "{:?}", ranges);
                let gaps: BTreeSet<u32> = ranges.gaps(10..70).into_iter().flatten().collect();
                prop_assert_eq!(gaps, (10..70).filter(|number| !model.contains(number)).collect());
                prop_assert_eq!(ranges.count() as usize, model.len());
                prop_assert_eq!(ranges.end(), model.last().map_or(0, |last| last + 1));
                for at in 0..70 {
                    let end = (at..).find(|number| !model.contains(number)).expect("an end");
                    prop_assert_eq!(ranges.run_end(at), end);
                    prop_assert_eq!(ranges.next_start(at), model.range(at..).next().copied());
                }
            }
        }
    }
}

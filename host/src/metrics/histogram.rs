//! How durations are sorted: log-linear buckets, two to each power of two.
//!
//! A quantile that is read off them is wrong by a quarter at the most, and they are few enough to be exported as they
//! are.

use std::time::Duration;

/// The exponent of two up to which nanoseconds fall into the first bucket: 1.024 µs.
const FIRST: u32 = 10;
/// The exponent of two of the last finite bound: 68.7 s.
const LAST: u32 = 36;

/// How many buckets there are; the last has no upper bound.
pub const BUCKETS: usize = 2 * (LAST - FIRST) as usize + 2;

/// Which bucket a duration belongs to.
pub(super) fn bucket_of(nanoseconds: u64) -> usize {
    // A bound belongs to the bucket below it.
    let below = nanoseconds.saturating_sub(1);
    if below < 1 << FIRST {
        return 0;
    }
    let exponent = below.ilog2();
    let upper_half = (below >> (exponent - 1)) & 1;
    (1 + 2 * (exponent - FIRST) as usize + upper_half as usize).min(BUCKETS - 1)
}

/// The longest duration that belongs to a bucket; none for the last one.
pub fn upper_bound(bucket: usize) -> Option<Duration> {
    if bucket >= BUCKETS - 1 {
        return None;
    }
    let nanoseconds = match bucket.checked_sub(1) {
        None => 1 << FIRST,
        Some(above) => {
            let start = 1_u64 << (FIRST as usize + above / 2);
            start + start / 2 * (above as u64 % 2 + 1)
        }
    };
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_in_the_bucket_whose_bounds_are_around_it() {
        for exponent in 0..64 {
            for nanoseconds in [-1, 0, 1].map(|change| (1_u64 << exponent).wrapping_add_signed(change)) {
                for nanoseconds in [nanoseconds, nanoseconds.saturating_add(nanoseconds / 2)] {
                    let bucket = bucket_of(nanoseconds);
                    let duration = Duration::from_nanos(nanoseconds);
                    assert!(upper_bound(bucket).is_none_or(|bound| duration <= bound), "{nanoseconds}");
                    let lower = bucket.checked_sub(1).and_then(upper_bound);
                    assert!(lower.is_none_or(|bound| duration > bound), "{nanoseconds}");
                }
            }
        }
    }

    #[test]
    fn bounds_rise_by_half_at_the_most() {
        let bounds: Vec<_> = (0..BUCKETS - 1).map(|bucket| upper_bound(bucket).expect("a bound")).collect();
        assert_eq!(bounds[0], Duration::from_nanos(1024));
        assert_eq!(bounds.last(), Some(&Duration::from_nanos(1 << 36)));
        for pair in bounds.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] <= pair[0].mul_f64(1.5), "{pair:?}");
        }
        assert_eq!(upper_bound(BUCKETS - 1), None);
    }
}

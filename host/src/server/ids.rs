//! How a client's numbers of users and groups stand for this machine's.

use std::str::FromStr;

/// Numbers that stand for each other one to one, in ranges; without a range, each stands for itself.
///
/// With ranges, a number outside them stands for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    ranges: Vec<IdRange>,
}

/// `count` numbers from `client` on, which stand for as many from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first of the client's.
    pub client: u32,
    /// The first of this machine's.
    pub host: u32,
    /// How many.
    pub count: u32,
}

/// What is wrong with ranges of numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdMapError {
    /// The text is no range.
    #[error("'{0}' is no range of numbers: write CLIENT:HOST:COUNT, as in 1000:5000:1")]
    Syntax(String),
    /// It is empty, or goes past the largest number that a user can have.
    #[error("'{0}' holds no number, or numbers past 4294967294")]
    Bounds(String),
    /// Two ranges have a number in common.
    #[error("'{0}' has numbers in common with another range")]
    Overlap(String),
}

impl std::fmt::Display for IdRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { client, host, count } = self;
        write!(formatter, "{client}:{host}:{count}")
    }
}

impl FromStr for IdRange {
    type Err = IdMapError;

    /// `CLIENT:HOST:COUNT`.
    fn from_str(text: &str) -> Result<Self, IdMapError> {
        let syntax = || IdMapError::Syntax(text.to_owned());
        let numbers = text.split(':').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>().map_err(|_| syntax())?;
        let [client, host, count] = numbers[..] else { return Err(syntax()) };
        let range = Self { client, host, count };
        // !0 is no number of anybody's: "unchanged" in chown(2).
        let within = |first: u32| first.checked_add(count).is_some();
        if count > 0 && within(client) && within(host) { Ok(range) } else { Err(IdMapError::Bounds(text.to_owned())) }
    }
}

impl IdMap {
    /// Adds a range.
    ///
    /// # Errors
    /// `Overlap`, on either side.
    pub fn add(&mut self, range: IdRange) -> Result<(), IdMapError> {
        let overlap = |one: u32, other: u32, other_count: u32| {
            u64::from(one) < u64::from(other) + u64::from(other_count)
                && u64::from(other) < u64::from(one) + u64::from(range.count)
        };
        let taken = self.ranges.iter().any(|known| {
            overlap(range.client, known.client, known.count) || overlap(range.host, known.host, known.count)
        });
        if taken {
            return Err(IdMapError::Overlap(range.to_string()));
        }
        self.ranges.push(range);
        Ok(())
    }

    /// Does each number stand for itself?
    pub fn is_identity(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What the client's `id` is here.
    pub fn to_host(&self, id: u32) -> Option<u32> {
        self.map(id, |range| (range.client, range.host))
    }

    /// What this machine's `id` is to the client.
    pub fn to_client(&self, id: u32) -> Option<u32> {
        self.map(id, |range| (range.host, range.client))
    }

    fn map(&self, id: u32, sides: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
        if self.is_identity() {
            return Some(id);
        }
        self.ranges.iter().find_map(|range| {
            let (from, to) = sides(range);
            id.checked_sub(from).filter(|&distance| distance < range.count).map(|distance| to + distance)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[&str]) -> Result<IdMap, IdMapError> {
        let mut map = IdMap::default();
        ranges.iter().try_for_each(|range| map.add(range.parse()?))?;
        Ok(map)
    }

    #[test]
    fn numbers_are_mapped_both_ways() {
        let map = map(&["0:100000:1000", "1000:1000:1", "2000:7:1"]).unwrap();
        for (client, host) in [(0, 100_000), (999, 100_999), (1000, 1000), (2000, 7)] {
            assert_eq!(map.to_host(client), Some(host));
            assert_eq!(map.to_client(host), Some(client));
        }
        assert_eq!(map.to_host(1001), None);
        assert_eq!(map.to_client(0), None);
        assert_eq!(map.to_client(101_000), None);
        assert_eq!(IdMap::default().to_host(!0), Some(!0));
    }

    #[test]
    fn mistakes_are_named() {
        for text in ["", "1", "1:2", "1:2:3:4", "a:1:1", "-1:1:1", "1:1:99999999999"] {
            assert_eq!(map(&[text]), Err(IdMapError::Syntax(text.into())));
        }
        for text in ["1:1:0", "4294967295:1:1", "1:4294967290:6"] {
            assert_eq!(map(&[text]), Err(IdMapError::Bounds(text.into())));
        }
        assert!(map(&["1:4294967290:5"]).is_ok());
        assert_eq!(map(&["0:100:10", "9:200:1"]), Err(IdMapError::Overlap("9:200:1".into())));
        assert_eq!(map(&["0:100:10", "10:109:1"]), Err(IdMapError::Overlap("10:109:1".into())));
        assert!(map(&["0:100:10", "10:110:1"]).is_ok());
    }
}

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// What a transaction could see: every transaction below `xmax` but those of `xip`, which were in
/// progress. The text is Postgres' own, `xmin:xmax:xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    xip: Vec<u64>,
}

impl Snapshot {
    /// Whether it sees what a transaction wrote.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.xip.binary_search(&xid).is_err())
    }

    /// The oldest transaction that it does not see and a later snapshot does. One that is still in
    /// progress there cannot have left anything that was purged.
    pub fn oldest_unseen(&self, later: &Self) -> u64 {
        self.xip.iter().copied().find(|xid| later.sees(*xid)).unwrap_or(self.xmax)
    }

    /// Whether it sees all that an other one sees, so that it is the later of the two.
    pub fn covers(&self, other: &Self) -> bool {
        self.xmax >= other.xmax && self.xip.iter().all(|xid| !other.sees(*xid))
    }
}

impl FromStr for Snapshot {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const BROKEN: &str = "not a snapshot";
        let mut parts = text.split(':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(BROKEN);
        let (xmin, xmax) = (number()?, number()?);
        let listed = parts.next().ok_or(BROKEN)?;
        let listed = listed.split(',').filter(|part| !part.is_empty());
        let xip = listed.map(|part| part.parse().map_err(|_| BROKEN)).collect::<Result<Vec<u64>, _>>()?;
        if parts.next().is_some() || xmin > xmax || !xip.is_sorted() {
            return Err(BROKEN);
        }
        Ok(Self { xmin, xmax, xip })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let xip: Vec<String> = self.xip.iter().map(u64::to_string).collect();
        write!(f, "{}:{}:{}", self.xmin, self.xmax, xip.join(","))
    }
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended() {
        let snapshot: Snapshot = "10:20:10,14,15".parse().unwrap();
        let seen: Vec<u64> = (8..22).filter(|xid| snapshot.sees(*xid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,14,15");
        // 10 is still open, so the oldest of which anything can be missed is 14; then there is only what
        // began later.
        assert_eq!(snapshot.oldest_unseen(&"10:25:10".parse().unwrap()), 14);
        assert_eq!(snapshot.oldest_unseen(&"10:25:10,14,15".parse().unwrap()), 20);
        for broken in ["", "1", "1:2", "2:1:", "1:2:x", "1:9:5,3", "1:2::", "-1:2:"] {
            assert!(broken.parse::<Snapshot>().is_err(), "{broken}");
        }
    }

    proptest! {
        /// Transactions begin and end; of two snapshots the later covers the earlier.
        #[test]
        fn the_later_of_two_snapshots_covers_the_earlier(steps in proptest::collection::vec(any::<(bool, u8)>(), 1..60)) {
            let (mut next, mut open, mut snapshots) = (3_u64, Vec::<u64>::new(), Vec::new());
            for (begin, which) in steps {
                if begin || open.is_empty() {
                    open.push(next);
                    next += 1;
                } else {
                    open.remove(usize::from(which) % open.len());
                }
                open.sort_unstable();
                let xmin = open.first().copied().unwrap_or(next);
                snapshots.push((Snapshot { xmin, xmax: next, xip: open.clone() }, next));
            }
            for (i, (later, _)) in snapshots.iter().enumerate() {
                for (earlier, end) in &snapshots[..i] {
                    prop_assert!(later.covers(earlier));
                    let same = (0..*end).all(|xid| later.sees(xid) == earlier.sees(xid)) && later.xmax == earlier.xmax;
                    prop_assert_eq!(earlier.covers(later), same);
                }
            }
        }
    }
}

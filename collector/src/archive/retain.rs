//! Retain: which segments have to go. Decides, removes nothing; see `write`.

use std::time::Duration;

/// What retention knows of a closed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its size, bytes.
    pub bytes: u64,
    /// Its newest line, seconds since the epoch.
    pub newest: i64,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all segments, the open one included.
    pub bytes: u64,
    /// Of a segment's newest line.
    pub age: Duration,
}

impl Limits {
    /// How many of the closed segments, oldest first, have to go. `open` is the open segment's
    /// size: it counts, but it never goes.
    pub fn excess(&self, closed: impl IntoIterator<Item = Kept>, open: u64, now: i64) -> usize {
        let closed: Vec<Kept> = closed.into_iter().collect();
        let oldest = now.saturating_sub_unsigned(self.age.as_secs());
        let mut bytes = open.saturating_add(closed.iter().map(|kept| kept.bytes).sum());
        for (gone, kept) in closed.iter().enumerate() {
            if bytes <= self.bytes && kept.newest >= oldest {
                return gone;
            }
            bytes -= kept.bytes;
        }
        closed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(bytes: u64, age: u64, closed: &[(u64, i64)], open: u64) -> usize {
        let limits = Limits { bytes, age: Duration::from_secs(age) };
        limits.excess(closed.iter().map(|&(bytes, newest)| Kept { bytes, newest }), open, 1_000)
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let closed = [(10, 990), (10, 991), (10, 992)];
        assert_eq!(excess(100, 100, &closed, 10), 0);
        assert_eq!(excess(40, 100, &closed, 10), 0);
        assert_eq!(excess(39, 100, &closed, 10), 1);
        assert_eq!(excess(20, 100, &closed, 10), 2);
        assert_eq!(excess(5, 100, &closed, 10), 3);
    }

    #[test]
    fn a_segment_goes_when_its_newest_line_is_too_old() {
        let closed = [(10, 899), (10, 900), (10, 992)];
        assert_eq!(excess(100, 100, &closed, 10), 1);
        assert_eq!(excess(100, 99, &closed, 10), 2);
        assert_eq!(excess(100, 0, &closed, 10), 3);
    }
}

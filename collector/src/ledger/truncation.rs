//! How long a file was when it was truncated, from the kernel's count of what truncations took away.
//!
//! The count is kept for the inode, modulo 2³²; a life knows what it was when it began.

/// A count that says more than this was not seen is none: it was begun anew.
const MOST: u32 = 1 << 31;

/// How long a life was of which `seen` bytes were seen: the count was `before` when it began and is `now`
/// after its end. None: the count says nothing of it.
pub fn size_at_end(seen: u64, before: u32, now: u32) -> Option<u64> {
    let taken = now.wrapping_sub(before);
    // What was seen was taken away, and perhaps more.
    let unseen = taken.wrapping_sub(seen as u32);
    (taken != 0 && unseen < MOST).then(|| seen + u64::from(unseen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_tells_the_size_over_any_number_of_lives() {
        assert_eq!(size_at_end(100, 0, 130), Some(130));
        assert_eq!(size_at_end(0, 130, 230), Some(100));
        assert_eq!(size_at_end(50, u32::MAX - 9, 90), Some(100), "the count has begun anew at 0");
        let large = 5 << 32;
        assert_eq!(size_at_end(large + 7, 3, 13), Some(large + 10));
        assert_eq!(size_at_end(large, 0, 0), None, "nothing was taken away: it was written over");
        assert_eq!(size_at_end(100, 0, 90), None, "less than was seen");
        assert_eq!(size_at_end(100, 500, 0), None, "another count");
    }
}

//! Whether the agent's memory stays flat: samples over a whole run, over its restarts too.

use std::{fs, time::Duration};

/// How much more the last quarter of a run may hold than its second.
const GROWTH_MIB: f64 = 12.0;

/// Resident memory over time.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Seconds since the start, and MiB.
    samples: Vec<(f64, f64)>,
}

impl Memory {
    /// Looks at a process. One that has just ended is no sample.
    pub(crate) fn sample(&mut self, at: Duration, pid: u32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        self.samples.extend(kib.map(|kib| (at.as_secs_f64(), kib / 1024.0)));
    }

    /// The most, MiB.
    pub(crate) fn max(&self) -> f64 {
        self.samples.iter().map(|&(_, mib)| mib).fold(0.0, f64::max)
    }

    /// MiB an hour, by least squares; None: too short to say.
    pub(crate) fn slope(&self) -> Option<f64> {
        let (&(first, _), &(last, _)) = (self.samples.first()?, self.samples.last()?);
        if last - first < 240.0 {
            return None;
        }
        let count = self.samples.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.samples.iter().map(of).sum::<f64>() / count;
        let (time, mib) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let above: f64 = self.samples.iter().map(|(t, m)| (t - time) * (m - mib)).sum();
        let below: f64 = self.samples.iter().map(|(t, _)| (t - time).powi(2)).sum();
        (below > 0.0).then(|| above / below * 3600.0)
    }

    /// The medians of the second and the last quarter, MiB: what a burst takes is in neither.
    pub(crate) fn quarters(&self) -> (f64, f64) {
        let quarter = self.samples.len() / 4;
        let median = |from: usize| {
            let part = self.samples.get(from..from + quarter).unwrap_or_default();
            let mut mib: Vec<_> = part.iter().map(|&(_, mib)| mib).collect();
            mib.sort_by(f64::total_cmp);
            mib.get(mib.len() / 2).copied().unwrap_or_default()
        };
        (median(quarter), median(3 * quarter))
    }

    /// Whether it grew with time.
    pub(crate) fn is_flat(&self) -> bool {
        let (second, last) = self.quarters();
        self.slope().is_none() || last < second + GROWTH_MIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mib: impl Fn(f64) -> f64) -> Memory {
        Memory { samples: (0..600).map(f64::from).map(|t| (t, mib(t))).collect() }
    }

    #[test]
    fn a_leak_is_not_flat_and_a_burst_is() {
        let leak = memory(|t| 40.0 + t / 10.0);
        assert!(!leak.is_flat());
        assert!((leak.slope().unwrap() - 360.0).abs() < 1.0);
        let burst = memory(|t| if (200.0..230.0).contains(&t) { 90.0 } else { 40.0 });
        assert!(burst.is_flat());
        assert_eq!(burst.max(), 90.0);
    }

    #[test]
    fn a_short_run_says_nothing_of_growth() {
        let mut short = memory(|t| 40.0 + t);
        short.samples.truncate(100);
        assert_eq!(short.slope(), None);
        assert!(short.is_flat());
    }
}

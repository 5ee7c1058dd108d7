//! What goes wrong with a request, decided by a seed and the request's number.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// How likely each fault is, per request.
#[derive(Debug, Clone, Copy, PartialEq, clap::Args)]
pub struct Faults {
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Answered 503.
    #[arg(long, default_value_t = 0.0)]
    pub unavailable: f64,
    /// Answered 429 with Retry-After.
    #[arg(long, default_value_t = 0.0)]
    pub throttle: f64,
    /// Connection reset in the middle of the request.
    #[arg(long, default_value_t = 0.0)]
    pub reset: f64,
    /// Taken in, then the connection is reset instead of a reply.
    #[arg(long, default_value_t = 0.0)]
    pub lose_reply: f64,
    /// Answered late, by `stall_ms`.
    #[arg(long, default_value_t = 0.0)]
    pub stall: f64,
    /// How late.
    #[arg(long, default_value_t = 2_000)]
    pub stall_ms: u64,
    /// What Retry-After asks for, in seconds.
    #[arg(long, default_value_t = 1)]
    pub retry_after: u64,
}

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: taken in and answered 200.
    None,
    /// 503.
    Unavailable,
    /// 429.
    Throttle,
    /// Reset before it is complete.
    Reset,
    /// Reset after it was taken in.
    LoseReply,
    /// Answered late.
    Stall,
}

impl Faults {
    /// A sink that never fails.
    pub fn none() -> Self {
        Self {
            seed: 1,
            unavailable: 0.0,
            throttle: 0.0,
            reset: 0.0,
            lose_reply: 0.0,
            stall: 0.0,
            stall_ms: 0,
            retry_after: 1,
        }
    }

    /// What happens to request number `request`.
    pub fn decide(&self, request: u64) -> Fault {
        let seed = self.seed ^ request.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll: f64 = Pcg64Mcg::seed_from_u64(seed).random();
        for (fault, share) in [
            (Fault::Unavailable, self.unavailable),
            (Fault::Throttle, self.throttle),
            (Fault::Reset, self.reset),
            (Fault::LoseReply, self.lose_reply),
            (Fault::Stall, self.stall),
        ] {
            if roll < share {
                return fault;
            }
            roll -= share;
        }
        Fault::None
    }
}

impl Fault {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "taken",
            Self::Unavailable => "unavailable",
            Self::Throttle => "throttled",
            Self::Reset => "reset",
            Self::LoseReply => "reply_lost",
            Self::Stall => "stalled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_follow_from_the_seed() {
        let faults = Faults { unavailable: 0.2, lose_reply: 0.1, ..Faults::none() };
        let count = |wanted| (0..10_000).filter(|&n| faults.decide(n) == wanted).count();
        assert!((1_800..2_200).contains(&count(Fault::Unavailable)));
        assert!((850..1_150).contains(&count(Fault::LoseReply)));
        assert_eq!(count(Fault::Reset), 0);
        let other = Faults { seed: 2, ..faults };
        assert!((0..100).any(|n| faults.decide(n) != other.decide(n)));
        assert!((0..100).all(|n| Faults::none().decide(n) == Fault::None));
    }
}

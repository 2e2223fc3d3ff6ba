//! How fast a user may send.

use wire_base::code::Code;
use wire_base::ids::UserId;

use super::Refusal;
use crate::cache::Cache;
use crate::time::Now;

/// The send rate of a user, over all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendRateConfig {
    /// Sustained sends a second; 0 turns the limit off.
    pub per_s: u32,
    /// Sends that may come at once after a pause; at least 1.
    pub burst: u32,
    /// Users remembered, about 100 bytes each. Enough when it is more than send within `burst / per_s` seconds.
    pub users_max: usize,
}

impl Default for SendRateConfig {
    fn default() -> Self {
        Self {
            per_s: 50,
            burst: 100,
            users_max: 100_000,
        }
    }
}

/// The generic cell rate algorithm: a send is due at a theoretical time, and may be early by the burst.
///
/// Shape: bounded by `users_max`. A user whose due time has passed is as good as forgotten. Where one must be forgotten
/// before, its due time becomes the least that any forgotten user has: nobody ever sends earlier than the limit allows,
/// and while more than `users_max` users send at once, some may have to wait up to one burst longer.
#[derive(Debug)]
pub struct SendRate {
    /// Time that one send takes, in us; 0 = no limit.
    interval_us: u64,
    /// How early a send may be, in us.
    early_us: u64,
    /// When the next send of a user is due, in us of the monotonic clock.
    due: Cache<UserId, u64>,
    users_max: usize,
    /// Due time of the users not in `due`.
    forgotten_due: u64,
}

impl SendRate {
    /// Returns the limiter with nobody limited.
    pub fn new(config: SendRateConfig) -> Self {
        let interval_us = match config.per_s {
            0 => 0,
            per_s => 1_000_000u64.div_ceil(u64::from(per_s)),
        };
        let users_max = config.users_max.max(1);
        Self {
            interval_us,
            early_us: interval_us * u64::from(config.burst.max(1) - 1),
            due: Cache::new(users_max),
            users_max,
            forgotten_due: 0,
        }
    }

    /// Takes one send of the user from its allowance.
    ///
    /// Errors: `rate_limited`, with the time after which a send passes. Nothing is taken then.
    pub fn try_take(&mut self, user: UserId, now: Now) -> Result<(), Refusal> {
        if self.interval_us == 0 {
            return Ok(());
        }
        let now_us = now.mono_ms.saturating_mul(1_000);
        let due = self
            .due
            .get(&user)
            .copied()
            .unwrap_or(self.forgotten_due)
            .max(now_us);
        if due > now_us + self.early_us {
            let wait_ms = (due - now_us - self.early_us).div_ceil(1_000);
            return Err(Refusal {
                code: Code::RateLimited,
                reason: "sends are faster than limits.sends_per_s allows",
                retry_after_ms: Some(u32::try_from(wait_ms).unwrap_or(u32::MAX)),
            });
        }
        self.due.insert(user, due + self.interval_us, None);
        if self.due.len() > self.users_max
            && let Some((_, due)) = self.due.pop_oldest()
        {
            self.forgotten_due = self.forgotten_due.max(due);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::user;

    fn at(mono_ms: u64) -> Now {
        Now {
            mono_ms,
            ..Now::default()
        }
    }

    fn rate(per_s: u32, burst: u32, users_max: usize) -> SendRate {
        SendRate::new(SendRateConfig {
            per_s,
            burst,
            users_max,
        })
    }

    #[test]
    fn a_burst_passes_then_the_sustained_rate_and_the_wait_named_is_exact() {
        let mut rate = rate(10, 3, 10);
        let mut wait = |ms| {
            rate.try_take(user(1), at(ms))
                .err()
                .and_then(|refusal| refusal.retry_after_ms)
        };
        assert_eq!(
            [wait(0), wait(0), wait(0), wait(0)],
            [None, None, None, Some(100)]
        );
        assert_eq!([wait(99), wait(100), wait(100)], [Some(1), None, Some(100)]);
        assert_eq!(
            [wait(10_000), wait(10_000), wait(10_000), wait(10_000)],
            [None, None, None, Some(100)]
        );
    }

    #[test]
    fn users_do_not_limit_each_other() {
        let mut rate = rate(1, 1, 10);
        assert!(rate.try_take(user(1), at(0)).is_ok());
        assert!(rate.try_take(user(2), at(0)).is_ok());
        assert_eq!(rate.try_take(user(1), at(0)).unwrap_err().code, Code::RateLimited);
    }

    #[test]
    fn rate_zero_limits_nobody() {
        let mut rate = rate(0, 1, 1);
        assert!((0..10_000).all(|_| rate.try_take(user(1), at(0)).is_ok()));
    }

    #[test]
    fn a_user_forgotten_too_early_gets_nothing_more_and_the_others_are_let_in_later() {
        let mut rate = rate(1, 2, 1);
        assert!(rate.try_take(user(1), at(0)).is_ok());
        assert!(rate.try_take(user(1), at(0)).is_ok());
        assert!(rate.try_take(user(2), at(1_000)).is_ok()); // User 1 is forgotten while its next send is due at 2,000.
        assert!(rate.try_take(user(1), at(1_000)).is_ok()); // What it may have now anyway,
        assert!(rate.try_take(user(1), at(1_000)).is_err()); // and no more.
        // A user that never sent is taken for one of the forgotten.
        assert_eq!(
            rate.try_take(user(3), at(500)).unwrap_err().retry_after_ms,
            Some(500)
        );
        assert!(rate.try_take(user(3), at(3_000)).is_ok());
    }

    proptest! {
        #[test]
        fn nobody_is_ever_let_through_earlier_than_with_unbounded_memory(
            steps in prop::collection::vec((0u64..400, 1u64..8), 1..300),
            (per_s, burst, users_max) in (1u32..20, 1u32..5, 1usize..10),
        ) {
            let mut bounded = rate(per_s, burst, users_max);
            let (interval, early) = (bounded.interval_us, bounded.early_us);
            let mut due = BTreeMap::new();
            let mut now_ms = 0;
            for (passed, number) in steps {
                now_ms += passed;
                let due = due.entry(number).or_insert(0u64);
                let allowed = (*due).max(now_ms * 1_000) <= now_ms * 1_000 + early;
                let taken = bounded.try_take(user(number), at(now_ms)).is_ok();
                prop_assert!(allowed || !taken);
                prop_assert!(taken || !allowed || users_max < 7);
                if taken {
                    *due = (*due).max(now_ms * 1_000) + interval;
                }
                prop_assert!(bounded.due.len() <= users_max);
            }
        }
    }
}

//! The moment of a fact, and past moments in 4 bytes.

pub use wire_base::time::Now;

/// A past moment in 4 bytes: the low half of `mono_ms`.
///
/// Shape: right for anything up to 49 days old; a connection renews every stamp it keeps within minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    /// Returns the stamp of `now`.
    pub(crate) const fn of(now: Now) -> Self {
        Self(now.mono_ms as u32)
    }

    /// Returns the milliseconds from this stamp to `now`.
    pub(crate) const fn elapsed_ms(self, now: Now) -> u64 {
        (now.mono_ms as u32).wrapping_sub(self.0) as u64
    }

    /// Returns the moment `ms` after this stamp, on the scale of `mono_ms`.
    pub(crate) const fn after_ms(self, ms: u64, now: Now) -> u64 {
        (now.mono_ms + ms).saturating_sub(self.elapsed_ms(now))
    }
}

#[cfg(test)]
mod tests {
    use wire_base::ids::UnixMs;

    use super::*;

    const fn at(mono_ms: u64) -> Now {
        Now {
            mono_ms,
            unix: UnixMs(0),
        }
    }

    #[test]
    fn stamps_survive_the_wrap_of_their_four_bytes() {
        let before = (1 << 32) - 100;
        let stamp = Stamp::of(at(before));
        assert_eq!(stamp.elapsed_ms(at(before + 5_000)), 5_000);
        assert_eq!(stamp.after_ms(30_000, at(before + 5_000)), before + 30_000);
        assert_eq!(stamp.after_ms(1_000, at(before + 5_000)), before + 1_000);
    }
}

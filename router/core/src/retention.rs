//! How old what the store keeps is, by what the store has lived through.
//!
//! The word of a clock deletes nothing: while a router runs it notes every hour where the log stands (a checkpoint), and
//! age is the sum of the steps from one to the next. A longer step is one in which nobody looked at the clock: the
//! router was down, or the clock jumped. Nobody can tell which, so it counts as a day at most.

use router_records::row::CheckpointRow;
use wire_base::ids::{Offset, UnixMs};

/// Returns the newest checkpoint that has at least the age `kept_ms` at log time `now`: what was made by records before
/// it is past retention. `checkpoints` are in order of time.
pub fn expired(checkpoints: &[CheckpointRow], now: UnixMs, kept_ms: u64) -> Option<CheckpointRow> {
    let mut newer = now;
    let mut age_ms = 0;
    checkpoints.iter().rev().copied().find(|row| {
        age_ms += newer.0.saturating_sub(row.time.0).min(STEP_MS_MAX);
        newer = row.time;
        age_ms >= kept_ms
    })
}

/// Returns up to which time ids may have been forgotten, by records before `floor`; `None` when the checkpoint is not
/// there. An id that came once came at most 60 s before its own time.
pub fn forgotten(checkpoints: &[CheckpointRow], floor: Offset) -> Option<UnixMs> {
    if floor == Offset(0) {
        return Some(UnixMs(0));
    }
    let row = checkpoints.iter().find(|row| row.offset >= floor)?;
    Some(row.time)
}

/// How far apart checkpoints are: what retention rounds to.
pub const CHECKPOINT_MS: u64 = 3_600_000;
/// What a step between two checkpoints adds to age at most.
const STEP_MS_MAX: u64 = 24 * 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    fn rows(days: impl IntoIterator<Item = u64>) -> Vec<CheckpointRow> {
        let row = |(offset, day)| CheckpointRow {
            time: UnixMs(day * DAY_MS),
            offset: Offset(offset),
        };
        (1..).zip(days).map(row).collect()
    }

    fn expired_offset(days: impl IntoIterator<Item = u64>, today: u64) -> Option<u64> {
        expired(&rows(days), UnixMs(today * DAY_MS), 30 * DAY_MS).map(|row| row.offset.0)
    }

    #[test]
    fn what_lived_for_30_days_is_expired() {
        assert_eq!(expired_offset(0..40, 40), Some(11));
        assert_eq!(expired_offset(0..30, 29), None);
        assert_eq!(expired_offset([], 900), None);
    }

    #[test]
    fn a_gap_counts_as_a_day_be_it_before_the_last_checkpoint_or_after() {
        assert_eq!(expired_offset([0], 900), None);
        assert_eq!(expired_offset(0..29, 900), None);
        assert_eq!(expired_offset(0..30, 900), Some(1));
        assert_eq!(expired_offset((0..10).chain(100..120), 120), Some(1));
        assert_eq!(expired_offset((0..10).chain(100..119), 119), None);
    }

    #[test]
    fn ids_are_forgotten_up_to_the_checkpoint_of_the_floor() {
        let rows = rows(5..10);
        assert_eq!(forgotten(&rows, Offset(0)), Some(UnixMs(0)));
        assert_eq!(forgotten(&rows, Offset(3)), Some(UnixMs(7 * DAY_MS)));
        assert_eq!(forgotten(&rows, Offset(6)), None);
    }
}

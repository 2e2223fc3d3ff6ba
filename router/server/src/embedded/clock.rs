//! The wall clock: what the log says when it is not believed, and when it is looked at again.

use router_core::time::Now;
use router_storage::disk::Disk;
use router_storage::store::Store;

use super::Router;
use super::condition::Condition;

impl<D: Disk, S: Store> Router<D, S> {
    /// Takes the clocks of a tick.
    pub(super) fn read_clock(&mut self, reading: Now) {
        let was_doubted = self.clock.doubted().is_some();
        self.now = self.clock.advance(reading);
        match self.clock.doubted() {
            Some(said) if !was_doubted => {
                self.counters.clock_doubts.add(1);
                tracing::warn!(
                    said_ms = said.0,
                    expected_ms = self.now.unix.0,
                    "the wall clock jumped; it is believed once it has stood by that for a minute"
                );
            }
            None if was_doubted => {
                tracing::warn!(now_ms = self.now.unix.0, "the wall clock is believed again");
            }
            _ => {}
        }
    }

    /// Stops taking records while it is not known what time to stamp them with: one from a wrong clock would be kept too
    /// long, or not long enough, when the clock is right again.
    pub(super) fn check_clock(&mut self) {
        let retry_ms = self.now.mono_ms + LOOK_MS;
        self.set_condition(match self.clock.is_set() {
            true => Condition::Ready,
            false => Condition::ClockUnset { retry_ms },
        });
    }

    /// Returns when a doubted clock is looked at again: what it says in between is to be seen.
    pub(super) fn clock_due_ms(&self) -> Option<u64> {
        self.clock.doubted().map(|_| self.now.mono_ms + LOOK_MS)
    }
}

/// How often a doubted clock is looked at.
const LOOK_MS: u64 = 1_000;

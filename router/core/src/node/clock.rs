//! The wall clock: what is told when it is not believed, and what waits for it.

use wire_base::code::Code;
use wire_link::SendRecord;

use super::{Node, Notice};
use crate::admission::{Refusal, check_send};
use crate::clock::SETTLE_MS;
use crate::time::Now;

impl Node {
    /// Learns the time: what the machine's clocks say. It holds for every fact until the next call.
    pub fn handle_now(&mut self, reading: Now) {
        let was_doubted = self.shared.clock.doubted().is_some();
        self.shared.now = self.shared.clock.advance(reading);
        self.partitions.handle_now(self.shared.now.mono_ms);
        match self.shared.clock.doubted() {
            Some(said) if !was_doubted => {
                self.shared.stats.clock_doubts += 1;
                let expected = self.shared.now.unix;
                self.shared.notice(Notice::ClockDoubted { said, expected });
            }
            None if was_doubted => self.shared.notice(Notice::ClockBelieved(self.shared.now.unix)),
            _ => {}
        }
    }

    /// Returns when a doubted clock is looked at again, on the monotonic clock: what it says in between is to be seen.
    pub(super) fn clock_due_ms(&self) -> Option<u64> {
        self.shared
            .clock
            .doubted()
            .map(|_| self.shared.now.mono_ms + LOOK_MS)
    }

    /// Checks what a send says about itself. An id that is wrong only by a clock in doubt may be right in a minute.
    pub(super) fn check_send(&self, send: &SendRecord) -> Result<(), Refusal> {
        let check = |now| check_send(send, now, self.upkeep.forgotten());
        check(self.shared.now.unix).map_err(|refusal| {
            let may_pass = self
                .shared
                .clock
                .doubted()
                .is_some_and(|said| check(said).is_ok());
            if may_pass { CLOCK_IN_DOUBT } else { refusal }
        })
    }
}

/// How often a doubted clock is looked at.
const LOOK_MS: u64 = 1_000;
/// The answer to an id of a time that only the doubted wall clock says it is.
const CLOCK_IN_DOUBT: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "message_id: the server's clock was set and is not trusted yet; repeat it with the same message_id",
    retry_after_ms: Some(SETTLE_MS as u32),
};

//! The end of a worker: every client is told to reconnect and closed, a few at a time.

use super::Hub;
use crate::application::Application;
use crate::config::HubConfig;
use crate::connections::Phase;
use crate::disconnect::Reason;
use crate::limits::{CLOSE_MS_MAX, DRAIN_STEP_MS};
use crate::time::Now;
use wire_ws::upgrade::Refusal;

/// A drain under way: a walk over the slab in steps, then one last look at a hard deadline.
pub(super) struct Drain {
    /// Where the walk goes on; `None` once it is over.
    next_slot: Option<u32>,
    connections_per_step: usize,
    next_ms: u64,
    /// When whatever is left is closed without more ado.
    hard_ms: u64,
    is_over: bool,
}

impl Drain {
    pub(super) fn new(config: &HubConfig, connections: usize, now: Now) -> Self {
        let steps = (u64::from(config.drain_ms) / DRAIN_STEP_MS).max(1) as usize;
        Self {
            next_slot: Some(0),
            connections_per_step: connections.div_ceil(steps).max(1),
            next_ms: now.mono_ms,
            hard_ms: now.mono_ms + u64::from(config.drain_ms) + CLOSE_MS_MAX,
            is_over: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        (!self.is_over).then_some(self.next_ms)
    }
}

impl<A: Application> Hub<A> {
    /// Says goodbye to the next clients, if it is time.
    pub(super) fn step_drain(&mut self, now: Now) {
        let Some(mut drain) = self.drain.take() else {
            return;
        };
        while drain.next_ms().is_some_and(|at_ms| at_ms <= now.mono_ms) {
            match drain.next_slot {
                Some(slot) => {
                    drain.next_slot = self.say_goodbye(slot, drain.connections_per_step, now);
                    drain.next_ms = if drain.next_slot.is_some() {
                        drain.next_ms + DRAIN_STEP_MS
                    } else {
                        drain.hard_ms
                    };
                }
                None => {
                    self.end_all();
                    drain.is_over = true;
                }
            }
        }
        self.drain = Some(drain);
    }

    /// Closes up to `count` connections from `slot` on; returns where to go on, `None` at the end of the slab.
    fn say_goodbye(&mut self, mut slot: u32, count: usize, now: Now) -> Option<u32> {
        for _ in 0..count {
            let id = self.connections.next_from(slot)?;
            slot = id.slot + 1;
            match self.connections.get(id).map(|conn| conn.phase) {
                Some(Phase::Upgrading) => {
                    let refusal = Refusal::Unavailable {
                        retry_after_s: super::upgrade::RETRY_AFTER_S,
                    };
                    self.connections.refuse(id, refusal, Reason::UpgradeDraining, now);
                }
                Some(Phase::Open) => {
                    self.application.handle_farewell(&mut self.connections, id, now);
                    self.connections.close(id, Reason::Draining, now);
                }
                Some(Phase::Closing | Phase::Closed) | None => {}
            }
        }
        Some(slot)
    }

    fn end_all(&mut self) {
        let mut slot = 0;
        while let Some(id) = self.connections.next_from(slot) {
            slot = id.slot + 1;
            self.connections.end(id, Reason::Draining);
        }
    }
}

//! The end of a tick: what is queued becomes one send for each connection.

use wire_base::ids::ConnectionHandle;

use super::{Connections, Pauses, Phase};
use crate::disconnect::Reason;
use crate::limits::{OUTBOX_FAREWELL_BYTES_MAX, PROGRESS_MS_MAX};
use crate::outbox::Outbox;
use crate::output::{Output, SendBuf};
use crate::time::Now;

impl<S> Connections<S> {
    /// Sends what was queued in this tick, and completes what the sends of the last one left open.
    pub(crate) fn flush_tick(&mut self, now: Now) {
        self.settle_sent();
        self.end_lingering(now);
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(conn) = self.conns.get_mut(slot) else {
                continue;
            };
            conn.is_dirty = false;
            let id = conn.handle(slot);
            let lingering = conn.outbox.as_deref_mut().filter(|outbox| {
                self.config.batch_linger_ms > 0 && conn.phase == Phase::Open && outbox.may_linger()
            });
            if let Some(outbox) = lingering {
                if outbox.begin_lingering() {
                    self.lingering
                        .push_back((id, now.mono_ms + u64::from(self.config.batch_linger_ms)));
                }
            } else if self.flush(slot) {
                self.resume(id, Pauses::OUTBOX, now);
            }
        }
        self.dirty = dirty;
        self.flushed_ms = now.mono_ms;
        self.keep_total(now);
    }

    /// Returns when the end of a tick has something to do without a new fact.
    pub(crate) fn next_flush_ms(&self) -> Option<u64> {
        let sent = (!self.sent.is_empty() || !self.dirty.is_empty()).then_some(self.flushed_ms);
        let lingering = self.lingering.front().map(|&(_, at_ms)| at_ms);
        sent.into_iter().chain(lingering).min()
    }

    /// Takes back what a socket did not take.
    pub(crate) fn handle_send_short(&mut self, id: ConnectionHandle, rest: SendBuf, now: Now) {
        let Some(conn) = self.get_mut(id).filter(|_| !rest.is_empty()) else {
            return;
        };
        if conn.outbox.is_none() {
            let outbox = self.pool.take_outbox();
            if let Some(conn) = self.get_mut(id) {
                conn.outbox = Some(outbox);
            }
        }
        self.change_outbox(id, |outbox| outbox.handle_rest(rest, now));
        self.stats.sends_short += 1;
        self.wheel.set_earlier(id.slot, now.mono_ms + PROGRESS_MS_MAX);
    }

    /// Sends the rest at the end of this tick. That the socket takes bytes again is a sign of life: the client took some.
    pub(crate) fn handle_writable(&mut self, id: ConnectionHandle, now: Now) {
        let Some(conn) = self.get_mut(id) else { return };
        if conn.outbox.as_deref().is_some_and(Outbox::is_blocked) {
            conn.touch(now);
        }
        if let Some(outbox) = conn.outbox.as_deref_mut() {
            outbox.handle_writable();
            if !conn.is_dirty {
                conn.is_dirty = true;
                self.dirty.push(id.slot);
            }
        }
    }

    /// Sends what waits for a connection; `false` when its socket takes nothing.
    pub(super) fn flush(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let id = conn.handle(slot);
        let Some(outbox) = conn.outbox.as_deref_mut() else {
            return true;
        };
        if outbox.is_blocked() {
            return false;
        }
        self.stats.outbox_bytes -= outbox.len() as u64;
        let taken = outbox.take();
        let is_retrying = outbox.is_retrying();
        if !is_retrying && let Some(outbox) = conn.outbox.take() {
            self.pool.put_outbox(outbox);
        }
        if is_retrying || conn.phase == Phase::Closing {
            self.sent.push(id);
        }
        self.stats.frames_sent += u64::from(taken.frames);
        self.stats.batches_sent += u64::from(taken.batches);
        if !taken.bytes.is_empty() {
            self.stats.sends += 1;
            self.stats.sent_bytes += taken.bytes.len() as u64;
            self.outputs.push_back(Output::Send {
                id,
                bytes: taken.bytes,
            });
        }
        true
    }

    /// Looks at the sends of the last tick that did not come back: a retry that succeeded, a close frame that is out.
    fn settle_sent(&mut self) {
        for id in std::mem::take(&mut self.sent) {
            let Some(conn) = self.get_mut(id) else { continue };
            if let Some(outbox) = conn.outbox.as_deref_mut() {
                if outbox.is_blocked() {
                    continue;
                }
                outbox.end_retry();
                if !outbox.is_empty() {
                    continue;
                }
                self.drop_outbox(id);
            }
            if self.get(id).is_some_and(|conn| conn.phase == Phase::Closing) {
                self.outputs.push_back(Output::ShutdownWrite(id));
            }
        }
    }

    fn end_lingering(&mut self, now: Now) {
        while let Some(&(id, _)) = self.lingering.front().filter(|&&(_, at_ms)| at_ms <= now.mono_ms) {
            self.lingering.pop_front();
            if self.get(id).is_some() {
                self.flush(id.slot);
            }
        }
    }

    /// While all outboxes together hold too much, closes those that hold most.
    fn keep_total(&mut self, now: Now) {
        if self.stats.outbox_bytes <= self.config.outbox_total_bytes_max as u64 {
            return;
        }
        let mut largest = self.outboxes();
        largest.sort_unstable_by_key(|&(bytes, id)| (std::cmp::Reverse(bytes), id));
        for (_, id) in largest {
            if self.stats.outbox_bytes <= self.config.outbox_total_bytes_max as u64 {
                return;
            }
            self.close(id, Reason::SlowWorker, now);
            let rest_bytes = self
                .get(id)
                .and_then(|conn| conn.outbox.as_deref())
                .map_or(0, |outbox| outbox.rest_bytes());
            if rest_bytes > OUTBOX_FAREWELL_BYTES_MAX {
                self.drop_outbox(id);
                self.end(id, Reason::SlowWorker);
            }
        }
    }

    /// Returns every outbox, with its size.
    fn outboxes(&self) -> Vec<(usize, ConnectionHandle)> {
        let mut outboxes = Vec::new();
        let mut slot = 0;
        while let Some(id) = self.next_from(slot) {
            if let Some(outbox) = self.get(id).and_then(|conn| conn.outbox.as_deref()) {
                outboxes.push((outbox.len(), id));
            }
            slot = id.slot + 1;
        }
        outboxes
    }
}

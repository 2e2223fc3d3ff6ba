//! The end of a tick: what is queued becomes one send for each connection.

use wire_base::ids::ConnectionHandle;

use super::{Connections, Marks, Pauses, Phase};
use crate::disconnect::Reason;
use crate::limits::{OUTBOX_FAREWELL_BYTES_MAX, PROGRESS_MS_MAX};
use crate::outbox::Outbox;
use crate::output::Output;
use crate::time::Now;

impl<S> Connections<S> {
    /// Sends what was queued in this tick.
    pub(crate) fn flush_tick(&mut self, now: Now) {
        self.end_lingering(now);
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            let Some(conn) = self.conns.get_mut(slot) else {
                continue;
            };
            conn.marks.remove(Marks::DIRTY);
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
        let dirty = (!self.dirty.is_empty()).then_some(self.flushed_ms);
        let lingering = self.lingering.front().map(|&(_, at_ms)| at_ms);
        dirty.into_iter().chain(lingering).min()
    }

    /// Notes how much the transport holds of what was sent: nothing more is sent until it holds nothing. That it holds less
    /// than before is a sign of life: the client took some.
    pub(crate) fn handle_blocked(&mut self, id: ConnectionHandle, unsent: usize, now: Now) {
        let Some(conn) = self.get_mut(id).filter(|_| unsent > 0) else {
            return;
        };
        match conn.outbox.as_deref() {
            Some(outbox) if outbox.is_blocked() && unsent < outbox.unsent() => conn.touch(now),
            Some(_) => {}
            None => {
                let outbox = self.pool.take_outbox();
                if let Some(conn) = self.get_mut(id) {
                    conn.outbox = Some(outbox);
                }
            }
        }
        self.change_outbox(id, |outbox| outbox.handle_blocked(unsent, now));
        self.stats.sends_short += 1;
        self.wheel.set_earlier(id.slot, now.mono_ms + PROGRESS_MS_MAX);
    }

    /// Sends what waits at the end of this tick: the socket has taken everything before it.
    pub(crate) fn handle_writable(&mut self, id: ConnectionHandle, now: Now) {
        if !self.is_blocked(id) {
            return;
        }
        self.change_outbox(id, Outbox::handle_writable);
        let Some(conn) = self.get_mut(id) else { return };
        conn.touch(now);
        if conn.marks.insert(Marks::DIRTY) {
            self.dirty.push(id.slot);
        }
    }

    /// Sends what waits for a connection; `false` when its socket takes nothing.
    pub(super) fn flush(&mut self, slot: u32) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let id = conn.handle(slot);
        if conn.outbox.as_deref().is_some_and(Outbox::is_blocked) {
            return false;
        }
        let Some(mut outbox) = conn.outbox.take() else {
            return true;
        };
        let is_closing = conn.phase == Phase::Closing;
        self.stats.outbox_bytes -= outbox.len() as u64;
        let taken = outbox.take(self.pool.take_buffer());
        self.pool.put_outbox(outbox);
        self.stats.frames_sent += u64::from(taken.frames);
        self.stats.batches_sent += u64::from(taken.batches);
        if taken.bytes.is_empty() {
            self.pool.put_buffer(taken.bytes.own);
            return true;
        }
        self.stats.sends += 1;
        self.stats.sent_bytes += taken.bytes.len() as u64;
        self.outputs.push_back(Output::Send {
            id,
            frames: taken.bytes,
        });
        if is_closing {
            // The close frame, or the refusal of an upgrade, is the last that a connection sends.
            self.outputs.push_back(Output::ShutdownWrite(id));
        }
        true
    }

    fn end_lingering(&mut self, now: Now) {
        while let Some(&(id, _)) = self.lingering.front().filter(|&&(_, at_ms)| at_ms <= now.mono_ms) {
            self.lingering.pop_front();
            if self.get(id).is_some() {
                self.flush(id.slot);
            }
        }
    }

    fn is_over_total(&self) -> bool {
        self.stats.outbox_bytes > self.config.outbox_total_bytes_max as u64
    }

    /// While all outboxes together hold too much, drops what may be dropped first, then closes those that hold most.
    fn keep_total(&mut self, now: Now) {
        if !self.is_over_total() {
            return;
        }
        let mut largest = self.outboxes();
        largest.sort_unstable_by_key(|&(bytes, id)| (std::cmp::Reverse(bytes), id));
        for &(_, id) in &largest {
            if !self.is_over_total() {
                return;
            }
            let mut dropped = 0;
            self.change_outbox(id, |outbox| dropped = outbox.drop_first(0));
            self.stats.events_dropped += u64::from(dropped);
        }
        for (_, id) in largest {
            if !self.is_over_total() {
                return;
            }
            self.close(id, Reason::SlowWorker, now);
            let outbox = self.get(id).and_then(|conn| conn.outbox.as_deref());
            if outbox.map_or(0, Outbox::unsent) > OUTBOX_FAREWELL_BYTES_MAX {
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

//! The connections of one worker, whatever runs on them: outboxes, reading, closing, deadlines.
//!
//! Reading order: `entry` (the slab entry), this file (what an application may do to a connection), `flush` (the end of
//! a tick: outboxes to sends), `deadline` (which deadlines apply).

mod deadline;
mod entry;
mod flush;

use std::collections::VecDeque;
use std::rc::Rc;

use wire_base::ids::{ConnectionHandle, Position};
use wire_client::Format;
use wire_ws::upgrade::Refusal;
use wire_ws::{CloseFrame, Opcode, Violation, encode_close};

pub use entry::Pauses;
pub(crate) use entry::{Conn, Held, Marks, Phase, idle_bytes};

use crate::config::HubConfig;
use crate::disconnect::Reason;
use crate::event::SharedEvent;
use crate::jitter::Jitter;
use crate::limits::{CLOSE_MS_MAX, MESSAGE_MS_MAX, OUTBOX_TICK_BYTES_MAX, PING_WINDOW_S, UPGRADE_MS_MAX};
use crate::outbox::Outbox;
use crate::output::Output;
use crate::pool::Pool;
use crate::slab::Slab;
use crate::stats::Stats;
use crate::time::{Now, Stamp};
use crate::wheel::Wheel;

/// The connections of one worker; `S` is the application's part of each.
///
/// Shape: everything that grows is bounded by [`HubConfig`] or [`crate::limits`], or is at most one entry a connection.
pub struct Connections<S> {
    pub(crate) config: HubConfig,
    slow_readers: SlowReaders,
    conns: Slab<Conn<S>>,
    /// Those of them that are closed for want of a place.
    surplus: usize,
    pub(crate) wheel: Wheel,
    jitter: Jitter,
    outputs: VecDeque<Output>,
    pool: Pool,
    /// Slots with something to flush at the end of the tick.
    dirty: Vec<u32>,
    /// When outboxes were last flushed.
    flushed_ms: u64,
    /// Connections whose events wait for more, and until when; soonest first.
    lingering: VecDeque<(ConnectionHandle, u64)>,
    /// Connections that have just got their reason.
    pub(crate) ended: VecDeque<ConnectionHandle>,
    /// Connections whose entry goes away.
    pub(crate) closed: Vec<ConnectionHandle>,
    /// Connections that are to be read again.
    pub(crate) resumed: VecDeque<ConnectionHandle>,
    pub(crate) stats: Stats,
}

/// What happens to a client that takes less than it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowReaders {
    /// It is closed with 4408: what it is sent comes from others.
    Close,
    /// It is no longer read: what it is sent only answers what it says.
    Wait,
}

impl<S: Default> Connections<S> {
    pub(crate) fn new(config: HubConfig, slow_readers: SlowReaders, seed: u64) -> Self {
        Self {
            config,
            slow_readers,
            conns: Slab::new(),
            surplus: 0,
            wheel: Wheel::new(),
            jitter: Jitter::seeded(seed),
            outputs: VecDeque::new(),
            pool: Pool::new(),
            dirty: Vec::new(),
            flushed_ms: 0,
            lingering: VecDeque::new(),
            ended: VecDeque::new(),
            closed: Vec::new(),
            resumed: VecDeque::new(),
            stats: Stats::new(),
        }
    }

    pub(crate) fn insert(&mut self, id: ConnectionHandle, now: Now) {
        self.conns
            .insert(id.slot, Conn::new(id.generation, Stamp::of(now)));
        self.wheel.set(id.slot, now.mono_ms + UPGRADE_MS_MAX);
        self.stats.connections_accepted += 1;
        self.stats.connections += 1;
    }
}

impl<S> Connections<S> {
    /// Returns the number of connections, those that are closing included.
    pub const fn len(&self) -> usize {
        self.conns.len()
    }

    /// Returns whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the application's part of a connection; `None` when it is gone.
    pub fn session(&self, id: ConnectionHandle) -> Option<&S> {
        self.get(id).map(|conn| &conn.session)
    }

    /// Returns the application's part of a connection to change it; `None` when it is gone.
    pub fn session_mut(&mut self, id: ConnectionHandle) -> Option<&mut S> {
        self.get_mut(id).map(|conn| &mut conn.session)
    }

    /// Returns whether frames still go to a connection.
    pub fn is_open(&self, id: ConnectionHandle) -> bool {
        self.get(id).is_some_and(|conn| conn.phase == Phase::Open)
    }

    /// Returns the first connection whose slot is at or after `slot`, open or not.
    pub fn next_from(&self, slot: u32) -> Option<ConnectionHandle> {
        let slot = self.conns.next_from(slot)?;
        self.conns.get(slot).map(|conn| conn.handle(slot))
    }

    /// Returns whether nothing waits to be sent, nor to be taken by the socket.
    pub(crate) fn has_nothing_unsent(&self, id: ConnectionHandle) -> bool {
        let outbox = self.get(id).and_then(|conn| conn.outbox.as_deref());
        outbox.is_none_or(Outbox::is_empty)
    }

    /// Returns whether the transport holds something that the socket has not taken.
    pub(crate) fn is_blocked(&self, id: ConnectionHandle) -> bool {
        let outbox = self.get(id).and_then(|conn| conn.outbox.as_deref());
        outbox.is_some_and(Outbox::is_blocked)
    }

    /// Queues a frame.
    #[inline]
    pub fn send_frame(&mut self, id: ConnectionHandle, opcode: Opcode, payload: &[u8], now: Now) {
        self.queue(id, now, |outbox| outbox.push_frame(opcode, payload));
    }

    /// Queues an event of this connection alone, which may share a frame with its neighbours.
    pub fn send_event(
        &mut self,
        id: ConnectionHandle,
        format: Format,
        now: Now,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        self.stats.events += 1;
        self.queue(id, now, |outbox| outbox.push_event(format, encode));
    }

    /// Queues an event for many with this connection's cursor, instead of the one with the same key if that waits.
    pub fn send_shared(&mut self, id: ConnectionHandle, event: &Rc<SharedEvent>, cursor: Position, now: Now) {
        let mut is_replacing = false;
        self.queue(id, now, |outbox| is_replacing = outbox.push_shared(event, cursor));
        if is_replacing {
            self.stats.updates_conflated += 1;
        } else {
            self.stats.events += 1;
        }
    }

    /// Closes an open connection, with a close frame if the reason has a code.
    ///
    /// Order: without effect on one that has its reason already.
    pub fn close(&mut self, id: ConnectionHandle, reason: Reason, now: Now) {
        let row = reason.disconnect();
        match row.code {
            Some(code) => self.close_with(id, reason, code, row.text, now),
            None if self.is_open(id) => self.end(id, reason),
            None => {}
        }
    }

    /// Closes a connection that has just opened if there is no place for it.
    ///
    /// Order: one that is closed so takes no place from others, however long it takes its leave.
    pub(crate) fn close_surplus(&mut self, id: ConnectionHandle, now: Now) {
        if self.len() - self.surplus > self.config.connections_max as usize && self.is_open(id) {
            self.close(id, Reason::TooManyConnections, now);
            if let Some(conn) = self.get_mut(id) {
                conn.marks.insert(Marks::SURPLUS);
                self.surplus += 1;
            }
        }
    }

    /// Stops reading a connection until every pause is lifted; returns whether this pause is new.
    ///
    /// Shape: input that was read already is kept, at most what one read of the driver brought.
    pub fn pause(&mut self, id: ConnectionHandle, pause: Pauses) -> bool {
        let is_new = |conn: &&mut Conn<S>| conn.phase == Phase::Open && !conn.pauses.contains(pause);
        let Some(conn) = self.get_mut(id).filter(is_new) else {
            return false;
        };
        conn.pauses.insert(pause);
        if pause != Pauses::ANSWER {
            self.stats.pauses += 1;
        }
        true
    }

    /// Lifts one pause. Input that waited is handled before more is read.
    pub fn resume(&mut self, id: ConnectionHandle, pause: Pauses, now: Now) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.pauses.contains(pause)) else {
            return;
        };
        conn.pauses.remove(pause);
        if conn.pauses.is_empty() {
            // The client could not be heard meanwhile.
            conn.touch(now);
            conn.partial_since = conn.quiet_since;
            if conn.reader.is_partial() {
                self.wheel.set_earlier(id.slot, now.mono_ms + MESSAGE_MS_MAX);
            }
            self.resumed.push_back(id);
        }
    }

    /// Looks at the deadlines of a connection at `at_ms` at the latest.
    pub fn wake_at(&mut self, id: ConnectionHandle, at_ms: u64) {
        if self.get(id).is_some() {
            self.wheel.set_earlier(id.slot, at_ms);
        }
    }

    /// Returns `ms` after the upgrade, on the scale of `mono_ms`.
    pub fn after_upgrade_ms(&self, id: ConnectionHandle, ms: u64, now: Now) -> Option<u64> {
        self.get(id).map(|conn| conn.since.after_ms(ms, now))
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnectionHandle) -> Option<&Conn<S>> {
        self.conns
            .get(id.slot)
            .filter(|conn| conn.generation == id.generation)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionHandle) -> Option<&mut Conn<S>> {
        self.conns
            .get_mut(id.slot)
            .filter(|conn| conn.generation == id.generation)
    }

    /// Changes what a connection holds of its input, and keeps the sum.
    pub(crate) fn change_input<T>(
        &mut self,
        id: ConnectionHandle,
        change: impl FnOnce(&mut Conn<S>) -> T,
    ) -> Option<T> {
        let conn = self.get_mut(id)?;
        let before = conn.input_bytes();
        let result = change(conn);
        let after = conn.input_bytes();
        self.stats.input_bytes = self.stats.input_bytes + after as u64 - before as u64;
        Some(result)
    }

    /// Repeats the client's close frame.
    pub(crate) fn answer_close(&mut self, id: ConnectionHandle, frame: Option<CloseFrame<'_>>, now: Now) {
        let code = frame.map_or(NORMAL_CLOSURE, |frame| frame.code);
        self.close_with(id, Reason::ClientClosed, code, "", now);
    }

    pub(crate) fn close_violation(&mut self, id: ConnectionHandle, violation: Violation, now: Now) {
        let reason = Reason::of_violation(violation);
        self.close_with(id, reason, violation.close_code(), violation.reason(), now);
    }

    /// Answers an upgrade with an HTTP status.
    pub(crate) fn refuse(&mut self, id: ConnectionHandle, refusal: Refusal, reason: Reason, now: Now) {
        self.stats.count_refusal(refusal.status());
        self.queue_unbounded(id, |outbox| outbox.push_with(|out| refusal.encode(out)));
        self.begin_closing(id, reason, now);
    }

    /// Queues the response that opens the connection.
    pub(crate) fn accept(&mut self, id: ConnectionHandle, response: impl FnOnce(&mut Vec<u8>), now: Now) {
        self.queue_unbounded(id, |outbox| outbox.push_with(response));
        if let Some(conn) = self.get_mut(id) {
            conn.phase = Phase::Open;
            conn.since = Stamp::of(now);
        }
        self.stats.upgrades += 1;
    }

    /// Ends a connection without a close frame of ours, and gives its socket up.
    ///
    /// Order: a connection that has its reason keeps it. What can still be sent goes before the close.
    pub(crate) fn end(&mut self, id: ConnectionHandle, reason: Reason) {
        let Some(conn) = self.get_mut(id).filter(|conn| conn.phase != Phase::Closed) else {
            return;
        };
        let had_reason = conn.phase == Phase::Closing;
        conn.phase = Phase::Closed;
        if !had_reason {
            self.stats.count_close(reason);
            self.ended.push_back(id);
        }
        if reason == Reason::Reset {
            self.drop_outbox(id);
        }
        self.flush(id.slot);
        self.drop_outbox(id);
        self.outputs.push_back(Output::Close(id));
        self.closed.push(id);
    }

    /// Removes an entry whose socket is being closed.
    pub(crate) fn remove(&mut self, id: ConnectionHandle) {
        self.change_input(id, |conn| {
            conn.reader = wire_ws::Reader::new();
            conn.held = None;
        });
        if let Some(conn) = self.get(id) {
            self.surplus -= usize::from(conn.marks.contains(Marks::SURPLUS));
            self.conns.remove(id.slot);
            self.wheel.cancel(id.slot);
            self.stats.connections -= 1;
            self.stats.connections_closed += 1;
        }
    }

    /// Counts a ping or pong of the client; `false` when there were too many.
    pub(crate) fn count_ping(&mut self, id: ConnectionHandle, now: Now) -> bool {
        let pings_max = self.config.pings_max;
        let Some(conn) = self.get_mut(id).filter(|_| pings_max > 0) else {
            return true;
        };
        let now_s = (now.mono_ms / 1_000) as u16;
        if conn.pings == 0 || now_s.wrapping_sub(conn.pings_since_s) >= PING_WINDOW_S {
            conn.pings_since_s = now_s;
            conn.pings = 0;
        }
        conn.pings += 1;
        conn.pings <= pings_max
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(crate) fn push_output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        self.pool.put_buffer(buffer);
    }

    fn close_with(&mut self, id: ConnectionHandle, reason: Reason, code: u16, text: &str, now: Now) {
        if !self.is_open(id) {
            return;
        }
        if reason.disconnect().code == Some(SLOW_CONSUMER) {
            self.change_outbox(id, |outbox| {
                outbox.drop_items();
            });
        }
        self.queue_unbounded(id, |outbox| {
            outbox.push_with(|out| encode_close(out, code, text, None))
        });
        self.begin_closing(id, reason, now);
    }

    fn begin_closing(&mut self, id: ConnectionHandle, reason: Reason, now: Now) {
        self.change_input(id, |conn| {
            conn.reader = wire_ws::Reader::new();
            conn.held = None;
        });
        let Some(conn) = self.get_mut(id) else { return };
        conn.phase = Phase::Closing;
        conn.since = Stamp::of(now);
        let was_paused = !std::mem::take(&mut conn.pauses).is_empty();
        if was_paused {
            // What comes now is thrown away: a socket closed with unread input resets, and the close frame is lost.
            self.outputs.push_back(Output::ResumeReading(id));
        }
        self.wheel.set(id.slot, now.mono_ms + CLOSE_MS_MAX);
        self.stats.count_close(reason);
        self.ended.push_back(id);
    }

    /// Queues for an open connection, and enforces the bounds of its outbox.
    #[inline]
    fn queue(&mut self, id: ConnectionHandle, now: Now, push: impl FnOnce(&mut Outbox)) {
        if !self.is_open(id) {
            return;
        }
        let bytes_max = self.config.outbox_bytes_max;
        let slow_readers = self.slow_readers;
        let Some((is_over, dropped)) = self.queue_unbounded(id, |outbox| {
            push(outbox);
            let bytes_max = match slow_readers {
                SlowReaders::Close if !outbox.is_blocked() => OUTBOX_TICK_BYTES_MAX,
                SlowReaders::Close | SlowReaders::Wait => bytes_max,
            };
            let dropped = outbox.drop_first(bytes_max);
            (outbox.len() > bytes_max, dropped)
        }) else {
            return;
        };
        self.stats.events_dropped += u64::from(dropped);
        if is_over {
            match slow_readers {
                SlowReaders::Close => self.close(id, Reason::SlowOutbox, now),
                SlowReaders::Wait => {
                    self.pause(id, Pauses::OUTBOX);
                }
            }
        }
    }

    /// Queues whatever the bounds say: pings, responses and close frames, of which there are few.
    #[inline]
    fn queue_unbounded<T>(&mut self, id: ConnectionHandle, push: impl FnOnce(&mut Outbox) -> T) -> Option<T> {
        let conn = self
            .conns
            .get_mut(id.slot)
            .filter(|conn| conn.generation == id.generation)?;
        let outbox = conn.outbox.get_or_insert_with(|| self.pool.take_outbox());
        let before = outbox.len();
        let result = push(outbox);
        self.stats.outbox_bytes = self.stats.outbox_bytes + outbox.len() as u64 - before as u64;
        if conn.marks.insert(Marks::DIRTY) {
            self.dirty.push(id.slot);
        }
        Some(result)
    }

    /// Changes an outbox if there is one, and keeps the sum.
    fn change_outbox(&mut self, id: ConnectionHandle, change: impl FnOnce(&mut Outbox)) {
        let Some(outbox) = self.get_mut(id).and_then(|conn| conn.outbox.as_deref_mut()) else {
            return;
        };
        let before = outbox.len();
        change(outbox);
        let after = outbox.len();
        self.stats.outbox_bytes = self.stats.outbox_bytes + after as u64 - before as u64;
    }

    fn drop_outbox(&mut self, id: ConnectionHandle) {
        if let Some(outbox) = self.get_mut(id).and_then(|conn| conn.outbox.take()) {
            self.stats.outbox_bytes -= outbox.len() as u64;
            self.pool.put_outbox(outbox);
        }
    }
}

/// Repeats a close frame without a code.
const NORMAL_CLOSURE: u16 = 1000;
const SLOW_CONSUMER: u16 = 4408;

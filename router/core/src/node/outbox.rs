//! What a partition's records do to others: records of the logs of those, and what waits until those logs have them.
//!
//! In order for each log, one group at a time, tried again until it is in or the partition is released. An effect leaves
//! only when the store has the rows of the record that made it: a reader that gets a message can then read everything of it.
//! The states of conversations, and up to where the partition is done, are written only when every effect up to there is in
//! its log. A next owner begins behind that, so that it may repeat effects, and never skips one.

use std::collections::{BTreeMap, VecDeque};

use router_records::log::{Input, LogRecord};
use router_records::row::Row;
use wire_base::ids::Offset;
use wire_link::FromRouter;

use super::condition::{LogFault, RETRY_MS};
use super::group::{AppendId, Appended, Group, ReplyTo};
use super::partition::{Flushed, Partition};
use super::pending::row_bytes;
use super::{Intention, Shared};
use crate::effects::Elsewhere;
use crate::topology::PartitionId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lanes: BTreeMap<PartitionId, Lane>,
    /// Records with effects that are not in their logs: how many.
    open: BTreeMap<Offset, u32>,
    /// What was folded in each step, until its effects are in, oldest first.
    steps: VecDeque<Step>,
    /// The last record that has its rows in the store, but for those of `steps`.
    written: Option<Offset>,
}

/// What goes into one log.
#[derive(Debug, Default)]
struct Lane {
    queue: VecDeque<Outgoing>,
    /// How many of the first ones are being appended.
    under_way: Option<(AppendId, usize)>,
    /// It did not take them; they are tried again then, on the monotonic clock.
    retry_ms: Option<u64>,
}

#[derive(Debug)]
struct Outgoing {
    /// The record whose effect it is; `None`: it was asked for, and nothing waits for it but `reply_to`.
    offset: Option<Offset>,
    record: LogRecord,
    reply_to: ReplyTo,
    bytes: usize,
}

#[derive(Debug)]
struct Step {
    flushed: Flushed,
    /// States of conversations.
    rows: Vec<Row>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.lanes.values().all(|lane| lane.queue.is_empty())
    }

    /// Returns when something is tried again, on the monotonic clock.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.lanes.values().filter_map(|lane| lane.retry_ms).min()
    }

    /// Takes out everybody who waits for a record.
    pub(super) fn take_replies(&mut self) -> impl Iterator<Item = ReplyTo> {
        let lanes = std::mem::take(&mut self.lanes).into_values();
        lanes
            .flat_map(|lane| lane.queue)
            .map(|outgoing| outgoing.reply_to)
    }

    fn push(
        &mut self,
        to: PartitionId,
        offset: Option<Offset>,
        record: LogRecord,
        reply_to: ReplyTo,
    ) -> usize {
        let bytes = bytes_of(&record);
        let lane = self.lanes.entry(to).or_default();
        lane.queue.push_back(Outgoing {
            offset,
            record,
            reply_to,
            bytes,
        });
        if let Some(offset) = offset {
            *self.open.entry(offset).or_default() += 1;
        }
        bytes
    }

    /// Takes note that an effect of a record is in its log.
    fn settle(&mut self, offset: Offset) {
        if let Some(count) = self.open.get_mut(&offset) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&offset);
            }
        }
    }

    /// Takes out the steps of which nothing is left to do, as one.
    fn take_done(&mut self) -> Option<Step> {
        let first_open = self.open.keys().next().copied();
        let is_done = |step: &mut Step| first_open.is_none_or(|open| step.flushed.through < open);
        let mut done = self.steps.pop_front_if(is_done)?;
        while let Some(next) = self.steps.pop_front_if(is_done) {
            done.flushed = next.flushed;
            done.rows.extend(next.rows);
            done.bytes += next.bytes;
        }
        Some(done)
    }
}

impl Lane {
    /// Returns what can be appended now, and how many records it is.
    fn next_group(&self, written: Option<Offset>, shared: &Shared) -> (Group, usize) {
        let config = &shared.config;
        let mut group = Group::default();
        for outgoing in &self.queue {
            let is_full = group.len() >= config.group_records_max || group.bytes() >= config.group_bytes_max;
            if is_full || outgoing.offset.is_some_and(|offset| Some(offset) > written) {
                break;
            }
            group.push(&outgoing.record);
        }
        let count = group.len();
        (group, count)
    }
}

impl Partition {
    /// Takes what was folded in a step: the rows that may be written at once are returned, with what is done by them.
    pub(super) fn hold_back(
        &mut self,
        shared: &mut Shared,
        rows: &mut Vec<Row>,
        flushed: Flushed,
        elsewhere: Vec<Elsewhere>,
    ) -> Option<Flushed> {
        let mut bytes = 0;
        for Elsewhere {
            partition,
            offset,
            record,
        } in elsewhere
        {
            bytes += self.outbox.push(partition, Some(offset), record, ReplyTo::Nobody);
        }
        self.charge(shared, bytes);
        if self.outbox.open.is_empty() && self.outbox.steps.is_empty() {
            return Some(flushed);
        }
        let states: Vec<_> = rows
            .extract_if(.., |row| matches!(row, Row::Conversation(_)))
            .collect();
        let bytes = states.iter().map(row_bytes).sum();
        self.charge(shared, bytes);
        self.outbox.steps.push_back(Step {
            flushed,
            rows: states,
            bytes,
        });
        None
    }

    /// Appends a record that was asked for to the log of another partition.
    pub(super) fn send_elsewhere(
        &mut self,
        shared: &mut Shared,
        to: PartitionId,
        record: LogRecord,
        reply_to: ReplyTo,
    ) {
        let bytes = self.outbox.push(to, None, record, reply_to);
        self.charge(shared, bytes);
    }

    /// Takes note that the store has the rows of every record up to one, but for the states that are held back.
    pub(super) fn note_written(&mut self, through: Offset) {
        self.outbox.written = self.outbox.written.max(Some(through));
    }

    /// Hands out what can be appended to the logs of others.
    pub(super) fn pump_outbox(&mut self, shared: &mut Shared) {
        let (id, now_ms, written) = (self.id, shared.now.mono_ms, self.outbox.written);
        for (to, lane) in &mut self.outbox.lanes {
            let is_paused = lane.retry_ms.is_some_and(|retry_ms| retry_ms > now_ms);
            if lane.queue.is_empty() || lane.under_way.is_some() || is_paused {
                continue;
            }
            let (group, count) = lane.next_group(written, shared);
            if group.is_empty() {
                continue;
            }
            let append = shared.next_append(id, *to);
            lane.under_way = Some((append, count));
            lane.retry_ms = None;
            shared
                .intentions
                .push_back(Intention::Append { id: append, group });
        }
    }

    /// Learns that records are in the log of another partition, or not.
    pub(super) fn handle_appended_elsewhere(
        &mut self,
        shared: &mut Shared,
        id: AppendId,
        outcome: &Result<Appended, LogFault>,
    ) {
        let Some(lane) = self.outbox.lanes.get_mut(&id.to()) else {
            return;
        };
        let Some((_, count)) = lane.under_way.take_if(|(append, _)| *append == id) else {
            return;
        };
        if outcome.is_err() {
            // Some may be in: whoever reads them there takes each once.
            shared.stats.append_failures += 1;
            lane.retry_ms = Some(shared.now.mono_ms + RETRY_MS);
            return;
        }
        let done: Vec<_> = lane.queue.drain(..count).collect();
        for outgoing in done {
            self.discharge(shared, outgoing.bytes);
            if let Some(offset) = outgoing.offset {
                self.outbox.settle(offset);
            }
            if let ReplyTo::Status(link, request, user) = outgoing.reply_to {
                shared.links.push(link, &FromRouter::Done(request));
                shared.questions.finish(link, user);
            }
        }
        self.flush_done(shared);
    }

    /// Writes the states of what is done.
    fn flush_done(&mut self, shared: &mut Shared) {
        if let Some(Step { flushed, rows, bytes }) = self.outbox.take_done() {
            self.discharge(shared, bytes); // It is charged with the rows again.
            self.write(shared, rows, flushed.through, Some(flushed));
        }
    }
}

/// Returns about what a record takes while it waits.
fn bytes_of(record: &LogRecord) -> usize {
    let body = match &record.input {
        Input::Fanout(fanout) => fanout.message.body.len(),
        _ => 0,
    };
    size_of::<Outgoing>() + body
}

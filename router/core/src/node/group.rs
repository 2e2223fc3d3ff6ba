//! Records on their way into the log, and who waits for each.

use router_records::log::{DeviceInput, Input, LogRecord};
use wire_base::ids::{Offset, UserId};
use wire_link::{FailedRecord, FromRouter, RejectedRecord, RequestId};

use super::condition::{LogFault, UNAVAILABLE};
use super::{Intention, Node};
use crate::admission::Refusal;
use crate::sessions::LinkId;

/// Encoded records, to be appended together.
///
/// Shape: one buffer for all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Group {
    /// Returns the records, each as its bytes.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.bytes[start as usize..*end as usize])
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns how many bytes they have together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, record: &LogRecord) {
        record.encode(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// Where a group stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub first: Offset,
    /// Bytes that the log has written since it was opened.
    pub log_bytes: u64,
    /// Its first record is the first of a segment.
    pub is_new_segment: bool,
}

/// Who waits for the outcome of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReplyTo {
    /// The sender of a message: `Sent` or `Rejected`.
    Send(LinkId, RequestId),
    /// Who moved a watermark, and of whom: `Done` or `Failed`.
    Status(LinkId, RequestId, UserId),
    /// Nobody.
    Nobody,
}

/// A record with who waits for it.
pub(super) type Entry = (LogRecord, ReplyTo);

/// The group that is being gathered.
#[derive(Debug, Default)]
pub(super) struct GroupBuilder {
    group: Group,
    entries: Vec<Entry>,
    /// Number of this group; they are appended in this order.
    number: u64,
    /// Devices whose record found no room; they go first when there is room again.
    unlogged_devices: Vec<DeviceInput>,
    /// When acks are logged even if nothing else is, on the monotonic clock; `None` while none waits.
    acks_due_ms: Option<u64>,
}

/// The group that is being appended.
#[derive(Debug)]
pub(super) struct Appending {
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
}

impl GroupBuilder {
    fn is_full(&self, records_max: usize, bytes_max: usize) -> bool {
        self.entries.len() >= records_max || self.group.bytes() >= bytes_max
    }

    pub(super) fn push(&mut self, record: LogRecord, reply_to: ReplyTo) {
        self.group.push(&record);
        self.entries.push((record, reply_to));
    }

    /// Returns the number of a group that is made elsewhere.
    pub(super) fn take_number(&mut self) -> u64 {
        debug_assert!(
            self.entries.is_empty(),
            "records are consumed before any is gathered"
        );
        self.number += 1;
        self.number - 1
    }

    pub(super) fn acks_due_ms(&self) -> Option<u64> {
        self.acks_due_ms
    }
}

impl Node {
    /// Learns that the group under way is in the log and durable, or not.
    pub fn handle_appended(&mut self, outcome: Result<Appended, LogFault>) {
        let Some(appending) = self.appending.take() else {
            return;
        };
        match outcome {
            Ok(Appended {
                first,
                log_bytes,
                is_new_segment,
            }) => {
                let time = appending.entries.first().map(|(record, _)| record.time);
                let begun = time.filter(|_| is_new_segment).map(|time| (first, time));
                self.note_log(log_bytes, begun);
                self.pending.append(first, appending);
            }
            Err(fault) => {
                self.handle_log_fault(fault);
                self.give_up(appending.entries);
            }
        }
    }

    /// Returns whether a group takes no more records.
    pub(super) fn is_group_full(&self) -> bool {
        self.group
            .is_full(self.config.group_records_max, self.config.group_bytes_max)
    }

    /// Returns a number above that of every group so far: once [`Self::oldest_open_group`] has reached it, everything that
    /// was received before now is folded, or was refused.
    pub(super) fn next_group(&self) -> u64 {
        self.group.number + u64::from(!self.group.entries.is_empty())
    }

    /// Returns the number of the oldest group with a record that is neither folded nor refused; else of the next one.
    pub(super) fn oldest_open_group(&self) -> u64 {
        let appending = self.appending.as_ref().map(|appending| appending.number);
        let pending = self.pending.oldest_group();
        pending.or(appending).unwrap_or(self.group.number)
    }

    /// Returns whether the log would be given a group now.
    pub(super) fn can_form_group(&self) -> bool {
        self.appending.is_none()
            && self.condition.takes_records()
            && self.pending.unapplied_bytes() <= self.config.unapplied_bytes_max
    }

    /// Puts a record into the next group.
    pub(super) fn gather(&mut self, record: LogRecord, reply_to: ReplyTo) {
        self.opens.handle_gathered(&record);
        self.group.push(record, reply_to);
    }

    /// Hands what was gathered to the log, unless a group is under way. While records are not taken, nobody waits for them.
    pub(super) fn form_group(&mut self) {
        self.set_acks_due();
        if !self.condition.takes_records() {
            return self.give_up_gathered();
        }
        if !self.can_form_group() {
            return;
        }
        self.add_unlogged_devices();
        self.add_acks();
        if self.group.entries.is_empty() {
            return;
        }
        let number = self.group.number;
        self.group.number += 1;
        let entries = std::mem::take(&mut self.group.entries);
        let group = std::mem::take(&mut self.group.group);
        self.appending = Some(Appending { number, entries });
        self.intentions.push_back(Intention::Append(group));
    }

    fn give_up_gathered(&mut self) {
        if self.group.entries.is_empty() {
            return;
        }
        self.group.group = Group::default();
        let entries = std::mem::take(&mut self.group.entries);
        self.group.number += 1;
        self.give_up(entries);
    }

    /// Answers everyone of a group that is not in the log, and keeps what sessions still need logged.
    fn give_up(&mut self, entries: Vec<Entry>) {
        for (record, reply_to) in entries {
            self.reply_unavailable(reply_to);
            self.opens.handle_done(&record);
            match record.input {
                Input::Ack(ack) => self.sessions.restore_ack(ack),
                Input::Device(device) => self.group.unlogged_devices.push(device),
                Input::Send(_) | Input::Status(_) => {}
            }
        }
        self.admit_settled();
    }

    pub(super) fn reply_unavailable(&mut self, reply_to: ReplyTo) {
        match reply_to {
            ReplyTo::Send(link, request) => self.reject(link, request, &UNAVAILABLE),
            ReplyTo::Status(link, request, user) => {
                self.fail(link, request, &UNAVAILABLE);
                self.questions.finish(link, user);
            }
            ReplyTo::Nobody => {}
        }
    }

    fn add_unlogged_devices(&mut self) {
        let count = self.group.unlogged_devices.len().min(UNLOGGED_AT_ONCE);
        if count == 0 {
            return;
        }
        let time = self.stamp();
        let devices: Vec<_> = self.group.unlogged_devices.drain(..count).collect();
        for device in devices {
            let input = Input::Device(device);
            self.gather(LogRecord { time, input }, ReplyTo::Nobody);
        }
    }

    /// Adds the acks that sessions hold: along with other records, or when the oldest has waited long enough. Then they
    /// also go into a group that is full, or steady sends would hold them up for ever.
    fn add_acks(&mut self) {
        let Some(due_ms) = self.group.acks_due_ms else {
            return;
        };
        let is_due = due_ms <= self.now.mono_ms;
        if !is_due && self.group.entries.is_empty() {
            return;
        }
        let time = self.stamp();
        for _ in 0..self.config.group_records_max {
            let is_full = self.is_group_full() && !is_due;
            if is_full || self.group.group.bytes() >= ACKS_BYTES_MAX {
                return;
            }
            let Some(ack) = self.sessions.poll_ack() else {
                self.group.acks_due_ms = None;
                return;
            };
            self.stats.acks += 1;
            let input = Input::Ack(ack);
            self.gather(LogRecord { time, input }, ReplyTo::Nobody);
        }
    }

    /// Starts the time that acks may linger, when there are some and it does not run yet.
    fn set_acks_due(&mut self) {
        if self.sessions.acks_waiting() == 0 {
            self.group.acks_due_ms = None;
        } else {
            let due_ms = self.now.mono_ms + self.config.ack_linger_ms;
            self.group.acks_due_ms.get_or_insert(due_ms);
        }
    }

    /// Refuses a send.
    pub(super) fn reject(&mut self, link: LinkId, request: RequestId, refusal: &Refusal) {
        self.stats.count_rejected(refusal.code);
        let record = RejectedRecord {
            request,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
            retry_after_ms: refusal.retry_after_ms,
        };
        self.links.push(link, &FromRouter::Rejected(record));
    }

    /// Refuses a question or a status.
    pub(super) fn fail(&mut self, link: LinkId, request: RequestId, refusal: &Refusal) {
        let record = FailedRecord {
            request,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
        };
        self.links.push(link, &FromRouter::Failed(record));
    }
}

/// Devices of a group that was given up that go into the next one; the others wait for the one after.
const UNLOGGED_AT_ONCE: usize = 16 << 10;
/// Size at which a group takes no more acks, be they due or not.
const ACKS_BYTES_MAX: usize = 8 << 20;

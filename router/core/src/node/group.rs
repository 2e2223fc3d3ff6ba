//! Records on their way into the log, and who waits for each.

use std::collections::BTreeMap;

use router_records::log::{DeviceInput, Input, LogRecord};
use wire_base::ids::{DeviceId, Offset, UnixMs, UserId};
use wire_link::RequestId;

use super::condition::LogFault;
use super::intake::digest;
use super::partition::Partition;
use super::{Intention, Shared};
use crate::sessions::LinkId;
use crate::topology::PartitionId;

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

    pub(super) fn push(&mut self, record: &LogRecord) {
        record.encode(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// Names a group until it is reported; an answer to an older one is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendId {
    /// Counts all groups of a node.
    number: u64,
    /// Whose records they are.
    from: PartitionId,
    /// The log that gets them.
    to: PartitionId,
}

impl AppendId {
    /// Returns the log that gets the group.
    pub fn to(self) -> PartitionId {
        self.to
    }

    pub(super) fn from(self) -> PartitionId {
        self.from
    }
}

/// Where the records of a group stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// One after the other from here on.
    From(Offset),
    /// Each where it says, ascending: others appended in between.
    Each(Vec<Offset>),
}

impl Offsets {
    /// Returns them in order; of a run without an end.
    pub(super) fn each(self) -> impl Iterator<Item = Offset> {
        let (first, each) = match self {
            Self::From(first) => (Some(first), Vec::new()),
            Self::Each(each) => (None, each),
        };
        let run = first.into_iter().flat_map(|first| (first.0..).map(Offset));
        run.chain(each)
    }
}

/// What is known of a group that is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where its records stand.
    pub offsets: Offsets,
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
    unlogged_devices: BTreeMap<(UserId, DeviceId), DeviceInput>,
    /// How many of the entries are devices, for which nobody is in a hurry.
    devices: usize,
    /// When devices alone make a group, on the monotonic clock; `None` while none is gathered.
    devices_due_ms: Option<u64>,
}

/// The group that is being appended.
#[derive(Debug)]
pub(super) struct Appending {
    id: AppendId,
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    /// Of each record, where the log is read back.
    pub(super) digests: Vec<u64>,
}

impl GroupBuilder {
    fn is_full(&self, records_max: usize, bytes_max: usize) -> bool {
        self.entries.len() >= records_max || self.group.bytes() >= bytes_max
    }

    pub(super) fn push(&mut self, record: LogRecord, reply_to: ReplyTo) {
        self.group.push(&record);
        self.entries.push((record, reply_to));
    }

    /// Keeps a device that was not logged, with its newest session.
    fn keep_device(&mut self, device: DeviceInput) {
        let key = (device.user, device.device);
        let session = device.session;
        let kept = self.unlogged_devices.entry(key).or_insert(device);
        kept.session = kept.session.max(session);
    }

    /// Takes out what was gathered: it is not appended.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        self.take().1
    }

    /// Returns whether nothing was gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether everything that was gathered can wait for company.
    fn is_patient(&self) -> bool {
        self.devices == self.entries.len()
    }

    /// Returns when devices that wait for company have waited long enough, on the monotonic clock.
    pub(super) fn devices_due_ms(&self) -> Option<u64> {
        self.devices_due_ms
    }

    fn take(&mut self) -> (Group, Vec<Entry>) {
        (self.devices, self.devices_due_ms) = (0, None);
        (std::mem::take(&mut self.group), std::mem::take(&mut self.entries))
    }
}

impl Partition {
    /// Learns that the group under way is in the log and durable, or not. Returns what the log said of it.
    pub(super) fn handle_appended(
        &mut self,
        shared: &mut Shared,
        id: AppendId,
        outcome: Result<Appended, LogFault>,
    ) {
        if id.to() != self.id {
            return self.handle_appended_elsewhere(shared, id, &outcome);
        }
        let Some(appending) = self.appending.take_if(|appending| appending.id == id) else {
            return;
        };
        match outcome {
            Ok(Appended { offsets, .. }) => self.take_appended(shared, appending, offsets),
            Err(fault) => {
                if self.is_alone() {
                    shared.handle_log_fault(fault);
                } else {
                    self.pause(shared);
                }
                self.give_up(shared, appending.entries);
                // Should the log have them after all, the consumer brings them.
                self.take_in(shared);
            }
        }
    }

    /// Returns the time of the first record of a group under way.
    pub(super) fn appending_time(&self, id: AppendId) -> Option<UnixMs> {
        let appending = self.appending.as_ref().filter(|appending| appending.id == id)?;
        appending.entries.first().map(|(record, _)| record.time)
    }

    /// Returns whether a group takes no more records.
    pub(super) fn is_group_full(&self, shared: &Shared) -> bool {
        self.group
            .is_full(shared.config.group_records_max, shared.config.group_bytes_max)
    }

    /// Returns a number above that of every group so far: once [`Self::oldest_open_group`] has reached it, everything that
    /// was received before now is folded, or was refused.
    pub(super) fn next_group(&self) -> u64 {
        self.group.number + u64::from(!self.group.entries.is_empty())
    }

    /// Returns the number of the oldest group with a record that is neither folded nor refused; else of the next one.
    pub(super) fn oldest_open_group(&self) -> u64 {
        let pending = self.pending.oldest_group();
        pending.unwrap_or_else(|| self.oldest_group_to_come())
    }

    /// Returns the same of what is not on its way into the folds yet.
    pub(super) fn oldest_group_to_come(&self) -> u64 {
        let appending = self.appending.as_ref().map(|appending| appending.number);
        let waiting = self.intake.oldest_group();
        waiting.or(appending).unwrap_or(self.group.number)
    }

    /// Returns whether the log would be given a group now.
    pub(super) fn can_form_group(&self, shared: &Shared) -> bool {
        self.appending.is_none()
            && self.takes_records(shared)
            && !self.intake.is_full()
            && shared.has_room_for_rows()
    }

    /// Puts a record into the next group.
    pub(super) fn gather(&mut self, record: LogRecord, reply_to: ReplyTo) {
        self.opens.handle_gathered(&record);
        self.group.push(record, reply_to);
    }

    /// Puts a device into the next group, where it waits a little for company: at a rush of hellos each would have a sync of
    /// its own, and nobody waits for it. Where the next owner may be another node it has to know soon.
    pub(super) fn gather_device(&mut self, shared: &Shared, record: LogRecord) {
        if self.is_alone() {
            let linger_ms = DEVICE_LINGER_MS.min(shared.config.sessions.ack_linger_ms);
            let due_ms = shared.now.mono_ms + linger_ms;
            self.group.devices += 1;
            self.group.devices_due_ms.get_or_insert(due_ms);
        }
        self.gather(record, ReplyTo::Nobody);
    }

    /// Hands what was gathered to the log, unless a group is under way. While records are not taken, nobody waits for them.
    pub(super) fn form_group(&mut self, shared: &mut Shared) {
        if !self.takes_records(shared) {
            return self.give_up_gathered(shared);
        }
        if !self.can_form_group(shared) {
            return;
        }
        self.add_unlogged_devices(shared);
        self.add_acks(shared);
        let is_early = self
            .group
            .devices_due_ms
            .is_some_and(|due_ms| due_ms > shared.now.mono_ms);
        let waits = self.group.is_patient() && is_early && !self.is_group_full(shared);
        if self.group.entries.is_empty() || waits && !shared.is_stopping {
            return;
        }
        let number = self.group.number;
        self.group.number += 1;
        let (group, entries) = self.group.take();
        let id = shared.next_append(self.id, self.id);
        let digests = match self.is_alone() {
            true => Vec::new(),
            false => group.records().map(digest).collect(),
        };
        self.appending = Some(Appending {
            id,
            number,
            entries,
            digests,
        });
        shared.intentions.push_back(Intention::Append { id, group });
    }

    fn give_up_gathered(&mut self, shared: &mut Shared) {
        if self.group.entries.is_empty() {
            return;
        }
        let entries = self.group.take_entries();
        self.group.number += 1;
        self.give_up(shared, entries);
    }

    /// Answers everyone of a group that is not in the log, and keeps what sessions still need logged.
    fn give_up(&mut self, shared: &mut Shared, entries: Vec<Entry>) {
        for (record, reply_to) in entries {
            shared.reply_unavailable(reply_to);
            self.opens.handle_done(&record);
            match record.input {
                Input::Ack(ack) => self.sessions.restore_ack(ack),
                Input::Device(device) => self.group.keep_device(device),
                Input::Send(_) | Input::Status(_) | Input::Fanout(_) => {}
            }
        }
        self.admit_settled(shared);
    }

    fn add_unlogged_devices(&mut self, shared: &mut Shared) {
        if self.group.unlogged_devices.is_empty() {
            return;
        }
        let time = self.stamp(shared);
        for _ in 0..UNLOGGED_AT_ONCE {
            let Some((_, device)) = self.group.unlogged_devices.pop_first() else {
                return;
            };
            let input = Input::Device(device);
            self.gather(LogRecord { time, input }, ReplyTo::Nobody);
        }
    }

    /// Adds the acks whose time has come, also to a group that is full, or steady sends would hold them up for ever. With
    /// nothing else in the group they wait a little longer.
    fn add_acks(&mut self, shared: &mut Shared) {
        let now_ms = shared.now.mono_ms;
        let are_due = self.acks_due_ms(shared).is_some_and(|due_ms| due_ms <= now_ms);
        if !are_due && !shared.is_stopping {
            return;
        }
        let time = self.stamp(shared);
        for _ in 0..shared.config.group_records_max {
            if self.group.group.bytes() >= ACKS_BYTES_MAX {
                return;
            }
            let Some(ack) = self.sessions.poll_ack() else {
                return;
            };
            shared.stats.acks += 1;
            let input = Input::Ack(ack);
            self.gather(LogRecord { time, input }, ReplyTo::Nobody);
        }
    }

    /// Returns when acks are to be logged, on the monotonic clock: at their time with what is gathered already, else later.
    pub(super) fn acks_due_ms(&self, shared: &Shared) -> Option<u64> {
        let alone_ms = match self.group.entries.is_empty() {
            true => ACKS_ALONE_MS.min(shared.config.sessions.ack_linger_ms),
            false => 0,
        };
        self.sessions.acks_due_ms().map(|due_ms| due_ms + alone_ms)
    }
}

impl GroupBuilder {
    /// Returns what shows that something was gathered.
    pub(super) fn trace(&self) -> [usize; 2] {
        [self.entries.len(), self.unlogged_devices.len()]
    }
}

impl Shared {
    /// Names the next group that goes into a log.
    pub(super) fn next_append(&mut self, from: PartitionId, to: PartitionId) -> AppendId {
        self.appends += 1;
        let number = self.appends;
        AppendId { number, from, to }
    }
}

/// Devices of a group that was given up that go into the next one; the others wait for the one after.
const UNLOGGED_AT_ONCE: usize = 16 << 10;
/// How long a device waits for company; no longer than acks do.
const DEVICE_LINGER_MS: u64 = 10;
/// How long acks whose time has come wait for something else to share its write and sync; no longer than before.
const ACKS_ALONE_MS: u64 = 20;
/// Size at which a group takes no more acks, be they due or not.
const ACKS_BYTES_MAX: usize = 8 << 20;

//! The group of a tick: the records that share one write and one sync, and who waits for each.

use std::time::Instant;

use router_core::sessions::LinkId;
use router_records::log::{DeviceInput, Input, LogRecord};
use router_storage::disk::Disk;
use router_storage::log::{GROUP_BYTES_MAX, Group};
use router_storage::store::Store;
use wire_base::ids::UserId;
use wire_link::{FailedRecord, FromRouter, RejectedRecord, RequestId};

use super::condition::UNAVAILABLE;
use super::{Fatal, Router};
use crate::config::RouterConfig;

/// Records on their way into the log.
#[derive(Default)]
pub(super) struct Forming {
    group: Group,
    pub(super) records: Vec<LogRecord>,
    /// One for each record.
    pub(super) askers: Vec<Asker>,
    /// Devices whose record found no room; they go first when there is room again.
    unlogged_devices: Vec<DeviceInput>,
}

/// Who waits for the outcome of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The sender of a message: `Sent` or `Rejected`.
    Send(LinkId, RequestId),
    /// Who moved a watermark, and of whom: `Done` or `Failed`.
    Status(LinkId, RequestId, UserId),
    /// Nobody.
    None,
}

impl Forming {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.unlogged_devices.is_empty()
    }

    /// Returns whether the group takes no more.
    pub(super) fn is_full(&self, config: &RouterConfig) -> bool {
        self.records.len() >= config.group_records_max || self.group.bytes() >= config.group_bytes_max
    }

    /// Returns whether a status of a user is among the records.
    pub(super) fn has_status_of(&self, user: UserId) -> bool {
        let is_of_user = |asker: &Asker| matches!(asker, Asker::Status(_, _, of) if *of == user);
        self.askers.iter().any(is_of_user)
    }

    pub(super) fn push(&mut self, record: LogRecord, asker: Asker) {
        self.group.push(|frame| record.encode(frame));
        self.records.push(record);
        self.askers.push(asker);
    }

    fn clear(&mut self) {
        self.group.clear();
        self.records.clear();
        self.askers.clear();
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// Makes the group of this tick durable, its rows readable, and its effects known.
    pub(super) fn commit(&mut self) -> Result<(), Fatal> {
        if self.condition.takes_records() {
            self.add_unlogged_devices();
            self.add_acks();
        } else {
            self.give_up_group();
        }
        if self.forming.records.is_empty() {
            if let Some(applied) = self.store.flushed() {
                self.folds.handle_applied(applied); // Look-ups of sessions filled memory too.
            }
            return Ok(());
        }
        let started = Instant::now();
        let appended = self.log.append_group(&mut self.forming.group);
        match appended {
            Ok(first) => {
                self.counters.commit.observe(started.elapsed());
                self.count_group();
                let askers = std::mem::take(&mut self.forming.askers);
                self.unapplied.begin(first, &mut self.forming.records);
                self.forming.clear();
                self.finish_group(&askers)?;
                self.forming.askers = askers; // For its memory.
                self.forming.clear();
                Ok(())
            }
            Err(error) => {
                self.handle_append_error(&error)?;
                self.give_up_group();
                Ok(())
            }
        }
    }

    fn finish_group(&mut self, askers: &[Asker]) -> Result<(), Fatal> {
        match self.apply() {
            Ok(()) => self.publish(askers),
            // The log has the records, so they will be folded: what becomes of them is not known now.
            Err(error) => {
                self.handle_write_error(&error)?;
                self.answer_unavailable(askers);
            }
        }
        Ok(())
    }

    /// Answers everyone of a group that was not appended, and keeps what sessions still need logged.
    fn give_up_group(&mut self) {
        if self.forming.records.is_empty() {
            return;
        }
        let askers = std::mem::take(&mut self.forming.askers);
        self.answer_unavailable(&askers);
        for record in std::mem::take(&mut self.forming.records) {
            match record.input {
                Input::Ack(ack) => self.sessions.restore_ack(ack),
                Input::Device(device) => self.forming.unlogged_devices.push(device),
                Input::Send(_) | Input::Status(_) => {}
            }
        }
        self.forming.clear();
    }

    fn answer_unavailable(&mut self, askers: &[Asker]) {
        for asker in askers {
            match *asker {
                Asker::Send(link, request) => self.reject(link, request, &UNAVAILABLE),
                Asker::Status(link, request, _) => self.fail(link, request, &UNAVAILABLE),
                Asker::None => {}
            }
        }
    }

    fn add_unlogged_devices(&mut self) {
        let time = self.folds.stamp(self.now.unix);
        let count = self.forming.unlogged_devices.len().min(UNLOGGED_AT_ONCE);
        let devices: Vec<_> = self.forming.unlogged_devices.drain(..count).collect();
        for device in devices {
            self.forming.push(
                LogRecord {
                    time,
                    input: Input::Device(device),
                },
                Asker::None,
            );
        }
    }

    /// Adds the acks that sessions hold: along with other records, or when the oldest has waited long enough. Then they
    /// also go into a group that is full, or steady sends would hold them up for ever.
    fn add_acks(&mut self) {
        self.set_acks_due();
        let Some(due_ms) = self.acks_due_ms else { return };
        let is_due = due_ms <= self.now.mono_ms;
        if !is_due && self.forming.records.is_empty() {
            return;
        }
        let time = self.folds.stamp(self.now.unix);
        for _ in 0..self.config.group_records_max {
            let is_full = self.forming.is_full(&self.config) && !is_due;
            if is_full || self.forming.group.bytes() >= ACKS_BYTES_MAX {
                return;
            }
            let Some(ack) = self.sessions.poll_ack() else {
                self.acks_due_ms = None;
                return;
            };
            self.counters.acks.add(1);
            self.forming.push(
                LogRecord {
                    time,
                    input: Input::Ack(ack),
                },
                Asker::None,
            );
        }
    }

    /// Starts the time that acks may linger, when there are some and it does not run yet.
    pub(super) fn set_acks_due(&mut self) {
        if self.sessions.acks_waiting() == 0 {
            self.acks_due_ms = None;
        } else {
            let linger_ms = u64::from(self.config.ack_linger_ms);
            self.acks_due_ms.get_or_insert(self.now.mono_ms + linger_ms);
        }
    }

    fn count_group(&self) {
        let stats = self.log.stats();
        self.counters.groups.set(stats.groups);
        self.counters.records.set(stats.records);
        self.counters.log_bytes.set(stats.bytes);
        self.counters.fsyncs.set(stats.syncs);
    }

    /// Refuses a send.
    pub(super) fn reject(
        &mut self,
        link: LinkId,
        request: RequestId,
        refusal: &router_core::prelog::Refusal,
    ) {
        self.counters.reject(refusal.code);
        let record = RejectedRecord {
            request,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
            retry_after_ms: refusal.retry_after_ms,
        };
        self.links.push(link, &FromRouter::Rejected(record));
    }

    /// Refuses a status or a read.
    pub(super) fn fail(&mut self, link: LinkId, request: RequestId, refusal: &router_core::prelog::Refusal) {
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
const ACKS_BYTES_MAX: usize = GROUP_BYTES_MAX / 2;

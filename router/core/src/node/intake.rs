//! Records of a log that several write to, brought into its order: own ones by their reports, all of them by the consumer.
//!
//! An own record is folded as soon as it is the next one (optimistic fold); one that stands further on waits until the
//! consumer has brought what lies between. The consumer brings own records too: those are compared and dropped.

use std::collections::{BTreeMap, VecDeque};

use router_records::log::LogRecord;
use wire_base::ids::Offset;
use xxhash_rust::xxh3::xxh3_64;

use super::group::{Appending, Entry, Offsets, ReplyTo};
use super::partition::Partition;
use super::{Intention, Notice, Shared};

/// What is known of a log from the next record to be folded on.
#[derive(Debug)]
pub(super) struct Intake {
    /// The first record that is not on its way into the folds.
    next: Offset,
    /// Records below this have their effects; they are only observed.
    unflushed: Offset,
    /// Own records that stand further on, each with the number of its group.
    own: BTreeMap<Offset, (u64, Entry)>,
    /// What the consumer brought and nobody has looked at: where the group under way stands is to be known first, since it may
    /// be in here.
    brought: VecDeque<(Offset, Vec<LogRecord>)>,
    brought_records: usize,
    /// Digests of own records, oldest first, until the consumer brings its copies.
    unconfirmed: VecDeque<(Offset, u64)>,
    /// It is not known any more what the log holds.
    is_broken: bool,
}

/// What came of a record that the consumer brought.
enum Brought {
    /// It is an own one, of the group of that number, and the next to be folded.
    Own(u64, Entry),
    /// It is one of others, and the next to be folded.
    Foreign(Entry),
    /// It was folded already.
    Known,
    /// It is another one than was appended there.
    Other,
}

impl Intake {
    /// Returns the intake of a log that is read from `next` on, and whose records below `unflushed` have their effects.
    pub(super) fn new(next: Offset, unflushed: Offset) -> Self {
        Self {
            next,
            unflushed,
            own: BTreeMap::new(),
            brought: VecDeque::new(),
            brought_records: 0,
            unconfirmed: VecDeque::new(),
            is_broken: false,
        }
    }

    /// Returns the first record that is not on its way into the folds.
    pub(super) fn next(&self) -> Offset {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.brought.is_empty()
    }

    /// Returns whether so much waits here that no more is to be brought, or appended.
    pub(super) fn is_full(&self) -> bool {
        self.brought_records >= WAITING_MAX || self.own.len() >= WAITING_MAX
    }

    /// Returns the oldest group of which a record waits here.
    pub(super) fn oldest_group(&self) -> Option<u64> {
        self.own.values().next().map(|(number, _)| *number)
    }

    pub(super) fn consume(&mut self, first: Offset, records: Vec<LogRecord>) {
        self.brought_records += records.len();
        self.brought.push_back((first, records));
    }

    /// Takes out everybody who waits for a record.
    pub(super) fn take_replies(&mut self) -> Vec<ReplyTo> {
        let own = self.own.values_mut();
        own.map(|(_, (_, reply_to))| std::mem::replace(reply_to, ReplyTo::Nobody))
            .collect()
    }

    /// Takes what the consumer brought as the record at `offset`.
    fn bring(&mut self, offset: Offset, record: LogRecord) -> Brought {
        if offset < self.next {
            return self.confirm(offset, &record);
        }
        self.next = Offset(offset.0 + 1);
        match self.own.remove(&offset) {
            Some((number, entry)) if entry.0 == record => Brought::Own(number, entry),
            Some(_) => Brought::Other,
            None => Brought::Foreign((record, ReplyTo::Nobody)),
        }
    }

    /// Compares the copy of a record that is folded already, if it was an own one.
    fn confirm(&mut self, offset: Offset, record: &LogRecord) -> Brought {
        while self.unconfirmed.pop_front_if(|(at, _)| *at < offset).is_some() {}
        match self.unconfirmed.pop_front_if(|(at, _)| *at == offset) {
            Some((_, digest)) if digest != digest_of(record) => Brought::Other,
            _ => Brought::Known,
        }
    }

    fn expect_copies(&mut self, digests: impl Iterator<Item = (Offset, u64)>) {
        self.unconfirmed.extend(digests);
        let surplus = self.unconfirmed.len().saturating_sub(UNCONFIRMED_MAX);
        self.unconfirmed.drain(..surplus);
    }
}

impl Partition {
    /// Takes a group that the log has.
    pub(super) fn take_appended(&mut self, shared: &mut Shared, appending: Appending, offsets: Offsets) {
        let Appending {
            number,
            entries,
            digests,
            ..
        } = appending;
        match offsets {
            Offsets::From(first) if first == self.intake.next || self.is_alone() => {
                self.intake.next = Offset(first.0 + entries.len() as u64);
                self.intake.expect_copies((first.0..).map(Offset).zip(digests));
                self.pending.append(first, number, entries);
            }
            offsets => {
                for ((offset, digest), entry) in offsets.each().zip(digests).zip(entries) {
                    self.take_own(shared, offset, digest, number, entry);
                }
            }
        }
        self.take_in(shared);
    }

    fn take_own(&mut self, shared: &mut Shared, offset: Offset, digest: u64, number: u64, entry: Entry) {
        if offset < self.intake.next {
            // The consumer has brought something else in its place.
            shared.reply_unavailable(entry.1);
            return self.give_up_log(shared, offset);
        }
        self.intake.expect_copies(std::iter::once((offset, digest)));
        self.intake.own.insert(offset, (number, entry));
    }

    /// Passes on what is next, unless a group is under way of which nobody knows where it stands.
    pub(super) fn take_in(&mut self, shared: &mut Shared) {
        self.take_own_next();
        if self.appending.is_some() {
            return;
        }
        while let Some((first, records)) = self.intake.brought.pop_front() {
            self.intake.brought_records -= records.len();
            if first > self.intake.next {
                // What lies between is not known, and must not be passed over.
                self.ask_again(shared);
                continue;
            }
            for (offset, record) in (first.0..).map(Offset).zip(records) {
                self.take_brought(shared, offset, record);
                self.take_own_next();
                if self.intake.is_broken {
                    return;
                }
            }
        }
    }

    fn ask_again(&mut self, shared: &mut Shared) {
        shared.stats.gaps += 1;
        shared.intentions.push_back(Intention::Consume {
            partition: self.id,
            from: self.intake.next,
        });
    }

    fn take_brought(&mut self, shared: &mut Shared, offset: Offset, record: LogRecord) {
        if (self.intake.next..self.intake.unflushed).contains(&offset) {
            self.folds.observe(offset, &record);
            self.intake.next = Offset(offset.0 + 1);
            return;
        }
        match self.intake.bring(offset, record) {
            Brought::Own(number, entry) => self.pending.append_one(offset, number, entry),
            Brought::Foreign(entry) => {
                // Nobody here waits for it, so that it holds up no more than what comes behind it.
                let number = self.oldest_group_to_come();
                self.opens.handle_gathered(&entry.0);
                self.pending.append_one(offset, number, entry);
            }
            Brought::Known => {}
            Brought::Other => self.give_up_log(shared, offset),
        }
    }

    /// Passes on own records that have become the next ones.
    fn take_own_next(&mut self) {
        while let Some((number, entry)) = self.intake.own.remove(&self.intake.next) {
            self.pending.append_one(self.intake.next, number, entry);
            self.intake.next.0 += 1;
        }
    }

    /// Gives up a partition whose log holds another record than was reported: what was folded may be wrong.
    fn give_up_log(&mut self, shared: &mut Shared, offset: Offset) {
        self.intake.is_broken = true;
        shared.stats.mismatches += 1;
        let partition = self.id;
        shared.notice(Notice::LogDiffers { partition, offset });
        shared.given_up.push(partition);
    }
}

/// Returns what tells a record from others.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

fn digest_of(record: &LogRecord) -> u64 {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    digest(&bytes)
}

/// Records that may wait here before no more are brought, or appended.
const WAITING_MAX: usize = 16 << 10;
/// Own records whose copies are compared when the consumer brings them; it is seldom behind by more.
const UNCONFIRMED_MAX: usize = 64 << 10;

//! Appended records, until they are folded: their look-ups overlap, their folds keep the order of the log.

use std::collections::{BTreeSet, VecDeque};

use router_records::row::Row;
use wire_base::ids::Offset;

use super::condition::{Condition, StoreFault};
use super::group::{Entry, ReplyTo};
use super::intention::{ApplyTicket, Purpose};
use super::partition::{Flushed, Partition};
use super::{Answer, Intention, Question, Shared};
use crate::effects::Effects;
use crate::fold::{Loaded, Lookup};

/// What is in the log and not folded, and how far the store is.
#[derive(Debug)]
pub(super) struct Pending {
    groups: VecDeque<PendingGroup>,
    /// Look-ups under way for folds and for sessions.
    loading: BTreeSet<Lookup>,
    /// The last record whose rows were given to the store.
    handed: Option<Offset>,
    /// The last record whose rows the store has taken.
    applied: Option<Offset>,
    /// Bytes of rows in between.
    unapplied_bytes: usize,
    /// Of the records folded in this step; kept for its memory.
    pub(super) effects: Effects,
    /// Who waits for them.
    pub(super) replies: Vec<(Offset, ReplyTo)>,
}

#[derive(Debug)]
struct PendingGroup {
    number: u64,
    /// Offset of the first entry left.
    first: Offset,
    entries: VecDeque<Entry>,
}

impl Pending {
    pub(super) fn new(applied: Option<Offset>) -> Self {
        Self {
            groups: VecDeque::new(),
            loading: BTreeSet::new(),
            handed: applied,
            applied,
            unapplied_bytes: 0,
            effects: Effects::default(),
            replies: Vec::new(),
        }
    }

    /// Takes a group that the log has from offset `first` on.
    pub(super) fn append(&mut self, first: Offset, number: u64, entries: Vec<Entry>) {
        self.groups.push_back(PendingGroup {
            number,
            first,
            entries: entries.into(),
        });
    }

    /// Takes one more record, which follows those before it.
    pub(super) fn append_one(&mut self, offset: Offset, number: u64, entry: Entry) {
        match self.groups.back_mut() {
            Some(group) if group.number == number => group.entries.push_back(entry),
            _ => self.append(offset, number, vec![entry]),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn oldest_group(&self) -> Option<u64> {
        self.groups.front().map(|group| group.number)
    }

    /// Returns the last record whose rows were given to the store.
    pub(super) fn handed(&self) -> Option<Offset> {
        self.handed
    }

    pub(super) fn unapplied_bytes(&self) -> usize {
        self.unapplied_bytes
    }

    /// Returns how many records wait.
    pub(super) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.entries.len()).sum()
    }

    /// Takes the answers out of everybody's hands who waits for a fold.
    pub(super) fn take_replies(&mut self) -> Vec<ReplyTo> {
        let entries = self.groups.iter_mut().flat_map(|group| &mut group.entries);
        entries
            .map(|(_, reply_to)| std::mem::replace(reply_to, ReplyTo::Nobody))
            .collect()
    }
}

impl Partition {
    /// Takes the answer to one of its questions.
    pub(super) fn handle_answer(
        &mut self,
        shared: &mut Shared,
        purpose: Purpose,
        answer: Result<Answer, StoreFault>,
    ) {
        match (purpose, answer) {
            (Purpose::Lookup(lookup), Ok(Answer::Loaded(loaded))) => {
                self.handle_looked_up(shared, lookup, Ok(loaded));
            }
            (Purpose::Lookup(lookup), answer) => {
                let fault = answer.err().unwrap_or(StoreFault::Failed);
                self.handle_looked_up(shared, lookup, Err(fault));
            }
            (Purpose::Page(request), Ok(Answer::Inbox(page))) => {
                self.handle_page(shared, request, Ok(page));
            }
            (Purpose::Page(request), answer) => {
                let fault = answer.err().unwrap_or(StoreFault::Failed);
                self.handle_page(shared, request, Err(fault));
            }
            (Purpose::Question(link, stage), answer) => {
                self.handle_question_answered(shared, link, stage, answer);
            }
        }
    }

    /// Returns whether the consumer may bring more.
    pub(super) fn wants_records(&self, shared: &Shared) -> bool {
        !self.intake.is_full() && self.pending.len() < PENDING_MAX && shared.has_room_for_rows()
    }

    /// Learns that the store has taken rows.
    pub(super) fn handle_applied(&mut self, shared: &mut Shared, ticket: ApplyTicket) {
        self.discharge(shared, ticket.bytes);
        self.note_written(ticket.through);
        self.pending.applied = self
            .pending
            .applied
            .max(ticket.flushed.map(|flushed| flushed.through));
    }

    /// Folds what has all its look-ups, in the order of the log, and lets out what came of it.
    pub(super) fn fold_pending(&mut self, shared: &mut Shared) {
        while let Some(group) = self.pending.groups.front_mut() {
            while let Some((record, reply_to)) = group.entries.front() {
                if self.folds.missing(group.first, record).is_some() {
                    self.look_up_ahead(shared);
                    self.hand_over(shared);
                    return self.admit_settled(shared);
                }
                self.folds.fold(group.first, record, &mut self.pending.effects);
                self.opens.handle_done(record);
                self.pending.replies.push((group.first, *reply_to));
                group.entries.pop_front();
                group.first.0 += 1;
            }
            self.pending.groups.pop_front();
        }
        self.hand_over(shared);
        self.admit_settled(shared);
        self.evict(shared);
        self.serve_when_caught_up(shared);
    }

    /// Asks for what is missing of the next records, all at once.
    fn look_up_ahead(&mut self, shared: &mut Shared) {
        if !self.can_ask_for_folds(shared) {
            // What becomes of the records is not known now, and nobody waits for a disk.
            for reply_to in self.pending.take_replies() {
                shared.reply_unavailable(reply_to);
            }
            return;
        }
        let mut missing = Vec::new();
        let mut ahead = LOOK_AHEAD;
        'ahead: for group in &self.pending.groups {
            for (offset, (record, _)) in (group.first.0..).map(Offset).zip(&group.entries) {
                if ahead == 0 {
                    break 'ahead;
                }
                ahead -= 1;
                let lookup = self.folds.missing(offset, record);
                // What an inbox lacks before a message is known when everything before that is folded.
                let is_known = |lookup: &Lookup| missing.is_empty() || !matches!(lookup, Lookup::Gap(_));
                missing.extend(lookup.filter(is_known));
            }
        }
        for lookup in missing {
            self.look_up(shared, lookup);
        }
    }

    /// Returns whether the store is worth asking: one that failed to answer has its pause.
    fn can_ask_for_folds(&self, shared: &Shared) -> bool {
        !matches!(
            shared.condition,
            Condition::StoreFull { .. } | Condition::StoreStopped { .. } | Condition::StoreFailed
        )
    }

    /// Asks the store for something that memory lacks, once.
    pub(super) fn look_up(&mut self, shared: &mut Shared, lookup: Lookup) {
        if self.pending.loading.insert(lookup) {
            shared.stats.store_reads += 1;
            self.ask(shared, Purpose::Lookup(lookup), Question::Lookup(lookup));
        }
    }

    /// Asks the store.
    pub(super) fn ask(&mut self, shared: &mut Shared, purpose: Purpose, question: Question) {
        let ask = shared.asks.ask(self.id, self.pending.handed, purpose, question);
        shared.intentions.push_back(ask);
    }

    pub(super) fn handle_looked_up(
        &mut self,
        shared: &mut Shared,
        lookup: Lookup,
        answer: Result<Loaded, StoreFault>,
    ) {
        self.pending.loading.remove(&lookup);
        match answer {
            Ok(loaded) => {
                self.folds.handle_loaded(loaded);
                if let Lookup::User(user) = lookup {
                    self.handle_user_loaded(shared, user);
                }
            }
            Err(fault) => {
                if let Lookup::User(user) = lookup {
                    self.handle_user_failed(shared, user);
                }
                // Records cannot be folded past what cannot be read.
                if self.pending.is_empty() {
                    shared.stats.store_errors += 1;
                } else {
                    shared.handle_store_fault(fault);
                }
            }
        }
    }

    /// Gives the store the rows of what was folded, and then lets the answers out.
    fn hand_over(&mut self, shared: &mut Shared) {
        let Some((through, _)) = self.pending.replies.last().copied() else {
            return;
        };
        let rows = std::mem::take(&mut self.pending.effects.rows);
        self.pending.handed = Some(through);
        self.apply(shared, rows, through);
        self.publish(shared);
    }

    /// Gives the store rows, which with those before them hold everything up to `through`, but for what is held back.
    pub(super) fn apply(&mut self, shared: &mut Shared, mut rows: Vec<Row>, through: Offset) {
        let log_time = self.folds.log_time();
        let mut flushed = Some(Flushed { through, log_time });
        if !self.is_alone() {
            let elsewhere = std::mem::take(&mut self.pending.effects.elsewhere);
            flushed = self.hold_back(shared, &mut rows, Flushed { through, log_time }, elsewhere);
        }
        self.write(shared, rows, through, flushed);
    }

    /// Gives the store rows, and what is done with them.
    pub(super) fn write(
        &mut self,
        shared: &mut Shared,
        rows: Vec<Row>,
        through: Offset,
        flushed: Option<Flushed>,
    ) {
        let bytes = rows.iter().map(row_bytes).sum();
        self.charge(shared, bytes);
        let ticket = ApplyTicket {
            partition: self.id,
            tenure: self.tenure,
            through,
            flushed,
            bytes,
        };
        shared.intentions.push_back(Intention::Apply { rows, ticket });
        if self.is_alone() {
            let due_ms = shared.now.mono_ms + shared.config.rows_gather_ms;
            shared.flush_due_ms.get_or_insert(due_ms);
        }
    }

    /// Takes note of bytes that wait for the store, or for the logs of others.
    pub(super) fn charge(&mut self, shared: &mut Shared, bytes: usize) {
        shared.unapplied_bytes += bytes;
        self.pending.unapplied_bytes += bytes;
    }

    /// Takes note that they wait no longer.
    pub(super) fn discharge(&mut self, shared: &mut Shared, bytes: usize) {
        // A driver that reports rows twice is wrong, and nothing worse comes of it.
        shared.unapplied_bytes = shared.unapplied_bytes.saturating_sub(bytes);
        self.pending.unapplied_bytes = self.pending.unapplied_bytes.saturating_sub(bytes);
    }

    /// Cuts memory back to its bounds, but for what the store cannot answer yet, or an old answer might replace.
    fn evict(&mut self, shared: &Shared) {
        let readable = match shared.asks.oldest(self.id) {
            Some(oldest) => self.pending.applied.min(oldest),
            None => self.pending.applied,
        };
        self.folds.evict(readable);
    }
}

/// Returns about what a row takes while it waits.
pub(super) fn row_bytes(row: &Row) -> usize {
    size_of::<Row>() + row.body_bytes()
}

/// Records that wait for their look-ups, over which the consumer brings no more.
const PENDING_MAX: usize = 16 << 10;
/// Records whose look-ups are under way at once.
const LOOK_AHEAD: usize = 256;

//! Appended records, until they are folded: their look-ups overlap, their folds keep the order of the log.

use std::collections::{BTreeSet, VecDeque};

use router_records::log::LogRecord;
use router_records::row::Row;
use wire_base::ids::Offset;

use super::condition::{Condition, StoreFault};
use super::group::{Appending, Entry, ReplyTo};
use super::intention::Purpose;
use super::{Answer, AskId, Intention, Node, Question};
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
    pub(super) fn append(&mut self, first: Offset, appending: Appending) {
        self.groups.push_back(PendingGroup {
            number: appending.number,
            first,
            entries: appending.entries.into(),
        });
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

    /// Takes the answers out of everybody's hands who waits for a fold.
    fn take_replies(&mut self) -> Vec<ReplyTo> {
        let entries = self.groups.iter_mut().flat_map(|group| &mut group.entries);
        entries
            .map(|(_, reply_to)| std::mem::replace(reply_to, ReplyTo::Nobody))
            .collect()
    }
}

impl Node {
    /// Takes records of the log that nobody waits for, from offset `first` on: at a start, those whose rows the store lacks.
    pub fn handle_consumed(&mut self, first: Offset, records: Vec<LogRecord>) {
        let number = self.group.take_number();
        let entries = records
            .into_iter()
            .map(|record| (record, ReplyTo::Nobody))
            .collect();
        self.pending.append(first, Appending { number, entries });
    }

    /// Returns whether every record that was appended or consumed is folded.
    pub fn is_folded(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes the answer to a question; one to a question that nobody waits for any more is dropped.
    ///
    /// Errors: the store could not be read. Whoever asked is told, or waits and asks again.
    pub fn handle_answer(&mut self, id: AskId, answer: Result<Answer, StoreFault>) {
        match (self.asks.take(id), answer) {
            (Some(Purpose::Lookup(lookup)), Ok(Answer::Loaded(loaded))) => {
                self.handle_looked_up(lookup, Ok(loaded));
            }
            (Some(Purpose::Lookup(lookup)), answer) => {
                self.handle_looked_up(lookup, Err(answer.err().unwrap_or(StoreFault::Failed)));
            }
            (Some(Purpose::Page(request)), Ok(Answer::Inbox(page))) => self.handle_page(request, Ok(page)),
            (Some(Purpose::Page(request)), answer) => {
                self.handle_page(request, Err(answer.err().unwrap_or(StoreFault::Failed)));
            }
            (Some(Purpose::Question(link, stage)), answer) => {
                self.handle_question_answered(link, stage, answer);
            }
            (None, _) => {}
        }
    }

    /// Learns that the store has taken rows: those of an [`Intention::Apply`] that had this many `bytes`.
    ///
    /// Errors: the rows wait in the driver, in their order, until [`Intention::RetryStore`]; then they are reported here.
    pub fn handle_applied(&mut self, through: Offset, bytes: usize) {
        self.pending.applied = self.pending.applied.max(Some(through));
        self.pending.unapplied_bytes = self.pending.unapplied_bytes.saturating_sub(bytes);
    }

    /// Learns that the store could not take rows. See [`Node::handle_applied`].
    pub fn handle_apply_failed(&mut self, fault: StoreFault) {
        self.handle_store_fault(fault);
    }

    /// Folds what has all its look-ups, in the order of the log, and lets out what came of it.
    pub(super) fn fold_pending(&mut self) {
        while let Some(group) = self.pending.groups.front_mut() {
            while let Some((record, reply_to)) = group.entries.front() {
                if self.folds.missing(group.first, record).is_some() {
                    self.look_up_ahead();
                    self.hand_over();
                    return self.admit_settled();
                }
                self.folds.fold(group.first, record, &mut self.pending.effects);
                self.opens.handle_done(record);
                self.pending.replies.push((group.first, *reply_to));
                group.entries.pop_front();
                group.first.0 += 1;
            }
            self.pending.groups.pop_front();
        }
        self.hand_over();
        self.admit_settled();
        self.evict();
    }

    /// Asks for what is missing of the next records, all at once.
    fn look_up_ahead(&mut self) {
        if !self.can_ask_for_folds() {
            // What becomes of the records is not known now, and nobody waits for a disk.
            for reply_to in self.pending.take_replies() {
                self.reply_unavailable(reply_to);
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
                missing.extend(self.folds.missing(offset, record));
            }
        }
        for lookup in missing {
            self.look_up(lookup);
        }
    }

    /// Returns whether the store is worth asking: one that failed to answer has its pause.
    fn can_ask_for_folds(&self) -> bool {
        !matches!(
            self.condition,
            Condition::StoreFull { .. } | Condition::StoreStopped { .. } | Condition::StoreFailed
        )
    }

    /// Asks the store for something that memory lacks, once.
    pub(super) fn look_up(&mut self, lookup: Lookup) {
        if self.pending.loading.insert(lookup) {
            self.stats.store_reads += 1;
            self.ask(Purpose::Lookup(lookup), Question::Lookup(lookup));
        }
    }

    /// Asks the store.
    pub(super) fn ask(&mut self, purpose: Purpose, question: Question) {
        let ask = self.asks.ask(self.pending.handed, purpose, question);
        self.intentions.push_back(ask);
    }

    pub(super) fn handle_looked_up(&mut self, lookup: Lookup, answer: Result<Loaded, StoreFault>) {
        self.pending.loading.remove(&lookup);
        match answer {
            Ok(loaded) => {
                self.folds.handle_loaded(loaded);
                if let Lookup::User(user) = lookup {
                    self.handle_user_loaded(user);
                }
            }
            Err(fault) => {
                if let Lookup::User(user) = lookup {
                    self.handle_user_failed(user);
                }
                // Records cannot be folded past what cannot be read.
                if self.pending.is_empty() {
                    self.stats.store_errors += 1;
                } else {
                    self.handle_store_fault(fault);
                }
            }
        }
    }

    /// Gives the store the rows of what was folded, and then lets the answers out.
    fn hand_over(&mut self) {
        let Some((through, _)) = self.pending.replies.last().copied() else {
            return;
        };
        let rows = std::mem::take(&mut self.pending.effects.rows);
        self.pending.handed = Some(through);
        self.apply(rows, through);
        self.publish();
    }

    /// Gives the store rows, which with those before them hold everything up to `through`.
    pub(super) fn apply(&mut self, rows: Vec<Row>, through: Offset) {
        let bytes = rows.iter().map(row_bytes).sum();
        self.pending.unapplied_bytes += bytes;
        let apply = Intention::Apply { rows, through, bytes };
        self.intentions.push_back(apply);
    }

    /// Cuts memory back to its bounds, but for what the store cannot answer yet, or an old answer might replace.
    fn evict(&mut self) {
        let readable = match self.asks.oldest() {
            Some(oldest) => self.pending.applied.min(oldest),
            None => self.pending.applied,
        };
        self.folds.evict(readable);
    }
}

/// Returns about what a row takes while it waits.
fn row_bytes(row: &Row) -> usize {
    let body = match row {
        Row::Message(row) => row.message.body.len(),
        _ => 0,
    };
    size_of::<Row>() + body
}

/// Records whose look-ups are under way at once.
const LOOK_AHEAD: usize = 256;

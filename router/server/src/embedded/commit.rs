//! From the log to the store and out: fold, apply, publish.

use router_core::effects::{Effects, NewMessage, SendOutcome, StatusUpdate};
use router_core::fold::Folds;
use router_core::prelog::Refusal;
use router_core::sessions::{Delivery, Entry, LinkId};
use router_records::log::LogRecord;
use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};
use wire_base::ids::{ConnectionHandle, Offset};
use wire_link::{Deliver, FromRouter, RequestId, SentRecord, StatusUpdateRecord};

use super::Router;
use super::condition::UNAVAILABLE;
use super::group::Asker;
use super::rows::{Coalescer, load};
use crate::metrics::Counters;

/// Records that are in the log, and what their folds wrote, until the store has it.
///
/// A fold is not repeated when the store fails: it has changed memory. So its effects wait here for the next attempt.
#[derive(Default)]
pub(super) struct Unapplied {
    first: Offset,
    records: Vec<LogRecord>,
    /// How many of them are folded.
    folded: usize,
    effects: Effects,
    /// The rows are as they are to be written.
    is_prepared: bool,
    coalescer: Coalescer,
    deliveries: Vec<Delivery>,
    connections: Vec<(LinkId, ConnectionHandle)>,
}

impl Unapplied {
    /// Takes the records that were appended from offset `first` on, and leaves an empty list in exchange.
    pub(super) fn begin(&mut self, first: Offset, records: &mut Vec<LogRecord>) {
        self.first = first;
        self.records.clear();
        std::mem::swap(&mut self.records, records);
        self.folded = 0;
        self.effects.clear();
        self.is_prepared = false;
    }

    /// Forgets what was applied.
    pub(super) fn end(&mut self) {
        self.records.clear();
        self.effects.clear();
    }

    /// Returns whether nothing waits for the store.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Folds what is not folded yet, and writes all rows in one batch.
    ///
    /// Errors: nothing has left; the same call may be made again.
    pub(super) fn apply<S: Store>(
        &mut self,
        folds: &mut Folds,
        store: &mut S,
        counters: &Counters,
    ) -> Result<(), StoreError> {
        while let Some(record) = self.records.get(self.folded) {
            let offset = Offset(self.first.0 + self.folded as u64);
            while let Some(lookup) = folds.missing(offset, record) {
                counters.store_reads.add(1);
                folds.handle_loaded(load(store, lookup)?);
            }
            folds.fold(offset, record, &mut self.effects);
            self.folded += 1;
        }
        if self.records.is_empty() {
            return Ok(());
        }
        let through = Offset(self.first.0 + self.folded as u64 - 1);
        if !self.is_prepared {
            self.coalescer.coalesce(&mut self.effects.rows);
            self.is_prepared = true;
        }
        store.hand_over(&mut self.effects.rows, through)?;
        folds.handle_applied(through);
        Ok(())
    }
}

impl<D: Disk, S: Store> Router<D, S> {
    /// See [`Unapplied::apply`].
    pub(super) fn apply(&mut self) -> Result<(), StoreError> {
        self.unapplied
            .apply(&mut self.folds, &mut self.store, &self.counters)
    }

    /// Lets out what was applied: answers to `askers` (one a record, or none at all), then live news.
    pub(super) fn publish(&mut self, askers: &[Asker]) {
        self.counters
            .sends
            .add(self.unapplied.effects.messages.len() as u64);
        self.publish_outcomes(askers);
        let mut effects = std::mem::take(&mut self.unapplied.effects);
        for message in effects.messages.drain(..) {
            self.publish_message(message);
        }
        for update in effects.updates.drain(..) {
            self.publish_update(&update);
        }
        self.unapplied.effects = effects; // For its memory.
        self.unapplied.end();
    }

    fn publish_outcomes(&mut self, askers: &[Asker]) {
        let outcomes = std::mem::take(&mut self.unapplied.effects.outcomes);
        let mut rest = outcomes.iter().peekable();
        for (offset, asker) in (self.unapplied.first.0..).map(Offset).zip(askers) {
            let outcome = rest.next_if(|(of, _)| *of == offset).map(|(_, outcome)| outcome);
            match (*asker, outcome) {
                (Asker::Send(link, request), Some(outcome)) => self.publish_outcome(link, request, outcome),
                // Every new record has an outcome; should one have none, then not knowing is the truth.
                (Asker::Send(link, request), None) => self.reject(link, request, &UNAVAILABLE),
                (Asker::Status(link, request, _), _) => self.links.push(link, &FromRouter::Done(request)),
                (Asker::None, _) => {}
            }
        }
        self.unapplied.effects.outcomes = outcomes;
    }

    fn publish_outcome(&mut self, link: LinkId, request: RequestId, outcome: &SendOutcome) {
        match *outcome {
            SendOutcome::Sent {
                message_id,
                conversation,
                seq,
                timestamp,
                duplicate,
            } => {
                self.counters.duplicates.add(u64::from(duplicate));
                let sent = SentRecord {
                    request,
                    message_id,
                    conversation,
                    seq,
                    timestamp,
                    duplicate,
                };
                self.links.push(link, &FromRouter::Sent(sent));
            }
            SendOutcome::Rejected { code, reason } => {
                self.reject(
                    link,
                    request,
                    &Refusal {
                        code,
                        reason,
                        retry_after_ms: None,
                    },
                );
            }
        }
    }

    /// Gives a message to every session that is up to date: one record a link, naming all its connections.
    fn publish_message(&mut self, message: NewMessage) {
        let mut deliveries = std::mem::take(&mut self.unapplied.deliveries);
        let NewMessage { message, entries } = message;
        for (user, position) in entries {
            self.sessions
                .handle_entry(user, &Entry::new(position, &message), &mut deliveries);
        }
        deliveries.sort_by_key(|delivery| delivery.link);
        for of_link in deliveries.chunk_by(|a, b| a.link == b.link) {
            let to = of_link
                .iter()
                .map(|delivery| (delivery.connection, delivery.position))
                .collect();
            self.deliver(
                of_link[0].link,
                Deliver {
                    message: message.clone(),
                    to,
                },
            );
        }
        deliveries.clear();
        self.unapplied.deliveries = deliveries;
    }

    /// Queues a delivery; a link that it fills gets no more.
    pub(super) fn deliver(&mut self, link: LinkId, deliver: Deliver) {
        self.counters.deliveries.add(deliver.to.len() as u64);
        self.links.push(link, &FromRouter::Deliver(deliver));
        if self.links.has_become_full(link) {
            self.sessions.handle_link_full(link);
        }
    }

    fn publish_update(&mut self, update: &StatusUpdate) {
        let mut connections = std::mem::take(&mut self.unapplied.connections);
        connections.extend(
            update
                .peer
                .into_iter()
                .flat_map(|peer| self.sessions.connections(peer, None)),
        );
        if update.except.is_some() {
            connections.extend(self.sessions.connections(update.user, update.except));
        }
        connections.sort_by_key(|(link, _)| *link);
        for of_link in connections.chunk_by(|a, b| a.0 == b.0) {
            let record = StatusUpdateRecord {
                conversation: update.conversation,
                user: update.user,
                status: update.status,
                seq: update.seq,
                message_id: update.message_id,
                to: of_link.iter().map(|(_, connection)| *connection).collect(),
            };
            self.links.push_update(of_link[0].0, record);
        }
        connections.clear();
        self.unapplied.connections = connections;
    }
}

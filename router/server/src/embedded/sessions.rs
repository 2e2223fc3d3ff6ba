//! Sessions: how a device gets one, and the pages of stored messages for those that are behind.

use std::collections::VecDeque;

use router_core::inbox::Admission;
use router_core::prelog::Refusal;
use router_core::sessions::{Entry, LinkId, Opened, PageRequest, Sessions, Step};
use router_records::log::{DeviceInput, Input, LogRecord};
use router_records::row::MessageRow;
use router_storage::disk::Disk;
use router_storage::store::{Store, StoreError};
use wire_base::code::Code;
use wire_base::ids::Position;
use wire_base::limits::WINDOW_BYTES_MAX;
use wire_link::{Deliver, FromRouter, MessageRecord, SessionOpen, SessionRef, SessionRefused, Synced};

use super::condition::UNAVAILABLE;
use super::group::Asker;
use super::reads::Unanswered;
use super::rows::load;
use super::{Fatal, Router};

impl<D: Disk, S: Store> Router<D, S> {
    /// Opens a session, as of everything that was applied: what this tick still brings comes after it.
    pub(super) fn open_session(&mut self, id: LinkId, open: &SessionOpen) -> Result<(), Fatal> {
        match self.admit(open) {
            Ok(admission) => self.admitted(id, open, admission),
            Err(Unanswered::Refused(refusal)) => self.refuse_session(id, open, &refusal),
            Err(Unanswered::Store(error)) => {
                self.handle_read_error(&error)?;
                self.refuse_session(id, open, &UNAVAILABLE);
            }
        }
        Ok(())
    }

    fn admit(&mut self, open: &SessionOpen) -> Result<Admission, Unanswered> {
        // Memory is ahead of the store then, and a page would end before the head that the session was told.
        if !self.unapplied.is_empty() {
            return Err(UNAVAILABLE.into());
        }
        if let Some(lookup) = self.folds.missing_user(open.user) {
            self.counters.store_reads.add(1);
            self.folds.handle_loaded(load(&self.store, lookup)?);
        }
        let admission = self.folds.admit_device(open.user, open.device)?;
        if admission == Admission::New && !self.condition.takes_records() {
            self.folds.cancel_device(open.user, open.device);
            return Err(UNAVAILABLE.into());
        }
        Ok(admission)
    }

    fn admitted(&mut self, id: LinkId, open: &SessionOpen, admission: Admission) {
        let facts = self.folds.reader_facts(open.user, open.device, self.oldest());
        let SessionOpen {
            connection,
            user,
            device,
            ..
        } = *open;
        match self.sessions.open(id, open, &facts, self.now.unix) {
            Opened::Opened {
                answer,
                replaced,
                synced,
            } => {
                if admission == Admission::New {
                    let time = self.folds.stamp(self.now.unix);
                    let input = Input::Device(DeviceInput {
                        user,
                        device,
                        session: answer.session,
                    });
                    self.forming.push(LogRecord { time, input }, Asker::None);
                }
                self.links.push(id, &FromRouter::SessionOpened(answer));
                if let Some(cursor) = synced {
                    self.links
                        .push(id, &FromRouter::Synced(Synced { connection, cursor }));
                }
                if let Some((link, session)) = replaced {
                    self.links.push(link, &FromRouter::SessionReplaced(session));
                }
            }
            Opened::Superseded => {
                if admission == Admission::New {
                    self.folds.cancel_device(user, device);
                }
                self.links.push(
                    id,
                    &FromRouter::SessionReplaced(SessionRef {
                        connection,
                        user,
                        device,
                    }),
                );
            }
        }
    }

    fn refuse_session(&mut self, id: LinkId, open: &SessionOpen, refusal: &Refusal) {
        let record = SessionRefused {
            connection: open.connection,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
        };
        self.links.push(id, &FromRouter::SessionRefused(record));
    }

    /// Returns the position after which every inbox entry is kept.
    fn oldest(&self) -> Position {
        Position {
            generation: self.store.generation(),
            offset: self.store.prune_floor(),
            index: 0,
        }
    }

    /// Reads pages for sessions that are behind, some of them. Returns whether others wait.
    pub(super) fn pump_sessions(&mut self) -> Result<bool, Fatal> {
        // A batch that the store refused may be there all the same: its entries must be published before they are read.
        if !self.unapplied.is_empty() {
            return Ok(false);
        }
        let mut again = self.postponed.poll(self.now.mono_ms, &self.sessions);
        for _ in 0..self.config.pages_per_tick {
            let Some(request) = again.take().or_else(|| self.sessions.poll_page()) else {
                return Ok(false);
            };
            if request.after < self.oldest() {
                self.abandon(&request);
                continue;
            }
            match self.read_page(&request) {
                Ok(page) => self.send_page(&request, &page),
                // The reader waits: skipping what cannot be read would be a loss.
                Err(error) => {
                    self.handle_read_error(&error)?;
                    self.postponed
                        .0
                        .push_back((self.now.mono_ms + POSTPONED_MS, request));
                }
            }
        }
        Ok(true)
    }

    /// Ends a session that has not read what is deleted by now. To go on would be to skip it without a word; hello has a
    /// word for it, `resync`.
    fn abandon(&mut self, request: &PageRequest) {
        let Some((link, connection)) = self.sessions.abandon(request) else {
            return;
        };
        let record = SessionRefused {
            connection,
            code: Code::Unavailable,
            reason: "messages that this session had not read are no longer kept".to_owned(),
        };
        self.links.push(link, &FromRouter::SessionRefused(record));
    }

    fn read_page(&self, request: &PageRequest) -> Result<Page, StoreError> {
        self.counters.backlog_pages.add(1);
        let rows = self
            .store
            .inbox_after(request.user, request.after, request.limit)?;
        let oldest = self.oldest();
        let mut page = Page {
            entries: Vec::new(),
            messages: Vec::new(),
            through: request.after,
        };
        let mut bytes = 0;
        for row in rows {
            // The newest entry of an inbox is kept past retention, as its head; its message may be gone.
            if row.position > oldest {
                let message =
                    self.store
                        .message(row.conversation, row.seq)?
                        .ok_or_else(|| StoreError::Damaged {
                            key: format!("message {} {}", row.conversation, row.seq.0),
                            reason: "an inbox points to it and it is not there".into(),
                        })?;
                let message = message_record(message);
                let entry = Entry::new(row.position, &message);
                bytes += entry.bytes as usize;
                page.entries.push(entry);
                page.messages.push(message);
            }
            page.through = row.position;
            if bytes >= WINDOW_BYTES_MAX {
                break;
            }
        }
        Ok(page)
    }

    fn send_page(&mut self, request: &PageRequest, page: &Page) {
        let Some(paged) = self.sessions.handle_page(request, &page.entries, page.through) else {
            return;
        };
        for step in paged.steps {
            match step {
                Step::Deliver { entry } => {
                    let position = page.entries[entry].position;
                    let message = page.messages[entry].clone();
                    self.deliver(
                        paged.link,
                        Deliver {
                            message,
                            to: vec![(paged.connection, position)],
                        },
                    );
                }
                Step::Synced { cursor } => {
                    let synced = Synced {
                        connection: paged.connection,
                        cursor,
                    };
                    self.links.push(paged.link, &FromRouter::Synced(synced));
                }
            }
        }
    }
}

/// A page of an inbox: entries and, one for one, their messages.
struct Page {
    entries: Vec<Entry>,
    messages: Vec<MessageRecord>,
    through: Position,
}

/// Pages that could not be read, at most one a session.
#[derive(Default)]
pub(super) struct Postponed(VecDeque<(u64, PageRequest)>);

impl Postponed {
    /// Returns the next one to try again; one a tick, so that many that cannot be read do not hold up the others.
    fn poll(&mut self, mono_ms: u64, sessions: &Sessions) -> Option<PageRequest> {
        while let Some((_, request)) = self.0.pop_front_if(|(due_ms, _)| *due_ms <= mono_ms) {
            if sessions.waits_for(&request) {
                return Some(request);
            }
        }
        None
    }

    /// Returns when the next one is tried again.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.0.front().map(|(due_ms, _)| *due_ms)
    }
}

/// Returns a stored message as it travels.
pub(super) fn message_record(row: MessageRow) -> MessageRecord {
    MessageRecord {
        conversation: row.conversation,
        seq: row.seq,
        message_id: row.message_id,
        sender: row.sender,
        sender_device: row.sender_device,
        timestamp: row.timestamp,
        body: row.body,
    }
}

/// Pause before a page that could not be read is tried again.
const POSTPONED_MS: u64 = 1_000;

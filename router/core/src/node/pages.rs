//! Pages of stored messages for sessions that are behind.

use std::collections::VecDeque;

use wire_base::code::Code;
use wire_base::limits::WINDOW_BYTES_MAX;
use wire_link::{Deliver, FromRouter, SessionRefused, Synced};

use super::condition::StoreFault;
use super::intention::Purpose;
use super::partition::Partition;
use super::{InboxPage, Question, Shared};
use crate::sessions::{Delivery, Entry, PageRequest, Step};

/// Pages that could not be read: at most one a session.
#[derive(Debug, Default)]
pub(super) struct Pages {
    postponed: VecDeque<(u64, PageRequest)>,
    /// Kept for its memory.
    pub(super) deliveries: Vec<Delivery>,
}

impl Pages {
    /// Returns when the next page that could not be read is tried again, on the monotonic clock.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.postponed.front().map(|(due_ms, _)| *due_ms)
    }
}

impl Partition {
    /// Asks for pages, some at once, one of them at most a page that could not be read before: many that cannot be read do not
    /// hold up the others. Returns whether there may be more.
    pub(super) fn pump_pages(&mut self, shared: &mut Shared) -> bool {
        let mut may_repeat = true;
        while shared.has_room_for_pages() {
            let again = if std::mem::take(&mut may_repeat) {
                self.poll_postponed(shared)
            } else {
                None
            };
            let Some(request) = again.or_else(|| self.sessions.poll_page()) else {
                let now_ms = shared.now.mono_ms;
                return self.pages.due_ms().is_some_and(|due_ms| due_ms <= now_ms);
            };
            if request.after < self.oldest() {
                self.abandon(shared, &request);
                continue;
            }
            shared.stats.backlog_pages += 1;
            shared.pages_under_way += 1;
            let question = Question::Inbox {
                user: request.user,
                after: request.after,
                limit: request.limit,
                bytes_max: WINDOW_BYTES_MAX,
                oldest: self.oldest(),
            };
            self.ask(shared, Purpose::Page(request), question);
        }
        true
    }

    /// Ends a session that has not read what is deleted by now. To go on would be to skip it without a word; hello has a
    /// word for it, `resync`.
    fn abandon(&mut self, shared: &mut Shared, request: &PageRequest) {
        let Some((link, connection)) = self.sessions.abandon(request) else {
            return;
        };
        let record = SessionRefused {
            connection,
            code: Code::Unavailable,
            reason: "messages that this session had not read are no longer kept".to_owned(),
        };
        shared.links.push(link, &FromRouter::SessionRefused(record));
    }

    fn poll_postponed(&mut self, shared: &Shared) -> Option<PageRequest> {
        let now_ms = shared.now.mono_ms;
        while let Some((_, request)) = self.pages.postponed.pop_front_if(|(due_ms, _)| *due_ms <= now_ms) {
            if self.sessions.waits_for(&request) {
                return Some(request);
            }
        }
        None
    }

    pub(super) fn handle_page(
        &mut self,
        shared: &mut Shared,
        request: PageRequest,
        page: Result<InboxPage, StoreFault>,
    ) {
        shared.pages_under_way -= 1;
        match page {
            Ok(page) => self.send_page(shared, &request, page),
            // The reader waits: skipping what cannot be read would be a loss.
            Err(_) => {
                shared.stats.store_errors += 1;
                let due_ms = shared.now.mono_ms + POSTPONED_MS;
                self.pages.postponed.push_back((due_ms, request));
            }
        }
    }

    fn send_page(&mut self, shared: &mut Shared, request: &PageRequest, page: InboxPage) {
        let entries: Vec<_> = page
            .entries
            .iter()
            .map(|(position, message)| Entry::new(*position, message))
            .collect();
        let through = page.through.unwrap_or(request.after);
        let Some(paged) = self.sessions.handle_page(request, &entries, through) else {
            return;
        };
        let mut messages: Vec<_> = page.entries.into_iter().map(Some).collect();
        for step in paged.steps {
            match step {
                Step::Deliver { entry } => {
                    if let Some((position, message)) = messages[entry].take() {
                        let to = vec![(paged.connection, position)];
                        self.deliver(shared, paged.link, Deliver { message, to });
                    }
                }
                Step::Synced { cursor } => {
                    let synced = Synced {
                        connection: paged.connection,
                        cursor,
                    };
                    shared.links.push(paged.link, &FromRouter::Synced(synced));
                }
            }
        }
    }
}

/// Pause before a page that could not be read is tried again.
const POSTPONED_MS: u64 = 1_000;

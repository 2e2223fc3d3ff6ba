//! How a device gets a session. A user that memory lacks is looked up first, and what is still to be folded of a user (an ack
//! of the session before, its number) is waited for; whoever opens meanwhile waits in line.

use std::collections::{BTreeMap, VecDeque};

use router_records::log::{DeviceInput, Input, LogRecord};
use wire_base::ids::{ConnectionHandle, Position, UserId};
use wire_link::{AckRecord, FromRouter, SessionOpen, SessionRef, SessionRefused, Synced};

use super::Shared;
use super::condition::UNAVAILABLE;
use super::partition::Partition;
use crate::admission::Refusal;
use crate::inbox::Admission;
use crate::sessions::{LinkId, Opened};

/// Opens that wait for their user: at most as many as there are connections.
#[derive(Debug, Default)]
pub(super) struct Opens {
    waiting: BTreeMap<UserId, VecDeque<Waiting>>,
    /// Users of whose readers something is on its way into the folds: how many records.
    unfolded: BTreeMap<UserId, u32>,
    /// Users who wait and of whom nothing is left.
    settled: Vec<UserId>,
}

#[derive(Debug)]
struct Waiting {
    link: LinkId,
    open: SessionOpen,
    /// Which end of the log it waits for.
    after_end: u32,
    /// The newest ack of a session that was announced again: its gateway does not wait for the answer.
    ack: Option<AckRecord>,
}

impl Opens {
    /// Takes note of a record that is on its way into the folds.
    pub(super) fn handle_gathered(&mut self, record: &LogRecord) {
        if let Some(user) = reader_of(record) {
            *self.unfolded.entry(user).or_default() += 1;
        }
    }

    /// Takes note that it is folded, or never will be.
    pub(super) fn handle_done(&mut self, record: &LogRecord) {
        let Some(user) = reader_of(record) else { return };
        if let Some(count) = self.unfolded.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                self.unfolded.remove(&user);
                if self.waiting.contains_key(&user) {
                    self.settled.push(user);
                }
            }
        }
    }

    /// Returns the last end of the log that somebody waits for.
    pub(super) fn wait_for_end(&self) -> u32 {
        let waiting = self.waiting.values().flatten();
        waiting.map(|waiting| waiting.after_end).max().unwrap_or(0)
    }

    /// Drops what a link waits for.
    pub(super) fn remove_link(&mut self, link: LinkId) {
        self.waiting.retain(|_, opens| {
            opens.retain(|waiting| waiting.link != link);
            !opens.is_empty()
        });
    }

    /// Drops an open whose connection went before its turn; returns whether there was one.
    fn remove(&mut self, link: LinkId, session: &SessionRef) -> bool {
        let Some(opens) = self.waiting.get_mut(&session.user) else {
            return false;
        };
        let before = opens.len();
        opens.retain(|Waiting { link: of, open, .. }| {
            (*of, open.connection, open.device) != (link, session.connection, session.device)
        });
        opens.len() < before
    }

    /// Keeps an ack of a session that is not open yet; returns whether there is one.
    fn keep_ack(&mut self, link: LinkId, ack: &AckRecord) -> bool {
        let waiting = self.waiting.get_mut(&ack.user).into_iter().flatten();
        let of_session = |waiting: &&mut Waiting| {
            let Waiting { link: of, open, .. } = waiting;
            (*of, open.device, open.session) == (link, ack.device, Some(ack.session))
        };
        let Some(waiting) = waiting.rev().find(of_session) else {
            return false;
        };
        waiting.ack = Some(*ack);
        true
    }
}

/// Returns the user of whose readers a record tells.
fn reader_of(record: &LogRecord) -> Option<UserId> {
    match &record.input {
        Input::Ack(ack) => Some(ack.user),
        Input::Device(device) => Some(device.user),
        Input::Send(_) | Input::Status(_) | Input::Fanout(_) => None,
    }
}

impl Partition {
    /// Opens a session as of everything that is folded: what is still on its way into the log comes after it.
    pub(super) fn open_session(&mut self, shared: &mut Shared, link: LinkId, open: SessionOpen) {
        let is_missing = self.folds.missing_user(open.user);
        let is_settled = !self.opens.unfolded.contains_key(&open.user);
        let is_first = !self.opens.waiting.contains_key(&open.user);
        let is_ahead = self.is_ahead(&open);
        let after_end = if is_ahead { self.find_end(shared) } else { 0 };
        if self.is_caught_up && !is_ahead && is_missing.is_none() && is_settled && is_first {
            return self.admit(shared, link, &open);
        }
        let waiting = Waiting {
            link,
            open,
            after_end,
            ack: None,
        };
        self.opens
            .waiting
            .entry(open.user)
            .or_default()
            .push_back(waiting);
        if let Some(lookup) = is_missing {
            self.look_up(shared, lookup);
        }
    }

    /// Returns whether somebody has a position that is not folded here, though it may be in the log: another owner gave it.
    fn is_ahead(&self, open: &SessionOpen) -> bool {
        let is_unknown = |position: Position| {
            position.generation == self.generation && position.offset >= self.intake.next()
        };
        !self.is_alone()
            && [open.cursor, open.forwarded]
                .into_iter()
                .flatten()
                .any(is_unknown)
    }

    /// Opens what waited until the partition was caught up.
    pub(super) fn admit_waiting(&mut self, shared: &mut Shared) {
        self.opens.settled.extend(self.opens.waiting.keys());
        self.admit_settled(shared);
    }

    /// Refuses everything that waits.
    pub(super) fn refuse_waiting(&mut self, shared: &mut Shared, refusal: &Refusal) {
        for Waiting { link, open, .. } in std::mem::take(&mut self.opens.waiting).into_values().flatten() {
            shared.refuse_session(link, &open, refusal);
        }
    }

    /// Opens what waited for folds that are done.
    pub(super) fn admit_settled(&mut self, shared: &mut Shared) {
        while let Some(user) = self.opens.settled.pop() {
            match self.folds.missing_user(user) {
                Some(lookup) => self.look_up(shared, lookup),
                None => self.handle_user_loaded(shared, user),
            }
        }
    }

    pub(super) fn close_session(&mut self, link: LinkId, session: &SessionRef) {
        if !self.opens.remove(link, session) {
            self.sessions.close(link, session);
        }
    }

    /// Takes an ack: it opens the window at once, and is logged later.
    pub(super) fn take_ack(&mut self, link: LinkId, ack: &AckRecord) {
        if !self.opens.keep_ack(link, ack) {
            self.sessions.handle_ack(link, ack);
        }
    }

    /// Opens what waited for a user that memory has now, unless something of it is still to be folded.
    pub(super) fn handle_user_loaded(&mut self, shared: &mut Shared, user: UserId) {
        let mut waiting = self.opens.waiting.get(&user).into_iter().flatten();
        let is_ahead = waiting.any(|waiting| waiting.after_end > self.ends_reached());
        if !self.is_caught_up || is_ahead || self.opens.unfolded.contains_key(&user) {
            return;
        }
        for waiting in self.opens.waiting.remove(&user).unwrap_or_default() {
            self.admit(shared, waiting.link, &waiting.open);
            if let Some(ack) = waiting.ack {
                self.sessions.handle_ack(waiting.link, &ack);
            }
        }
    }

    /// Refuses what waited for a user that the store could not tell of.
    pub(super) fn handle_user_failed(&mut self, shared: &mut Shared, user: UserId) {
        for Waiting { link, open, .. } in self.opens.waiting.remove(&user).unwrap_or_default() {
            shared.refuse_session(link, &open, &UNAVAILABLE);
        }
    }

    fn admit(&mut self, shared: &mut Shared, link: LinkId, open: &SessionOpen) {
        match self.folds.admit_device(open.user, open.device) {
            Ok(Admission::New) if !self.takes_records(shared) => {
                self.folds.cancel_device(open.user, open.device);
                shared.refuse_session(link, open, &UNAVAILABLE);
            }
            Ok(admission) => self.admitted(shared, link, open, admission),
            Err(refusal) => shared.refuse_session(link, open, &refusal),
        }
    }

    fn admitted(&mut self, shared: &mut Shared, link: LinkId, open: &SessionOpen, admission: Admission) {
        let facts = self.folds.reader_facts(open.user, open.device, self.oldest());
        let SessionOpen {
            connection,
            user,
            device,
            ..
        } = *open;
        match self.sessions.open(link, open, &facts, shared.now.unix) {
            Opened::Opened {
                answer,
                replaced,
                synced,
            } => {
                // Where another node may be the next owner, it must not give a lower number, whatever its clock says.
                let is_news = !self.is_alone() && open.session.is_none();
                if admission == Admission::New || is_news {
                    let time = self.stamp(shared);
                    let input = Input::Device(DeviceInput {
                        user,
                        device,
                        session: answer.session,
                    });
                    self.gather_device(shared, LogRecord { time, input });
                }
                shared.links.push(link, &FromRouter::SessionOpened(answer));
                if let Some(cursor) = synced {
                    let synced = Synced { connection, cursor };
                    shared.links.push(link, &FromRouter::Synced(synced));
                }
                if let Some((link, session)) = replaced {
                    shared.links.push(link, &FromRouter::SessionReplaced(session));
                }
            }
            Opened::Superseded => {
                if admission == Admission::New {
                    self.folds.cancel_device(user, device);
                }
                let session = SessionRef {
                    connection,
                    user,
                    device,
                };
                shared.links.push(link, &FromRouter::SessionReplaced(session));
            }
        }
    }
}

impl Shared {
    pub(super) fn refuse_session(&mut self, link: LinkId, open: &SessionOpen, refusal: &Refusal) {
        self.refuse_connection(link, open.connection, refusal);
    }

    /// Refuses the session of a connection, or ends it.
    pub(super) fn refuse_connection(
        &mut self,
        link: LinkId,
        connection: ConnectionHandle,
        refusal: &Refusal,
    ) {
        let record = SessionRefused {
            connection,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
        };
        self.links.push(link, &FromRouter::SessionRefused(record));
    }
}

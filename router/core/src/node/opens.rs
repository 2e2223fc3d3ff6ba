//! How a device gets a session. A user that memory lacks is looked up first; whoever opens meanwhile waits in line.

use std::collections::{BTreeMap, VecDeque};

use router_records::log::{DeviceInput, Input, LogRecord};
use wire_base::ids::{Position, UserId};
use wire_link::{AckRecord, FromRouter, SessionOpen, SessionRef, SessionRefused, Synced};

use super::Node;
use super::condition::UNAVAILABLE;
use super::group::ReplyTo;
use crate::inbox::Admission;
use crate::prelog::Refusal;
use crate::sessions::{LinkId, Opened};

/// Opens that wait for their user: at most as many as there are connections.
#[derive(Debug, Default)]
pub(super) struct Opens {
    waiting: BTreeMap<UserId, VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    link: LinkId,
    open: SessionOpen,
    /// The newest ack of a session that was announced again: its gateway does not wait for the answer.
    ack: Option<AckRecord>,
}

impl Opens {
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

impl Node {
    /// Opens a session as of everything that is folded: what is still on its way into the log comes after it.
    pub(super) fn open_session(&mut self, link: LinkId, open: SessionOpen) {
        let is_missing = self.folds.missing_user(open.user);
        let waiting = self.opens.waiting.get_mut(&open.user);
        match (is_missing, waiting) {
            (_, Some(others)) => others.push_back(Waiting {
                link,
                open,
                ack: None,
            }),
            (Some(lookup), None) => {
                let waiting = Waiting {
                    link,
                    open,
                    ack: None,
                };
                self.opens.waiting.insert(open.user, [waiting].into());
                self.look_up(lookup);
            }
            (None, None) => self.admit(link, &open),
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

    /// Opens what waited for a user that memory has now.
    pub(super) fn handle_user_loaded(&mut self, user: UserId) {
        for waiting in self.opens.waiting.remove(&user).unwrap_or_default() {
            self.admit(waiting.link, &waiting.open);
            if let Some(ack) = waiting.ack {
                self.sessions.handle_ack(waiting.link, &ack);
            }
        }
    }

    /// Refuses what waited for a user that the store could not tell of.
    pub(super) fn handle_user_failed(&mut self, user: UserId) {
        for Waiting { link, open, .. } in self.opens.waiting.remove(&user).unwrap_or_default() {
            self.refuse_session(link, &open, &UNAVAILABLE);
        }
    }

    fn admit(&mut self, link: LinkId, open: &SessionOpen) {
        match self.folds.admit_device(open.user, open.device) {
            Ok(Admission::New) if !self.condition.takes_records() => {
                self.folds.cancel_device(open.user, open.device);
                self.refuse_session(link, open, &UNAVAILABLE);
            }
            Ok(admission) => self.admitted(link, open, admission),
            Err(refusal) => self.refuse_session(link, open, &refusal),
        }
    }

    fn admitted(&mut self, link: LinkId, open: &SessionOpen, admission: Admission) {
        let facts = self.folds.reader_facts(open.user, open.device, self.oldest());
        let SessionOpen {
            connection,
            user,
            device,
            ..
        } = *open;
        match self.sessions.open(link, open, &facts, self.now.unix) {
            Opened::Opened {
                answer,
                replaced,
                synced,
            } => {
                if admission == Admission::New {
                    let time = self.stamp();
                    let input = Input::Device(DeviceInput {
                        user,
                        device,
                        session: answer.session,
                    });
                    self.group.push(LogRecord { time, input }, ReplyTo::Nobody);
                }
                self.links.push(link, &FromRouter::SessionOpened(answer));
                if let Some(cursor) = synced {
                    let synced = Synced { connection, cursor };
                    self.links.push(link, &FromRouter::Synced(synced));
                }
                if let Some((link, session)) = replaced {
                    self.links.push(link, &FromRouter::SessionReplaced(session));
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
                self.links.push(link, &FromRouter::SessionReplaced(session));
            }
        }
    }

    fn refuse_session(&mut self, link: LinkId, open: &SessionOpen, refusal: &Refusal) {
        let record = SessionRefused {
            connection: open.connection,
            code: refusal.code,
            reason: refusal.reason.to_owned(),
        };
        self.links.push(link, &FromRouter::SessionRefused(record));
    }

    /// Returns the position after which every inbox entry is kept.
    pub(super) fn oldest(&self) -> Position {
        Position {
            generation: self.generation,
            offset: self.prune_floor,
            index: 0,
        }
    }
}

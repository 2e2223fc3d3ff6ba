//! What the links bring: checks before the log, and who is answered at once.

use router_core::clock::SETTLE_MS;
use router_core::prelog::{Refusal, check_send};
use router_core::sessions::LinkId;
use router_records::log::{Input, LogRecord, SendInput};
use router_storage::disk::Disk;
use router_storage::store::Store;
use wire_base::code::Code;
use wire_link::{LINK_VERSION, LinkHello, LinkKind, SendRecord, ToRouter};

use super::condition::UNAVAILABLE;
use super::group::Asker;
use super::links::Incoming;
use super::reads::Read;
use super::{Fatal, Router};

impl<D: Disk, S: Store> Router<D, S> {
    /// Takes records from every link, beginning with another one each tick, until the group or the link's share is full.
    /// Returns whether some were left.
    pub(super) fn receive(&mut self) -> Result<bool, Fatal> {
        let ids = self.links.ids();
        let mut is_more = false;
        for turn in 0..ids {
            let id = LinkId((self.first_link + turn) % ids);
            is_more |= self.receive_from(id)?;
        }
        self.first_link = (self.first_link + 1) % ids.max(1);
        Ok(is_more)
    }

    fn receive_from(&mut self, id: LinkId) -> Result<bool, Fatal> {
        for _ in 0..self.config.link_records_per_tick {
            if self.forming.is_full(&self.config) {
                return Ok(true);
            }
            // What is put off here has its turn when the link has taken what it is owed.
            if !self.links.may_receive(id) {
                return Ok(false);
            }
            match self.links.receive(id) {
                Incoming::Record(record) => self.handle_record(id, record)?,
                Incoming::Nothing => return Ok(false),
                Incoming::Ended => {
                    self.end_link(id);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn handle_record(&mut self, id: LinkId, record: ToRouter) -> Result<(), Fatal> {
        let Some(link) = self.links.get_mut(id) else {
            return Ok(());
        };
        match (link.kind, record) {
            (None, ToRouter::Hello(hello)) => self.greet(id, &hello),
            (None, _) => self.refuse_link(id, "its first record is no hello"),
            (Some(_), ToRouter::Hello(_)) => self.refuse_link(id, "it said hello twice"),
            (
                Some(LinkKind::Api),
                ToRouter::SessionOpen(_) | ToRouter::SessionClose(_) | ToRouter::Ack(_),
            ) => {
                self.refuse_link(id, "an API has no sessions");
            }
            (_, ToRouter::SessionOpen(open)) => self.open_session(id, &open)?,
            (_, ToRouter::SessionClose(session)) => {
                self.sessions.close(id, &session);
            }
            (_, ToRouter::Send(send)) => self.take_send(id, send),
            (_, ToRouter::Ack(ack)) => {
                self.sessions.handle_ack(id, &ack); // It opens the window at once, and is logged later.
            }
            (_, ToRouter::Status(status)) => link.reads.push_back(Read::Status(status)),
            (_, ToRouter::History(history)) => link.reads.push_back(Read::History(history)),
            (_, ToRouter::Conversations(conversations)) => {
                link.reads.push_back(Read::conversations(conversations));
            }
        }
        Ok(())
    }

    fn greet(&mut self, id: LinkId, hello: &LinkHello) {
        if hello.version != LINK_VERSION {
            return self.refuse_link(id, "it speaks another version");
        }
        if let Some(link) = self.links.get_mut(id) {
            link.kind = Some(hello.kind);
        }
        tracing::info!(link = id.0, kind = ?hello.kind, node = hello.node, worker = hello.worker, "link up");
    }

    /// Closes a link whose client does not keep to the protocol: a fault of ours, since both ends are.
    fn refuse_link(&mut self, id: LinkId, reason: &'static str) {
        tracing::error!(link = id.0, reason, "a link is refused and closed");
        self.counters.link_faults.add(1);
        self.end_link(id);
    }

    fn take_send(&mut self, id: LinkId, send: SendRecord) {
        let time = self.folds.stamp(self.now.unix);
        let checked = if self.condition.takes_records() {
            self.check_send(&send)
                .and_then(|()| self.send_rate.try_take(send.sender, self.now))
        } else {
            Err(UNAVAILABLE)
        };
        if let Err(refusal) = checked {
            return self.reject(id, send.request, &refusal);
        }
        let input = SendInput {
            sender: send.sender,
            sender_device: send.sender_device,
            receiver: send.receiver,
            message_id: send
                .message_id
                .unwrap_or_else(|| self.message_ids.next(self.now.unix)),
            body: send.body,
        };
        self.forming.push(
            LogRecord {
                time,
                input: Input::Send(input),
            },
            Asker::Send(id, send.request),
        );
    }

    /// Checks what a send says about itself. An id that is wrong only by a clock in doubt may be right in a minute.
    fn check_send(&self, send: &SendRecord) -> Result<(), Refusal> {
        let check = |now| check_send(send, now, self.upkeep.forgotten());
        check(self.now.unix).map_err(|refusal| {
            let may_pass = self.clock.doubted().is_some_and(|said| check(said).is_ok());
            if may_pass { CLOCK_IN_DOUBT } else { refusal }
        })
    }
}

/// The answer to an id of a time that only the doubted wall clock says it is.
const CLOCK_IN_DOUBT: Refusal = Refusal {
    code: Code::Unavailable,
    reason: "message_id: the server's clock was set and is not trusted yet; repeat it with the same message_id",
    retry_after_ms: Some(SETTLE_MS as u32),
};

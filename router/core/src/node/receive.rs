//! What the links bring: checks before the log, and who is answered at once.

use router_records::log::{Input, LogRecord, SendInput};
use wire_link::{LINK_VERSION, LinkHello, LinkKind, SendRecord, ToRouter};

use super::condition::UNAVAILABLE;
use super::group::ReplyTo;
use super::links::Incoming;
use super::peers::Greeting;
use super::{Node, Notice};
use crate::sessions::LinkId;

/// Why a link had its turn.
enum Turn {
    /// It had nothing.
    Empty,
    /// It may have another batch, which has to be asked for: it calls nobody while one is there.
    NextBatch,
    /// It has more, and took its share.
    Share,
    /// It has more, and waits until the group, or what it is owed, has room.
    Wait,
}

impl Node {
    /// Takes records from every link in turn, until the group or the link's share is full. Returns whether more could be taken
    /// at once.
    pub(super) fn receive(&mut self) -> bool {
        let mut is_more = false;
        for _ in 0..self.links.incoming() {
            // A link that filled the group is behind the others at the next one.
            if self.is_group_full() {
                break;
            }
            let Some(link) = self.links.pop_incoming() else {
                break;
            };
            match self.receive_from(link) {
                Turn::Empty => {}
                Turn::NextBatch => is_more = true,
                Turn::Share => {
                    self.links.push_incoming(link);
                    is_more = true;
                }
                Turn::Wait => self.links.push_incoming(link),
            }
        }
        is_more
    }

    fn receive_from(&mut self, link: LinkId) -> Turn {
        for _ in 0..self.config.link_records_per_step {
            let may_ask = self.questions.may_queue(link);
            if self.is_group_full() || !may_ask || !self.links.may_owe(link) {
                return Turn::Wait;
            }
            match self.links.receive(link) {
                Incoming::Record(kind, record) => self.handle_record(link, kind, record),
                Incoming::Nothing => return Turn::Empty,
                Incoming::EndOfBatch => return Turn::NextBatch,
                Incoming::Broken(reason) => {
                    self.refuse_link(link, reason);
                    return Turn::Empty;
                }
            }
        }
        Turn::Share
    }

    fn handle_record(&mut self, link: LinkId, kind: Option<LinkKind>, record: ToRouter) {
        match (kind, record) {
            (None, ToRouter::Hello(hello)) => self.greet(link, hello),
            (None, _) => self.refuse_link(link, "its first record is no hello".into()),
            (Some(_), ToRouter::Hello(_)) => self.refuse_link(link, "it said hello twice".into()),
            (
                Some(LinkKind::Api),
                ToRouter::SessionOpen(_) | ToRouter::SessionClose(_) | ToRouter::Ack(_),
            ) => self.refuse_link(link, "an API has no sessions".into()),
            (_, ToRouter::SessionOpen(open)) => self.open_session(link, open),
            (_, ToRouter::SessionClose(session)) => self.close_session(link, &session),
            (_, ToRouter::Send(send)) => self.take_send(link, send),
            (_, ToRouter::Ack(ack)) => self.take_ack(link, &ack),
            (_, ToRouter::Status(status)) => self.queue_status(link, status),
            (_, ToRouter::History(history)) => self.queue_history(link, history),
            (_, ToRouter::Conversations(conversations)) => self.queue_conversations(link, conversations),
        }
    }

    fn greet(&mut self, link: LinkId, hello: LinkHello) {
        if hello.version != LINK_VERSION {
            return self.refuse_link(link, "it speaks another version".into());
        }
        match self.links.greet(link, &hello) {
            Greeting::Welcome => {}
            Greeting::Successor(before) => self.end_link(before),
            Greeting::Outlived => {
                let reason = format!(
                    "a later process than that of epoch {} has said hello",
                    hello.epoch
                );
                self.notice(Notice::LinkRefused(link, reason));
                return self.end_link(link);
            }
        }
        self.notice(Notice::LinkUp(link, hello));
    }

    /// Closes a link whose client does not keep to the protocol: a fault of ours, since both ends are.
    fn refuse_link(&mut self, link: LinkId, reason: String) {
        self.stats.link_faults += 1;
        self.notice(Notice::LinkRefused(link, reason));
        self.end_link(link);
    }

    fn take_send(&mut self, link: LinkId, send: SendRecord) {
        let time = self.stamp();
        let checked = if self.condition.takes_records() {
            self.check_send(&send)
                .and_then(|()| self.send_rate.try_take(send.draft.sender, self.now))
        } else {
            Err(UNAVAILABLE)
        };
        if let Err(refusal) = checked {
            return self.reject(link, send.request, &refusal);
        }
        let input = SendInput {
            message_id: send
                .message_id
                .unwrap_or_else(|| self.message_ids.next(self.now.unix)),
            draft: send.draft,
        };
        let record = LogRecord {
            time,
            input: Input::Send(input),
        };
        self.gather(record, ReplyTo::Send(link, send.request));
    }
}

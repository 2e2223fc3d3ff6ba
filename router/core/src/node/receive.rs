//! What the links bring: checks before the log, and who is answered at once.

use router_records::log::{Input, LogRecord, SendInput};
use wire_base::ids::UserId;
use wire_link::{LINK_VERSION, LinkHello, LinkKind, SendRecord, SessionOpen, ToRouter};

use super::condition::{BUSY, NOT_OWNED, UNAVAILABLE};
use super::group::ReplyTo;
use super::links::Incoming;
use super::partition::Partition;
use super::peers::Greeting;
use super::{Node, Notice};
use crate::admission::Refusal;
use crate::sessions::LinkId;
use crate::topology::PartitionId;

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
        for _ in 0..self.shared.links.incoming() {
            // A link that filled the group is behind the others at the next one.
            if self.is_group_full() {
                break;
            }
            let Some(link) = self.shared.links.pop_incoming() else {
                break;
            };
            match self.receive_from(link) {
                Turn::Empty => {}
                Turn::NextBatch => is_more = true,
                Turn::Share => {
                    self.shared.links.push_incoming(link);
                    is_more = true;
                }
                Turn::Wait => self.shared.links.push_incoming(link),
            }
        }
        is_more
    }

    fn receive_from(&mut self, link: LinkId) -> Turn {
        for _ in 0..self.shared.config.link_records_per_step {
            let may_ask = self.shared.questions.may_queue(link);
            if self.is_group_full() || !may_ask || !self.shared.links.may_owe(link) {
                return Turn::Wait;
            }
            match self.shared.links.receive(link) {
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
            (_, ToRouter::SessionOpen(open)) => self.take_open(link, open),
            (_, ToRouter::SessionClose(session)) => {
                if let Some(partition) = self.of_user(session.user) {
                    partition.close_session(link, &session);
                }
            }
            (_, ToRouter::Ack(ack)) => {
                if let Some(partition) = self.of_user(ack.user) {
                    partition.take_ack(link, &ack);
                }
            }
            (_, ToRouter::Send(send)) => self.take_send(link, send),
            (_, ToRouter::Status(status)) => self.queue_status(link, status),
            (_, ToRouter::History(history)) => self.queue_history(link, history),
            (_, ToRouter::Conversations(conversations)) => self.queue_conversations(link, conversations),
        }
    }

    /// Returns the partition of a user, if it is this node's. Where it is not, an ack or a close is of a session that was
    /// ended when it was released.
    fn of_user(&mut self, user: UserId) -> Option<&mut Partition> {
        let id = self.shared.topology.of_user(user);
        let partition = self.partitions.get_mut(&id);
        self.shared.stats.not_owned += u64::from(partition.is_none());
        partition
    }

    fn take_open(&mut self, link: LinkId, open: SessionOpen) {
        let id = self.shared.topology.of_user(open.user);
        match self.partitions.get_mut(&id) {
            Some(partition) => partition.open_session(&mut self.shared, link, open),
            None => {
                self.shared.stats.not_owned += 1;
                self.shared.refuse_session(link, &open, &NOT_OWNED);
            }
        }
    }

    fn greet(&mut self, link: LinkId, hello: LinkHello) {
        if hello.version != LINK_VERSION {
            return self.refuse_link(link, "it speaks another version".into());
        }
        match self.shared.links.greet(link, &hello) {
            Greeting::Welcome => {}
            Greeting::Successor(before) => self.end_link(before),
            Greeting::Outlived => {
                let reason = format!(
                    "a later process than that of epoch {} has said hello",
                    hello.epoch
                );
                self.shared.notice(Notice::LinkRefused(link, reason));
                return self.end_link(link);
            }
        }
        self.shared.notice(Notice::LinkUp(link, hello));
    }

    /// Closes a link whose client does not keep to the protocol: a fault of ours, since both ends are.
    fn refuse_link(&mut self, link: LinkId, reason: String) {
        self.shared.stats.link_faults += 1;
        self.shared.notice(Notice::LinkRefused(link, reason));
        self.end_link(link);
    }

    fn take_send(&mut self, link: LinkId, send: SendRecord) {
        let id = self.shared.topology.of_draft(&send.draft);
        let request = send.request;
        let checked = match self.partitions.get(&id) {
            Some(partition) => self.admit_send(partition, &send),
            None => Err(NOT_OWNED),
        };
        let checked = checked.and_then(|()| self.send_rate.try_take(send.draft.sender, self.shared.now));
        let refusal = match (checked, self.partitions.get_mut(&id)) {
            (Ok(()), Some(partition)) => {
                let message_ids = &mut self.message_ids;
                let input = SendInput {
                    message_id: send
                        .message_id
                        .unwrap_or_else(|| message_ids.next(self.shared.now.unix)),
                    draft: send.draft,
                };
                let record = LogRecord {
                    time: partition.stamp(&self.shared),
                    input: Input::Send(input),
                };
                return partition.gather(record, ReplyTo::Send(link, request));
            }
            (checked, _) => checked.err().unwrap_or(NOT_OWNED),
        };
        self.shared.stats.not_owned += u64::from(refusal == NOT_OWNED);
        self.shared.reject(link, request, &refusal);
    }

    /// Returns whether a partition takes a send now.
    fn admit_send(&self, partition: &Partition, send: &SendRecord) -> Result<(), Refusal> {
        if !partition.is_caught_up {
            return Err(NOT_OWNED);
        }
        if !partition.takes_records(&self.shared) {
            return Err(UNAVAILABLE);
        }
        // Where it is the only one, the links wait instead.
        if !partition.is_alone() && partition.is_group_full(&self.shared) {
            return Err(BUSY);
        }
        self.check_send(send)
    }

    /// Returns whether the links have to wait for the log.
    fn is_group_full(&self) -> bool {
        let alone = self.partitions.get(&PartitionId::One);
        alone.is_some_and(|partition| partition.is_group_full(&self.shared))
    }
}

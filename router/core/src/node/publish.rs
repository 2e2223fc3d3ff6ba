//! What leaves once records are folded: answers, deliveries, status updates.

use std::collections::BTreeMap;

use wire_link::{Deliver, FromRouter, RequestId, SentRecord, StatusUpdateRecord};

use super::Shared;
use super::condition::UNAVAILABLE;
use super::group::ReplyTo;
use super::links::UpdateFate;
use super::partition::Partition;
use crate::admission::Refusal;
use crate::effects::{NewMessage, SendOutcome, StatusUpdate};
use crate::sessions::{Entry, LinkId};
use crate::topology::PartitionId;

impl Partition {
    /// Lets out what was folded in this step.
    pub(super) fn publish(&mut self, shared: &mut Shared) {
        let mut effects = std::mem::take(&mut self.pending.effects);
        let mut replies = std::mem::take(&mut self.pending.replies);
        if !matches!(self.id, PartitionId::User(_)) {
            shared.stats.sends += effects.messages.len() as u64;
        }
        let mut outcomes = effects.outcomes.iter().peekable();
        for (offset, reply_to) in replies.drain(..) {
            let outcome = outcomes
                .next_if(|(of, _)| *of == offset)
                .map(|(_, outcome)| outcome);
            self.reply(shared, reply_to, outcome);
        }
        for message in effects.messages.drain(..) {
            self.publish_message(shared, message);
        }
        for update in effects.updates.drain(..) {
            self.publish_update(shared, update);
        }
        effects.clear();
        self.pending.effects = effects; // For its memory.
        self.pending.replies = replies;
    }

    fn reply(&mut self, shared: &mut Shared, reply_to: ReplyTo, outcome: Option<&SendOutcome>) {
        match (reply_to, outcome) {
            (ReplyTo::Send(link, request), Some(outcome)) => {
                self.reply_outcome(shared, link, request, outcome)
            }
            // Every new record has an outcome; should one have none, then not knowing is the truth.
            (ReplyTo::Send(link, request), None) => shared.reject(link, request, &UNAVAILABLE),
            (ReplyTo::Status(link, request, user), _) => {
                shared.links.push(link, &FromRouter::Done(request));
                shared.questions.finish(link, user);
            }
            (ReplyTo::Nobody, _) => {}
        }
    }

    fn reply_outcome(
        &mut self,
        shared: &mut Shared,
        link: LinkId,
        request: RequestId,
        outcome: &SendOutcome,
    ) {
        match *outcome {
            SendOutcome::Sent {
                message_id,
                conversation,
                seq,
                timestamp,
                duplicate,
            } => {
                shared.stats.duplicates += u64::from(duplicate);
                let sent = SentRecord {
                    request,
                    message_id,
                    conversation,
                    seq,
                    timestamp,
                    duplicate,
                };
                shared.links.push(link, &FromRouter::Sent(sent));
            }
            SendOutcome::Rejected { code, reason } => {
                let refusal = Refusal {
                    code,
                    reason,
                    retry_after_ms: None,
                };
                shared.reject(link, request, &refusal);
            }
        }
    }

    /// Gives a message to every session that is up to date: one record a link, naming all its connections.
    fn publish_message(&mut self, shared: &mut Shared, message: NewMessage) {
        let mut deliveries = std::mem::take(&mut self.pages.deliveries);
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
            let message = message.clone();
            self.deliver(shared, of_link[0].link, Deliver { message, to });
        }
        deliveries.clear();
        self.pages.deliveries = deliveries; // For its memory.
    }

    /// Queues a delivery; a link that it fills gets no more.
    pub(super) fn deliver(&mut self, shared: &mut Shared, link: LinkId, deliver: Deliver) {
        shared.stats.deliveries += deliver.to.len() as u64;
        shared.links.push(link, &FromRouter::Deliver(deliver));
        if shared.links.has_become_full(link) {
            self.sessions.handle_link_full(link);
            shared.filled.push(link);
        }
    }

    /// Tells everybody who is to know that a watermark moved, wherever its sessions are.
    fn publish_update(&mut self, shared: &mut Shared, update: StatusUpdate) {
        if self.is_alone() {
            return self.tell(shared, &update);
        }
        let topology = shared.topology;
        let mut told: BTreeMap<PartitionId, StatusUpdate> = BTreeMap::new();
        let part = |except| StatusUpdate {
            told: Vec::new(),
            except,
            ..update
        };
        if update.except.is_some() {
            told.insert(topology.of_user(update.user), part(update.except));
        }
        for user in &update.told {
            let of_log = told.entry(topology.of_user(*user)).or_insert_with(|| part(None));
            of_log.told.push(*user);
        }
        shared.told.extend(told);
    }

    /// Tells the sessions that are here.
    pub(super) fn tell(&self, shared: &mut Shared, update: &StatusUpdate) {
        let mut connections: Vec<_> = update
            .told
            .iter()
            .flat_map(|user| self.sessions.connections(*user, None))
            .collect();
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
            let told = of_link.len() as u64;
            match shared.links.push_update(of_link[0].0, record) {
                UpdateFate::Sent => shared.stats.status_updates += told,
                UpdateFate::Lost => shared.stats.status_updates_lost += told,
                UpdateFate::Held => {}
            }
        }
    }
}

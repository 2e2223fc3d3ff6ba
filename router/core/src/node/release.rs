//! The end of a partition at this node: whoever waits is answered, and its share of the budgets goes back.

use super::condition::{NOT_OWNED, TAKEN_OVER};
use super::group::ReplyTo;
use super::intention::Purpose;
use super::partition::Partition;
use super::{Intention, Shared};

impl Partition {
    /// Answers everybody who waits for something of it. What the log has of that is for the next owner.
    pub(super) fn release(mut self, shared: &mut Shared) {
        self.refuse_waiting(shared, &NOT_OWNED);
        // A gateway that knows the next owner has announced them there. One that knows of the release only by this would hold
        // them for ever: the next owner may be this node.
        for (link, connection) in self.sessions.all() {
            shared.refuse_connection(link, connection, &TAKEN_OVER);
        }
        for reply_to in self.take_replies() {
            shared.reply_unavailable(reply_to);
        }
        shared.drop_queued_questions(self.id);
        for purpose in shared.asks.take_all_of(self.id) {
            match purpose {
                Purpose::Lookup(_) => {}
                Purpose::Page(_) => shared.pages_under_way -= 1,
                Purpose::Question(link, stage) => shared.drop_question(link, &stage),
            }
        }
        // Nobody is to read for it any more. What it has given to logs and to the store may still be written.
        shared.intentions.retain(|intention| match intention {
            Intention::Consume { partition, .. } | Intention::FindEnd { partition } => *partition != self.id,
            Intention::Ask(ask) => ask.partition != self.id,
            _ => true,
        });
        shared.unapplied_bytes -= self.pending.unapplied_bytes();
    }

    fn take_replies(&mut self) -> Vec<ReplyTo> {
        let mut replies = self.pending.take_replies();
        replies.extend(self.intake.take_replies());
        replies.extend(self.outbox.take_replies());
        let appending = self.appending.take().map(|appending| appending.entries);
        let gathered = self.group.take_entries();
        let entries = appending.into_iter().flatten().chain(gathered);
        replies.extend(entries.map(|(_, reply_to)| reply_to));
        replies
    }
}

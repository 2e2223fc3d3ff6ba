//! What came of intentions, for drivers whose logs and stores answer through a queue.

use wire_base::ids::Offset;

use super::{Answer, AppendId, Appended, ApplyTicket, AskId, LogFault, Node, Prune, StoreFault};

/// A fact that a log or a store reports; each is described at the method of [`Node`] that takes it.
#[derive(Debug)]
pub enum Report {
    /// See [`Node::handle_appended`].
    Appended(AppendId, Result<Appended, LogFault>),
    /// See [`Node::handle_log_probed`].
    LogProbed(Result<(), LogFault>),
    /// See [`Node::handle_trimmed`].
    Trimmed {
        /// The first record that stays.
        below: Offset,
        /// The segments are deleted.
        is_done: bool,
    },
    /// See [`Node::handle_applied`].
    Applied(ApplyTicket),
    /// See [`Node::handle_apply_failed`].
    ApplyFailed(StoreFault),
    /// See [`Node::handle_store_retried`].
    StoreRetried(Result<(), StoreFault>),
    /// See [`Node::handle_answer`].
    Answered(AskId, Result<Answer, StoreFault>),
    /// See [`Node::handle_persisted`].
    Persisted(Result<Option<Offset>, StoreFault>),
    /// See [`Node::handle_pruned`].
    Pruned(Prune, Result<Option<Offset>, StoreFault>),
}

impl Node {
    /// Learns what came of an intention.
    pub fn handle_report(&mut self, report: Report) {
        match report {
            Report::Appended(id, outcome) => self.handle_appended(id, outcome),
            Report::LogProbed(outcome) => self.handle_log_probed(outcome),
            Report::Trimmed { below, is_done } => self.handle_trimmed(below, is_done),
            Report::Applied(ticket) => self.handle_applied(ticket),
            Report::ApplyFailed(fault) => self.handle_apply_failed(fault),
            Report::StoreRetried(outcome) => self.handle_store_retried(outcome),
            Report::Answered(id, answer) => self.handle_answer(id, answer),
            Report::Persisted(outcome) => self.handle_persisted(outcome),
            Report::Pruned(step, outcome) => self.handle_pruned(step, outcome),
        }
    }
}

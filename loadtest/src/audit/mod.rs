//! The checker: was every message that the target promised to keep delivered, once, in order, and nothing else?
//!
//! A [`Ledger`] is one worker's: the outgoing half of the pairs whose senders it has, the incoming half of those whose
//! receivers it has. Nothing is compared while the run goes on; at the end [`judge`] lays the halves together. Memory
//! is per pair (88 bytes while all goes well), never per message.

mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use wire_base::ids::{ConversationId, Seq, UserId};
use wire_base::random::mix;

use incoming::{Delivery, Incoming};
pub(crate) use outgoing::Outgoing;

use crate::identity::{Identity, NotAnIdentity};
use crate::plan::{Pair, Plan};

/// What the checker found. All but the first four and the last three are defects of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Directions in which messages went.
    pub pairs: u64,
    /// Of them, those whose receiver was connected at the end; the others cannot be judged.
    pub pairs_judged: u64,
    /// Conversations whose seqs were checked for gaps.
    pub conversations_judged: u64,
    /// Sends without an answer at the end: kept or not, both are right.
    pub unknown: u64,
    /// Messages with `sent` that were not delivered.
    pub lost: u64,
    /// Messages delivered a second time under another seq, which no client can drop.
    pub duplicates: u64,
    /// Messages delivered behind a later one of their conversation or of their sender.
    pub reordered: u64,
    /// Messages delivered that nobody sent to that user, or that were refused.
    pub ghosts: u64,
    /// Seqs of a conversation that no message has.
    pub gaps: u64,
    /// Pairs in which a message was delivered under another seq than `sent` told.
    pub mismatched: u64,
    /// Messages whose content was changed on the way.
    pub damaged: u64,
    /// Cursors not above the one before.
    pub cursor_regressions: u64,
    /// Repeats on a connection that never broke; the protocol allows them only after a failover.
    pub repeats_live: u64,
    /// Repeats after a reconnect, which a client drops.
    pub repeats_resumed: u64,
    /// Sends repeated by the tool that arrived behind later ones, as they may.
    pub late_retries: u64,
    /// Messages of other runs or other clients; not judged.
    pub foreign: u64,
}

impl Audit {
    /// Returns a sentence for each kind of defect; none when the target kept its promises.
    pub fn defects(&self, allow_repeats: bool) -> Vec<String> {
        let repeats = if allow_repeats { 0 } else { self.repeats_live };
        [
            (self.lost, "messages lost after `sent`"),
            (self.duplicates, "messages delivered twice under two seqs"),
            (self.reordered, "messages out of order"),
            (self.ghosts, "messages delivered that nobody sent there"),
            (self.gaps, "seqs missing"),
            (self.mismatched, "pairs whose seqs differ from those in `sent`"),
            (self.damaged, "messages with changed content"),
            (self.cursor_regressions, "cursors that did not increase"),
            (repeats, "messages repeated on an unbroken connection"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

/// One message as a receiver saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) content: Option<&'a str>,
    pub(crate) sender: UserId,
    pub(crate) conversation: ConversationId,
    pub(crate) seq: Seq,
}

/// What a ledger made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A message of this run, for the first time and in its place.
    InOrder(Identity),
    /// A message of this run, for the first time but behind a later one.
    Late(Identity),
    /// A repeat, or nothing of this run.
    Other,
}

/// One worker's halves of the pairs.
#[derive(Debug)]
pub(crate) struct Ledger {
    plan: Arc<Plan>,
    run: u32,
    user_base: u64,
    first_outgoing: u32,
    outgoing: Vec<Outgoing>,
    first_incoming: u32,
    incoming: Vec<Incoming>,
    faults: Audit,
}

impl Ledger {
    /// Returns the empty ledger of a block of clients.
    pub(crate) fn new(plan: Arc<Plan>, clients: &Range<u32>, run: u32, user_base: u64) -> Self {
        let (outgoing, incoming) = (plan.outgoing_of(clients), plan.incoming_of(clients));
        Self {
            run,
            user_base,
            first_outgoing: outgoing.start,
            outgoing: vec![Outgoing::default(); outgoing.len()],
            first_incoming: incoming.start,
            incoming: incoming.map(|_| Incoming::default()).collect(),
            faults: Audit::default(),
            plan,
        }
    }

    /// Returns the sender's half of a pair; the sender is one of this worker's clients.
    pub(crate) fn outgoing(&mut self, pair: u32) -> &mut Outgoing {
        &mut self.outgoing[(pair - self.first_outgoing) as usize]
    }

    /// Takes a message that client `receiver` (one of this worker's) got; `resumed` says that its connection is not its
    /// first, so that repeats are in order.
    pub(crate) fn receive(&mut self, receiver: u32, message: &Received<'_>, resumed: bool) -> Taken {
        let identity = match message
            .content
            .map_or(Err(NotAnIdentity::Foreign), Identity::parse)
        {
            Ok(identity) if identity.run == self.run => identity,
            Ok(_) | Err(NotAnIdentity::Foreign) => {
                self.faults.foreign += 1;
                return Taken::Other;
            }
            Err(NotAnIdentity::Damaged) => {
                self.faults.damaged += 1;
                return Taken::Other;
            }
        };
        let fault = match self.place(receiver, message, &identity) {
            Delivery::First => return Taken::InOrder(identity),
            Delivery::Reordered => {
                self.faults.reordered += 1;
                return Taken::Late(identity);
            }
            Delivery::Duplicate => &mut self.faults.duplicates,
            Delivery::Repeat if resumed => &mut self.faults.repeats_resumed,
            Delivery::Repeat => &mut self.faults.repeats_live,
            Delivery::Ghost => &mut self.faults.ghosts,
        };
        *fault += 1;
        Taken::Other
    }

    /// Notes a cursor that was not above the one before it.
    pub(crate) fn note_cursor_regression(&mut self) {
        self.faults.cursor_regressions += 1;
    }

    fn place(&mut self, receiver: u32, message: &Received<'_>, identity: &Identity) -> Delivery {
        let Some(pair) = self
            .plan
            .pair(identity.pair)
            .filter(|pair| pair.receiver == receiver)
        else {
            return Delivery::Ghost;
        };
        let place = self.plan.incoming_place(identity.pair) - self.first_incoming;
        let incoming = &mut self.incoming[place as usize];
        if incoming.conversation == 0 {
            let (sender, receiver) = (
                user(self.user_base, pair.sender),
                user(self.user_base, pair.receiver),
            );
            if message.conversation != ConversationId::direct(sender, receiver) {
                return Delivery::Ghost;
            }
            incoming.conversation = front(message.conversation);
        }
        if front(message.conversation) != incoming.conversation
            || message.sender != user(self.user_base, pair.sender)
        {
            return Delivery::Ghost;
        }
        incoming.deliver(identity.number, message.seq)
    }
}

/// Lays the halves of all workers' ledgers (in worker order) together.
///
/// `unknown` are the sends (pair, number) without an answer; `live` says whether a client was connected and in step
/// with its inbox at the end. Of a run that is cut short, pairs whose last messages are missing are not judged: those may
/// have been under way.
pub(crate) fn judge(
    ledgers: Vec<Ledger>,
    unknown: &mut [(u32, u32)],
    live: impl Fn(u32) -> bool,
    is_cut_short: bool,
) -> Audit {
    let mut audit = Audit {
        unknown: unknown.len() as u64,
        ..Audit::default()
    };
    let Some(plan) = ledgers.first().map(|ledger| Arc::clone(&ledger.plan)) else {
        return audit;
    };
    let mut outgoing = Vec::with_capacity(plan.pairs().len());
    let mut incoming = Vec::with_capacity(plan.pairs().len());
    for ledger in ledgers {
        audit.add_faults(&ledger.faults);
        outgoing.extend(ledger.outgoing);
        incoming.extend(ledger.incoming);
    }
    unknown.sort_unstable();
    let half = |id: u32| &incoming[plan.incoming_place(id) as usize];
    let can_be_judged = |id: u32, pair: Pair| {
        live(pair.receiver) && (!is_cut_short || half(id).high >= outgoing[id as usize].issued)
    };
    for (id, pair) in (0..).zip(plan.pairs()) {
        audit.pairs += 1;
        if can_be_judged(id, *pair) {
            let from = unknown.partition_point(|(pair, _)| *pair < id);
            let to = unknown.partition_point(|(pair, _)| *pair <= id);
            audit.judge_pair(&outgoing[id as usize], half(id), &unknown[from..to]);
        }
    }
    for ids in conversations(&plan) {
        if ids
            .iter()
            .all(|id| plan.pair(*id).is_some_and(|pair| can_be_judged(*id, pair)))
        {
            audit.judge_conversation(ids.iter().map(|id| half(*id)));
        }
    }
    audit
}

impl Audit {
    /// Adds what another worker found on the way.
    pub(crate) fn add_faults(&mut self, faults: &Audit) {
        self.unknown += faults.unknown;
        self.lost += faults.lost;
        self.duplicates += faults.duplicates;
        self.reordered += faults.reordered;
        self.ghosts += faults.ghosts;
        self.damaged += faults.damaged;
        self.cursor_regressions += faults.cursor_regressions;
        self.repeats_live += faults.repeats_live;
        self.repeats_resumed += faults.repeats_resumed;
        self.foreign += faults.foreign;
    }

    /// Compares what one sender was promised with what its receiver got.
    fn judge_pair(&mut self, sent: &Outgoing, got: &Incoming, unknown: &[(u32, u32)]) {
        self.pairs_judged += 1;
        let (mut missing, mut print) = got.missing(sent.issued);
        let invented = (got.delivered() + missing).saturating_sub(u64::from(sent.issued));
        for (_, number) in unknown.iter().filter(|(_, number)| !got.holds(*number, false)) {
            missing = missing.saturating_sub(1);
            print = print.wrapping_sub(mix(u64::from(*number)));
        }
        // What is missing must be exactly what was refused.
        let refused = u64::from(sent.refused);
        let unlike = print != sent.refused_print;
        let lost = missing
            .saturating_sub(refused)
            .max(u64::from(unlike && missing >= refused));
        let kept_after_refusal = (refused + lost).saturating_sub(missing);
        self.lost += lost;
        self.ghosts += invented + kept_after_refusal;
        let (overtaken, extra) = got
            .irregular
            .as_ref()
            .map_or((0, 0), |odd| (odd.overtaken, odd.extra_seqs));
        let excused = overtaken.min(sent.retried);
        self.late_retries += u64::from(excused);
        self.reordered += u64::from(overtaken - excused);
        let comparable = unknown.is_empty() && !unlike && invented == 0 && extra == 0;
        self.mismatched += u64::from(comparable && sent.accepted_print != got.placed_print);
    }

    /// Checks that the seqs of both directions of a conversation make one run without gaps.
    fn judge_conversation<'a>(&mut self, halves: impl Iterator<Item = &'a Incoming>) {
        self.conversations_judged += 1;
        let (mut low, mut high, mut count, mut print) = (u64::MAX, 0, 0, 0_u64);
        for half in halves.filter(|half| half.seq_high > 0) {
            low = low.min(half.seq_low);
            high = high.max(half.seq_high);
            count += half.delivered() + half.irregular.as_ref().map_or(0, |odd| u64::from(odd.extra_seqs));
            print = print.wrapping_add(half.seq_print);
        }
        if high == 0 {
            return;
        }
        let span = high - low + 1;
        let missing = span.saturating_sub(count);
        // A wild seq would make the span endless; it is a gap without looking at each.
        let unlike =
            span == count && print != (low..=high).fold(0, |sum: u64, seq| sum.wrapping_add(mix(seq)));
        self.gaps += if unlike || span < count { 1 } else { missing };
    }
}

/// Returns the pair ids of each conversation: one direction, or both.
fn conversations(plan: &Plan) -> Vec<Vec<u32>> {
    let members = |pair: &Pair| (pair.sender.min(pair.receiver), pair.sender.max(pair.receiver));
    let mut ids: Vec<u32> = (0..plan.pairs().len() as u32).collect();
    ids.sort_unstable_by_key(|id| members(&plan.pairs()[*id as usize]));
    ids.chunk_by(|a, b| members(&plan.pairs()[*a as usize]) == members(&plan.pairs()[*b as usize]))
        .map(<[u32]>::to_vec)
        .collect()
}

/// Returns the user of a client; the options made sure that it is one.
pub(crate) fn user(base: u64, client: u32) -> UserId {
    UserId::new(base + u64::from(client)).expect("options checked the range of users")
}

/// Returns the front of an id, which a message could not have by accident; never 0.
fn front(conversation: ConversationId) -> u64 {
    conversation.get().as_u64_pair().0 | 1
}

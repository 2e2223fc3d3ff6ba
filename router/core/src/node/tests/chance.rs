//! Three nodes under whatever can happen: answers late and in any order, groups of unknown fate, reads that fail, consumers that
//! repeat and skip, slots that move, two owners at once or none, nodes that are killed and begin again without memory. In the end
//! every message that was acknowledged is in every inbox once, in order.
//!
//! `SIMULATION_CLUSTER_SEEDS=5000` runs so many seeds, `SIMULATION_CLUSTER_SEED=17` one of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use router_records::log::{Input, LogRecord};
use wire_base::code::Code;
use wire_base::ids::{ConversationId, MessageId, Offset, Position, Seq, SessionNumber};
use wire_base::random::Random;
use wire_link::{FromRouter, ToRouter};

use super::world::*;
use crate::node::{AppendId, ApplyTicket, Ask, Group, Intention, LogFault, Offsets, StoreFault};
use crate::testing::{direct, user};
use crate::topology::PartitionId;

const USERS: u64 = 4;
const NODES: usize = 3;
const STEPS: usize = 800;
/// How far the wall clock of each node is behind that of the one before it.
const CLOCK_BEHIND_MS: u64 = 700;

#[test]
fn whatever_happens_every_message_is_in_every_inbox_once_and_in_order() {
    for seed in seeds() {
        let mut run = Run::of(seed);
        for _ in 0..STEPS {
            run.step();
        }
        run.heal();
        run.read_everything();
        run.check();
    }
}

fn seeds() -> Range<u64> {
    let setting = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    match setting("SIMULATION_CLUSTER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SIMULATION_CLUSTER_SEEDS").unwrap_or(60),
    }
}

struct Run {
    seed: u64,
    random: Random,
    world: World,
    /// By whom and to whom each message is sent, by its number.
    sends: Vec<(u64, u64)>,
    /// Messages that are to be sent again.
    refused: BTreeSet<u64>,
    /// The seqs that were told.
    told: BTreeMap<u64, u64>,
    /// At which node each send that nobody has answered was said last.
    asked: BTreeMap<u64, usize>,
    /// Records that were reported as failed, and come into their log all the same.
    late: Vec<(PartitionId, Vec<LogRecord>)>,
    /// Nodes killed so far.
    kills: u64,
    may_fail: bool,
    /// Who reads, by node and user.
    readers: BTreeMap<(usize, u64), Reader>,
    /// What each user got, of each conversation.
    got: BTreeMap<(u64, ConversationId), BTreeSet<u64>>,
}

/// A session, as its gateway knows it.
struct Reader {
    session: SessionNumber,
    newest: Option<Position>,
}

impl Run {
    fn of(seed: u64) -> Self {
        let mut world = World::of_nodes(NODES);
        world.holds = |_| true;
        let mut run = Self {
            seed,
            random: Random::seeded(seed),
            world,
            sends: Vec::new(),
            refused: BTreeSet::new(),
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
            late: Vec::new(),
            kills: 0,
            may_fail: true,
            readers: BTreeMap::new(),
            got: BTreeMap::new(),
        };
        for id in partitions() {
            let node = run.below(NODES);
            run.world.take(node, id);
        }
        run
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.index(bound)
    }

    fn is_one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn step(&mut self) {
        let at = self.below(NODES);
        match self.below(20) {
            0..2 => self.send(),
            2 => self.repeat(),
            3 if self.may_fail && self.is_one_in(4) => self.move_slot(),
            3 if self.may_fail && self.is_one_in(20) => self.kill(at),
            3 => self.arrive_late(),
            4 => {
                self.world.now.mono_ms += 300;
                self.world.now.unix.0 += 300;
            }
            5..9 => self.consume(at),
            9 if self.is_one_in(3) => self.read(at),
            _ => self.carry_out_one(),
        }
        self.advance(at);
    }

    fn owners(&self, id: PartitionId) -> Vec<usize> {
        let owns = |at: &usize| self.world.nodes[*at].node.stats().partitions > 0 && self.owns(*at, id);
        (0..NODES).filter(owns).collect()
    }

    fn owns(&self, at: usize, id: PartitionId) -> bool {
        self.world.nodes[at].node.owns(id)
    }

    fn send(&mut self) {
        let (from, to) = (
            1 + self.below(USERS as usize) as u64,
            1 + self.below(USERS as usize) as u64,
        );
        self.sends.push((from, to));
        self.say_send(self.sends.len() as u64 - 1);
    }

    fn repeat(&mut self) {
        if let Some(number) = self.refused.pop_first() {
            self.say_send(number);
        }
    }

    fn say_send(&mut self, number: u64) {
        let (from, to) = self.sends[number as usize];
        let owners = self.owners(of_direct(from, to));
        let at = match owners.len() {
            0 => self.below(NODES),
            count => owners[self.below(count)],
        };
        match self.say(at, send(from, to, number)) {
            true => self.asked.insert(number, at).is_none(),
            false => self.refused.insert(number),
        };
    }

    /// Says something, unless the node takes nothing from its link now.
    fn say(&mut self, at: usize, record: ToRouter) -> bool {
        let may = self.world.nodes[at].node.wants_batch(GATEWAY);
        if may {
            self.world.nodes[at].say(&[record]);
        }
        may
    }

    /// A user says hello, or acks what came, at a node that may or may not own it.
    fn read(&mut self, at: usize) {
        let of = 1 + self.below(USERS as usize) as u64;
        let acked = self
            .readers
            .get(&(at, of))
            .and_then(|reader| Some((reader.session, reader.newest?)));
        match acked {
            Some((session, position)) if !self.is_one_in(6) => {
                self.say(at, ack(of, session, position));
            }
            _ => {
                self.say(at, hello(of));
            }
        }
    }

    /// A slot goes to another node, which may not know of it before the old one does, nor the old one before.
    fn move_slot(&mut self) {
        let all: Vec<_> = partitions().into_iter().collect();
        let id = all[self.below(all.len())];
        let owners = self.owners(id);
        if !owners.is_empty() && self.is_one_in(2) {
            let from = owners[self.below(owners.len())];
            self.release(from, id);
        }
        if owners.len() < 2 {
            let to = self.below(NODES);
            self.take(to, id);
        }
    }

    /// A node dies and begins again with nothing. What it had on its way to logs and store came there, or did not.
    fn kill(&mut self, at: usize) {
        self.kills += 1;
        let (its, others) = std::mem::take(&mut self.world.held)
            .into_iter()
            .partition(|held| held.0 == at);
        self.world.held = others;
        let its: VecDeque<(usize, Intention)> = its;
        let mut lost = BTreeSet::new();
        for (_, intention) in its {
            match intention {
                Intention::Append { id, group } if self.is_one_in(2) => {
                    let records = records_of(&group).collect();
                    self.late.push((id.to(), records));
                }
                // In the order of a partition: what comes behind rows that are lost is lost too.
                Intention::Apply { rows, ticket } if !lost.contains(&ticket.partition) => {
                    if self.is_one_in(2) {
                        self.world.write(&rows, &ticket);
                    } else {
                        lost.insert(ticket.partition);
                    }
                }
                _ => {}
            }
        }
        let mut now = self.world.now;
        now.unix.0 -= at as u64 * CLOCK_BEHIND_MS;
        self.world.nodes[at] = OfNode::new(self.seed + 1_000 * self.kills, now, 0);
        self.readers.retain(|reader, _| reader.0 != at);
        // Whoever waits for an answer asks again, elsewhere or here.
        let unanswered = self.asked.extract_if(.., |_, node| *node == at);
        self.refused.extend(unanswered.map(|(number, _)| number));
    }

    fn arrive_late(&mut self) {
        if !self.late.is_empty() {
            let (to, records) = self.late.swap_remove(self.random.index(self.late.len()));
            self.world.logs.entry(to).or_default().extend(records);
        }
    }

    fn release(&mut self, at: usize, id: PartitionId) {
        self.world.release(at, id);
        // What was on its way may arrive, late.
        if self.is_one_in(2) {
            self.world.held.retain(|(of, intention)| match intention {
                Intention::Append { id: append, .. } => *of != at || append.from() != id,
                Intention::Apply { ticket, .. } => *of != at || ticket.partition != id,
                _ => true,
            });
        }
        self.world
            .held
            .retain(|(of, intention)| *of != at || !matches!(intention, Intention::Consume { partition, .. } | Intention::FindEnd { partition } if *partition == id));
    }

    fn take(&mut self, at: usize, id: PartitionId) {
        let is_late = |held: &(usize, Intention)| {
            held.0 == at
                && matches!(&held.1, Intention::Apply { ticket: ApplyTicket { partition, .. }, .. } if *partition == id)
        };
        // A node takes a slot again when what it has written before has come to an end.
        if !self.owns(at, id) && !self.world.held.iter().any(is_late) {
            self.world.take(at, id);
        }
    }

    fn advance(&mut self, at: usize) {
        let mut now = self.world.now;
        now.unix.0 -= at as u64 * CLOCK_BEHIND_MS;
        let of = &mut self.world.nodes[at];
        of.node.handle_now(now);
        of.node.advance();
        while let Some(intention) = of.node.poll_intention() {
            match intention {
                Intention::Note(_) | Intention::CloseLink(_) => {}
                intention => self.world.held.push_back((at, intention)),
            }
        }
        of.receive();
        for record in self.world.got(at) {
            self.hear(at, record);
        }
    }

    fn hear(&mut self, at: usize, record: FromRouter) {
        match record {
            FromRouter::Sent(sent) => {
                self.asked.remove(&sent.request.0);
                let before = self.told.insert(sent.request.0, sent.seq.0);
                let is_same = before.is_none_or(|before| before == sent.seq.0);
                assert!(is_same, "seed {}: {sent:?}, {before:?} before", self.seed);
            }
            FromRouter::Rejected(rejected) => {
                let is_passing = matches!(rejected.code, Code::Unavailable | Code::Busy);
                assert!(is_passing, "seed {}: {rejected:?}", self.seed);
                self.asked.remove(&rejected.request.0);
                self.refused.insert(rejected.request.0);
            }
            FromRouter::SessionOpened(opened) => {
                assert_eq!(opened.resync, None, "seed {}", self.seed);
                let reader = Reader {
                    session: opened.session,
                    newest: None,
                };
                self.readers.insert((at, opened.connection.slot.into()), reader);
            }
            FromRouter::Deliver(deliver) => {
                for (connection, position) in deliver.to {
                    let of = u64::from(connection.slot);
                    let reader = self
                        .readers
                        .get_mut(&(at, of))
                        .expect("who is delivered to has a session");
                    assert!(reader.newest < Some(position), "seed {}: of {of}", self.seed);
                    reader.newest = Some(position);
                    let conversation = deliver.message.conversation;
                    self.got
                        .entry((of, conversation))
                        .or_default()
                        .insert(deliver.message.seq.0);
                }
            }
            _ => {}
        }
    }

    fn consume(&mut self, at: usize) {
        let mine: Vec<_> = self.world.nodes[at].consumers.keys().copied().collect();
        if mine.is_empty() {
            return;
        }
        let id = mine[self.below(mine.len())];
        let (mut next, has_ended) = self.world.nodes[at].consumers[&id];
        let log_len = self.world.logs.entry(id).or_default().len() as u64;
        if !has_ended {
            self.world.nodes[at].node.handle_caught_up(id, Offset(log_len));
        }
        if self.may_fail && self.is_one_in(8) {
            next = Offset(next.0.saturating_sub(self.below(4) as u64));
        } else if self.may_fail && self.is_one_in(16) {
            next.0 += 1;
        }
        let end = (next.0 + 1 + self.below(5) as u64).min(log_len);
        if next.0 < end && self.world.nodes[at].node.wants_records(id) {
            let records = self.world.logs[&id][next.0 as usize..end as usize].to_vec();
            self.world.nodes[at].node.handle_consumed(id, next, records);
            self.world.nodes[at].consumers.insert(id, (Offset(end), true));
        } else if let Some(of) = self.world.nodes[at].consumers.get_mut(&id) {
            of.1 = true;
        }
    }

    fn carry_out_one(&mut self) {
        if self.world.held.is_empty() {
            return;
        }
        let picked = self.below(self.world.held.len());
        // The store works in order for each partition, and so do its reads.
        let of = |held: &(usize, Intention)| match &held.1 {
            Intention::Apply { ticket, .. } => Some((held.0, ticket.partition)),
            Intention::Ask(Ask { partition, .. }) => Some((held.0, *partition)),
            _ => None,
        };
        let first = match of(&self.world.held[picked]) {
            Some(wanted) => self.world.held.iter().position(|held| of(held) == Some(wanted)),
            None => Some(picked),
        };
        let Some((at, intention)) = first.and_then(|first| self.world.held.remove(first)) else {
            return;
        };
        match intention {
            Intention::Append { id, group } => self.append(at, id, &group),
            Intention::Consume { partition, from } => {
                let has_ended = self.world.nodes[at]
                    .consumers
                    .get(&partition)
                    .is_some_and(|of| of.1);
                self.world.nodes[at]
                    .consumers
                    .insert(partition, (from, has_ended));
            }
            Intention::TellOwner { partition, update } => {
                if let Some(to) = self.owners(partition).first() {
                    self.world.nodes[*to].node.handle_told(partition, &update);
                }
            }
            Intention::Ask(Ask { id, .. }) if self.may_fail && self.is_one_in(12) => {
                let fault = StoreFault::Stopped { reopens: 1 };
                self.world.nodes[at].node.handle_answer(id, Err(fault));
            }
            Intention::RetryStore => self.world.nodes[at].node.handle_store_retried(Ok(())),
            Intention::GivenUp(id) => panic!("seed {}: {id:?} is given up", self.seed),
            other => self.world.carry_out(at, other),
        }
    }

    fn append(&mut self, at: usize, id: AppendId, group: &Group) {
        let fate = if self.may_fail { self.below(10) } else { 9 };
        let log = self.world.logs.entry(id.to()).or_default();
        let first = Offset(log.len() as u64);
        let all = records_of(group).collect::<Vec<_>>();
        let count = match fate {
            0 => 0,
            1 => all.len() / 2,
            4 => 0,
            _ => all.len(),
        };
        log.extend_from_slice(&all[..count]);
        if fate == 4 {
            let records = all[..1 + self.random.index(all.len())].to_vec();
            self.late.push((id.to(), records));
        }
        let outcome = match fate {
            0 => Err(LogFault::NoSpace),
            1 | 2 | 4 => Err(LogFault::Failed),
            3 => Ok(appended(Offsets::Each(
                (first.0..).map(Offset).take(count).collect(),
            ))),
            _ => Ok(appended(Offsets::From(first))),
        };
        self.world.nodes[at].node.handle_appended(id, outcome);
    }

    /// Nothing fails any more, every slot has one owner, and everything that was refused is sent until it is told.
    fn heal(&mut self) {
        self.may_fail = false;
        while !self.late.is_empty() {
            self.arrive_late();
        }
        for id in partitions() {
            let owners = self.owners(id);
            for at in owners.iter().skip(1) {
                self.release(*at, id);
            }
            while self.owners(id).is_empty() {
                let at = self.below(NODES);
                self.take(at, id);
                self.carry_out_one();
            }
        }
        self.rest();
    }

    /// Every user reads and acks what is left.
    fn read_everything(&mut self) {
        for of in 1..=USERS {
            let at = self.owners(of_user(of))[0];
            self.readers.clear();
            // A log that failed takes no new device for a while.
            while !self.readers.contains_key(&(at, of)) {
                self.world.nodes[at].say(&[hello(of)]);
                self.rest();
            }
            let reader = &self.readers[&(at, of)];
            if let Some(position) = reader.newest {
                self.world.nodes[at].say(&[ack(of, reader.session, position)]);
                self.rest();
            }
        }
    }

    fn rest(&mut self) {
        for _ in 0..40_000 {
            self.repeat();
            for at in 0..NODES {
                self.consume(at);
                self.advance(at);
            }
            self.carry_out_one();
            self.world.now.mono_ms += 10;
            self.world.now.unix.0 += 10;
            if self.is_at_rest() {
                return;
            }
        }
        let untold: Vec<_> = (0..self.sends.len() as u64)
            .filter(|number| !self.told.contains_key(number))
            .collect();
        let held: Vec<_> = self.world.held.iter().take(5).collect();
        panic!(
            "seed {}: it never comes to rest: untold {untold:?}, held {held:?}",
            self.seed
        );
    }

    fn is_at_rest(&self) -> bool {
        let is_quiet = |of: &OfNode| {
            let is_read =
                |(id, at): (&PartitionId, &(Offset, bool))| at.0.0 == self.world.logs[id].len() as u64;
            of.node.is_quiet() && of.node.stats().acks_waiting == 0 && of.consumers.iter().all(is_read)
        };
        let is_told = self.told.len() == self.sends.len();
        is_told && self.world.held.is_empty() && self.world.nodes.iter().all(is_quiet)
    }

    fn check(&self) {
        let seed = self.seed;
        let mut ids: BTreeMap<_, BTreeSet<MessageId>> = BTreeMap::new();
        let mut newest: BTreeMap<_, u64> = BTreeMap::new();
        for ((conversation, seq), row) in &self.world.store.messages {
            let before = newest.insert(*conversation, seq.0).unwrap_or(0);
            assert_eq!(seq.0, before + 1, "seed {seed}: seqs of {conversation}");
            assert!(
                ids.entry(*conversation)
                    .or_default()
                    .insert(row.message.message_id),
                "seed {seed}: an id twice"
            );
        }
        for (number, seq) in &self.told {
            let (from, to) = self.sends[*number as usize];
            let row = &self.world.store.messages[&(direct(from, to), Seq(*seq))];
            assert_eq!(
                row.message.message_id,
                id(*number),
                "seed {seed}: message {number}"
            );
        }
        for of in 1..=USERS {
            let mut had: BTreeMap<_, u64> = BTreeMap::new();
            for row in self.world.store.inbox_of(user(of)) {
                let before = had.insert(row.conversation, row.seq.0).unwrap_or(0);
                assert_eq!(
                    (row.seq.0, row.prev_seq.0),
                    (before + 1, before),
                    "seed {seed}: inbox of {of}"
                );
            }
            for other in 1..=USERS {
                let conversation = direct(of, other);
                assert_eq!(
                    had.get(&conversation),
                    newest.get(&conversation),
                    "seed {seed}: inbox of {of}"
                );
            }
        }
        for (conversation, row) in &self.world.store.conversations {
            assert_eq!(
                Some(&row.last_seq.0),
                newest.get(conversation),
                "seed {seed}: state"
            );
        }
        for row in self.world.store.messages.values() {
            let other = (1..=USERS)
                .find(|other| direct(row.message.sender.get(), *other) == row.message.conversation);
            let Some(of) = other.filter(|other| user(*other) != row.message.sender) else {
                continue; // One's own message is no news.
            };
            let got = self.got.get(&(of, row.message.conversation));
            assert!(
                got.is_some_and(|got| got.contains(&row.message.seq.0)),
                "seed {seed}: {of} lacks {row:?}"
            );
            let receipt = self
                .world
                .store
                .receipts
                .get(&(row.message.conversation, user(of)));
            assert!(
                receipt.is_some_and(|receipt| receipt.delivered >= row.message.seq),
                "seed {seed}: mark of {row:?}"
            );
        }
        let fan_outs = self.world.logs.values().flatten();
        let fan_outs = fan_outs.filter(|record| matches!(record.input, Input::Fanout(_)));
        assert!(
            fan_outs.count() >= self.told.len(),
            "seed {seed}: something happened"
        );
    }
}

fn partitions() -> BTreeSet<PartitionId> {
    let pairs = (1..=USERS).flat_map(|from| (1..=USERS).map(move |to| (from, to)));
    pairs.flat_map(|(from, to)| all_of(from, to)).collect()
}

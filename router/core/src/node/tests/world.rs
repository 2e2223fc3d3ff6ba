//! Nodes over logs and a store that outlive them, driven by hand: what is held back waits until a test lets it go.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use router_records::log::{Input, LogRecord};
use router_records::row::Row;
use wire_base::ids::{MessageId, Offset, Position, SessionNumber, UnixMs};
use wire_link::{AckRecord, Deliver, FromRouter, LinkKind, RequestId, ToRouter};

use crate::admission::SendRateConfig;
use crate::fold::FoldsConfig;
use crate::node::{
    AppendId, Appended, ApplyTicket, Ask, Flushed, Group, Intention, LogFault, Node, NodeConfig, Offsets,
    PartitionStart, UpkeepConfig,
};
use crate::sessions::{LinkId, SessionsConfig};
use crate::testing::{
    GENERATION, Gateway, START, SharedTables, connection, decode, device, direct, encode, link_hello,
    message_id_at, send_of, session_open, user,
};
use crate::time::Now;
use crate::topology::{PartitionId, Topology};

pub(super) const TOPOLOGY: Topology = Topology::PartitionPerSlot {
    conversation_slots: 8,
    user_slots: 8,
};
pub(super) const GATEWAY: LinkId = LinkId {
    slot: 0,
    generation: 0,
};

pub(super) struct World {
    pub(super) logs: BTreeMap<PartitionId, Vec<LogRecord>>,
    pub(super) store: SharedTables,
    pub(super) flushed: BTreeMap<PartitionId, Flushed>,
    pub(super) nodes: Vec<OfNode>,
    /// What is not carried out but kept in `held`, by node.
    pub(super) holds: fn(&Intention) -> bool,
    pub(super) held: VecDeque<(usize, Intention)>,
    pub(super) now: Now,
}

pub(super) struct OfNode {
    pub(super) node: Node,
    /// It checks what it gets.
    gateway: Gateway,
    /// What the gateway got.
    pub(super) got: Vec<FromRouter>,
    /// Where each consumer is, and whether it has said where its log ended.
    pub(super) consumers: BTreeMap<PartitionId, (Offset, bool)>,
    /// Its consumers stand still.
    pub(super) is_deaf: bool,
    pub(super) given_up: Vec<PartitionId>,
    /// How far its wall clock is behind.
    behind_ms: u64,
}

impl World {
    pub(super) fn of_nodes(count: usize) -> Self {
        let now = START;
        let mut world = Self {
            logs: BTreeMap::new(),
            store: SharedTables::default(),
            flushed: BTreeMap::new(),
            nodes: (0..count).map(|seed| OfNode::new(seed as u64, now, 0)).collect(),
            holds: |_| false,
            held: VecDeque::new(),
            now,
        };
        world.run();
        world
    }

    /// Returns a world of one node that owns all that messages between users 1 and 2 concern.
    pub(super) fn of_one() -> Self {
        let mut world = Self::of_nodes(1);
        world.take_all(0, all_of(1, 2));
        world
    }

    /// Has a node take a slot, from what the store says of it.
    pub(super) fn take(&mut self, node: usize, id: PartitionId) {
        let flushed = self.flushed.get(&id).map(|flushed| flushed.through);
        self.start(node, id, flushed, Offset(0), UnixMs(0));
    }

    /// Has a node take a slot that was done up to the newest flush, without reading what lies before it.
    pub(super) fn take_from_flushed(&mut self, node: usize, id: PartitionId) {
        let Flushed { through, log_time } = self.flushed[&id];
        self.start(node, id, Some(through), Offset(through.0 + 1), log_time);
        self.run();
    }

    fn start(
        &mut self,
        node: usize,
        id: PartitionId,
        flushed: Option<Offset>,
        observe_from: Offset,
        log_time: UnixMs,
    ) {
        let start = PartitionStart {
            generation: GENERATION,
            prune_floor: Offset(0),
            flushed,
            observe_from,
            log_time,
        };
        self.nodes[node].node.handle_slot_taken(id, start);
    }

    pub(super) fn take_all(&mut self, node: usize, ids: impl IntoIterator<Item = PartitionId>) {
        ids.into_iter().for_each(|id| self.take(node, id));
        self.run();
    }

    pub(super) fn release(&mut self, node: usize, id: PartitionId) {
        self.nodes[node].node.handle_slot_released(id);
        self.nodes[node].consumers.remove(&id);
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix.0 += ms;
        self.run();
    }

    /// Says something over the gateway's link of a node, and runs.
    pub(super) fn say(&mut self, node: usize, record: &ToRouter) {
        self.nodes[node].say(std::slice::from_ref(record));
        self.run();
    }

    /// Sends the message of that number from user to user.
    pub(super) fn send(&mut self, node: usize, from: u64, to: u64, number: u64) {
        self.say(node, &send(from, to, number));
    }

    pub(super) fn hello(&mut self, node: usize, of: u64) {
        self.say(node, &hello(of));
    }

    /// Carries out everything there is to do until nothing is left but what is held.
    pub(super) fn run(&mut self) {
        for _ in 0..100 {
            let mut has_done = false;
            for at in 0..self.nodes.len() {
                has_done |= self.step(at);
            }
            if !has_done {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn step(&mut self, at: usize) -> bool {
        let mut has_done = self.consume(at);
        let of = &mut self.nodes[at];
        let mut now = self.now;
        now.unix.0 -= of.behind_ms;
        of.node.handle_now(now);
        has_done |= of.node.advance();
        while let Some(intention) = self.nodes[at].node.poll_intention() {
            has_done = true;
            if (self.holds)(&intention) {
                self.held.push_back((at, intention));
            } else {
                self.carry_out(at, intention);
            }
        }
        self.nodes[at].receive();
        has_done
    }

    fn consume(&mut self, at: usize) -> bool {
        let of = &mut self.nodes[at];
        let mut has_done = false;
        if of.is_deaf {
            return false;
        }
        for (id, (next, has_ended)) in &mut of.consumers {
            let log = self.logs.entry(*id).or_default();
            let records = log[next.0 as usize..].to_vec();
            if !records.is_empty() && of.node.wants_records(*id) {
                let first = std::mem::replace(next, Offset(log.len() as u64));
                of.node.handle_consumed(*id, first, records);
                has_done = true;
            }
            if !std::mem::replace(has_ended, true) {
                of.node.handle_caught_up(*id, Offset(log.len() as u64));
                has_done = true;
            }
        }
        has_done
    }

    /// Carries out an intention, successfully.
    pub(super) fn carry_out(&mut self, at: usize, intention: Intention) {
        match intention {
            Intention::Append { id, group } => {
                let offsets = self.append(id.to(), &group);
                let appended = appended(Offsets::From(offsets));
                self.nodes[at].node.handle_appended(id, Ok(appended));
            }
            Intention::Apply { rows, ticket } => {
                self.write(&rows, &ticket);
                self.nodes[at].node.handle_applied(ticket);
            }
            Intention::Ask(Ask { id, question, .. }) => {
                let answer = self.store.answer(&question);
                self.nodes[at].node.handle_answer(id, Ok(answer));
            }
            Intention::Consume { partition, from } => {
                let of = &mut self.nodes[at];
                let has_ended = of.consumers.get(&partition).is_some_and(|(_, ended)| *ended);
                of.consumers.insert(partition, (from, has_ended));
            }
            Intention::GivenUp(id) => {
                self.nodes[at].consumers.remove(&id);
                self.nodes[at].given_up.push(id);
            }
            Intention::FindEnd { partition } => {
                let end = Offset(self.logs[&partition].len() as u64);
                self.nodes[at].node.handle_caught_up(partition, end);
            }
            Intention::TellOwner { partition, update } => {
                let owns = |of: &&mut OfNode| of.consumers.contains_key(&partition);
                if let Some(owner) = self.nodes.iter_mut().find(owns) {
                    owner.node.handle_told(partition, &update);
                }
            }
            Intention::Note(_) => {}
            Intention::CloseLink(_)
            | Intention::ProbeLog
            | Intention::FlushRows
            | Intention::RetryStore
            | Intention::Persist
            | Intention::Prune(_)
            | Intention::TrimLog { .. } => panic!("nobody asked for {intention:?}"),
        }
    }

    /// Carries out what is held, and what comes of it.
    pub(super) fn let_go(&mut self) {
        self.holds = |_| false;
        while let Some((at, intention)) = self.held.pop_front() {
            self.carry_out(at, intention);
        }
        self.run();
    }

    /// Takes the first intention that is held: the group that a node appends.
    pub(super) fn held_append(&mut self) -> (AppendId, Group) {
        match self.held.pop_front() {
            Some((_, Intention::Append { id, group })) => (id, group),
            other => panic!("a group is appended, and not {other:?}"),
        }
    }

    /// Answers a held append with a failure that leaves open what became of it; nothing is in the log.
    pub(super) fn fail_held_appends(&mut self) {
        for (at, intention) in std::mem::take(&mut self.held) {
            match intention {
                Intention::Append { id, .. } => {
                    self.nodes[at].node.handle_appended(id, Err(LogFault::Failed));
                }
                other => self.held.push_back((at, other)),
            }
        }
        self.run();
    }

    /// Puts a group at the end of a log and returns where it begins.
    pub(super) fn append(&mut self, to: PartitionId, group: &Group) -> Offset {
        let log = self.logs.entry(to).or_default();
        let first = Offset(log.len() as u64);
        log.extend(records_of(group));
        first
    }

    /// Puts a record of somebody else at the end of a log.
    pub(super) fn append_foreign(&mut self, to: PartitionId, input: Input) {
        let time = self.now.unix;
        self.logs.entry(to).or_default().push(LogRecord { time, input });
    }

    /// Writes rows as of the record that they came with: what a later one wrote stays.
    pub(super) fn write(&mut self, rows: &[Row], ticket: &ApplyTicket) {
        for row in rows {
            self.store.write(row, ticket.through);
        }
        if let Some(flushed) = ticket.flushed {
            let of = self.flushed.entry(ticket.partition).or_insert(flushed);
            if of.through < flushed.through {
                *of = flushed;
            }
        }
    }

    /// Returns what a node's gateway got since the last call.
    pub(super) fn got(&mut self, node: usize) -> Vec<FromRouter> {
        std::mem::take(&mut self.nodes[node].got)
    }

    /// Returns the seqs of the sends that a node's gateway was told of since the last call, by number of the message.
    pub(super) fn sent(&mut self, node: usize) -> Vec<(u64, u64)> {
        let got = self.got(node).into_iter();
        got.filter_map(|record| match record {
            FromRouter::Sent(sent) => Some((sent.request.0, sent.seq.0)),
            _ => None,
        })
        .collect()
    }
}

impl OfNode {
    /// `behind_ms`: how far its wall clock is behind.
    pub(super) fn new(seed: u64, now: Now, behind_ms: u64) -> Self {
        Self::with_topology(TOPOLOGY, seed, now, behind_ms)
    }

    pub(super) fn with_topology(topology: Topology, seed: u64, mut now: Now, behind_ms: u64) -> Self {
        now.unix.0 -= behind_ms;
        let mut node = Node::of_slots(config(), FoldsConfig::default(), topology, seed, now);
        node.handle_link_up(GATEWAY);
        let mut of = Self {
            node,
            gateway: Gateway::new(config().sessions.window_bytes_max),
            got: Vec::new(),
            consumers: BTreeMap::new(),
            is_deaf: false,
            given_up: Vec::new(),
            behind_ms,
        };
        of.say(&[ToRouter::Hello(link_hello(LinkKind::Gateway))]);
        of
    }

    /// Says something without waiting for what comes of it.
    pub(super) fn say(&mut self, records: &[ToRouter]) {
        records.iter().for_each(|record| self.gateway.said(record));
        while !self.node.wants_batch(GATEWAY) {
            self.node.advance();
        }
        self.node.handle_batch(GATEWAY, encode(records));
    }

    pub(super) fn receive(&mut self) {
        while let Some(batch) = self.node.poll_batch(GATEWAY) {
            for record in decode(batch) {
                self.gateway.heard(&record);
                self.got.push(record);
            }
        }
    }
}

pub(super) fn send(from: u64, to: u64, number: u64) -> ToRouter {
    let request = RequestId(number);
    let sender = (from, device(1));
    ToRouter::Send(send_of(
        request,
        sender,
        to,
        Some(id(number)),
        &number.to_string(),
    ))
}

pub(super) fn id(number: u64) -> MessageId {
    message_id_at(START.unix.0, number)
}

/// A hello of device 1 of a user, on the connection of that number.
pub(super) fn hello(of: u64) -> ToRouter {
    ToRouter::SessionOpen(session_open(of as u32, of, 1))
}

pub(super) fn ack(of: u64, session: SessionNumber, position: Position) -> ToRouter {
    ToRouter::Ack(AckRecord {
        user: user(of),
        device: device(1),
        session,
        position,
    })
}

pub(super) fn of_direct(a: u64, b: u64) -> PartitionId {
    TOPOLOGY.of_conversation(direct(a, b))
}

pub(super) fn of_user(n: u64) -> PartitionId {
    TOPOLOGY.of_user(user(n))
}

/// Returns every partition that messages between two users concern.
pub(super) fn all_of(a: u64, b: u64) -> Vec<PartitionId> {
    let mut ids = vec![of_direct(a, b), of_user(a), of_user(b)];
    ids.sort();
    ids.dedup();
    ids
}

/// Returns the session of an answer to hello.
pub(super) fn session_of(got: &[FromRouter]) -> Option<SessionNumber> {
    got.iter().find_map(|record| match record {
        FromRouter::SessionOpened(opened) => Some(opened.session),
        _ => None,
    })
}

/// Returns the seqs of what was delivered to a user's connection.
pub(super) fn delivered(got: &[FromRouter], to: u64) -> Vec<u64> {
    let deliveries = got.iter().filter_map(|record| match record {
        FromRouter::Deliver(Deliver { message, to }) => Some((message.seq.0, to)),
        _ => None,
    });
    let own =
        deliveries.filter(|(_, connections)| connections.iter().any(|(at, _)| *at == connection(to as u32)));
    own.map(|(seq, _)| seq).collect()
}

pub(super) fn records_of(group: &Group) -> impl Iterator<Item = LogRecord> {
    let decode = |bytes: &[u8]| {
        LogRecord::decode(Bytes::copy_from_slice(bytes)).expect("a node logs what can be read")
    };
    group.records().map(decode)
}

pub(super) fn appended(offsets: Offsets) -> Appended {
    Appended {
        offsets,
        log_bytes: 0,
        is_new_segment: false,
    }
}

fn config() -> NodeConfig {
    NodeConfig {
        group_records_max: 64,
        group_bytes_max: 1 << 20,
        link_backlog_bytes: 1 << 20,
        link_records_per_step: 64,
        pages_at_once: 8,
        unapplied_bytes_max: 1 << 20,
        rows_gather_ms: 0,
        send_rate: SendRateConfig {
            per_s: 0,
            ..SendRateConfig::default()
        },
        sessions: SessionsConfig {
            ack_linger_ms: 10,
            ..SessionsConfig::default()
        },
        upkeep: UpkeepConfig {
            retention_ms: 0,
            log_retention_ms: 0,
            dedupe_ms: 0,
            persist_interval_ms: 0,
            persist_bytes: 0,
            sweep_rows_max: 0,
        },
    }
}

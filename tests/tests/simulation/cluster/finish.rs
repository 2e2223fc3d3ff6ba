//! The end of a run: everything heals, everybody catches up, every slot moves once more, and all of it is read and audited.

use wire_base::ids::{ConversationId, Position, Seq, UserId};
use wire_base::status::{Status, StatusCommand, StatusOf};
use wire_link::FromRouter;

use super::plan::{NODES, Rates};
use super::world::World;
use crate::audit::{Invariant, Violation};
use crate::transcript::{Seen, answer_in};
use crate::world::Hello;
use std::collections::{BTreeMap, BTreeSet};

/// Brings the world to rest and audits it.
pub(crate) fn finish(world: &mut World) {
    heal(world);
    if !catch_up(world) {
        return;
    }
    // What everybody was shown is there for any owner.
    for node in 0..NODES {
        world.empty_node(node);
    }
    if !catch_up(world) {
        return;
    }
    world.see(Seen::Trouble(false));
    world.advance(world.plan.bounds().recovers_ms + 1);
    read_a_last_message(world);
    if !catch_up(world) {
        return;
    }
    world.see(Seen::Settled);
    read_histories(world);
    read_conversations(world);
    if !read_inboxes(world) {
        return;
    }
    world.see(Seen::Settled);
    check_store(world);
    world.auditor.conclude();
}

/// Ends all that goes wrong.
fn heal(world: &mut World) {
    world.plan.rates = Rates::default();
    world.plan.delays = world.plan.delays.of_good_days();
    world.store.cut_off.clear();
    for node in &mut world.nodes {
        (node.paused_until_ms, node.starts_at_ms) = (0, 0);
    }
    for gateway in &mut world.gateways {
        gateway.deaf_until_ms = 0;
    }
    for device in &mut world.devices {
        device.withholds = false;
    }
    world.restart_nodes();
    for id in world.views.all() {
        if world.views.owner(id).is_none() {
            let owner = world.rng.below(NODES);
            world.assign(id, Some(owner));
        }
    }
}

/// One more message to everybody's peer, and one more status, of which the other is told.
fn read_a_last_message(world: &mut World) {
    let users = users(world);
    let from = world.devices.iter().position(|device| device.user == users[0]);
    let letter = world.write_to(from.expect("every user has a device"), users[1]);
    world.post(letter);
    if !catch_up(world) {
        return;
    }
    let reader = world.devices.iter().position(|device| device.user == users[1]);
    let conversation = ConversationId::direct(users[0], users[1]);
    let command = StatusCommand {
        status: Status::Read,
        of: StatusOf::Seq(conversation, Seq(1_000_000)),
    };
    world.say_status(reader.expect("every user has a device"), command);
}

/// Lets everybody connect, ack, and repeat what has no answer. Returns whether they come to rest in time.
fn catch_up(world: &mut World) -> bool {
    let until_ms = world.now.mono_ms + CATCH_UP_MS_MAX;
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        if world.is_violated() {
            return false;
        }
        if world.now.mono_ms > until_ms {
            world.auditor.report(Violation {
                invariant: Invariant::Converges,
                mono_ms: world.now.mono_ms,
                text: format!(
                    "after {CATCH_UP_MS_MAX} ms without any fault this is left: {:?}",
                    left(world)
                ),
            });
            return false;
        }
        do_what_is_left(world);
        world.advance(ROUND_MS);
        world.round();
        let is_quiet = !world.is_lively && is_quiet(world) && left(world).is_empty();
        quiet = if is_quiet { quiet + 1 } else { 0 };
    }
    true
}

fn do_what_is_left(world: &mut World) {
    world.restart_nodes();
    for device in 0..world.devices.len() {
        if world.devices[device].at.is_none() {
            let gateway = world.rng.below(world.gateways.len());
            let hello = world.rng.pick(&[Hello::Plain, Hello::Resume]);
            let window = world.rng.pick(&[1, 8, 64]);
            world.connect(device, gateway, hello, window);
        }
        world.ack(device, usize::MAX);
    }
    world.send_again();
}

fn is_quiet(world: &World) -> bool {
    world.logs.is_quiet()
        && world.store.is_quiet()
        && world.views.is_quiet()
        && world.nodes.iter().all(|node| node.is_quiet())
        && world.links.values().all(|line| line.is_quiet())
}

fn left(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    if world.links.len() < world.gateways.len() * NODES {
        left.push("links are missing".to_owned());
    }
    for (at, node) in world
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| !node.is_quiet())
    {
        left.push(format!("node {at} is busy: {:?}", node.stats()));
    }
    for (index, gateway) in world.gateways.iter().enumerate() {
        for (handle, session) in &gateway.sessions {
            let is_synced = session.is_open && session.is_synced && session.unacked.is_empty();
            if !session.is_vanished && !is_synced {
                left.push(format!("{handle:?} of gateway {index}: {session:?}"));
            }
        }
    }
    for device in world.devices.iter().filter(|device| device.at.is_none()) {
        left.push(format!(
            "{:?} of {:?} is not connected",
            device.device, device.user
        ));
    }
    if world.unanswered() > 0 {
        left.push(format!("{} letters have no answer", world.unanswered()));
    }
    for id in world.views.all() {
        let owners = world.nodes.iter().filter(|node| node.owns(id)).count();
        let owner = world.views.owner(id).map(|owner| &world.nodes[owner]);
        let consumed = owner.and_then(|owner| owner.consumed(id));
        if owners != 1 || consumed != Some(world.logs.end(id)) {
            left.push(format!(
                "{id:?} has {owners} owners, and is read up to {consumed:?}"
            ));
        }
    }
    left
}

// ---- reading

fn read_histories(world: &mut World) {
    let users = users(world);
    for user in &users {
        for a in &users {
            for b in users.iter().filter(|b| *b >= a) {
                read_history(world, *user, ConversationId::direct(*a, *b));
            }
        }
    }
}

/// Reads a conversation to its beginning, as a member, or is refused once.
fn read_history(world: &mut World, user: UserId, conversation: ConversationId) {
    let mut before = None;
    loop {
        world.ask_history(user, conversation, before, PAGE_LIMIT);
        let Some(FromRouter::HistoryPage(page)) = last_answer(world) else {
            return;
        };
        before = page.messages.last().map(|oldest| oldest.seq);
        if !page.more || before.is_none() {
            return;
        }
    }
}

fn read_conversations(world: &mut World) {
    for user in users(world) {
        let mut before = None;
        loop {
            world.ask_conversations(user, 2, before);
            let Some(FromRouter::ConversationsPage(page)) = last_answer(world) else {
                break;
            };
            before = page.next_behind(usize::MAX).map(str::to_owned);
            if before.is_none() {
                break;
            }
        }
    }
}

/// Lets rounds pass until the last question is answered; returns the answer.
fn last_answer(world: &mut World) -> Option<FromRouter> {
    let seen = world.transcript.len();
    // Where there is none, the auditor knows the question, and that nobody answered.
    (0..ANSWER_ROUNDS_MAX).find_map(|_| {
        world.advance(1);
        world.round();
        answer_in(&world.transcript[seen..])
    })
}

/// Lets every device read its inbox from the beginning, so that every position is known.
fn read_inboxes(world: &mut World) -> bool {
    let known = world.devices.iter().find_map(|device| device.cursor);
    let Some(start) = known.map(|cursor| Position::start(cursor.generation)) else {
        return true;
    };
    for device in 0..world.devices.len() {
        let gateway = world.rng.below(world.gateways.len());
        world.connect(device, gateway, Hello::At(start), 256);
    }
    catch_up(world)
}

/// Holds the store against the logs: all of it is done, and each inbox has each message of its user once, in order.
fn check_store(world: &mut World) {
    let mut found = Vec::new();
    for (id, records) in world.logs.all() {
        let done = world.store.flushed(id).map_or(0, |flushed| flushed.through.0 + 1);
        if done != records.len() as u64 {
            found.push(format!(
                "{id:?} has {} records, and {done} are done",
                records.len()
            ));
        }
    }
    let tables = &world.store.tables;
    let mut newest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for ((conversation, seq), row) in &tables.messages {
        let before = newest.insert(*conversation, *seq).unwrap_or_default();
        if before.next() != *seq {
            found.push(format!("in {conversation}, seq {} follows {}", seq.0, before.0));
        }
        if !ids.insert((*conversation, row.message.sender, row.message.message_id)) {
            found.push(format!("{:?} is there twice", row.message));
        }
    }
    for (conversation, last) in &newest {
        let state = tables.conversations.get(conversation).map(|row| row.last_seq);
        if state != Some(*last) {
            found.push(format!(
                "{conversation} ends at {last:?}, and its state says {state:?}"
            ));
        }
    }
    let users = users(world);
    for user in &users {
        let mut had: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for row in tables.inbox_of(*user) {
            let before = had.insert(row.conversation, row.seq).unwrap_or_default();
            if before.next() != row.seq || row.prev_seq != before {
                found.push(format!(
                    "the inbox of {user:?} has {row:?} after seq {}",
                    before.0
                ));
            }
        }
        for other in &users {
            let conversation = ConversationId::direct(*user, *other);
            if had.get(&conversation) != newest.get(&conversation) {
                found.push(format!("the inbox of {user:?} lacks the end of {conversation}"));
            }
        }
    }
    for text in found {
        world.violated(text);
    }
}

fn users(world: &World) -> Vec<UserId> {
    let users: BTreeSet<UserId> = world.devices.iter().map(|device| device.user).collect();
    users.into_iter().collect()
}

/// Invariant I5; a log, a link or a store that failed is tried again after a second, and a reader that waits for a page too.
const CATCH_UP_MS_MAX: u64 = 60_000;
const ROUND_MS: u64 = 4;
/// Nothing happens any more when nothing happened for so long; acks linger less.
const QUIET_ROUNDS: usize = 30;
const ANSWER_ROUNDS_MAX: usize = 2_000;
const PAGE_LIMIT: u32 = 40;

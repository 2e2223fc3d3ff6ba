//! The end of a run: everything heals, everybody catches up, the power fails once more, and all of it is read and audited.

use router_server::health::Readiness;
use wire_base::ids::{ConnectionHandle, ConversationId, DeviceId, Position, Seq, UserId};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_link::{FromRouter, StatusRecord, ToRouter};

use crate::audit::{Invariant, Violation};
use crate::client::Asked;
use crate::machine::Outage;
use crate::plan::Rates;
use crate::transcript::{Seen, answer_in};
use crate::workload::{ask_conversations, ask_history, may_resend, write_to};
use crate::world::{Delivery, Hello, Outcome, World};

/// Brings the world to rest and audits it.
pub(crate) fn finish(world: &mut World) {
    heal(world);
    if !catch_up(world) {
        return;
    }
    // What everybody was shown has to outlive the machine, whatever it had not synced.
    world.go_down(Outage::Power);
    if !catch_up(world) {
        return;
    }
    take_leave(world);
    read_histories(world);
    read_conversations(world);
    read_inboxes(world);
    world.see(Seen::Settled);
    close_everything(world);
    world.auditor.conclude();
}

/// Brings one more message and one more status to everybody; then every device acks and leaves in one breath, and does not
/// come back to say it again.
fn take_leave(world: &mut World) {
    let users = users(world);
    let from = world.devices.iter().position(|device| device.user == users[0]);
    let letter = write_to(world, from.expect("every user has a device"), users[1]);
    let gateway = world.workers.len();
    let device = DeviceId::API;
    world.post(Delivery {
        letter,
        gateway,
        device,
    });
    rest(world);
    let conversation = ConversationId::direct(users[0], users[1]);
    let newest = world
        .devices
        .iter()
        .flat_map(|device| &device.got)
        .filter(|got| got.0 == conversation);
    if let Some(newest) = newest.map(|got| got.1).max() {
        // A seq that nobody has yet: it means the newest one.
        let of = StatusOf::Seq(conversation, Seq(newest.0 + 3));
        let command = StatusCommand {
            status: Status::Read,
            of,
        };
        let (request, user) = (world.request(), users[0]);
        let status = StatusRecord {
            request,
            user,
            device,
            command,
        };
        world.say(ToRouter::Status(status));
    }
    rest(world);
    world.see(Seen::Settled);
    for device in 0..world.devices.len() {
        world.ack(device, usize::MAX);
        world.disconnect(device);
    }
    rest(world);
}

/// Lets time pass until nothing happens any more.
fn rest(world: &mut World) {
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        world.advance(ROUND_MS);
        world.round();
        quiet = if world.is_lively { 0 } else { quiet + 1 };
    }
}

/// Ends all that goes wrong.
fn heal(world: &mut World) {
    world.start_crashes_percent = 0;
    world.is_healed = true;
    world.plan.rates = Rates::default();
    world.leap = None;
    world.end_trouble();
    world.machine.crash_after(u64::MAX / 2);
    (world.plan.log_percent, world.plan.store_percent) = (100, 100);
    world.deaf_until_ms.fill(0);
    for worker in &mut world.workers {
        for client in worker.clients.values_mut() {
            client.room = usize::MAX;
        }
    }
    for device in &mut world.devices {
        device.withholds = false;
    }
    // What was still on its way arrives.
    for (number, delivery) in std::mem::take(&mut world.late).into_values().enumerate() {
        world.late.insert((world.now.mono_ms, number), delivery);
    }
}

/// Lets everybody connect, ack, and repeat what has no answer. Returns whether they come to rest in time.
fn catch_up(world: &mut World) -> bool {
    let begun_ms = world.now.mono_ms;
    let mut quiet = 0;
    while quiet < QUIET_ROUNDS {
        // A router that starts meanwhile may doubt its clock.
        let until_ms = begun_ms.max(world.doubt_until_ms) + CATCH_UP_MS_MAX;
        if world.now.mono_ms > until_ms || !world.auditor.violations().is_empty() {
            return give_up(world);
        }
        let is_done = do_what_is_left(world);
        world.advance(if waits_for_clock(world) {
            CLOCK_ROUND_MS
        } else {
            ROUND_MS
        });
        world.round();
        quiet = if is_done && !world.is_lively { quiet + 1 } else { 0 };
    }
    true
}

/// Returns whether the router is up and takes no messages, because it does not believe its clock yet.
fn waits_for_clock(world: &World) -> bool {
    world.machine.is_up() && world.machine.readiness() == Readiness::ClockUnset
}

fn give_up(world: &mut World) -> bool {
    if world.auditor.violations().is_empty() {
        let left = what_is_left(world);
        world.auditor.report(Violation {
            invariant: Invariant::Converges,
            mono_ms: world.now.mono_ms,
            text: format!("after {CATCH_UP_MS_MAX} ms without any fault this is left: {left:?}"),
        });
    }
    false
}

/// Does what clients do to catch up; returns whether nothing is left.
fn do_what_is_left(world: &mut World) -> bool {
    for device in 0..world.devices.len() {
        if world.devices[device].at.is_none() && !world.devices[device].is_one_too_many {
            let gateway = world.rng.below(world.workers.len());
            let hello = world.rng.pick(&[Hello::Plain, Hello::Resume]);
            let window = world.rng.pick(&[1, 8, 64]);
            world.connect(device, gateway, hello, window);
        }
        world.ack(device, usize::MAX);
    }
    for letter in 0..world.letters.len() {
        if is_unanswered(world, letter) && world.letters[letter].awaited == 0 {
            let gateway = world.rng.below(world.gateways());
            let device = world.letters[letter].device;
            world.post(Delivery {
                letter,
                gateway,
                device,
            });
        }
    }
    what_is_left(world).is_empty()
}

fn what_is_left(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    if !world.machine.is_up() {
        left.push("the router is down".to_owned());
    }
    if waits_for_clock(world) {
        left.push("the router waits for its clock".to_owned());
    }
    if world.api.link().is_none() || world.api.is_refused() {
        left.push("the API has no link, or waits for room in it".to_owned());
    }
    for (index, worker) in world.workers.iter().enumerate() {
        if worker.link().is_none() || worker.is_refused() {
            left.push(format!("gateway {index} has no link, or waits for room in it"));
        }
        for (handle, client) in worker.clients.iter().filter(|(_, client)| !client.is_gone) {
            let waits = client.asked.values().any(|asked| !matches!(asked, Asked::Status));
            if !client.is_live() || !client.is_synced || !client.unacked.is_empty() || waits {
                left.push(format!(
                    "{handle:?} of gateway {index}: device {}, welcomed {}, left {}, synced {}, unacked {:?}, asked {:?}",
                    client.device,
                    client.is_welcomed,
                    client.has_left,
                    client.is_synced,
                    client.unacked,
                    client.asked
                ));
            }
        }
    }
    for device in 0..world.devices.len() {
        if world.devices[device].at.is_none() && !world.devices[device].is_one_too_many {
            left.push(format!("{:?} is not connected", world.devices[device]));
        }
    }
    if !world.late.is_empty() {
        left.push("letters are on their way".to_owned());
    }
    for letter in (0..world.letters.len()).filter(|letter| is_unanswered(world, *letter)) {
        left.push(format!("{:?} has no answer", world.letters[letter]));
    }
    left
}

fn is_unanswered(world: &World, letter: usize) -> bool {
    world.letters[letter].awaited > 0
        || (world.letters[letter].outcome == Outcome::Open && may_resend(world, letter))
}

// ---- reading

fn read_histories(world: &mut World) {
    let users = users(world);
    for user in &users {
        for conversation in conversations(world) {
            read_history(world, *user, conversation);
        }
    }
}

/// Reads a conversation to its beginning, as a member, or is refused once.
fn read_history(world: &mut World, user: UserId, conversation: ConversationId) {
    let mut before = None;
    loop {
        let gateway = world.rng.below(world.gateways());
        ask_history(world, gateway, user, conversation, before, PAGE_LIMIT);
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
            let gateway = world.rng.below(world.gateways());
            ask_conversations(world, gateway, user, 2, before);
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

/// Lets a round pass, and as many more as the answer to the last question takes; returns it.
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
fn read_inboxes(world: &mut World) {
    let known = world.devices.iter().find_map(|device| device.cursor);
    let Some(start) = known.map(|cursor| Position::start(cursor.generation)) else {
        return;
    };
    for device in 0..world.devices.len() {
        if !world.devices[device].is_one_too_many {
            let gateway = world.rng.below(world.workers.len());
            world.connect(device, gateway, Hello::At(start), 256);
        }
    }
    catch_up(world);
}

fn close_everything(world: &mut World) {
    let open: Vec<(usize, ConnectionHandle)> = world
        .workers
        .iter()
        .enumerate()
        .flat_map(|(gateway, of)| of.clients.keys().map(move |handle| (gateway, *handle)))
        .collect();
    // Acks that linger are logged, and the store is synced after that.
    let rest_ms = u64::from(world.plan.config.store_persist_interval_ms) + 200;
    world.see_gauges_at_rest(rest_ms);
    for (gateway, handle) in open {
        world.close_connection(gateway, handle);
    }
    world.see_gauges_at_rest(rest_ms);
}

fn users(world: &World) -> Vec<UserId> {
    let mut users: Vec<UserId> = world.devices.iter().map(|device| device.user).collect();
    users.sort();
    users.dedup();
    users
}

fn conversations(world: &World) -> Vec<ConversationId> {
    let users = users(world);
    let pairs = users
        .iter()
        .enumerate()
        .flat_map(|(at, a)| users[at..].iter().map(move |b| (*a, *b)));
    pairs.map(|(a, b)| ConversationId::direct(a, b)).collect()
}

/// Invariant I5.
const CATCH_UP_MS_MAX: u64 = 30_000;
const ROUND_MS: u64 = 4;
/// A wait for a clock is longer by far.
const CLOCK_ROUND_MS: u64 = 100;
/// Nothing happens any more when nothing happened for so long; acks linger less.
const QUIET_ROUNDS: usize = 20;
const ANSWER_ROUNDS_MAX: usize = 300;
const PAGE_LIMIT: u32 = 40;

//! What people do in a run, and what goes wrong, by the dice of the seed.

use wire_base::ids::{ConversationId, DeviceId, MessageId, Position, Seq, UserId};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_client::Command;
use wire_link::{AckRecord, ConversationsRecord, HistoryRecord, StatusRecord, ToRouter};

use crate::client::Asked;
use crate::clocks::DAY_MS;
use crate::machine::Outage;
use crate::text;
use crate::world::{Delivery, Device, Hello, Letter, Outcome, World};

/// Lets everybody do something.
pub(crate) fn act(world: &mut World) {
    let rates = world.plan.rates;
    let pause_ms = match world.rng.within(0..100) {
        0..70 => world.rng.within(0..5),
        70..93 => world.rng.within(5..60),
        93..98 => world.rng.within(500..2_000),
        _ => world.rng.within(4_000..7_000),
    };
    world.advance(pause_ms);
    let happens = |world: &mut World, rate: u64| world.rng.permille(rate);
    if happens(world, rates.send) {
        for _ in 0..world.rng.within(1..4) {
            write_letter(world);
        }
    }
    if happens(world, rates.resend) {
        resend(world);
    }
    if happens(world, rates.contradict) {
        contradict(world);
    }
    if happens(world, rates.connect) {
        connect(world);
    }
    if happens(world, rates.disconnect) {
        let device = world.rng.below(world.devices.len());
        world.disconnect(device);
    }
    if happens(world, rates.vanish) {
        let device = world.rng.below(world.devices.len());
        world.vanish(device);
    }
    if happens(world, rates.status) {
        say_status(world);
    }
    if happens(world, rates.read) {
        read(world);
    }
    acks(world);
    if happens(world, rates.break_link) {
        break_link(world);
    }
    if happens(world, rates.deafen) {
        let gateway = world.rng.below(world.gateways());
        world.deaf_until_ms[gateway] = world.now.mono_ms + world.rng.within(20..1_500);
        world.coverage.note("link stood still");
    }
    if happens(world, rates.crash) {
        world.outage = world.rng.pick(&[Outage::Power, Outage::Power, Outage::Kill]);
        world.machine.crash_after(world.rng.within(0..30));
    }
    if happens(world, rates.stop) && world.machine.is_up() {
        let outage = world.rng.pick(&[Outage::Power, Outage::Kill]);
        world.go_down(outage);
    }
    if happens(world, rates.trouble) {
        world.begin_some_trouble();
    }
    if happens(world, rates.jump) {
        world.jump();
    }
    if happens(world, rates.leap) {
        world.leap();
    }
    if happens(world, rates.month) {
        world.pass_month();
    }
}

// ---- letters

fn write_letter(world: &mut World) {
    let from = world.rng.below(world.devices.len());
    let to = world.rng.below(world.devices.len());
    let letter = write_to(world, from, world.devices[to].user);
    send(world, letter);
}

/// Lets a device write something, and returns its letter, which is not sent yet.
pub(crate) fn write_to(world: &mut World, from: usize, receiver: UserId) -> usize {
    let Device {
        user: sender, device, ..
    } = world.devices[from];
    let id = some_id(world);
    let letter = Letter {
        sender,
        device,
        receiver,
        id,
        body: text::write(
            world.letters.len() as u64,
            world.plan.long_percent,
            &mut world.rng,
        ),
        written: world.now.unix,
        outcome: Outcome::Open,
        awaited: 0,
        answered_in: None,
    };
    world
        .coverage
        .add("message to oneself", u64::from(sender == receiver));
    world
        .coverage
        .add("message without an id", u64::from(id.is_none()));
    world.letters.push(letter);
    world.letters.len() - 1
}

/// Makes an id: nearly always of now, as the clock of the client shows it.
fn some_id(world: &mut World) -> Option<MessageId> {
    let now_ms = world.now.unix.0;
    let id_ms = match world.rng.within(0..100) {
        0..80 => now_ms + 30_000 - world.rng.within(0..60_000),
        80..84 => now_ms - world.rng.within(0..20 * DAY_MS),
        84..86 => now_ms + world.rng.within(600_000..6_000_000),
        86..88 => now_ms - world.rng.within(40..60) * DAY_MS,
        88..96 => {
            return MessageId::new(
                uuid::Builder::from_random_bytes(world.rng.wide().to_le_bytes()).into_uuid(),
            );
        }
        _ => return None,
    };
    let random: [u8; 10] = world.rng.wide().to_le_bytes()[..10]
        .try_into()
        .expect("ten of sixteen");
    MessageId::new(uuid::Builder::from_unix_timestamp_millis(id_ms, &random).into_uuid())
}

/// Sends a letter: at once, or late; where its device is connected, or somewhere else, or over HTTP.
fn send(world: &mut World, letter: usize) {
    let Letter { sender, device, .. } = world.letters[letter];
    let api = world.workers.len();
    let home = world
        .devices
        .iter()
        .find(|of| (of.user, of.device) == (sender, device))
        .and_then(|of| of.at);
    let gateway = home.map_or(
        api,
        |(gateway, _)| if world.rng.percent(80) { gateway } else { api },
    );
    let delivery = Delivery {
        letter,
        gateway,
        device,
    };
    if world.rng.percent(15) {
        let after_ms = match world.rng.within(0..10) {
            0..7 => world.rng.within(1..50),
            7..9 => world.rng.within(50..3_000),
            _ => world.rng.within(3_000..3_000_000),
        };
        let number = world.late.len() + world.letters.len() * 1_000;
        world
            .late
            .insert((world.now.mono_ms + after_ms, number), delivery);
        world.coverage.note("late send");
    } else if world.post(delivery) && world.rng.percent(8) {
        // Whoever reads right behind what he sent finds it.
        let Letter { sender, receiver, .. } = world.letters[letter];
        let conversation = ConversationId::direct(sender, receiver);
        ask_history(world, gateway, sender, conversation, None, 3);
        world.coverage.note("page asked for right behind a send");
    }
}

/// Returns whether a letter may be sent again: with its id, and while ids are kept.
pub(crate) fn may_resend(world: &World, letter: usize) -> bool {
    let letter = &world.letters[letter];
    letter.id.is_some() && letter.written.0 + 28 * DAY_MS > world.now.unix.0
}

/// Sends something again: the newest ones more often, sometimes twice at once, sometimes from another device.
fn resend(world: &mut World) {
    if world.letters.is_empty() {
        return;
    }
    let newest = world.letters.len();
    let oldest = if world.rng.percent(60) {
        newest.saturating_sub(4)
    } else {
        0
    };
    let letter = oldest + world.rng.below(newest - oldest);
    if !may_resend(world, letter) {
        return;
    }
    for _ in 0..world.rng.within(1..3) {
        send(world, letter);
    }
    let sender = world.letters[letter].sender;
    let others: Vec<DeviceId> = world
        .devices
        .iter()
        .filter(|device| device.user == sender)
        .map(|device| device.device)
        .collect();
    let device = world.rng.pick(&others);
    let gateway = world.rng.below(world.gateways());
    if world.rng.percent(20) {
        world.post(Delivery {
            letter,
            gateway,
            device,
        });
    }
}

/// Sends something else under an id that was used: to the same receiver, to another, or by another sender.
fn contradict(world: &mut World) {
    if world.letters.is_empty() {
        return;
    }
    let first = world.rng.below(world.letters.len());
    if !may_resend(world, first) {
        return;
    }
    let mut letter = world.letters[first].clone();
    letter.body = text::write(
        world.letters.len() as u64,
        world.plan.long_percent,
        &mut world.rng,
    );
    (letter.outcome, letter.awaited, letter.answered_in) = (Outcome::Open, 0, None);
    let other = world.rng.below(world.devices.len());
    match world.rng.within(0..4) {
        0 => letter.receiver = world.devices[other].user,
        1 => (letter.sender, letter.device) = (world.devices[other].user, world.devices[other].device),
        _ => {}
    }
    world.letters.push(letter);
    send(world, world.letters.len() - 1);
}

// ---- connections

fn connect(world: &mut World) {
    let device = world.rng.below(world.devices.len());
    let gateway = world.rng.below(world.gateways());
    let window = world.rng.pick(&[1, 1, 2, 3, 8, 64]);
    let hello = match world.rng.within(0..100) {
        0..35 => Hello::Plain,
        35..80 => Hello::Resume,
        80..90 => strange_cursor(world, device),
        _ => return connect_a_stranger(world, gateway),
    };
    if world.connect(device, gateway, hello, window) {
        world.devices[device].withholds = world.rng.percent(15);
    }
}

/// Returns a cursor that the device did not get last: an older one, another device's, one of nowhere.
fn strange_cursor(world: &mut World, device: usize) -> Hello {
    let other = world.rng.below(world.devices.len());
    let own = world.devices[device].cursor;
    let others = world.devices[other]
        .cursor
        .filter(|_| world.devices[other].user == world.devices[device].user);
    let Some(position) = own.or(others) else {
        return Hello::Plain;
    };
    match world.rng.within(0..5) {
        0 => Hello::At(Position::start(position.generation)),
        1 => Hello::At(Position {
            generation: position.generation + 1,
            ..position
        }),
        2 => Hello::At(beyond(position)),
        _ => Hello::At(others.unwrap_or(position)),
    }
}

/// Says hello with a device that the user has not got yet; its user cannot have many of those.
fn connect_a_stranger(world: &mut World, gateway: usize) {
    let user = world.devices[world.rng.below(world.devices.len())].user;
    let device = 100 + world.rng.within(0..3) as u32;
    let known = world
        .devices
        .iter()
        .position(|of| (of.user, of.device.get()) == (user, device));
    let index = known.unwrap_or_else(|| {
        world.devices.push(Device::new(user, device));
        world.devices.len() - 1
    });
    world.connect(index, gateway, Hello::Plain, 8);
}

/// Returns a position that no inbox has reached.
fn beyond(position: Position) -> Position {
    Position {
        offset: wire_base::ids::Offset(position.offset.0 + 1_000_000),
        ..position
    }
}

fn break_link(world: &mut World) {
    let gateway = world.rng.below(world.gateways());
    let babbles = world.rng.percent(20);
    match world.workers.get_mut(gateway) {
        Some(worker) if babbles && worker.link().is_some() => worker.babble(),
        None if babbles && world.api.can_say() => {
            world.api.hand_over();
            world.api.babble();
        }
        _ => {
            world.unlink(gateway);
            return world.coverage.note("link broke");
        }
    }
    world.coverage.note("link broke the format");
}

// ---- acks

fn acks(world: &mut World) {
    for device in 0..world.devices.len() {
        let Some(client) = world.client(device) else {
            continue;
        };
        let unacked = client.unacked.len();
        if unacked == 0 {
            continue;
        }
        if world.devices[device].withholds {
            world.devices[device].withholds = !world.rng.percent(3);
            world.coverage.note("ack withheld");
            continue;
        }
        match world.rng.within(0..100) {
            0..35 => world.ack(device, 1),
            35..70 => world.ack(device, unacked),
            70..74 => strange_ack(world, device),
            _ => {}
        }
    }
}

/// Acks something old, something never sent, or, past the Hub, as a session that is over.
fn strange_ack(world: &mut World, device: usize) {
    let Some(position) = world.client(device).and_then(|client| client.last) else {
        return;
    };
    let Some((gateway, handle)) = world.devices[device].at else {
        return;
    };
    world.coverage.note("strange ack");
    let dice = world.rng.within(0..4);
    let strange = match dice {
        0 => Position::start(position.generation),
        1 => beyond(position),
        2 => Position {
            generation: position.generation + 1,
            ..position
        },
        _ => position,
    };
    if dice < 3 && world.rng.percent(50) {
        if let Some(client) = world.client(device).filter(|client| client.is_live()) {
            client.say(Command::Ack(strange));
        }
        return;
    }
    let Device { user, device, .. } = world.devices[device];
    let worker = &mut world.workers[gateway];
    if let Some(number) = worker.session_number(handle) {
        worker.say_past_hub(ToRouter::Ack(AckRecord {
            user,
            device,
            session: wire_base::ids::SessionNumber(number.0 - u64::from(dice == 3)),
            position: strange,
        }));
    }
}

// ---- statuses and pages

fn say_status(world: &mut World) {
    let device = world.rng.below(world.devices.len());
    let is_over_http = world.rng.percent(30);
    let got = &world.devices[device].got;
    let (conversation, seq, message_id) = match got.len() {
        0 => (
            some_conversation(world, device),
            Seq(world.rng.within(0..9)),
            None,
        ),
        count => {
            let (conversation, seq, message_id) = got[count - 1 - world.rng.below(count.min(9))];
            (conversation, seq, Some(message_id))
        }
    };
    let of = match (world.rng.within(0..10), message_id) {
        (0..5, Some(message_id)) => StatusOf::Message(message_id),
        (0..8, _) => StatusOf::Seq(conversation, seq),
        (8, _) => StatusOf::Seq(conversation, Seq(seq.0 + world.rng.within(0..9))),
        _ => StatusOf::Seq(some_conversation(world, device), Seq(world.rng.within(0..9))),
    };
    let status = world.rng.pick(&[Status::Delivered, Status::Read, Status::Read]);
    let command = StatusCommand { status, of };
    if !is_over_http && world.ask(device, Command::Status(command), Asked::Status) {
        return;
    }
    if world.api.can_say() {
        let record = StatusRecord {
            request: world.request(),
            user: world.devices[device].user,
            device: DeviceId::API,
            command,
        };
        world.say(ToRouter::Status(record));
    }
}

/// Returns a conversation: of the device's user, or of others.
fn some_conversation(world: &mut World, device: usize) -> ConversationId {
    let a = world.devices[if world.rng.percent(80) {
        device
    } else {
        world.rng.below(world.devices.len())
    }]
    .user;
    let b = world.devices[world.rng.below(world.devices.len())].user;
    ConversationId::direct(a, b)
}

fn read(world: &mut World) {
    let device = world.rng.below(world.devices.len());
    let gateway = world.rng.below(world.gateways());
    let user = world.devices[device].user;
    let limit = world.rng.pick(&[1, 3, 50, 100]);
    if world.rng.percent(30) {
        return ask_conversations(world, gateway, user, limit, None);
    }
    let conversation = some_conversation(world, device);
    let before = world.rng.percent(30).then(|| Seq(world.rng.within(1..40)));
    ask_history(world, gateway, user, conversation, before, limit);
}

/// Asks for a page of a conversation: over the API, or over a connection that the user has, at that gateway if it has one
/// there.
pub(crate) fn ask_history(
    world: &mut World,
    gateway: usize,
    user: UserId,
    conversation: ConversationId,
    before: Option<Seq>,
    limit: u32,
) {
    let history = wire_client::History {
        conversation,
        before,
        limit,
    };
    if ask_connected(world, gateway, user, &Command::History(history)) || !world.api.can_say() {
        return;
    }
    let request = world.request();
    world.say(ToRouter::History(HistoryRecord {
        request,
        user,
        conversation,
        before,
        limit,
    }));
}

pub(crate) fn ask_conversations(
    world: &mut World,
    gateway: usize,
    user: UserId,
    limit: u32,
    before: Option<String>,
) {
    let page = wire_client::Conversations {
        limit,
        before: before.as_deref(),
    };
    if ask_connected(world, gateway, user, &Command::Conversations(page)) || !world.api.can_say() {
        return;
    }
    let request = world.request();
    world.say(ToRouter::Conversations(ConversationsRecord {
        request,
        user,
        limit,
        before,
    }));
}

fn ask_connected(world: &mut World, gateway: usize, user: UserId, command: &Command<'_>) -> bool {
    !world.is_api(gateway)
        && (0..world.devices.len()).any(|device| {
            let at = &world.devices[device];
            at.user == user
                && at.at.is_some_and(|(of, _)| of == gateway)
                && world.ask(device, command.clone(), Asked::Page)
        })
}

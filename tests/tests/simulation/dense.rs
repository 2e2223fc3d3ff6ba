//! One small story, told again and again with a crash in each of its operations, and in each operation of the start that
//! follows: every pair of effects has a crash between them.

use router_server::config::RouterConfig;
use wire_base::ids::{ConversationId, Seq};
use wire_base::status::Status;
use wire_base::status::{StatusCommand, StatusOf};
use wire_client::Command;

use crate::client::Asked;
use crate::finish::finish;
use crate::machine::Outage;
use crate::plan::{DEVICES_MAX, Plan, Rates};
use crate::rng::Rng;
use crate::run::Run;
use crate::trouble::Kind;
use crate::workload::{ask_conversations, ask_history, write_to};
use crate::world::{Delivery, Hello, World};

/// Where a story is interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crashes {
    /// In this operation of the story; later than its last one: never.
    pub(crate) at: u64,
    /// And in these operations of the starts that follow.
    pub(crate) in_starts: Vec<u64>,
    /// Decides what survives.
    pub(crate) survivors: u64,
    pub(crate) outage: Outage,
    /// See [`Plan::store_percent`].
    pub(crate) store_percent: u64,
}

/// Tells the story to its end, audit included. Returns the run, and how many operations story and second start took.
pub(crate) fn tell(crashes: &Crashes) -> (Run, u64, u64) {
    let plan = Plan {
        config: config(),
        devices: vec![2, 1],
        gateways: 2,
        rounds: 0,
        long_percent: 1,
        log_percent: 100,
        store_percent: crashes.store_percent,
        outage_ms_max: 1,
        rates: Rates::default(),
    };
    let mut world = World::with_plan(crashes.survivors, Rng::new(1), plan, None);
    world.outage = crashes.outage;
    world.machine.crash_after(crashes.at);
    world.start_crashes = crashes.in_starts.iter().copied().collect();
    let mut is_good = true;
    for step in 0..STEPS {
        play(&mut world, step);
        for _ in 0..ROUNDS_PER_STEP {
            world.round();
            world.advance(1);
        }
        is_good &= world.auditor.violations().is_empty();
    }
    let operations = world.machine.operations();
    let start_operations = world.longest_start;
    if is_good {
        finish(&mut world);
    }
    (Run::of(crashes.survivors, world), operations, start_operations)
}

/// Segments of two groups, caches of nothing, a store that is synced and a log that is cut within the story.
fn config() -> RouterConfig {
    RouterConfig {
        sends_per_s: Some(0),
        log_segment_bytes: 700,
        log_retention_minutes: 1,
        dedupe_minutes: 1,
        ack_linger_ms: 0,
        store_persist_interval_ms: 100,
        conversations_cached_max: 1,
        outcomes_cached_max: 1,
        users_cached_max: 1,
        receipts_cached_max: 1,
        devices_per_user_max: DEVICES_MAX,
        ..RouterConfig::default()
    }
}

/// One step of the story: what cannot be done while a link or the router is down is left out, as a client would.
fn play(world: &mut World, step: usize) {
    let (one, other, peer) = (0, 1, 2);
    match step {
        0 => {
            world.connect(one, 0, Hello::Plain, 64);
            world.connect(other, 1, Hello::Plain, 1);
        }
        1 => {
            write(world, one, peer);
            write(world, one, peer);
        }
        2 => {
            world.connect(peer, 0, Hello::Plain, 2);
            write(world, peer, one);
        }
        3 => {
            ack_everything(world);
            again(world, 0);
            again(world, 0);
        }
        4 => {
            say_read(world, peer);
            write(world, one, one);
        }
        5 => world.advance(150), // The store is synced.
        6 => {
            for _ in 0..3 {
                write(world, peer, one);
            }
            world.vanish(other);
        }
        7 => world.advance(61_000), // The window is empty, and old segments go.
        8 => {
            again(world, 1);
            write(world, one, peer);
            world.disconnect(peer);
        }
        9 => {
            world.begin_trouble(Kind::LogSpace);
            world.machine.disk.set_space_left(Some(10));
        }
        10 => write(world, peer, one),
        11 => {
            world.end_trouble();
            world.advance(1_100);
        }
        12 => {
            world.connect(peer, 1, Hello::Resume, 2);
            world.connect(other, 1, Hello::Resume, 8);
        }
        13 => {
            ack_everything(world);
            read(world, peer);
        }
        14 => {
            world.advance(150);
            write(world, other, peer);
        }
        _ => ack_everything(world),
    }
}

fn write(world: &mut World, from: usize, to: usize) {
    let receiver = world.devices[to].user;
    let letter = write_to(world, from, receiver);
    send(world, letter);
}

fn again(world: &mut World, letter: usize) {
    if letter < world.letters.len() {
        send(world, letter);
    }
}

fn send(world: &mut World, letter: usize) {
    let device = world.letters[letter].device;
    world.post(Delivery {
        letter,
        gateway: letter % 3,
        device,
    });
}

fn ack_everything(world: &mut World) {
    for device in 0..world.devices.len() {
        world.ack(device, usize::MAX);
    }
}

fn say_read(world: &mut World, device: usize) {
    let user = world.devices[device].user;
    let conversation = ConversationId::direct(world.devices[0].user, user);
    let command = StatusCommand {
        status: Status::Read,
        of: StatusOf::Seq(conversation, Seq(2)),
    };
    world.ask(device, Command::Status(command), Asked::Status);
}

fn read(world: &mut World, device: usize) {
    let user = world.devices[device].user;
    let conversation = ConversationId::direct(world.devices[0].user, user);
    ask_history(world, 2, user, conversation, None, 5);
    ask_conversations(world, 2, user, 5, None);
}

/// Every place for one crash: each operation of the story, with several sets of survivors, and as a kill.
pub(crate) fn single_crashes() -> Vec<Crashes> {
    let mut places = Vec::new();
    for store_percent in STORE_PERCENTS {
        let none = Crashes {
            store_percent,
            ..Crashes::none()
        };
        let (_, operations, _) = tell(&none);
        for at in 0..operations {
            places.extend((0..SURVIVORS).map(|survivors| Crashes {
                at,
                survivors,
                ..none.clone()
            }));
            places.push(Crashes {
                at,
                outage: Outage::Kill,
                ..none.clone()
            });
        }
    }
    places
}

/// Every place for two crashes: each operation of the story, and each of the start that follows it.
pub(crate) fn double_crashes() -> Vec<Crashes> {
    let (_, operations, _) = tell(&Crashes::none());
    let places = (0..operations).flat_map(|at| {
        let (_, _, start_operations) = tell(&Crashes {
            at,
            ..Crashes::none()
        });
        (0..start_operations).map(move |second| Crashes {
            at,
            in_starts: vec![second, second / 2],
            survivors: at + second,
            ..Crashes::none()
        })
    });
    places.collect()
}

impl Crashes {
    pub(crate) fn none() -> Self {
        Self {
            at: u64::MAX / 2,
            in_starts: Vec::new(),
            survivors: 0,
            outage: Outage::Power,
            store_percent: 100,
        }
    }

    /// Runs the story with these crashes.
    pub(crate) fn play(&self) -> Run {
        tell(self).0
    }

    pub(crate) fn replay_command(&self) -> String {
        let starts: Vec<String> = self.in_starts.iter().map(u64::to_string).collect();
        let outage = if self.outage == Outage::Kill {
            "kill"
        } else {
            "power"
        };
        let (at, survivors, store) = (self.at, self.survivors, self.store_percent);
        format!(
            "SIMULATION_CRASH={at}/{}/{survivors}/{outage}/{store} cargo test -p tidegate-tests --test simulation one_crash -- --nocapture",
            starts.join(",")
        )
    }

    /// Reads back what [`Self::replay_command`] names.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let at = parts.next()?.parse().ok()?;
        let starts = parts.next()?.split(',').filter(|part| !part.is_empty());
        let in_starts = starts.map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let survivors = parts.next()?.parse().ok()?;
        let outage = if parts.next()? == "kill" {
            Outage::Kill
        } else {
            Outage::Power
        };
        Some(Self {
            at,
            in_starts,
            survivors,
            outage,
            store_percent: parts.next()?.parse().ok()?,
        })
    }
}

const STEPS: usize = 16;
const ROUNDS_PER_STEP: usize = 4;
const SURVIVORS: u64 = 2;
/// A store that keeps up, and one that lags as far as it may.
const STORE_PERCENTS: [u64; 2] = [100, 20];

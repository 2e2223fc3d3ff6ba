//! What a seed decides of a cluster before anything happens.

use router_core::admission::SendRateConfig;
use router_core::conversation::ConversationConfig;
use router_core::dedupe::WindowConfig;
use router_core::fold::FoldsConfig;
use router_core::inbox::InboxConfig;
use router_core::node::{NodeConfig, UpkeepConfig};
use router_core::sessions::SessionsConfig;
use router_core::topology::Topology;

use crate::audit::{Bounds, Reach};
use crate::rng::Rng;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) node: NodeConfig,
    pub(crate) folds: FoldsConfig,
    pub(crate) conversation_slots: u16,
    pub(crate) user_slots: u16,
    /// Devices of each user.
    pub(crate) devices: Vec<u32>,
    pub(crate) gateways: usize,
    pub(crate) rounds: usize,
    /// So many of a hundred messages are long.
    pub(crate) long_percent: u64,
    pub(crate) delays: Delays,
    pub(crate) rates: Rates,
}

/// At most so long, in ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delays {
    /// Until a group is in its log, and again until that is reported.
    pub(crate) log: u64,
    /// The same of rows and the store, and of questions and answers.
    pub(crate) store: u64,
    /// A batch on a link.
    pub(crate) link: u64,
    /// Until a node or a gateway learns who owns a slot.
    pub(crate) news: u64,
    /// Until the slots of a node that is silent are given to others.
    pub(crate) lease: u64,
    /// Most records that a consumer brings at once.
    pub(crate) brought_at_once: usize,
    /// How often in a hundred steps a consumer brings something.
    pub(crate) consumer_percent: u64,
}

impl Delays {
    /// Returns what they are when nothing is wrong.
    pub(crate) fn of_good_days(self) -> Self {
        Self {
            log: self.log.min(20),
            store: self.store.min(20),
            link: self.link.min(10),
            news: self.news.min(50),
            brought_at_once: 100,
            consumer_percent: 100,
            ..self
        }
    }
}

/// In a thousand rounds, but for the percentages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) send: u64,
    pub(crate) resend: u64,
    pub(crate) contradict: u64,
    pub(crate) connect: u64,
    pub(crate) disconnect: u64,
    pub(crate) vanish: u64,
    pub(crate) status: u64,
    pub(crate) read: u64,
    pub(crate) move_slot: u64,
    pub(crate) move_many: u64,
    pub(crate) take_again: u64,
    pub(crate) kill: u64,
    pub(crate) pause: u64,
    pub(crate) break_link: u64,
    pub(crate) deafen: u64,
    pub(crate) store_down: u64,
    pub(crate) minutes: u64,
    pub(crate) append_fails_percent: u64,
    pub(crate) telling_fails_percent: u64,
    /// Of batches that a consumer brings: it goes back or leaves something out.
    pub(crate) consumer_errs_percent: u64,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let users = rng.within(2..6);
        let delays = delays(rng);
        Self {
            node: node(rng),
            folds: folds(rng),
            conversation_slots: rng.pick(&[1, 3, 8]),
            user_slots: rng.pick(&[1, 3, 8]),
            devices: (0..users).map(|_| rng.within(1..3) as u32).collect(),
            gateways: rng.within(1..4) as usize,
            rounds: rng.within(100..500) as usize,
            long_percent: rng.pick(&[1, 5, 30]),
            delays,
            rates: rates(rng),
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        Topology::PartitionPerSlot {
            conversation_slots: self.conversation_slots,
            user_slots: self.user_slots,
        }
    }

    /// Returns what the auditor may expect of the nodes.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            backlog_bytes: self.backlog_bytes_max(),
            devices_max: DEVICES_MAX,
            recovers_ms: RECOVERS_MS,
            clock_slack_ms: 2 * SKEW_MS_MAX + 10_000,
            reach: Reach::Cluster,
        }
    }

    /// Returns what may wait in one link.
    pub(crate) fn backlog_bytes_max(&self) -> u64 {
        2 * self.node.link_backlog_bytes as u64 + BACKLOG_SLACK_BYTES
    }
}

fn node(rng: &mut Rng) -> NodeConfig {
    NodeConfig {
        group_records_max: rng.pick(&[1, 2, 5, 100]),
        group_bytes_max: rng.pick(&[1 << 10, 1 << 20]),
        link_backlog_bytes: rng.pick(&[512, 4 << 10, 64 << 10]),
        link_records_per_step: rng.pick(&[1, 5, 100]),
        pages_at_once: rng.pick(&[1, 3, 32]),
        unapplied_bytes_max: rng.pick(&[4 << 10, 1 << 20]),
        rows_gather_ms: 0,
        send_rate: SendRateConfig {
            per_s: 0,
            ..SendRateConfig::default()
        },
        sessions: SessionsConfig {
            page_entries_max: rng.pick(&[2, 100]),
            ack_linger_ms: rng.pick(&[0, 5, 50]),
            ..SessionsConfig::default()
        },
        upkeep: UpkeepConfig {
            retention_ms: 30 * 24 * 3_600_000,
            log_retention_ms: 24 * 3_600_000,
            dedupe_ms: DEDUPE_MS,
            persist_interval_ms: 0,
            persist_bytes: 0,
            sweep_rows_max: 0,
        },
    }
}

/// Memories that hold next to nothing, or everything.
fn folds(rng: &mut Rng) -> FoldsConfig {
    let cached_max = rng.pick(&[1, 2, 5, 1_000]);
    FoldsConfig {
        conversations: ConversationConfig {
            conversations_max: cached_max,
            outcomes_max: cached_max,
            window: WindowConfig {
                span_ms: DEDUPE_MS,
                ids_max: rng.pick(&[1, 20, 10_000]),
            },
        },
        inboxes: InboxConfig {
            devices_max: DEVICES_MAX,
            users_max: cached_max,
        },
        receipts_max: cached_max,
        last_sent_max: cached_max,
    }
}

fn delays(rng: &mut Rng) -> Delays {
    Delays {
        log: rng.pick(&[2, 20, 300]),
        store: rng.pick(&[2, 20, 300]),
        link: rng.pick(&[1, 10, 50]),
        news: rng.pick(&[1, 50, 2_000]),
        lease: rng.pick(&[100, 1_000, 3_000]),
        brought_at_once: rng.pick(&[1, 5, 100]),
        consumer_percent: rng.pick(&[10, 60, 100]),
    }
}

/// What goes on in a run, and two things of which there are many more.
fn rates(rng: &mut Rng) -> Rates {
    let mut rates = Rates {
        send: 500,
        resend: 80,
        contradict: 10,
        connect: 120,
        disconnect: 20,
        vanish: 10,
        status: 80,
        read: 60,
        move_slot: 15,
        move_many: 3,
        take_again: 6,
        kill: 3,
        pause: 4,
        break_link: 5,
        deafen: 8,
        store_down: 3,
        minutes: 2,
        append_fails_percent: 3,
        telling_fails_percent: 10,
        consumer_errs_percent: 3,
    };
    for _ in 0..2 {
        match rng.within(0..12) {
            0 => rates.move_slot = 150,
            1 => rates.move_many = 30,
            2 => rates.take_again = 80,
            3 => rates.kill = 25,
            4 => rates.pause = 40,
            5 => (rates.break_link, rates.vanish) = (40, 60),
            6 => (rates.deafen, rates.send) = (60, 900),
            7 => rates.store_down = 25,
            8 => rates.append_fails_percent = 30,
            9 => (rates.resend, rates.contradict, rates.minutes) = (600, 60, 30),
            10 => (rates.status, rates.read) = (400, 300),
            _ => rates.consumer_errs_percent = 30,
        }
    }
    rates
}

pub(crate) const NODES: usize = 3;
/// A node's wall clock is wrong by at most so much, either way.
pub(crate) const SKEW_MS_MAX: u64 = 29_000;
/// How long ids of sends are remembered.
pub(crate) const DEDUPE_MS: u64 = 15 * 60_000;
/// More than any user has.
const DEVICES_MAX: usize = 4;
/// How long trouble may be felt after it ended: what is delayed arrives, and what failed is tried again.
const RECOVERS_MS: u64 = 15_000;
/// What may wait in a link beyond its bound: the page and the answers of one step.
const BACKLOG_SLACK_BYTES: u64 = 384 << 10;

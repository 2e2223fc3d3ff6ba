//! What a seed decides before anything happens: who there is, how the router is set, and what goes wrong how often.

use router_server::config::RouterConfig;

use crate::audit::{Bounds, Reach};
use crate::rng::Rng;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) config: RouterConfig,
    /// Devices of each user.
    pub(crate) devices: Vec<u32>,
    pub(crate) gateways: usize,
    pub(crate) rounds: usize,
    /// So many of a hundred messages are long.
    pub(crate) long_percent: u64,
    /// How often in a hundred rounds the threads of log and store get to run.
    pub(crate) log_percent: u64,
    pub(crate) store_percent: u64,
    /// The machine is started, and a link opened again, after at most so long.
    pub(crate) outage_ms_max: u64,
    /// How often each thing is done, in a thousand rounds.
    pub(crate) rates: Rates,
}

/// In a thousand rounds.
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
    pub(crate) break_link: u64,
    pub(crate) deafen: u64,
    pub(crate) crash: u64,
    pub(crate) stop: u64,
    pub(crate) trouble: u64,
    pub(crate) jump: u64,
    /// The wall clock of the router's machine is wrong by days for a while.
    pub(crate) leap: u64,
    pub(crate) month: u64,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let users = rng.within(2..5);
        Self {
            config: config(rng),
            devices: (0..users).map(|_| rng.within(1..4) as u32).collect(),
            gateways: rng.within(1..4) as usize,
            rounds: rng.within(200..1_200) as usize,
            long_percent: rng.pick(&[1, 5, 5, 50]),
            log_percent: rng.pick(&[50, 100, 100]),
            store_percent: rng.pick(&[5, 30, 100]),
            outage_ms_max: rng.pick(&[1, 20, 200]),
            rates: rates(rng),
        }
    }

    /// Returns what the auditor may expect of the router.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            backlog_bytes: 2 * self.config.link_backlog_bytes as u64 + BACKLOG_SLACK_BYTES,
            devices_max: usize::from(DEVICES_MAX),
            recovers_ms: self.recovers_ms(),
            clock_slack_ms: CLOCK_SLACK_MS,
            reach: Reach::OneRouter,
        }
    }

    /// Returns how long trouble may be felt after it ended: the router looks at a disk each second, and at a store that
    /// nobody asks for anything when it is to be synced.
    pub(crate) fn recovers_ms(&self) -> u64 {
        3_000 + u64::from(self.config.store_persist_interval_ms)
    }
}

/// Settings of a small router: caches that hold next to nothing, segments of a few groups, links of a few messages.
pub(crate) fn config(rng: &mut Rng) -> RouterConfig {
    let dedupe_minutes = rng.pick(&[1, 15]);
    let cached_max = rng.pick(&[1, 2, 5, 1_000]);
    RouterConfig {
        sends_per_s: Some(0),
        log_segment_bytes: rng.pick(&[1 << 10, 4 << 10, 16 << 10, 1 << 20]),
        log_retention_minutes: dedupe_minutes * rng.pick(&[1, 4]),
        group_records_max: rng.pick(&[1, 2, 5, 100]),
        group_bytes_max: rng.pick(&[1 << 10, 1 << 20]),
        ack_linger_ms: rng.pick(&[0, 5, 50]),
        dedupe_minutes,
        dedupe_ids_max: rng.pick(&[1, 20, 10_000]),
        sweep_rows_max: rng.pick(&[1, 5, 256]),
        store_gather_ms: rng.pick(&[0, 20, 50]),
        store_persist_interval_ms: rng.pick(&[100, 1_000, 5_000]),
        store_persist_bytes: rng.pick(&[1 << 10, 1 << 20]),
        conversations_cached_max: cached_max,
        outcomes_cached_max: cached_max,
        users_cached_max: cached_max,
        receipts_cached_max: cached_max,
        devices_per_user_max: DEVICES_MAX,
        link_pipe_bytes: rng.pick(&[512, 4 << 10, 64 << 10]),
        link_backlog_bytes: rng.pick(&[512, 4 << 10, 64 << 10]),
        link_records_per_tick: rng.pick(&[1, 5, 100]),
        pages_per_tick: rng.pick(&[1, 3, 32]),
        ..RouterConfig::default()
    }
}

/// What goes on in a run, and one or two things of which there are many more.
fn rates(rng: &mut Rng) -> Rates {
    let mut rates = Rates {
        send: 500,
        resend: 120,
        contradict: 15,
        connect: 150,
        disconnect: 25,
        vanish: 15,
        status: 80,
        read: 60,
        break_link: 5,
        deafen: 10,
        crash: 20,
        stop: 5,
        trouble: 8,
        jump: 6,
        leap: 3,
        month: 0,
    };
    for _ in 0..2 {
        match rng.within(0..11) {
            0 => rates.crash = 100,
            1 => (rates.crash, rates.stop) = (0, 60),
            2 => rates.trouble = 50,
            3 => (rates.deafen, rates.send) = (60, 900),
            4 => (rates.break_link, rates.vanish) = (30, 60),
            5 => rates.jump = 30,
            6 => (rates.resend, rates.contradict) = (600, 60),
            7 => (rates.status, rates.read) = (400, 300),
            8 => rates.month = 6,
            9 => rates.leap = 20,
            _ => (rates.crash, rates.stop, rates.trouble, rates.send) = (0, 0, 0, 950),
        }
    }
    rates
}

/// Devices of a user: one more than any user has of its own.
pub(crate) const DEVICES_MAX: u16 = 4;
/// How far the wall clock is stepped back in all; log time is ahead of it by so much afterwards.
pub(crate) const CLOCK_SLACK_MS: u64 = 10_000;
/// What may wait in a link beyond its bound: the page and the answers of one tick.
const BACKLOG_SLACK_BYTES: u64 = 384 << 10;

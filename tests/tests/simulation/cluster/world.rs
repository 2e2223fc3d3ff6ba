//! Three nodes, what they share, and who talks to them. Everything happens in [`World::round`]s of virtual time, in one order
//! that the seed decides.

use std::collections::BTreeMap;

use router_core::time::Now;
use wire_base::ids::{UnixMs, UserId};
use wire_link::RequestId;

use super::clients::{Letter, Waiting};
use super::gateway::Gateway;
use super::links::Line;
use super::log::Logs;
use super::plan::{NODES, Plan, SKEW_MS_MAX};
use super::process::Process;
use super::store::Store;
use super::views::Views;
use crate::audit::{Auditor, Invariant, Violation};
use crate::coverage::Coverage;
use crate::rng::Rng;
use crate::transcript::{Event, Seen};
use crate::world::Device;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) now: Now,
    pub(crate) logs: Logs,
    pub(crate) store: Store,
    pub(crate) nodes: Vec<Process>,
    pub(crate) views: Views,
    pub(crate) gateways: Vec<Gateway>,
    /// By gateway and node.
    pub(crate) links: BTreeMap<(usize, usize), Line>,
    pub(crate) opened_links: u32,
    pub(crate) devices: Vec<Device>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) waiting: BTreeMap<RequestId, Waiting>,
    pub(crate) requests: u64,
    pub(crate) coverage: Coverage,
    pub(crate) auditor: Auditor,
    pub(crate) transcript: Vec<Event>,
    /// Something was heard in the last round.
    pub(crate) is_lively: bool,
    /// What the nodes intend is to be seen.
    pub(crate) is_traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        let views = Views::new(plan.topology());
        let skews: Vec<i64> = (0..NODES)
            .map(|_| rng.within(0..2 * SKEW_MS_MAX) as i64 - SKEW_MS_MAX as i64)
            .collect();
        let nodes = (0..).zip(skews);
        let devices = (1..).zip(&plan.devices).flat_map(|(user, devices)| {
            (1..=*devices).map(move |device| Device::new(UserId::new(user).expect("in range"), device))
        });
        let mut world = Self {
            now: Now {
                mono_ms: 1_000,
                unix: UnixMs(1_800_000_000_000),
            },
            logs: Logs::default(),
            store: Store::default(),
            nodes: nodes
                .map(|(at, skew_ms)| Process::new(at, skew_ms, views.newest()))
                .collect(),
            gateways: (0..plan.gateways).map(|_| Gateway::new(views.newest())).collect(),
            views,
            links: BTreeMap::new(),
            opened_links: 0,
            devices: devices.collect(),
            letters: Vec::new(),
            waiting: BTreeMap::new(),
            requests: 0,
            coverage: Coverage::default(),
            auditor: Auditor::new(plan.bounds()),
            transcript: Vec::new(),
            is_lively: false,
            is_traced,
            rng,
            plan,
        };
        world.see(Seen::Trouble(true));
        world.restart_nodes();
        world
    }

    /// Lets what is under way arrive, the nodes run, and the gateways hear them.
    pub(crate) fn round(&mut self) {
        self.is_lively = false;
        self.spread_news();
        self.evict();
        self.relink();
        self.run_logs();
        self.run_store();
        let first = self.rng.below(NODES);
        for at in (0..NODES).map(|at| (first + at) % NODES) {
            if self.nodes[at].runs(self.now) {
                self.run_node(at);
            }
        }
        self.run_gateways();
    }

    /// Lets some time pass, now and then minutes.
    pub(crate) fn pass_time(&mut self) {
        let ms = match self.rng.within(0..1_000) {
            0..700 => self.rng.within(0..5),
            700..950 => self.rng.within(5..60),
            _ => self.rng.within(200..1_500),
        };
        self.advance(ms);
        if self.rng.permille(self.plan.rates.minutes) {
            self.coverage.note("minutes passed");
            let ms = self.rng.within(60_000..40 * 60_000);
            self.advance(ms);
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix.0 += ms;
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        let event = Event {
            now: self.now,
            operations: 0,
            last_sync: 1, // What a log has is durable.
            seen,
        };
        self.auditor.observe(&event);
        self.transcript.push(event);
    }

    /// Notes something that no client sees.
    pub(crate) fn remark(&mut self, text: String) {
        self.see(Seen::Remark(text));
    }

    pub(crate) fn violated(&mut self, text: String) {
        self.auditor.report(Violation {
            invariant: Invariant::Explicit,
            mono_ms: self.now.mono_ms,
            text,
        });
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.auditor.violations().is_empty()
    }
}

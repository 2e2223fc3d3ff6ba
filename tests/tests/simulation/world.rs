//! The world around a router: clocks, gateways with their clients, and an auditor who sees every record.
//!
//! Everything happens in [`World::round`]s of virtual time, in one order that the seed decides. What is done to the world
//! is in [`crate::workload`]; how it comes to rest at the end in [`crate::finish`].

use std::collections::{BTreeMap, VecDeque};

use router_core::time::Now;
use router_server::health::Readiness;
use wire_base::body::EncodedBody;
use wire_base::code::Code;
use wire_base::ids::{ConnectionHandle, ConversationId, DeviceId, MessageId, Position, Seq, UnixMs, UserId};
use wire_base::message::{Draft, Target};
use wire_client::{Command, Request, Send, SendBody};
use wire_link::{FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord, ToRouter};

use crate::api::Api;
use crate::audit::{Auditor, Invariant, Violation};
use crate::client::{Asked, Client, News};
use crate::clocks::{self, Leap};
use crate::coverage::Coverage;
use crate::machine::{Machine, Outage, Start};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::stepped::Thread;
use crate::transcript::{Connection, Event, Gauges, Link, Seen};
use crate::trouble::Trouble;
use crate::watch::{Defect, Operation};
use crate::worker::Worker;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) now: Now,
    pub(crate) machine: Machine,
    pub(crate) workers: Vec<Worker>,
    /// Its number among the gateways comes behind those of the workers.
    pub(crate) api: Api,
    /// A gateway does not look at its link until then, and opens none before.
    pub(crate) deaf_until_ms: Vec<u64>,
    pub(crate) relinks_at_ms: Vec<u64>,
    pub(crate) devices: Vec<Device>,
    pub(crate) letters: Vec<Letter>,
    /// Letters that are on their way to a gateway, by the time of their arrival.
    pub(crate) late: BTreeMap<(u64, usize), Delivery>,
    pub(crate) trouble: Trouble,
    /// The next crash is of this kind.
    pub(crate) outage: Outage,
    /// The router is not started before.
    pub(crate) starts_at_ms: u64,
    pub(crate) coverage: Coverage,
    pub(crate) auditor: Auditor,
    pub(crate) transcript: Vec<Event>,
    /// How far the wall clock was set back so far.
    pub(crate) set_back_ms: u64,
    /// The wall clock of the router's machine is wrong.
    pub(crate) leap: Option<Leap>,
    /// A router that was started may wait so long for a clock that it believes.
    pub(crate) doubt_until_ms: u64,
    /// Log time of the newest message that was answered; the answer may have been under way for long.
    pub(crate) last_sent: Option<UnixMs>,
    /// How many times in a hundred a start is made to go down.
    pub(crate) start_crashes_percent: u64,
    /// After how many operations the starts that follow a crash go down, whatever the dice say.
    pub(crate) start_crashes: VecDeque<u64>,
    /// Most operations that a start after a crash took.
    pub(crate) longest_start: u64,
    /// Nothing goes wrong any more, and no socket is slow.
    pub(crate) is_healed: bool,
    /// Something was heard in the last round.
    pub(crate) is_lively: bool,
    /// Who waits for an answer over HTTP.
    waiting: BTreeMap<RequestId, Delivery>,
    /// Groups that a router that has failed may have logged.
    groups_max: Option<u64>,
    /// A thread has had something to do since then.
    jobs_wait_since_ms: Option<u64>,
    links: u32,
    requests: u64,
    starts_down: u64,
}

/// A client: one device of a user.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    /// Where it is connected, as it believes.
    pub(crate) at: Option<(usize, ConnectionHandle)>,
    /// The newest message it got.
    pub(crate) cursor: Option<Position>,
    /// It got these lately.
    pub(crate) got: Vec<(ConversationId, Seq, MessageId)>,
    /// It does not ack for now.
    pub(crate) withholds: bool,
    /// The router said that its user has enough devices.
    pub(crate) is_one_too_many: bool,
}

/// A message that somebody wrote.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) sender: UserId,
    /// [`DeviceId::API`] over HTTP.
    pub(crate) device: DeviceId,
    pub(crate) receiver: UserId,
    pub(crate) id: Option<MessageId>,
    pub(crate) body: EncodedBody,
    pub(crate) written: UnixMs,
    pub(crate) outcome: Outcome,
    /// How often an answer is awaited.
    pub(crate) awaited: u32,
    /// The router's starts before it was answered first.
    pub(crate) answered_in: Option<u64>,
}

/// What the writer of a letter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Open,
    Sent { timestamp: UnixMs },
    Refused,
}

/// How a letter goes to the router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) letter: usize,
    pub(crate) gateway: usize,
    /// The device that sends it.
    pub(crate) device: DeviceId,
}

/// What a client says of what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Nothing: it starts at what it acked.
    Plain,
    /// The newest message it got.
    Resume,
    /// Some other position.
    At(Position),
}

impl World {
    pub(crate) fn new(seed: u64, defect: Option<Defect>) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng);
        Self::with_plan(seed, rng, plan, defect)
    }

    pub(crate) fn with_plan(seed: u64, rng: Rng, plan: Plan, defect: Option<Defect>) -> Self {
        let devices = (1..).zip(&plan.devices).flat_map(|(user, devices)| {
            (1..=*devices).map(move |device| Device::new(UserId::new(user).expect("in range"), device))
        });
        Self {
            rng,
            now: clocks::FIRST,
            machine: Machine::new(seed, plan.config.clone(), defect),
            workers: (0..plan.gateways)
                .map(|gateway| Worker::new(gateway, seed ^ gateway as u64))
                .collect(),
            api: Api::new(),
            deaf_until_ms: vec![0; plan.gateways + 1],
            relinks_at_ms: vec![0; plan.gateways + 1],
            devices: devices.collect(),
            letters: Vec::new(),
            late: BTreeMap::new(),
            trouble: Trouble::default(),
            outage: Outage::Power,
            starts_at_ms: 0,
            coverage: Coverage::default(),
            auditor: Auditor::new(plan.bounds()),
            transcript: Vec::new(),
            set_back_ms: 0,
            leap: None,
            doubt_until_ms: 0,
            last_sent: None,
            start_crashes_percent: 0,
            start_crashes: VecDeque::new(),
            longest_start: 0,
            is_healed: false,
            is_lively: false,
            waiting: BTreeMap::new(),
            groups_max: None,
            jobs_wait_since_ms: None,
            links: 0,
            requests: 0,
            starts_down: 0,
            plan,
        }
    }

    /// Lets what is under way arrive, the router run, and the gateways hear it.
    pub(crate) fn round(&mut self) {
        self.is_lively = false;
        self.end_leap_when_due();
        self.end_trouble_when_due();
        self.relink();
        self.deliver_late_letters();
        for worker in &mut self.workers {
            worker.start_round();
        }
        self.run_workers();
        self.api.hand_over();
        self.run_router();
        self.restart_if_failed();
        self.check_standstill();
        for index in 0..self.gateways() {
            if self.is_woken(index) && self.deaf_until_ms[index] <= self.now.mono_ms {
                self.listen(index);
            }
        }
        self.run_workers();
        if self.machine.is_up() && self.rng.percent(10) {
            self.see_gauges(false);
        }
    }

    pub(crate) fn see(&mut self, seen: Seen) {
        let event = Event {
            now: self.now,
            operations: self.machine.operations(),
            last_sync: self.machine.last_sync(),
            seen,
        };
        self.auditor.observe(&event);
        self.transcript.push(event);
    }

    /// Lets so much time pass, and looks at what the router says of itself.
    pub(crate) fn see_gauges_at_rest(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(GAUGES_ROUND_MS) {
            self.advance(GAUGES_ROUND_MS);
            self.round();
        }
        self.see_gauges(true);
    }

    fn see_gauges(&mut self, at_rest: bool) {
        let metric = |name| self.machine.metric(name);
        let gauges = Gauges {
            links: metric("router_links"),
            sessions: metric("router_sessions"),
            backlog_bytes: metric("router_link_backlog_bytes"),
            lag_records: metric("router_store_lag_records"),
            at_rest,
        };
        self.see(Seen::Gauges(gauges));
    }

    // ---- the machine

    fn run_router(&mut self) {
        if !self.machine.is_up() && self.now.mono_ms >= self.starts_at_ms {
            self.start_router();
        }
        let runs = self.threads_that_run();
        for _ in 0..TICKS_PER_ROUND {
            let needs_tick = self.machine.needs_tick(self.machine_now());
            if !needs_tick && runs.iter().all(|thread| self.machine.jobs(*thread) == 0) {
                break;
            }
            let ticked = if needs_tick {
                self.machine.tick(self.machine_now())
            } else {
                Ok(())
            };
            if let Err(operation) = ticked.and_then(|()| self.run_threads(&runs)) {
                self.coverage.note(format!("crash in {operation:?}"));
                return self.go_down(self.outage);
            }
        }
        if Thread::ALL.iter().all(|thread| self.machine.jobs(*thread) == 0) {
            self.jobs_wait_since_ms = None;
        }
    }

    /// Returns which of the threads of log and store get to run in a round: as the dice say, or all when something has waited
    /// for long.
    fn threads_that_run(&mut self) -> Vec<Thread> {
        let since_ms = *self.jobs_wait_since_ms.get_or_insert(self.now.mono_ms);
        let is_late = since_ms + JOBS_WAIT_MS_MAX <= self.now.mono_ms;
        let mut runs = Vec::new();
        for (thread, percent) in [
            (Thread::Log, self.plan.log_percent),
            (Thread::Store, self.plan.store_percent),
        ] {
            let waits = self.machine.jobs(thread) > 0;
            if self.rng.percent(percent) || is_late {
                runs.push(thread);
            } else if waits {
                self.coverage.note(format!("{thread:?} behind"));
            }
            self.coverage
                .add(format!("{thread:?} late"), u64::from(waits && is_late));
        }
        runs
    }

    /// Lets threads do some of what waits for them, one after the other or in turn.
    fn run_threads(&mut self, runs: &[Thread]) -> Result<(), Operation> {
        for _ in 0..JOBS_PER_TICK {
            let waiting: Vec<_> = runs
                .iter()
                .copied()
                .filter(|thread| self.machine.jobs(*thread) > 0)
                .collect();
            if waiting.is_empty() {
                break;
            }
            let thread = self.rng.pick(&waiting);
            self.machine.step(thread)?;
        }
        Ok(())
    }

    /// A router that does not trust its disk or store any more logs nothing until it is started again, but the group that was
    /// under way.
    fn check_standstill(&mut self) {
        let stands = matches!(
            self.machine.readiness(),
            Readiness::LogFailed | Readiness::StoreFailed
        );
        if !stands {
            self.groups_max = None;
            return;
        }
        let groups = self.machine.metric("router_groups_total");
        let groups_max = *self.groups_max.get_or_insert(groups + 1);
        if groups > groups_max {
            self.auditor.report(Violation {
                invariant: Invariant::Explicit,
                mono_ms: self.now.mono_ms,
                text: format!(
                    "a router that had failed went on to {groups} groups, and {groups_max} were under way"
                ),
            });
        }
    }

    fn start_router(&mut self) {
        let is_first = self.machine.operations() == 0;
        if let Some(operations) = self.start_crashes.pop_front_if(|_| !is_first) {
            self.machine.crash_after(operations);
        } else if self.rng.percent(self.start_crashes_percent) {
            self.machine.crash_after(self.rng.within(0..16));
        }
        let before = self.machine.operations();
        self.doubt_clock();
        match self.machine.start(self.machine_now()) {
            Start::Up(report) => {
                if !is_first {
                    self.longest_start = self.longest_start.max(self.machine.operations() - before);
                }
                self.coverage.note("start");
                self.coverage.add("replayed record", report.replayed);
                self.coverage.add("observed record", report.observed);
                self.coverage
                    .add("torn group cut", u64::from(report.recovery.cut.is_some()));
                self.coverage.add(
                    "headless segment dropped",
                    u64::from(report.recovery.dropped.is_some()),
                );
                self.coverage.add(
                    "start after several crashes in a row",
                    u64::from(self.starts_down > 1),
                );
                self.starts_down = 0;
                self.see(Seen::Up);
                self.relink();
            }
            Start::Down(operation) => {
                self.coverage.note(format!("crash in {operation:?} of a start"));
                self.starts_down += 1;
                self.go_down(self.outage);
            }
            Start::Refused if self.trouble.is_any() => {
                self.coverage.note("start refused by the disk");
                self.starts_at_ms = self.now.mono_ms + self.rng.within(10..500);
            }
            Start::Refused => self.see(Seen::Broken("the disk refused, and has no cause".into())),
            Start::Broken(reason) => self.see(Seen::Broken(reason)),
        }
    }

    /// Takes the machine down, and lets the gateways hear what the router said before.
    pub(crate) fn go_down(&mut self, outage: Outage) {
        for name in [
            "router_link_refusals_total",
            "router_sweep_steps_total",
            "router_backlog_pages_total",
        ] {
            self.coverage.add(name, self.machine.metric(name));
        }
        self.coverage.note(format!("{outage:?}"));
        for thread in Thread::ALL {
            let jobs = self.machine.jobs(thread) as u64;
            self.coverage
                .add(format!("{thread:?} had jobs when the machine went down"), jobs);
        }
        self.jobs_wait_since_ms = None;
        self.machine.go_down(outage);
        self.boot_changes_trouble();
        self.see(Seen::Down);
        for index in 0..self.gateways() {
            if self.link_of(index).is_some() {
                self.listen(index);
                self.unlink(index);
            }
        }
        self.run_workers();
        self.starts_at_ms = self.now.mono_ms + self.rng.within(0..self.plan.outage_ms_max);
    }

    // ---- gateways

    /// Returns how many there are, the API among them.
    pub(crate) fn gateways(&self) -> usize {
        self.workers.len() + 1
    }

    pub(crate) fn is_api(&self, index: usize) -> bool {
        index == self.workers.len()
    }

    fn link_of(&self, index: usize) -> Option<Link> {
        self.workers
            .get(index)
            .map_or_else(|| self.api.link(), Worker::link)
    }

    fn is_woken(&self, index: usize) -> bool {
        self.workers
            .get(index)
            .map_or_else(|| self.api.is_woken(), Worker::is_woken)
    }

    /// Opens the links of gateways that have none and may have one.
    fn relink(&mut self) {
        for index in 0..self.gateways() {
            let is_due = self.relinks_at_ms[index] <= self.now.mono_ms;
            if self.machine.is_up() && self.link_of(index).is_none() && is_due {
                self.link(index);
            }
        }
    }

    fn link(&mut self, index: usize) {
        let link = Link(self.links);
        self.links += 1;
        let endpoint = self.machine.add_link();
        self.see(Seen::LinkUp { link, gateway: index });
        if let Some(worker) = self.workers.get_mut(index) {
            return worker.attach(link, endpoint, self.now);
        }
        self.api.attach(link, endpoint);
        self.say(ToRouter::Hello(LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Api,
            node: "api".to_owned(),
            epoch: 1,
            worker: index as u16,
        }));
    }

    /// Ends a link from the gateway's side.
    pub(crate) fn unlink(&mut self, index: usize) {
        let detached = match self.workers.get_mut(index) {
            Some(worker) => worker.detach(self.now),
            None => self.api.detach(),
        };
        let Some(link) = detached else { return };
        let pause_ms = self.rng.within(0..self.plan.outage_ms_max);
        self.relinks_at_ms[index] = self.now.mono_ms + pause_ms;
        if self.is_api(index) {
            // Whoever waits for an answer on it learns that there is none.
            for delivery in std::mem::take(&mut self.waiting).into_values() {
                self.letters[delivery.letter].awaited -= 1;
            }
        }
        self.see_worker(index);
        self.see(Seen::LinkDown(link));
    }

    /// Says something on the link of the API. Panics without one.
    pub(crate) fn say(&mut self, record: ToRouter) {
        let link = self.api.link().expect("the API says something on its link");
        self.api.say(&record);
        self.see(Seen::Said(link, record));
    }

    /// Takes what the link of a gateway brought.
    pub(crate) fn listen(&mut self, index: usize) {
        let has_ended = match self.workers.get_mut(index) {
            Some(worker) => {
                let has_ended = worker.listen(self.now);
                self.see_worker(index);
                has_ended
            }
            None => {
                let Some(link) = self.api.link() else { return };
                let brought = self.api.listen();
                for record in brought.records {
                    self.see(Seen::Heard(link, record.clone()));
                    self.hear(record);
                }
                brought.has_ended
            }
        };
        if has_ended {
            self.unlink(index);
        }
    }

    /// Lets every worker do what it can, and its clients learn of it.
    fn run_workers(&mut self) {
        for index in 0..self.workers.len() {
            self.workers[index].run(self.now);
            self.see_worker(index);
        }
    }

    /// Takes what passed on the link of a worker, and what its clients learned.
    fn see_worker(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index) else {
            return;
        };
        let (seen, news) = (worker.take_seen(), worker.take_news());
        for seen in seen {
            match &seen {
                Seen::Heard(_, record) => self.note(record),
                Seen::Said(_, ToRouter::SessionOpen(open)) if open.session.is_some() => {
                    self.coverage.note("session announced again");
                }
                _ => {}
            }
            self.see(seen);
        }
        for (handle, news) in news {
            self.is_lively = true;
            let gateway = index;
            let connection = Connection { gateway, handle };
            self.see(Seen::Shown(connection, news.clone()));
            self.learn(connection, news);
        }
    }

    /// Counts what a router said to a gateway.
    fn note(&mut self, record: &FromRouter) {
        self.is_lively = true;
        match record {
            FromRouter::SessionOpened(opened) => {
                self.coverage.add("resync", u64::from(opened.resync.is_some()));
                self.coverage.add("resumed by cursor", u64::from(opened.resumed));
            }
            FromRouter::SessionRefused(refused) => {
                self.coverage.note(format!("session refused: {:?}", refused.code));
            }
            FromRouter::SessionReplaced(_) => self.coverage.note("session replaced"),
            FromRouter::Deliver(deliver) => self.coverage.add("delivered", deliver.to.len() as u64),
            FromRouter::Synced(_) => {}
            FromRouter::Sent(_) => self.coverage.note("sent"),
            FromRouter::Rejected(rejected) => self.coverage.note(format!("rejected: {:?}", rejected.code)),
            FromRouter::StatusUpdate(_) => self.coverage.note("status update"),
            FromRouter::Done(_) => self.coverage.note("status done"),
            FromRouter::Failed(failed) => self.coverage.note(format!("failed: {:?}", failed.code)),
            FromRouter::HistoryPage(page) => {
                self.coverage.note("history page");
                self.coverage.add("history page with more", u64::from(page.more));
            }
            FromRouter::ConversationsPage(_) => self.coverage.note("conversations page"),
        }
    }

    /// Takes what the router said to the API.
    fn hear(&mut self, record: FromRouter) {
        self.note(&record);
        match record {
            FromRouter::Sent(sent) => {
                if let Some(delivery) = self.waiting.remove(&sent.request) {
                    self.take_sent(delivery, sent.timestamp, sent.duplicate);
                }
            }
            FromRouter::Rejected(rejected) => {
                if let Some(delivery) = self.waiting.remove(&rejected.request) {
                    self.take_rejected(delivery, rejected.code);
                }
            }
            _ => {}
        }
    }

    fn take_sent(&mut self, delivery: Delivery, timestamp: UnixMs, duplicate: bool) {
        self.last_sent = self.last_sent.max(Some(timestamp));
        let starts = self.coverage.count("start");
        let letter = &mut self.letters[delivery.letter];
        letter.awaited -= 1;
        letter.outcome = Outcome::Sent { timestamp };
        let age_ms = self.now.unix.0.saturating_sub(timestamp.0);
        let is_old = age_ms > u64::from(self.plan.config.dedupe_minutes) * 60_000;
        let is_after_restart = letter.answered_in.is_some_and(|answered_in| answered_in < starts);
        letter.answered_in.get_or_insert(starts);
        let duplicate = u64::from(duplicate);
        self.coverage.add("duplicate", duplicate);
        self.coverage.add(
            "duplicate of something out of the window",
            duplicate * u64::from(is_old),
        );
        self.coverage.add(
            "duplicate after a restart",
            duplicate * u64::from(is_after_restart),
        );
    }

    fn take_rejected(&mut self, delivery: Delivery, code: Code) {
        let letter = &mut self.letters[delivery.letter];
        letter.awaited -= 1;
        let is_sure = !matches!(code, Code::Unavailable | Code::Busy);
        if is_sure && letter.outcome == Outcome::Open {
            letter.outcome = Outcome::Refused;
        }
    }

    // ---- clients

    /// Takes what a client learns.
    fn learn(&mut self, connection: Connection, news: News) {
        let Connection { gateway, handle } = connection;
        if news == News::Closed {
            return self.forget(connection);
        }
        let Some(client) = self.workers[gateway].clients.get_mut(&handle) else {
            return;
        };
        let device = client.device;
        match news {
            News::Welcome { .. } => {
                client.asked.retain(|_, asked| !matches!(asked, Asked::Hello));
                client.is_welcomed = true;
            }
            News::Resync { .. } => {
                client.unacked.clear();
                self.devices[device].cursor = None;
            }
            News::Message(position, message) => {
                client.unacked.push_back(position);
                client.last = Some(position);
                let device = &mut self.devices[device];
                device.cursor = device.cursor.max(Some(position));
                device
                    .got
                    .push((message.conversation, message.seq, message.message_id));
            }
            News::Synced(_) => client.is_synced = true,
            News::Sent {
                id,
                timestamp_ms,
                duplicate,
                ..
            } => {
                if let Some(Asked::Letter(delivery)) = client.asked.remove(&id) {
                    self.take_sent(delivery, UnixMs(timestamp_ms), duplicate);
                }
            }
            News::Rejected { id, code } => {
                if let Some(Asked::Letter(delivery)) = client.asked.remove(&id) {
                    self.take_rejected(delivery, code);
                }
            }
            News::Failed { id, code } => {
                let asked = id.and_then(|id| client.asked.remove(&id));
                if let Some(Asked::Hello) = asked {
                    client.leave(true);
                    self.devices[device].is_one_too_many |= code == Code::TooManyDevices;
                    self.part(device);
                }
            }
            News::Page { id } => {
                client.asked.remove(&id);
            }
            News::Farewell(code) => {
                self.coverage.note(format!("closed with {code}"));
                self.part_from(device, connection);
            }
            News::Status(_) | News::Closed => {}
        }
    }

    /// Forgets a connection whose socket is closed. What it waited for has no answer.
    fn forget(&mut self, connection: Connection) {
        for device in 0..self.devices.len() {
            self.part_from(device, connection);
        }
        self.workers[connection.gateway]
            .clients
            .remove(&connection.handle);
    }

    /// Lets a device know that a connection is over, if it is its own.
    fn part_from(&mut self, device: usize, connection: Connection) {
        if self.devices[device].at == Some((connection.gateway, connection.handle)) {
            self.part(device);
        }
    }

    /// Lets a device leave its connection. What it waits for there, it learns nowhere.
    fn part(&mut self, device: usize) -> Option<Connection> {
        let (gateway, handle) = self.devices[device].at.take()?;
        let asked = self.workers[gateway]
            .clients
            .get_mut(&handle)
            .map(|client| std::mem::take(&mut client.asked));
        for delivery in asked.into_iter().flatten().filter_map(|(_, asked)| match asked {
            Asked::Letter(delivery) => Some(delivery),
            _ => None,
        }) {
            self.letters[delivery.letter].awaited -= 1;
        }
        Some(Connection { gateway, handle })
    }

    /// Connects a device to a worker; whatever connection it had is left half open. Returns whether it could.
    pub(crate) fn connect(&mut self, device: usize, gateway: usize, hello: Hello, window: u16) -> bool {
        if self.is_api(gateway) {
            return false;
        }
        self.vanish(device);
        let client = &self.devices[device];
        let cursor = match hello {
            Hello::Plain => None,
            Hello::Resume => client.cursor,
            Hello::At(position) => Some(position),
        };
        let room = if self.is_healed {
            usize::MAX
        } else {
            self.rng.pick(&ROOMS)
        };
        let id = self.request_id();
        let client = &self.devices[device];
        let command = Command::Hello(wire_client::Hello {
            user: Some(client.user),
            token: None,
            device: Some(client.device),
            cursor,
            window,
        });
        let request = Request {
            id: Some(id),
            command,
        };
        let client = Client::new(device, room, &request);
        let handle = self.workers[gateway].accept(client, self.now);
        let client = &mut self.devices[device];
        client.at = Some((gateway, handle));
        let (user, device) = (client.user, client.device);
        self.see(Seen::Connected {
            connection: Connection { gateway, handle },
            user,
            device,
            window,
            cursor,
        });
        true
    }

    /// Lets a device go without a word.
    pub(crate) fn vanish(&mut self, device: usize) {
        let Some(connection) = self.part(device) else {
            return;
        };
        let clients = &mut self.workers[connection.gateway].clients;
        if let Some(client) = clients.get_mut(&connection.handle) {
            client.is_gone = true;
        }
        self.see(Seen::Vanished(connection));
    }

    /// Lets a device close its connection: with a word, or by the end of its stream.
    pub(crate) fn disconnect(&mut self, device: usize) {
        let Some(connection) = self.part(device) else {
            return;
        };
        let is_polite = self.rng.percent(50);
        let clients = &mut self.workers[connection.gateway].clients;
        if let Some(client) = clients.get_mut(&connection.handle) {
            client.leave(is_polite);
        }
        self.see(Seen::Left(connection));
    }

    /// Ends a connection, whoever is on it.
    pub(crate) fn close_connection(&mut self, gateway: usize, handle: ConnectionHandle) {
        let worker = &mut self.workers[gateway];
        let Some(client) = worker.clients.get(&handle) else {
            return;
        };
        let device = client.device;
        worker.reset(handle, self.now);
        self.see(Seen::Left(Connection { gateway, handle }));
        self.part_from(device, Connection { gateway, handle });
    }

    /// Returns the client of a connected device.
    pub(crate) fn client(&mut self, device: usize) -> Option<&mut Client> {
        let (gateway, handle) = self.devices[device].at?;
        self.workers[gateway].clients.get_mut(&handle)
    }

    /// Acks the first `count` of what a device got.
    pub(crate) fn ack(&mut self, device: usize, count: usize) {
        let Some(client) = self.client(device).filter(|client| client.is_live()) else {
            return;
        };
        let count = count.min(client.unacked.len());
        let Some(position) = client.unacked.drain(..count).next_back() else {
            return;
        };
        client.say(Command::Ack(position));
        let (gateway, handle) = self.devices[device].at.expect("it has a client");
        self.see(Seen::Acked(Connection { gateway, handle }, position));
    }

    /// Lets a device ask something over its connection. Returns whether it could.
    pub(crate) fn ask(&mut self, device: usize, command: Command<'_>, asked: Asked) -> bool {
        let id = self.request_id();
        let Some(client) = self.client(device).filter(|client| client.is_live()) else {
            return false;
        };
        client.ask(id, command, asked);
        let letter = match asked {
            Asked::Letter(delivery) => Some(&self.letters[delivery.letter]),
            _ => None,
        };
        let (is_send, message_id) = (letter.is_some(), letter.and_then(|letter| letter.id));
        let (gateway, handle) = self.devices[device].at.expect("it has a client");
        self.see(Seen::Asked {
            connection: Connection { gateway, handle },
            id,
            is_send,
            message_id,
            is_answered: !matches!(asked, Asked::Status),
        });
        true
    }

    /// Sends a letter: over its device's connection, or over HTTP. Returns whether it could.
    pub(crate) fn post(&mut self, delivery: Delivery) -> bool {
        let letter = &self.letters[delivery.letter];
        if !self.is_api(delivery.gateway) {
            let sender = letter.sender;
            let command = Command::Send(Send {
                message_id: letter.id,
                to: Target::Direct(letter.receiver),
                body: SendBody::Encoded(letter.body.clone()),
            });
            let is_meant = |of: &Device| (of.user, of.device) == (sender, delivery.device);
            if let Some(device) = self.devices.iter().position(is_meant)
                && self.ask(device, command, Asked::Letter(delivery))
            {
                self.letters[delivery.letter].awaited += 1;
                return true;
            }
        }
        if !self.api.can_say() {
            return false;
        }
        self.coverage.note("send over HTTP");
        let request = self.request();
        let letter = &mut self.letters[delivery.letter];
        letter.awaited += 1;
        let send = SendRecord {
            request,
            message_id: letter.id,
            draft: Draft {
                sender: letter.sender,
                sender_device: DeviceId::API,
                target: Target::Direct(letter.receiver),
                body: letter.body.clone(),
            },
        };
        self.waiting.insert(request, delivery);
        self.say(ToRouter::Send(send));
        true
    }

    fn deliver_late_letters(&mut self) {
        while let Some((at, delivery)) = self.late.pop_first() {
            if at.0 > self.now.mono_ms {
                self.late.insert(at, delivery);
                return;
            }
            // One that finds no link is lost on the way.
            self.post(delivery);
        }
    }

    /// Returns a number that no question of a client had before.
    fn request_id(&mut self) -> u32 {
        self.request().0 as u32
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }
}

impl Device {
    pub(crate) fn new(user: UserId, device: u32) -> Self {
        let device = DeviceId::new(device).expect("in range");
        Self {
            user,
            device,
            at: None,
            cursor: None,
            got: Vec::new(),
            withholds: false,
            is_one_too_many: false,
        }
    }
}

/// Bytes that a socket takes in a round.
const ROOMS: [usize; 4] = [usize::MAX, usize::MAX, 2_000, 150];
/// A router thread that is never done would keep a round for ever.
const TICKS_PER_ROUND: usize = 6;
/// So that a tick sees some of what was done, and not all of it.
const JOBS_PER_TICK: usize = 4;
const GAUGES_ROUND_MS: u64 = 20;
/// A thread gets to run after so long at the latest.
const JOBS_WAIT_MS_MAX: u64 = 1_000;

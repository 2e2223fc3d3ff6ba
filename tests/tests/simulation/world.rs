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
use wire_link::{
    AckRecord, Deliver, FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord, SessionOpen,
    SessionOpened, SessionRef, ToRouter,
};

use crate::audit::{Auditor, Invariant, Violation};
use crate::clocks::{self, Leap};
use crate::coverage::Coverage;
use crate::gateway::{Gateway, Session};
use crate::machine::{Machine, Outage, Start};
use crate::plan::Plan;
use crate::rng::Rng;
use crate::stepped::Thread;
use crate::transcript::{Connection, Event, Gauges, Link, Seen};
use crate::trouble::Trouble;
use crate::watch::{Defect, Operation};

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) now: Now,
    pub(crate) machine: Machine,
    /// The last one is the HTTP API.
    pub(crate) gateways: Vec<Gateway>,
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
    /// Something was heard in the last round.
    pub(crate) is_lively: bool,
    /// Who waits for an answer: a letter, over a gateway.
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
        let kinds = std::iter::repeat_n(LinkKind::Gateway, plan.gateways).chain([LinkKind::Api]);
        let devices = (1..).zip(&plan.devices).flat_map(|(user, devices)| {
            (1..=*devices).map(move |device| Device::new(UserId::new(user).expect("in range"), device))
        });
        Self {
            rng,
            now: clocks::FIRST,
            machine: Machine::new(seed, plan.config.clone(), defect),
            gateways: kinds.map(Gateway::new).collect(),
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
        for gateway in &mut self.gateways {
            gateway.hand_over();
        }
        self.run_router();
        self.restart_if_failed();
        self.check_standstill();
        for index in 0..self.gateways.len() {
            let gateway = &self.gateways[index];
            if gateway.is_woken() && gateway.deaf_until_ms <= self.now.mono_ms {
                self.listen(index);
            }
        }
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
        for index in 0..self.gateways.len() {
            if self.gateways[index].link().is_some() {
                self.listen(index);
                self.unlink(index);
            }
        }
        self.starts_at_ms = self.now.mono_ms + self.rng.within(0..self.plan.outage_ms_max);
    }

    // ---- links

    /// Opens the links of gateways that have none and may have one.
    fn relink(&mut self) {
        for index in 0..self.gateways.len() {
            let gateway = &self.gateways[index];
            if self.machine.is_up() && gateway.link().is_none() && gateway.relinks_at_ms <= self.now.mono_ms {
                self.link(index);
            }
        }
    }

    fn link(&mut self, index: usize) {
        let link = Link(self.links);
        self.links += 1;
        let gateway = &mut self.gateways[index];
        gateway.attach(link, self.machine.add_link());
        let kind = gateway.kind;
        self.see(Seen::LinkUp { link, gateway: index });
        let hello = LinkHello {
            version: LINK_VERSION,
            kind,
            node: format!("gateway {index}"),
            epoch: 1,
            worker: index as u16,
        };
        self.say(index, ToRouter::Hello(hello));
        self.announce_sessions(index);
    }

    /// Announces the sessions of a gateway on its new link; some were closed while it had none.
    fn announce_sessions(&mut self, index: usize) {
        let handles: Vec<ConnectionHandle> = self.gateways[index].sessions.keys().copied().collect();
        for handle in handles {
            if self.rng.percent(15) {
                self.drop_session(index, handle);
                continue;
            }
            let session = &mut self.gateways[index]
                .sessions
                .get_mut(&handle)
                .expect("it is listed");
            session.is_synced = false;
            let is_live = session.number.is_some();
            let Device { user, device, .. } = self.devices[session.device];
            let open = SessionOpen {
                connection: handle,
                user,
                device,
                session: session.number,
                cursor: if is_live { session.acked } else { session.cursor },
                forwarded: session.forwarded,
                window: session.window,
            };
            self.coverage.add("session announced again", u64::from(is_live));
            self.say(index, ToRouter::SessionOpen(open));
        }
    }

    /// Ends a link from the gateway's side.
    pub(crate) fn unlink(&mut self, index: usize) {
        let Some(link) = self.gateways[index].detach() else {
            return;
        };
        let pause_ms = self.rng.within(0..self.plan.outage_ms_max);
        self.gateways[index].relinks_at_ms = self.now.mono_ms + pause_ms;
        // Whoever waits for an answer on it learns that there is none.
        let letters = &mut self.letters;
        self.waiting.retain(|_, delivery| {
            let is_lost = delivery.gateway == index;
            if is_lost {
                letters[delivery.letter].awaited -= 1;
            }
            !is_lost
        });
        self.see(Seen::LinkDown(link));
    }

    /// Says something on a gateway's link. Panics without one.
    pub(crate) fn say(&mut self, index: usize, record: ToRouter) {
        let link = self.gateways[index]
            .link()
            .expect("a gateway says something on its link");
        self.gateways[index].say(&record);
        self.see(Seen::Said(link, record));
    }

    /// Takes what the link of a gateway brought.
    pub(crate) fn listen(&mut self, index: usize) {
        let Some(link) = self.gateways[index].link() else {
            return;
        };
        let brought = self.gateways[index].listen();
        for record in brought.records {
            self.is_lively = true;
            self.see(Seen::Heard(link, record.clone()));
            self.hear(index, record);
        }
        if brought.has_ended {
            self.unlink(index);
        }
    }

    fn hear(&mut self, index: usize, record: FromRouter) {
        match record {
            FromRouter::SessionOpened(opened) => self.hear_opened(index, &opened),
            FromRouter::SessionRefused(refused) => {
                self.coverage.note(format!("session refused: {:?}", refused.code));
                let session = self.gateways[index].sessions.get(&refused.connection);
                if let Some(device) = session.map(|session| session.device) {
                    self.devices[device].is_one_too_many |= refused.code == Code::TooManyDevices;
                }
                self.drop_session(index, refused.connection);
            }
            FromRouter::SessionReplaced(session) => {
                self.coverage.note("session replaced");
                self.drop_session(index, session.connection);
                // The gateway closes it as it closes any other; the router knows better.
                if self.rng.percent(50) && self.gateways[index].can_say() {
                    self.say(index, ToRouter::SessionClose(session));
                }
            }
            FromRouter::Deliver(deliver) => self.hear_deliver(index, &deliver),
            FromRouter::Synced(synced) => {
                if let Some(session) = self.gateways[index].sessions.get_mut(&synced.connection) {
                    session.is_synced = true;
                }
            }
            FromRouter::Sent(sent) => {
                self.last_sent = self.last_sent.max(Some(sent.timestamp));
                let Some(delivery) = self.waiting.remove(&sent.request) else {
                    return;
                };
                let starts = self.coverage.count("start");
                let letter = &mut self.letters[delivery.letter];
                letter.awaited -= 1;
                letter.outcome = Outcome::Sent {
                    timestamp: sent.timestamp,
                };
                let age_ms = self.now.unix.0.saturating_sub(sent.timestamp.0);
                let is_old = age_ms > u64::from(self.plan.config.dedupe_minutes) * 60_000;
                let is_after_restart = letter.answered_in.is_some_and(|answered_in| answered_in < starts);
                letter.answered_in.get_or_insert(starts);
                let duplicate = u64::from(sent.duplicate);
                self.coverage.note("sent");
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
            FromRouter::Rejected(rejected) => {
                self.coverage.note(format!("rejected: {:?}", rejected.code));
                let Some(delivery) = self.waiting.remove(&rejected.request) else {
                    return;
                };
                let letter = &mut self.letters[delivery.letter];
                letter.awaited -= 1;
                if rejected.code != Code::Unavailable && letter.outcome == Outcome::Open {
                    letter.outcome = Outcome::Refused;
                }
            }
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

    fn hear_opened(&mut self, index: usize, opened: &SessionOpened) {
        let Some(session) = self.gateways[index].sessions.get_mut(&opened.connection) else {
            return;
        };
        let is_new = session.number.replace(opened.session).is_none();
        if let Some((_, oldest)) = opened.resync {
            // Announced again before the first ack, the session goes on from there.
            (session.acked, session.forwarded) = (Some(oldest), None);
            session.unacked.clear();
            self.devices[session.device].cursor = None;
            self.coverage.note("resync");
        } else if is_new && opened.resumed {
            session.acked = session.cursor;
            self.coverage.note("resumed by cursor");
        }
    }

    fn hear_deliver(&mut self, index: usize, deliver: &Deliver) {
        for (handle, position) in &deliver.to {
            let Some(session) = self.gateways[index].sessions.get_mut(handle) else {
                continue;
            };
            if session.forwarded.is_some_and(|forwarded| forwarded >= *position) {
                continue;
            }
            self.coverage.note("delivered");
            session.forwarded = Some(*position);
            if session.is_vanished {
                continue;
            }
            session.unacked.push_back(*position);
            let device = &mut self.devices[session.device];
            device.cursor = device.cursor.max(Some(*position));
            let message = &deliver.message;
            device
                .got
                .push((message.conversation, message.seq, message.message_id));
        }
    }

    // ---- clients

    /// Connects a device to a gateway; whatever connection it had is left half open. Returns whether it could.
    pub(crate) fn connect(&mut self, device: usize, gateway: usize, hello: Hello, window: u16) -> bool {
        if !self.gateways[gateway].can_say() || self.gateways[gateway].kind != LinkKind::Gateway {
            return false;
        }
        self.vanish(device);
        let cursor = match hello {
            Hello::Plain => None,
            Hello::Resume => self.devices[device].cursor,
            Hello::At(position) => Some(position),
        };
        let handle = self.gateways[gateway].take_handle();
        let session = Session {
            device,
            window,
            cursor,
            number: None,
            acked: None,
            forwarded: None,
            unacked: Default::default(),
            is_synced: false,
            is_vanished: false,
        };
        self.gateways[gateway].sessions.insert(handle, session);
        let client = &mut self.devices[device];
        client.at = Some((gateway, handle));
        let (user, device) = (client.user, client.device);
        let open = SessionOpen {
            connection: handle,
            user,
            device,
            session: None,
            cursor,
            forwarded: None,
            window,
        };
        self.say(gateway, ToRouter::SessionOpen(open));
        true
    }

    /// Lets a device go without a word.
    pub(crate) fn vanish(&mut self, device: usize) {
        let Some((gateway, handle)) = self.devices[device].at.take() else {
            return;
        };
        if let Some(session) = self.gateways[gateway].sessions.get_mut(&handle) {
            session.is_vanished = true;
            self.see(Seen::Vanished(Connection { gateway, handle }));
        }
    }

    /// Closes the connection of a device.
    pub(crate) fn disconnect(&mut self, device: usize) {
        let Some((gateway, handle)) = self.devices[device].at else {
            return;
        };
        self.close_session(gateway, handle);
    }

    /// Closes a session, telling the router when there is a link.
    pub(crate) fn close_session(&mut self, gateway: usize, handle: ConnectionHandle) {
        let Some(session) = self.gateways[gateway].sessions.get(&handle) else {
            return;
        };
        let Device { user, device, .. } = self.devices[session.device];
        self.drop_session(gateway, handle);
        if self.gateways[gateway].link().is_some() {
            self.say(
                gateway,
                ToRouter::SessionClose(SessionRef {
                    connection: handle,
                    user,
                    device,
                }),
            );
        }
    }

    fn drop_session(&mut self, gateway: usize, handle: ConnectionHandle) {
        if let Some(session) = self.gateways[gateway].sessions.remove(&handle) {
            let device = &mut self.devices[session.device];
            if device.at == Some((gateway, handle)) {
                device.at = None;
            }
        }
    }

    /// Returns the session of a connected device.
    pub(crate) fn session(&self, device: usize) -> Option<&Session> {
        let (gateway, handle) = self.devices[device].at?;
        self.gateways[gateway].sessions.get(&handle)
    }

    /// Acks the first `count` of what a device got.
    pub(crate) fn ack(&mut self, device: usize, count: usize) {
        let Some((gateway, handle)) = self.devices[device].at else {
            return;
        };
        if !self.gateways[gateway].can_say() {
            return;
        }
        let Some(session) = self.gateways[gateway].sessions.get_mut(&handle) else {
            return;
        };
        let Some(number) = session.number else { return };
        let count = count.min(session.unacked.len());
        let Some(position) = session.unacked.drain(..count).next_back() else {
            return;
        };
        session.acked = session.acked.max(Some(position));
        let Device { user, device, .. } = self.devices[device];
        self.say(
            gateway,
            ToRouter::Ack(AckRecord {
                user,
                device,
                session: number,
                position,
            }),
        );
    }

    /// Sends a letter over a gateway. Returns whether it could.
    pub(crate) fn post(&mut self, delivery: Delivery) -> bool {
        if !self.gateways[delivery.gateway].can_say() {
            return false;
        }
        let is_api = self.gateways[delivery.gateway].kind == LinkKind::Api;
        let request = self.request();
        let letter = &mut self.letters[delivery.letter];
        letter.awaited += 1;
        let send = SendRecord {
            request,
            message_id: letter.id,
            draft: Draft {
                sender: letter.sender,
                sender_device: if is_api { DeviceId::API } else { delivery.device },
                target: Target::Direct(letter.receiver),
                body: letter.body.clone(),
            },
        };
        self.waiting.insert(request, delivery);
        self.say(delivery.gateway, ToRouter::Send(send));
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

/// A router thread that is never done would keep a round for ever.
const TICKS_PER_ROUND: usize = 6;
/// So that a tick sees some of what was done, and not all of it.
const JOBS_PER_TICK: usize = 4;
const GAUGES_ROUND_MS: u64 = 20;
/// A thread gets to run after so long at the latest.
const JOBS_WAIT_MS_MAX: u64 = 1_000;

//! What the clients of one worker do in `echo`.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use wire_base::random::Random;

use super::payload;
use crate::audit::Audit;
use crate::clock::{Clock, Ns};
use crate::course::{Course, Phase};
use crate::driver::{Clients, Peer};
use crate::funnel::Ending;
use crate::measure::Series;
use crate::population::{Message, Next, Population};
use crate::schedule::Schedule;
use crate::traffic::Traffic;

/// What all workers of an echo run have in common.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) payload_bytes: usize,
    pub(super) text: bool,
    pub(super) pipeline: u32,
    pub(super) in_flight_max: usize,
    pub(super) measured: Range<Ns>,
    pub(super) course: Arc<Course>,
    pub(super) clock: Clock,
}

/// What makes messages leave.
pub(super) enum Drive {
    /// A fixed number of writes is under way.
    Closed {
        /// Clients that may write, the one that waited longest first.
        ready: VecDeque<u32>,
        /// Writes that may be made now.
        free: u32,
    },
    /// A schedule.
    Open(Schedule),
}

impl Drive {
    /// Returns the closed loop of `writes` writes over a block of clients, which begin in a seeded order.
    pub(super) fn closed(clients: &Range<u32>, writes: u32, seed: u64) -> Self {
        let count = clients.len() as u32;
        let order = Random::for_purpose(seed, PURPOSE_ORDER + u64::from(clients.start)).permutation(count);
        let rounds = writes.div_ceil(count.max(1)).max(1);
        let ready = (0..rounds).flat_map(|_| order.iter().copied()).collect();
        Self::Closed { ready, free: writes }
    }
}

/// One worker's clients.
pub(super) struct Echo {
    pattern: Arc<Pattern>,
    first: u32,
    drive: Drive,
    phase: Phase,
    faults: Audit,
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// When the messages under way were written, oldest first.
    written: VecDeque<Ns>,
    sent: u32,
    echoed: u32,
}

impl Population for Echo {
    type Session = Session;
    type Outcome = Audit;

    fn handle_open(&mut self, peer: &mut Peer<'_, Session>, now: Ns) {
        peer.become_live(now);
    }

    fn handle_message(&mut self, peer: &mut Peer<'_, Session>, message: Message<'_>, now: Ns) {
        let (bytes, is_text) = match message {
            Message::Text(text) => (text.as_bytes(), true),
            Message::Binary(bytes) => (bytes, false),
        };
        let echo = payload::parse(bytes, self.pattern.payload_bytes).filter(|_| is_text == self.pattern.text);
        let Some((number, intended)) = echo else {
            self.faults.damaged += 1;
            return peer.abandon(Ending::BadEvent("not what was sent".to_owned()));
        };
        let written = peer.session.written.pop_front();
        peer.session.echoed += 1;
        let Some(written) = written.filter(|_| number == peer.session.echoed) else {
            // Once the numbers are out of step nothing more can be learnt from this connection.
            let fault = match number.cmp(&peer.session.echoed) {
                std::cmp::Ordering::Less => &mut self.faults.duplicates,
                _ if number > peer.session.sent => &mut self.faults.ghosts,
                _ => &mut self.faults.reordered,
            };
            *fault += 1;
            return peer.abandon(Ending::BadEvent("echo out of order".to_owned()));
        };
        peer.traffic().accepted += 1;
        peer.traffic().delivered += 1;
        peer.traffic().in_flight -= 1;
        if self.pattern.measured.contains(&intended) {
            peer.recorder()
                .record(Series::Ack, now.since(self.absolute(intended)));
            peer.recorder().record(Series::Service, now.since(written));
        }
        if let Drive::Closed { ready, free } = &mut self.drive
            && peer.session.echoed.is_multiple_of(self.pattern.pipeline)
        {
            ready.push_back(peer.index);
            *free += 1;
        }
    }

    fn handle_read_end(&mut self, _peer: &mut Peer<'_, Session>, _now: Ns) {}

    fn handle_loss(&mut self, session: &mut Session, traffic: &mut Traffic, _: &Ending, _: Ns) -> Next {
        let under_way = std::mem::take(&mut session.written).len();
        traffic.in_flight -= under_way as u64;
        self.faults.unknown += under_way as u64;
        if let Drive::Closed { free, .. } = &mut self.drive {
            *free += under_way.div_ceil(self.pattern.pipeline as usize) as u32;
        }
        Next::GiveUp
    }

    fn handle_tick(&mut self, clients: &mut Clients<Session>, phase: Phase, now: Ns) {
        self.phase = phase;
        match phase {
            Phase::Ramp => {}
            Phase::Run if now < self.pattern.course.start() => {}
            Phase::Run => match &self.drive {
                Drive::Closed { .. } => self.send_free(clients, now),
                Drive::Open(_) => self.send_due(clients, now),
            },
            Phase::Grace | Phase::Finish => {
                if let Drive::Open(schedule) = &mut self.drive {
                    let missed = schedule.abandon(Ns(now.since(self.pattern.course.start())));
                    clients.traffic().scheduled += missed;
                    clients.traffic().missed_late += missed;
                }
            }
        }
    }

    fn poll_timeout(&self) -> Option<Ns> {
        match &self.drive {
            _ if self.phase != Phase::Run => None,
            Drive::Closed { ready, free } => {
                (*free > 0 && !ready.is_empty()).then(|| self.pattern.course.start())
            }
            Drive::Open(schedule) => schedule.peek().map(|due| self.absolute(due.intended)),
        }
    }

    fn is_exhausted(&self) -> bool {
        match &self.drive {
            Drive::Closed { .. } => true,
            Drive::Open(schedule) => schedule.peek().is_none(),
        }
    }

    fn handle_finish(&mut self, _clients: &Clients<Session>) {}

    fn finish(self, clients: Clients<Session>) -> Audit {
        let unanswered: u64 = clients
            .into_sessions()
            .map(|session| session.written.len() as u64)
            .sum();
        Audit {
            unknown: self.faults.unknown + unanswered,
            ..self.faults
        }
    }
}

impl Echo {
    /// Returns the population of a block of clients that begins at `first`.
    pub(super) fn new(pattern: Arc<Pattern>, first: u32, drive: Drive) -> Self {
        Self {
            pattern,
            first,
            drive,
            phase: Phase::Ramp,
            faults: Audit::default(),
        }
    }

    fn send_free(&mut self, clients: &mut Clients<Session>, now: Ns) {
        let intended = Ns(now.since(self.pattern.course.start()));
        while let Drive::Closed {
            ready,
            free: free @ 1..,
        } = &mut self.drive
        {
            let Some(client) = ready.pop_front() else { return };
            let Some(mut peer) = clients.live(client) else {
                continue;
            };
            *free -= 1;
            for _ in 0..self.pattern.pipeline {
                peer.traffic().scheduled += 1;
                self.send(&mut peer, intended, now);
            }
        }
    }

    fn send_due(&mut self, clients: &mut Clients<Session>, now: Ns) {
        for _ in 0..SENDS_PER_TICK {
            let Drive::Open(schedule) = &mut self.drive else {
                return;
            };
            let start = self.pattern.course.start();
            let Some(due) = schedule.peek().filter(|due| start.0 + due.intended.0 <= now.0) else {
                return;
            };
            schedule.advance();
            clients.traffic().scheduled += 1;
            match clients.live(due.pair - self.first) {
                None => clients.traffic().missed_offline += 1,
                Some(peer) if peer.session.written.len() >= self.pattern.in_flight_max => {
                    clients.traffic().missed_in_flight_full += 1;
                }
                Some(mut peer) => {
                    let written = self.pattern.clock.now();
                    if self.pattern.measured.contains(&due.intended) {
                        peer.recorder()
                            .record(Series::Slip, written.since(self.absolute(due.intended)));
                    }
                    self.send(&mut peer, due.intended, written);
                }
            }
        }
    }

    fn send(&self, peer: &mut Peer<'_, Session>, intended: Ns, written: Ns) {
        peer.session.sent = peer.session.sent.wrapping_add(1);
        peer.session.written.push_back(written);
        peer.traffic().sent += 1;
        peer.traffic().in_flight += 1;
        let number = peer.session.sent;
        let write = |out: &mut Vec<u8>| payload::write(number, intended, self.pattern.payload_bytes, out);
        if self.pattern.text {
            peer.send_text(write);
        } else {
            peer.send_binary(write);
        }
    }

    fn absolute(&self, intended: Ns) -> Ns {
        Ns(self.pattern.course.start().0.saturating_add(intended.0))
    }
}

const SENDS_PER_TICK: u32 = 512;
const PURPOSE_ORDER: u64 = 3 << 32;

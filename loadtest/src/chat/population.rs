//! What the clients of one worker do in `chat`: send on schedule, check and ack what comes, come back when cut off.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wire_base::body::{Body, Content};
use wire_base::code::Code;
use wire_base::message::Target;
use wire_base::random::Random;
use wire_client::json::{encode_request, parse_events};
use wire_client::{Command, Event, Rejected, Request, Send, SendBody, Sent, ShownMessage};

use super::session::{Pending, Session};
use crate::audit::{Ledger, Received, Taken};
use crate::clock::{Clock, Ns};
use crate::course::{Course, Phase};
use crate::driver::{Clients, Peer};
use crate::funnel::Ending;
use crate::login::{Login, may_reconnect};
use crate::measure::Series;
use crate::plan::Plan;
use crate::population::{Message, Next, Population};
use crate::schedule::{Due, Schedule};
use crate::traffic::Traffic;

/// What all workers of a chat run have in common.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) plan: Arc<Plan>,
    pub(super) login: Login,
    /// Tells this run's messages from those of others.
    pub(super) run: u32,
    pub(super) payload_bytes: usize,
    pub(super) in_flight_max: usize,
    /// Sends intended within this part of the schedule are measured.
    pub(super) measured: Range<Ns>,
    pub(super) course: Arc<Course>,
    pub(super) clock: Clock,
}

/// One worker's clients.
pub(super) struct Chat {
    talk: Arc<Talk>,
    /// The whole run's number of the first client.
    first: u32,
    schedule: Schedule,
    ledger: Ledger,
    phase: Phase,
    /// Sends to repeat: (time, client, request).
    retries: BinaryHeap<Reverse<(Ns, u32, u32)>>,
    random: Random,
    /// Of the message being written.
    content: Vec<u8>,
    live_at_end: Vec<bool>,
}

/// What a worker knows at the end.
pub(super) struct Outcome {
    pub(super) ledger: Ledger,
    /// Sends without an answer: (pair, number).
    pub(super) unknown: Vec<(u32, u32)>,
    /// By client: it took part when the run ended.
    pub(super) live: Vec<bool>,
}

impl Population for Chat {
    type Session = Session;
    type Outcome = Outcome;

    fn handle_open(&mut self, peer: &mut Peer<'_, Session>, now: Ns) {
        let cursor = peer.session.cursor;
        self.talk.login.say_hello(peer, cursor, self.talk.clock.unix(now));
    }

    fn handle_message(&mut self, peer: &mut Peer<'_, Session>, message: Message<'_>, now: Ns) {
        let Message::Text(text) = message else {
            return peer.abandon(Ending::BadEvent("a binary message".to_owned()));
        };
        if let Err(bad) = parse_events(text, &mut |event| self.handle_event(peer, event, now)) {
            peer.abandon(Ending::BadEvent(bad.reason));
        }
    }

    fn handle_read_end(&mut self, peer: &mut Peer<'_, Session>, _now: Ns) {
        if let Some(cursor) = peer
            .session
            .cursor
            .filter(|_| std::mem::take(&mut peer.session.ack_due))
        {
            peer.send_text(|out| {
                encode_request(
                    &Request {
                        id: None,
                        command: Command::Ack(cursor),
                    },
                    out,
                )
            });
        }
    }

    fn handle_loss(&mut self, session: &mut Session, _: &mut Traffic, ending: &Ending, now: Ns) -> Next {
        session.start_over();
        if matches!(ending, Ending::Closed { code, .. } if !may_reconnect(*code)) {
            return Next::GiveUp;
        }
        let (after_ms, jitter_ms) = session.advice.take().unwrap_or_else(|| {
            let doubled = RECONNECT_MS << session.losses_in_a_row.min(RECONNECT_DOUBLINGS_MAX);
            (doubled / 2, doubled)
        });
        session.losses_in_a_row += 1;
        let wait_ms = u64::from(after_ms) + self.random.below(u64::from(jitter_ms) + 1);
        Next::ReconnectAt(now + Duration::from_millis(wait_ms))
    }

    fn handle_tick(&mut self, clients: &mut Clients<Session>, phase: Phase, now: Ns) {
        self.phase = phase;
        match phase {
            Phase::Ramp => {}
            Phase::Run => {
                self.send_due(clients, now);
                self.retry_due(clients, now);
            }
            Phase::Grace | Phase::Finish => {
                let missed = self.schedule.abandon(Ns(now.since(self.talk.course.start())));
                clients.traffic().scheduled += missed;
                clients.traffic().missed_late += missed;
                self.retry_due(clients, now);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Ns> {
        let retry = self.retries.peek().map(|Reverse((at, ..))| *at);
        let send = self
            .schedule
            .peek()
            .filter(|_| self.phase == Phase::Run)
            .map(|due| self.absolute(due.intended));
        [retry, send].into_iter().flatten().min()
    }

    fn is_exhausted(&self) -> bool {
        self.schedule.peek().is_none()
    }

    fn handle_finish(&mut self, clients: &Clients<Session>) {
        self.live_at_end = (0..clients.len()).map(|client| clients.is_live(client)).collect();
    }

    fn finish(self, clients: Clients<Session>) -> Outcome {
        let pending = clients.into_sessions().flat_map(|session| session.pending);
        let unknown = pending.map(|pending| (pending.pair, pending.number)).collect();
        Outcome {
            ledger: self.ledger,
            unknown,
            live: self.live_at_end,
        }
    }
}

impl Chat {
    /// Returns the population of a block of clients.
    pub(super) fn new(talk: Arc<Talk>, clients: &Range<u32>, schedule: Schedule, seed: u64) -> Self {
        let ledger = Ledger::new(Arc::clone(&talk.plan), clients, talk.run, talk.login.user_base);
        Self {
            talk,
            first: clients.start,
            schedule,
            ledger,
            phase: Phase::Ramp,
            retries: BinaryHeap::new(),
            random: Random::for_purpose(seed, PURPOSE_RECONNECT + u64::from(clients.start)),
            content: Vec::new(),
            live_at_end: Vec::new(),
        }
    }

    // Sending.

    fn send_due(&mut self, clients: &mut Clients<Session>, now: Ns) {
        for _ in 0..SENDS_PER_TICK {
            let Some(due) = self
                .schedule
                .peek()
                .filter(|due| self.absolute(due.intended) <= now)
            else {
                return;
            };
            self.schedule.advance();
            clients.traffic().scheduled += 1;
            let Some(pair) = self.talk.plan.pair(due.pair) else {
                continue;
            };
            match clients.live(pair.sender - self.first) {
                None => clients.traffic().missed_offline += 1,
                Some(peer) if self.is_full(&peer) => clients.traffic().missed_in_flight_full += 1,
                Some(mut peer) => self.send(&mut peer, due),
            }
        }
    }

    fn is_full(&self, peer: &Peer<'_, Session>) -> bool {
        peer.session.pending.len() >= self.talk.in_flight_max || peer.backlog_bytes() > BACKLOG_BYTES_MAX
    }

    fn send(&mut self, peer: &mut Peer<'_, Session>, due: Due) {
        let written = self.talk.clock.now();
        let pending = Pending {
            request: peer.session.next_request,
            pair: due.pair,
            number: self.ledger.outgoing(due.pair).issue(),
            retries: 0,
            retry_at: Ns::NEVER,
            intended: due.intended,
            written,
            unix: self.talk.clock.unix(written),
        };
        peer.session.next_request = peer.session.next_request.wrapping_add(1);
        peer.session.pending.push_back(pending);
        peer.traffic().sent += 1;
        peer.traffic().in_flight += 1;
        if self.is_measured(due.intended) {
            peer.recorder()
                .record(Series::Slip, written.since(self.absolute(due.intended)));
        }
        self.write(peer, &pending);
    }

    fn write(&mut self, peer: &mut Peer<'_, Session>, pending: &Pending) {
        self.content.clear();
        pending
            .identity(self.talk.run)
            .write(self.talk.payload_bytes, &mut self.content);
        let Some((pair, content)) = self
            .talk
            .plan
            .pair(pending.pair)
            .zip(std::str::from_utf8(&self.content).ok())
        else {
            return;
        };
        let body = Body {
            content: Content::Text(content),
            media_url: None,
            kind: None,
        };
        let send = Send {
            message_id: Some(pending.message_id(self.talk.run)),
            to: Target::Direct(self.talk.login.user(pair.receiver)),
            body: SendBody::Borrowed(body),
        };
        let request = Request {
            id: Some(pending.request),
            command: Command::Send(send),
        };
        peer.send_text(|out| encode_request(&request, out));
    }

    fn retry_due(&mut self, clients: &mut Clients<Session>, now: Ns) {
        while let Some(Reverse((at, client, request))) = self.retries.peek().copied() {
            if at > now {
                return;
            }
            self.retries.pop();
            // A client that is away repeats everything when it is back.
            let Some(mut peer) = clients.live(client) else {
                continue;
            };
            let place = peer.session.position(Some(request));
            if let Some(place) = place.filter(|place| peer.session.pending[*place].retry_at == at) {
                self.retry(&mut peer, place);
            }
        }
    }

    fn retry(&mut self, peer: &mut Peer<'_, Session>, place: usize) {
        let pending = &mut peer.session.pending[place];
        pending.retries = pending.retries.saturating_add(1);
        pending.retry_at = Ns::NEVER;
        let pending = *pending;
        self.ledger.outgoing(pending.pair).retry();
        peer.traffic().retried += 1;
        self.write(peer, &pending);
    }

    // What the target says.

    fn handle_event(&mut self, peer: &mut Peer<'_, Session>, event: Event<'_>, now: Ns) {
        match event {
            Event::Welcome(_) => {
                peer.session.welcomed = true;
                peer.reach_welcome(now);
            }
            Event::Synced(_) => self.handle_synced(peer, now),
            Event::Sent(sent) => self.handle_sent(peer, &sent, now),
            Event::Rejected(rejected) => self.handle_rejected(peer, &rejected, now),
            Event::Message(entry) => self.handle_entry(peer, &entry, now),
            Event::Resync { .. } => peer.count_error("resync"),
            Event::Reconnect {
                after_ms, jitter_ms, ..
            } => peer.session.advice = Some((after_ms, jitter_ms)),
            Event::Error(failure) if !peer.session.welcomed => peer.abandon(Ending::Refused(failure.code)),
            Event::Error(failure) => peer.count_error(failure.code.name()),
            Event::StatusUpdate(_) | Event::History(_) | Event::Conversations(_) | Event::Pong { .. } => {}
        }
    }

    fn handle_synced(&mut self, peer: &mut Peer<'_, Session>, now: Ns) {
        peer.session.losses_in_a_row = 0;
        peer.become_live(now);
        // Their outcome is unknown: the same ids again, in order, before anything new.
        for at in 0..peer.session.pending.len() {
            self.retry(peer, at);
        }
    }

    fn handle_sent(&mut self, peer: &mut Peer<'_, Session>, sent: &Sent, now: Ns) {
        let Some(pending) = peer.session.take(sent.id) else {
            return peer.count_error("unexpected_sent");
        };
        self.ledger
            .outgoing(pending.pair)
            .accept(pending.number, sent.seq);
        peer.traffic().accepted += 1;
        peer.traffic().in_flight -= 1;
        if self.is_measured(pending.intended) {
            peer.recorder()
                .record(Series::Ack, now.since(self.absolute(pending.intended)));
            if pending.retries == 0 {
                peer.recorder()
                    .record(Series::Service, now.since(pending.written));
            }
        }
    }

    fn handle_rejected(&mut self, peer: &mut Peer<'_, Session>, rejected: &Rejected<'_>, now: Ns) {
        let Some(at) = peer.session.position(rejected.id) else {
            return peer.count_error("unexpected_rejected");
        };
        let pending = peer.session.pending[at];
        if rejected.code == Code::Unavailable {
            let asked = Duration::from_millis(rejected.retry_after_ms.unwrap_or(0).into());
            let backoff = RETRY_AFTER * (1 << pending.retries.min(RETRY_DOUBLINGS_MAX));
            let retry_at = now + asked.max(backoff);
            peer.session.pending[at].retry_at = retry_at;
            self.retries
                .push(Reverse((retry_at, peer.index, pending.request)));
            return;
        }
        peer.session.pending.remove(at);
        self.ledger.outgoing(pending.pair).refuse(pending.number);
        peer.count_error(rejected.code.name());
        peer.traffic().refused += 1;
        peer.traffic().in_flight -= 1;
    }

    fn handle_entry(&mut self, peer: &mut Peer<'_, Session>, entry: &ShownMessage<'_>, now: Ns) {
        let content = match entry.message.body.content {
            Content::Text(text) => Some(text),
            Content::Ciphertext(_) => None,
        };
        let received = Received {
            content,
            sender: entry.message.sender,
            conversation: entry.message.conversation,
            seq: entry.message.seq,
        };
        let taken = self.ledger.receive(peer.number, &received, peer.session.resumed);
        let session = &mut *peer.session;
        if let Some(cursor) = entry.cursor {
            if matches!(taken, Taken::InOrder(_)) && session.cursor_here.is_some_and(|last| cursor <= last) {
                self.ledger.note_cursor_regression();
            }
            session.cursor_here = Some(cursor);
            session.cursor = session.cursor.max(Some(cursor));
            session.ack_due = true;
        }
        if let Taken::InOrder(identity) | Taken::Late(identity) = taken {
            peer.traffic().delivered += 1;
            if self.is_measured(identity.intended) {
                peer.recorder()
                    .record(Series::Delivery, now.since(self.absolute(identity.intended)));
            }
        }
    }

    fn is_measured(&self, intended: Ns) -> bool {
        self.talk.measured.contains(&intended)
    }

    /// Returns when something intended at a distance from the start of the schedule is due.
    fn absolute(&self, intended: Ns) -> Ns {
        Ns(self.talk.course.start().0.saturating_add(intended.0))
    }
}

/// Sends of one turn, so that what arrives is read in time while the tool catches up.
const SENDS_PER_TICK: u32 = 512;
/// A connection that takes no more than this is left alone; a send is far smaller.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// First wait before a send of unknown outcome is repeated; it doubles each time up to 16 times that.
const RETRY_AFTER: Duration = Duration::from_millis(200);
const RETRY_DOUBLINGS_MAX: u8 = 4;
/// First wait before a reconnect is 50 to 150 ms; it doubles with each loss up to 16 times that.
const RECONNECT_MS: u32 = 100;
const RECONNECT_DOUBLINGS_MAX: u32 = 4;
const PURPOSE_RECONNECT: u64 = 2 << 32;

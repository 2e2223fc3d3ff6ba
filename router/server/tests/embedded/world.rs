//! A router with scripted gateways: records go in as encoded batches, and come out decoded.

use exposition::Value;
use router_core::node::Report;
use router_core::sessions::SessionsConfig;
use router_core::testing::{
    Gateway, START, decode, direct, encode, link_hello, page_texts, send_of, session_open, text_of, user,
};
use router_core::time::Now;
use router_server::config::RouterConfig;
use router_server::embedded::{
    Disks, Fatal, Inline, LogJob, Progress, Router, StartError, StartReport, StoreJob,
};
use router_server::health::Readiness;
use router_server::metrics::Metrics;
use router_storage::disk::SimDisk;
use router_storage::log::SegmentedLog;
use router_storage::store::{KvStore, MemoryKv};
use uuid::Uuid;
use wire_base::code::Code;
use wire_base::ids::{
    ConnectionHandle, ConversationId, DeviceId, MessageId, Offset, Position, Seq, SessionNumber, UserId,
};
use wire_base::status::{Status, StatusCommand, StatusOf};
use wire_link::pipe::{Endpoint, pipe};
use wire_link::{
    AckRecord, ConversationsPageRecord, ConversationsRecord, FailedRecord, FromRouter, HistoryPageRecord,
    HistoryRecord, LinkHello, LinkKind, RejectedRecord, RequestId, SendRecord, SentRecord, SessionOpen,
    SessionOpened, SessionRef, StatusRecord, StatusUpdateRecord, ToRouter,
};

pub(crate) type SimRouter = Router<Mortal<Inline<SegmentedLog<SimDisk>, KvStore<MemoryKv>>>>;

/// Everything outside the router: disk, store, clock, and the other ends of its links.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) kv: MemoryKv,
    pub(crate) config: RouterConfig,
    pub(crate) now: Now,
    router: Option<SimRouter>,
    links: Vec<Option<Endpoint>>,
    /// Who checks what each link says.
    gateways: Vec<Gateway>,
    /// What each link said and no test has looked at.
    heard: Vec<Vec<FromRouter>>,
    next_request: u64,
    next_slot: u32,
    starts: u64,
}

/// Log and store on a machine that can go down.
pub(crate) struct Mortal<B> {
    inner: B,
    disk: SimDisk,
    kv: MemoryKv,
}

/// A link, by its place in [`World`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link(usize);

/// A connected device as its gateway knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) link: Link,
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
    pub(crate) connection: ConnectionHandle,
    pub(crate) session: SessionNumber,
    /// Head of the inbox at hello.
    pub(crate) head: Position,
}

/// A message as a device got it: where in its inbox, where in the conversation, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) position: Position,
    pub(crate) seq: u64,
    pub(crate) text: String,
}

impl<B: Disks> Disks for Mortal<B> {
    fn submit_log(&mut self, job: LogJob) {
        self.inner.submit_log(job);
    }

    fn submit_store(&mut self, job: StoreJob) {
        self.inner.submit_store(job);
    }

    fn poll_done(&mut self) -> Option<Report> {
        self.inner.poll_done()
    }

    fn has_done(&self) -> bool {
        self.inner.has_done()
    }

    fn close(self, complete: Option<Option<Offset>>) {
        self.inner.close(complete);
    }

    fn is_crashed(&self) -> bool {
        self.disk.is_down() || self.kv.is_down()
    }
}

impl World {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// Returns a world whose router runs with changed settings.
    pub(crate) fn with(seed: u64, change: impl FnOnce(&mut RouterConfig)) -> Self {
        let mut config = RouterConfig {
            sends_per_s: Some(0),
            store_gather_ms: 0, // Rows that wait have tests of their own.
            ack_linger_ms: 0,   // Acks that wait have tests of their own.
            ..RouterConfig::default()
        };
        change(&mut config);
        let mut world = Self::down(seed, config);
        world.start().unwrap();
        world
    }

    /// Returns a world with an empty disk and no router.
    pub(crate) fn down(seed: u64, config: RouterConfig) -> Self {
        Self {
            disk: SimDisk::seeded(seed),
            kv: MemoryKv::seeded(seed ^ 0xf1),
            config,
            now: START,
            router: None,
            links: Vec::new(),
            gateways: Vec::new(),
            heard: Vec::new(),
            next_request: 1,
            next_slot: 0,
            starts: 0,
        }
    }

    /// Returns whether the crash came that disk or store was told of.
    pub(crate) fn is_down(&self) -> bool {
        self.disk.is_down() || self.kv.is_down()
    }

    pub(crate) fn start(&mut self) -> Result<StartReport, StartError> {
        self.starts += 1;
        let store = KvStore::open(self.kv.clone(), (self.now.unix.0 / 1000) as u32)?;
        let (router, report) = Router::open(self.disk.clone(), store, &self.config, self.starts, self.now)?;
        let (disk, kv) = (self.disk.clone(), self.kv.clone());
        self.router = Some(router.try_with_disks(|inner| Ok::<_, StartError>(Mortal { inner, disk, kv }))?);
        Ok(report)
    }

    /// Stops the process cleanly.
    pub(crate) fn stop(&mut self) {
        self.router.take().expect("the router is up").close();
        self.kill();
    }

    /// Kills the process: what was written stays, synced or not. Links are gone.
    pub(crate) fn kill(&mut self) {
        self.drop_router();
        self.disk.restart();
        self.kv.restart();
    }

    /// Kills the process and starts it again.
    pub(crate) fn restart(&mut self) -> StartReport {
        self.kill();
        self.start().unwrap()
    }

    /// Cuts the power: disk and store keep of the unsynced what they like.
    pub(crate) fn crash(&mut self) {
        self.drop_router();
        self.disk.crash();
        self.kv.crash();
    }

    fn drop_router(&mut self) {
        self.router = None;
        for link in 0..self.links.len() {
            self.listen(Link(link)); // What was handed over before the end was heard.
            self.links[link] = None;
        }
    }

    pub(crate) fn router(&mut self) -> &mut SimRouter {
        self.router.as_mut().expect("the router is up")
    }

    pub(crate) fn readiness(&mut self) -> Readiness {
        self.router().health().readiness()
    }

    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        let metrics: Metrics = self.router().metrics();
        let sample = metrics
            .samples()
            .into_iter()
            .find(|sample| sample.name == name)
            .expect(name);
        match sample.value {
            Value::Counter(count) => count,
            Value::Gauge(value) => value as u64,
            Value::Seconds(_) | Value::Histogram(_) => panic!("{name} is no single whole number"),
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix.0 += ms;
    }

    /// Lets so much time pass at once, and settles.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.advance(ms);
        self.settle();
    }

    /// Opens a link without saying anything.
    pub(crate) fn silent_link(&mut self) -> Link {
        let (ours, theirs) = pipe(self.config.link_pipe_bytes);
        self.router().add_link(theirs);
        self.links.push(Some(ours));
        let window_bytes_max = SessionsConfig::default().window_bytes_max;
        self.gateways.push(Gateway::new(window_bytes_max));
        self.heard.push(Vec::new());
        Link(self.links.len() - 1)
    }

    /// Opens the link of a gateway worker.
    pub(crate) fn gateway(&mut self) -> Link {
        self.link_of(LinkKind::Gateway)
    }

    pub(crate) fn link_of(&mut self, kind: LinkKind) -> Link {
        let link = self.silent_link();
        let hello = LinkHello {
            worker: link.0 as u16,
            ..link_hello(kind)
        };
        self.say(link, &[ToRouter::Hello(hello)]);
        link
    }

    /// Hands a batch to the router, which sees it at its next tick.
    pub(crate) fn say(&mut self, link: Link, records: &[ToRouter]) {
        let gateway = &mut self.gateways[link.0];
        records.iter().for_each(|record| gateway.said(record));
        self.say_bytes(link, encode(records));
    }

    pub(crate) fn say_bytes(&mut self, link: Link, batch: bytes::Bytes) {
        self.links[link.0]
            .as_ref()
            .expect("the link is open")
            .try_send(batch)
            .expect("the pipe has room");
    }

    pub(crate) fn close_link(&mut self, link: Link) {
        self.links[link.0] = None;
    }

    /// Ticks until log and store have reported what the first tick gave them.
    pub(crate) fn try_tick(&mut self) -> Result<Progress, Fatal> {
        let now = self.now;
        let mut progress = self.router().tick(now);
        while let Ok(Progress {
            is_reported: true, ..
        }) = progress
        {
            progress = self.router().tick(now);
        }
        for link in 0..self.links.len() {
            self.listen(Link(link));
        }
        progress
    }

    /// Ticks once, and leaves what log and store report for the next time.
    pub(crate) fn step(&mut self) -> Progress {
        let now = self.now;
        let progress = self.router().tick(now).unwrap();
        for link in 0..self.links.len() {
            self.listen(Link(link));
        }
        progress
    }

    pub(crate) fn tick(&mut self) -> Progress {
        self.try_tick().unwrap()
    }

    /// Ticks until nothing is left to do without waiting, and the links, which wake the router when they took something,
    /// have nothing more to take.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            let heard = self.records_heard();
            let is_busy = self.tick().is_busy;
            if !is_busy && heard == self.records_heard() {
                return;
            }
        }
        panic!("the router never comes to rest");
    }

    fn records_heard(&self) -> usize {
        self.heard.iter().map(Vec::len).sum()
    }

    /// Settles, then lets acks that linger be logged, and settles again.
    pub(crate) fn settle_acks(&mut self) {
        self.settle();
        self.advance(2 * u64::from(self.config.ack_linger_ms) + 1);
        self.settle();
    }

    fn listen(&mut self, link: Link) {
        let Some(endpoint) = &self.links[link.0] else {
            return;
        };
        while let Ok(Some(batch)) = endpoint.try_recv() {
            for record in decode(batch) {
                self.gateways[link.0].heard(&record);
                self.heard[link.0].push(record);
            }
        }
    }

    /// Returns whether the router closed the link.
    pub(crate) fn is_closed(&self, link: Link) -> bool {
        self.links[link.0]
            .as_ref()
            .is_none_or(|endpoint| endpoint.try_recv().is_err())
    }

    /// Takes everything a link said and nobody looked at.
    pub(crate) fn heard(&mut self, link: Link) -> Vec<FromRouter> {
        std::mem::take(&mut self.heard[link.0])
    }

    /// Takes of what a link said the records that `pick` wants, and leaves the others in their order.
    pub(crate) fn hear<T>(&mut self, link: Link, mut pick: impl FnMut(&FromRouter) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.heard[link.0].retain(|record| match pick(record) {
            Some(it) => {
                picked.push(it);
                false
            }
            None => true,
        });
        picked
    }

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    pub(crate) fn open_record(&mut self, user: UserId, device: u32) -> SessionOpen {
        self.next_slot += 1;
        session_open(self.next_slot, user.get(), device)
    }

    /// Connects device 1 of user 1 to a gateway of its own, and settles.
    pub(crate) fn one(&mut self) -> (Link, Device) {
        let gateway = self.gateway();
        (gateway, self.connect(gateway, user(1), 1))
    }

    /// Connects device 1 of users 1 and 2 to one gateway, and settles.
    pub(crate) fn two(&mut self) -> (Link, Device, Device) {
        let (gateway, first) = self.one();
        (gateway, first, self.connect(gateway, user(2), 1))
    }

    /// Connects a device and settles.
    pub(crate) fn connect(&mut self, link: Link, user: UserId, device: u32) -> Device {
        let open = self.open_record(user, device);
        self.open(link, open).0
    }

    /// Connects device 1 of a user with a window of its own.
    pub(crate) fn connect_with_window(&mut self, link: Link, user: UserId, window: u16) -> Device {
        let open = SessionOpen {
            window,
            ..self.open_record(user, 1)
        };
        self.open(link, open).0
    }

    /// Connects device 1 of a user that has everything up to a position.
    pub(crate) fn resume(&mut self, link: Link, user: UserId, cursor: Position) -> (Device, SessionOpened) {
        let open = SessionOpen {
            cursor: Some(cursor),
            ..self.open_record(user, 1)
        };
        self.open(link, open)
    }

    /// Has a device say hello, which is refused, and returns why.
    pub(crate) fn refused(&mut self, link: Link, user: UserId, device: u32) -> Code {
        let open = self.open_record(user, device);
        self.say(link, &[ToRouter::SessionOpen(open)]);
        self.settle();
        let refused = self.hear(link, |record| match record {
            FromRouter::SessionRefused(refused) => Some((refused.connection, refused.code)),
            _ => None,
        });
        let [(connection, code)] = refused.try_into().expect("one refusal");
        assert_eq!(connection, open.connection);
        code
    }

    /// Connects as an open record says, settles, and returns the answer too.
    pub(crate) fn open(&mut self, link: Link, open: SessionOpen) -> (Device, SessionOpened) {
        self.say(link, &[ToRouter::SessionOpen(open)]);
        self.settle();
        let opened = self.hear(link, |record| match record {
            FromRouter::SessionOpened(opened) if opened.connection == open.connection => Some(opened.clone()),
            _ => None,
        });
        let [opened] = opened.try_into().expect("one answer to an open");
        let device = Device {
            link,
            user: open.user,
            device: open.device,
            connection: open.connection,
            session: opened.session,
            head: opened.cursor,
        };
        (device, opened)
    }

    pub(crate) fn disconnect(&mut self, device: &Device) {
        self.say(device.link, &[ToRouter::SessionClose(device.session_ref())]);
        self.settle();
    }

    pub(crate) fn send_record(
        &mut self,
        from: &Device,
        to: UserId,
        id: Option<MessageId>,
        text: &str,
    ) -> SendRecord {
        let sender = (from.user.get(), from.device);
        send_of(self.request(), sender, to.get(), id, text)
    }

    /// Says a send without an id.
    pub(crate) fn say_send(&mut self, from: &Device, to: UserId, text: &str) -> RequestId {
        let send = self.send_record(from, to, None, text);
        let request = send.request;
        self.say(from.link, &[ToRouter::Send(send)]);
        request
    }

    /// Says sends without ids in one batch.
    pub(crate) fn say_sends<T: ToString>(
        &mut self,
        from: &Device,
        to: UserId,
        texts: impl IntoIterator<Item = T>,
    ) {
        let texts = texts.into_iter();
        let sends: Vec<_> = texts
            .map(|text| ToRouter::Send(self.send_record(from, to, None, &text.to_string())))
            .collect();
        self.say(from.link, &sends);
    }

    /// Sends a message and settles.
    pub(crate) fn send(
        &mut self,
        from: &Device,
        to: UserId,
        text: &str,
    ) -> Result<SentRecord, RejectedRecord> {
        let id = self.new_id();
        self.send_with_id(from, to, id, text)
    }

    pub(crate) fn send_with_id(
        &mut self,
        from: &Device,
        to: UserId,
        id: MessageId,
        text: &str,
    ) -> Result<SentRecord, RejectedRecord> {
        let send = self.send_record(from, to, Some(id), text);
        self.say(from.link, &[ToRouter::Send(send.clone())]);
        self.settle();
        self.outcome(from.link, send.request)
            .expect("every send is answered")
    }

    /// Takes the answer to a send, if it came.
    pub(crate) fn outcome(
        &mut self,
        link: Link,
        request: RequestId,
    ) -> Option<Result<SentRecord, RejectedRecord>> {
        let mut outcomes = self.hear(link, |record| match record {
            FromRouter::Sent(sent) if sent.request == request => Some(Ok(*sent)),
            FromRouter::Rejected(rejected) if rejected.request == request => Some(Err(rejected.clone())),
            _ => None,
        });
        assert!(outcomes.len() <= 1, "a send is answered once: {outcomes:?}");
        outcomes.pop()
    }

    pub(crate) fn new_id(&mut self) -> MessageId {
        let request = self.request().0;
        let random = u128::from(request) << 64 | 7;
        let bytes: [u8; 10] = random.to_le_bytes()[..10].try_into().unwrap();
        let id = uuid::Builder::from_unix_timestamp_millis(self.now.unix.0, &bytes).into_uuid();
        MessageId::new(id).unwrap()
    }

    pub(crate) fn ack(&mut self, device: &Device, position: Position) {
        self.say(device.link, &[ToRouter::Ack(device.ack_record(position))]);
        self.settle_acks();
    }

    /// Takes what a device was sent, in order.
    pub(crate) fn got(&mut self, device: &Device) -> Vec<Got> {
        let connection = device.connection;
        self.hear(device.link, |record| {
            let FromRouter::Deliver(deliver) = record else {
                return None;
            };
            // A record that names several connections is split, so that each test sees its own.
            let position = deliver.to.iter().find(|(to, _)| *to == connection)?.1;
            Some((position, deliver.clone()))
        })
        .into_iter()
        .map(|(position, mut deliver)| {
            let text = text_of(&deliver.message.body);
            let seq = deliver.message.seq.0;
            deliver.to.retain(|(to, _)| *to != connection);
            if !deliver.to.is_empty() {
                self.heard[device.link.0].push(FromRouter::Deliver(deliver));
            }
            Got { position, seq, text }
        })
        .collect()
    }

    /// Takes the texts a device was sent, in order.
    pub(crate) fn texts(&mut self, device: &Device) -> Vec<String> {
        self.got(device).into_iter().map(|got| got.text).collect()
    }

    /// Takes the ends of backlogs a device was told.
    pub(crate) fn synced(&mut self, device: &Device) -> Vec<Position> {
        let connection = device.connection;
        self.hear(device.link, |record| match record {
            FromRouter::Synced(synced) if synced.connection == connection => Some(synced.cursor),
            _ => None,
        })
    }

    /// Takes the status updates of a link.
    pub(crate) fn updates(&mut self, link: Link) -> Vec<StatusUpdateRecord> {
        self.hear(link, |record| match record {
            FromRouter::StatusUpdate(update) => Some(update.clone()),
            _ => None,
        })
    }

    pub(crate) fn status(
        &mut self,
        link: Link,
        user: UserId,
        device: DeviceId,
        status: Status,
        of: StatusOf,
    ) -> Result<(), Code> {
        let request = self.request();
        let command = StatusCommand { status, of };
        let record = StatusRecord {
            request,
            user,
            device,
            command,
        };
        match self.ask(link, request, ToRouter::Status(record)) {
            FromRouter::Done(_) => Ok(()),
            FromRouter::Failed(FailedRecord { code, .. }) => Err(code),
            other => panic!("not an answer to a status: {other:?}"),
        }
    }

    pub(crate) fn history(
        &mut self,
        link: Link,
        user: UserId,
        conversation: ConversationId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<HistoryPageRecord, Code> {
        let request = self.request();
        let record = HistoryRecord {
            request,
            user,
            conversation,
            before: before.map(Seq),
            limit,
        };
        match self.ask(link, request, ToRouter::History(record)) {
            FromRouter::HistoryPage(page) => Ok(page),
            FromRouter::Failed(FailedRecord { code, .. }) => Err(code),
            other => panic!("not an answer to history: {other:?}"),
        }
    }

    /// Returns what users 1 and 2 said to each other, as their history has it.
    pub(crate) fn stored(&mut self, link: Link) -> Vec<(u64, String)> {
        page_texts(&self.history(link, user(1), direct(1, 2), None, 100).unwrap())
    }

    pub(crate) fn conversations(
        &mut self,
        link: Link,
        user: UserId,
        limit: u32,
        before: Option<String>,
    ) -> Result<ConversationsPageRecord, Code> {
        let request = self.request();
        let record = ConversationsRecord {
            request,
            user,
            limit,
            before,
        };
        match self.ask(link, request, ToRouter::Conversations(record)) {
            FromRouter::ConversationsPage(page) => Ok(page),
            FromRouter::Failed(FailedRecord { code, .. }) => Err(code),
            other => panic!("not an answer to conversations: {other:?}"),
        }
    }

    fn ask(&mut self, link: Link, request: RequestId, question: ToRouter) -> FromRouter {
        self.say(link, &[question]);
        self.settle();
        let answers = self.hear(link, |record| {
            let of = match record {
                FromRouter::Done(of) => *of,
                FromRouter::Failed(failed) => failed.request,
                FromRouter::HistoryPage(page) => page.request,
                FromRouter::ConversationsPage(page) => page.request,
                _ => return None,
            };
            (of == request).then(|| record.clone())
        });
        let [answer] = answers.try_into().expect("one answer to a question");
        answer
    }
}

impl Device {
    pub(crate) fn ack_record(&self, position: Position) -> AckRecord {
        AckRecord {
            user: self.user,
            device: self.device,
            session: self.session,
            position,
        }
    }

    pub(crate) fn session_ref(&self) -> SessionRef {
        SessionRef {
            connection: self.connection,
            user: self.user,
            device: self.device,
        }
    }
}

/// The nil of nothing: an id of a conversation that nobody has.
pub(crate) fn unknown_conversation() -> ConversationId {
    ConversationId::new(Uuid::from_u128(0xdead)).unwrap()
}

//! How many messages a second one router thread takes, and what CPU it needs for each:
//! `cargo run --release -p router-server --example commit_rate -- DIRECTORY [SECONDS] [IN_FLIGHT] [fsync|nosync]`
//!
//! One thread plays the gateway: 1,000 connected users in pairs, 64-byte messages, a bounded number in flight, every
//! delivery acked. The router's ticks run on the main thread, whose CPU time is what is reported.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use exposition::Value;
use router_server::config::RouterConfig;
use router_server::embedded::{clocks, open_data_dir};
use wire_base::body::{Body, Content, EncodedBody};
use wire_base::ids::{ConnectionHandle, DeviceId, MessageId, SessionNumber, UserId};
use wire_base::message::{Draft, Target};
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::pipe::{Endpoint, SendError, pipe};
use wire_link::{
    AckRecord, FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord, SessionOpen, ToRouter,
};

const USERS: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(
        arguments
            .next()
            .ok_or("name a directory on the disk to measure")?,
    );
    let seconds: u64 = arguments.next().as_deref().unwrap_or("5").parse()?;
    let in_flight: usize = arguments.next().as_deref().unwrap_or("2000").parse()?;
    let fsync = arguments.next().as_deref() != Some("nosync");
    let config = RouterConfig {
        data_dir: directory,
        fsync,
        sends_per_s: Some(0),
        ..RouterConfig::default()
    };

    let started = Instant::now();
    let (mut router, report) = open_data_dir(config.clone(), clocks(started))?;
    println!("{report}");
    let (ours, theirs) = pipe(config.link_pipe_bytes);
    router.add_link(theirs);
    let main_thread = std::thread::current();
    router.set_waker(&(Arc::new(move || main_thread.unpark()) as _));
    let metrics = router.metrics();

    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let gateway = std::thread::spawn(move || Gateway::new(ours, in_flight).run(&over));
    let cpu_before = thread_cpu_ns()?;
    let mut ticks = 0u64;
    while started.elapsed() < Duration::from_secs(seconds) {
        ticks += 1;
        let progress = router.tick(clocks(started))?;
        if !progress.is_busy {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    let cpu_ns = thread_cpu_ns()? - cpu_before;
    is_over.store(true, Ordering::Release);
    let answered = gateway.join().map_err(|_| "the gateway panicked")?;

    let counts: HashMap<_, _> = metrics
        .samples()
        .into_iter()
        .map(|sample| (sample.name, sample.value))
        .collect();
    let count = |name| match &counts[name] {
        Value::Counter(count) => *count,
        _ => 0,
    };
    let sends = count("router_sends_total");
    println!(
        "{:.0} msg/s; {:.1} us of router CPU a message; {:.1} records a group, {} groups, {ticks} ticks, {} acks",
        sends as f64 / seconds as f64,
        cpu_ns as f64 / 1e3 / sends as f64,
        count("router_records_total") as f64 / count("router_groups_total") as f64,
        count("router_groups_total"),
        count("router_acks_total"),
    );
    println!("{answered} sends answered");
    for line in exposition::openmetrics(metrics.samples())?.lines() {
        if line.starts_with("router_commit_seconds_sum") || line.starts_with("router_commit_seconds_count") {
            println!("{line}");
        }
    }
    Ok(())
}

struct Gateway {
    link: Endpoint,
    batch: BatchWriter,
    body: EncodedBody,
    sessions: HashMap<u32, SessionNumber>,
    in_flight: usize,
    in_flight_max: usize,
    requests: u64,
    answered: u64,
}

impl Gateway {
    fn new(link: Endpoint, in_flight_max: usize) -> Self {
        let text = "x".repeat(64);
        let body = Body {
            content: Content::Text(&text),
            media_url: None,
            kind: None,
        }
        .encode();
        let mut batch = BatchWriter::new();
        batch.push_to_router(&ToRouter::Hello(LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Gateway,
            node: "commit_rate".into(),
            epoch: 1,
            worker: 0,
        }));
        for slot in 0..USERS as u32 {
            batch.push_to_router(&ToRouter::SessionOpen(SessionOpen {
                connection: ConnectionHandle { slot, generation: 1 },
                user: user(slot),
                device: DeviceId::DEFAULT,
                session: None,
                cursor: None,
                forwarded: None,
                window: 256,
            }));
        }
        Self {
            link,
            batch,
            body,
            sessions: HashMap::new(),
            in_flight: 0,
            in_flight_max,
            requests: 0,
            answered: 0,
        }
    }

    fn run(mut self, is_over: &AtomicBool) -> u64 {
        let me = std::thread::current();
        self.link.set_waker(Arc::new(move || me.unpark()));
        while !is_over.load(Ordering::Acquire) {
            let has_heard = self.listen();
            while self.in_flight < self.in_flight_max && !self.batch.is_full() {
                self.send();
            }
            let batch = self.batch.take();
            if let Err(SendError::Full(batch)) = self.link.try_send(batch) {
                // Only this small a test may wait: nothing else is to be done meanwhile.
                self.retry(batch, is_over);
            }
            if !has_heard {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        self.answered
    }

    fn retry(&mut self, mut batch: bytes::Bytes, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Acquire) {
            match self.link.try_send(batch) {
                Err(SendError::Full(again)) => batch = again,
                _ => return,
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn send(&mut self) {
        let sender = (self.requests % USERS) as u32;
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.requests.to_le_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random).into_uuid();
        self.batch.push_to_router(&ToRouter::Send(SendRecord {
            request: RequestId(self.requests),
            message_id: MessageId::new(id),
            draft: Draft {
                sender: user(sender),
                sender_device: DeviceId::DEFAULT,
                target: Target::Direct(user(sender ^ 1)),
                body: self.body.clone(),
            },
        }));
        self.requests += 1;
        self.in_flight += 1;
    }

    fn listen(&mut self) -> bool {
        let mut has_heard = false;
        while let Ok(Some(batch)) = self.link.try_recv() {
            has_heard = true;
            for record in decode_from_router(batch) {
                match record.expect("the router keeps to the layout") {
                    FromRouter::SessionOpened(opened) => {
                        self.sessions.insert(opened.connection.slot, opened.session);
                    }
                    FromRouter::Sent(_) => {
                        self.in_flight -= 1;
                        self.answered += 1;
                    }
                    FromRouter::Deliver(deliver) => {
                        for (connection, position) in deliver.to {
                            self.batch.push_to_router(&ToRouter::Ack(AckRecord {
                                user: user(connection.slot),
                                device: DeviceId::DEFAULT,
                                session: self.sessions[&connection.slot],
                                position,
                            }));
                        }
                    }
                    FromRouter::Rejected(rejected) => panic!("{}", rejected.reason),
                    _ => {}
                }
            }
        }
        has_heard
    }
}

fn user(slot: u32) -> UserId {
    UserId::new(u64::from(slot) + 1).expect("not 0")
}

/// Returns the CPU time of this thread (proc(5), schedstat: nanoseconds on a CPU come first).
fn thread_cpu_ns() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text.split(' ').next().ok_or("schedstat is empty")?.parse()?)
}

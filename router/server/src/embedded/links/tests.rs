//! Ports that count who looks at them.

use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use router_core::fold::Folds;
use router_core::node::{Intention, NodeStart};
use router_core::time::Now;
use wire_base::body::{Body, Content};
use wire_base::ids::{DeviceId, MessageId, Offset, UnixMs, UserId};
use wire_base::message::{Draft, Target};
use wire_link::codec::{BatchWriter, decode_from_router};
use wire_link::port::Closed;
use wire_link::testing::{Faults, FaultyPort, Side, faulty_pipe};
use wire_link::{FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord, ToRouter};

use super::*;
use crate::config::RouterConfig;

/// A port that counts how often somebody looks at it.
struct Counted {
    port: FaultyPort,
    looks: Arc<AtomicUsize>,
}

impl LinkPort for Counted {
    fn set_waker(&mut self, waker: LinkWaker) {
        self.port.set_waker(waker);
    }

    fn try_send(&mut self, batch: Bytes) -> Result<(), SendError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.port.try_send(batch)
    }

    fn try_recv(&mut self) -> Result<Option<Bytes>, Closed> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.port.try_recv()
    }

    fn close(&mut self) {
        self.port.close();
    }
}

/// A node and its links, without disks: what it refuses at once is answered.
struct Rig {
    links: Links<Counted>,
    node: Node,
    looks: Arc<AtomicUsize>,
}

impl Rig {
    fn new() -> Self {
        let config = RouterConfig::default();
        let now = Now {
            mono_ms: 0,
            unix: UnixMs(1_767_225_600_000),
        };
        let start = NodeStart {
            folds: Folds::new(config.folds(), 1, UnixMs(0)),
            generation: 1,
            prune_floor: Offset(0),
            applied: None,
            segments: Vec::new(),
            checkpoints: Vec::new(),
            seed: 1,
        };
        let mut node = Node::new(config.node(), start, now);
        node.begin(now);
        Self {
            links: Links::new(),
            node,
            looks: Arc::default(),
        }
    }

    /// Opens a link and says hello; returns the client's end.
    fn client(&mut self, worker: u16) -> (FaultyPort, Faults) {
        let (mut client, port, faults) = faulty_pipe(64);
        let looks = Arc::clone(&self.looks);
        self.links.add(Counted { port, looks }, &mut self.node);
        let hello = ToRouter::Hello(LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Api,
            node: "test".into(),
            epoch: 1,
            worker,
        });
        say(&mut client, &hello);
        faults.settle();
        (client, faults)
    }

    /// Ticks until nothing is left to do; returns how often a port was looked at.
    fn settle(&mut self) -> usize {
        self.looks.store(0, Ordering::Relaxed);
        let mut is_busy = true;
        while is_busy {
            is_busy = self.links.receive(&mut self.node);
            is_busy |= self.node.advance();
            while let Some(intention) = self.node.poll_intention() {
                if let Intention::CloseLink(link) = intention {
                    self.links.close(link);
                }
            }
            self.links.send(&mut self.node);
        }
        self.looks.swap(0, Ordering::Relaxed)
    }
}

fn say(client: &mut FaultyPort, record: &ToRouter) {
    let mut batch = BatchWriter::new();
    batch.push_to_router(record);
    client.try_send(batch.take()).unwrap();
}

/// Asks for something that is refused at once: an id out of the future.
fn ask(client: &mut FaultyPort, request: u64) {
    let user = |id| UserId::new(id).unwrap();
    let body = Body {
        content: Content::Text("x"),
        media_url: None,
        kind: None,
    };
    let send = SendRecord {
        request: RequestId(request),
        message_id: MessageId::new(uuid::Uuid::from_u128(0xffff_ffff_ffff_7000_8000_0000_0000_0001)),
        draft: Draft {
            sender: user(1),
            sender_device: DeviceId::API,
            target: Target::Direct(user(2)),
            body: body.encode(),
        },
    };
    say(client, &ToRouter::Send(send));
}

fn answers(client: &mut FaultyPort) -> Vec<u64> {
    let batches = std::iter::from_fn(|| client.try_recv().unwrap());
    let answer = |record| match record {
        Ok(FromRouter::Rejected(rejected)) => rejected.request.0,
        other => panic!("{other:?}"),
    };
    batches.flat_map(decode_from_router).map(answer).collect()
}

#[test]
fn a_tick_looks_only_at_links_that_have_something() {
    let mut rig = Rig::new();
    let mut clients: Vec<_> = (0..100).map(|worker| rig.client(worker)).collect();
    rig.settle();
    assert_eq!(rig.settle(), 0, "nobody has anything");
    let (client, faults) = &mut clients[40];
    ask(client, 7);
    faults.settle();
    // The batch, that there is no other, and the answer.
    assert_eq!(rig.settle(), 3);
    faults.settle();
    assert_eq!(answers(client), [7]);
    // One that ends is looked at once more, and another may have its place.
    drop(clients.remove(40));
    clients.iter().for_each(|(_, faults)| faults.settle());
    rig.settle();
    let (mut client, faults) = rig.client(200);
    rig.settle();
    ask(&mut client, 8);
    faults.settle();
    rig.settle();
    faults.settle();
    assert_eq!(answers(&mut client), [8]);
}

#[test]
fn what_a_link_refuses_goes_when_it_calls() {
    let mut rig = Rig::new();
    let (mut client, faults) = rig.client(0);
    rig.settle();
    faults.refuse(Side::Right, 2);
    ask(&mut client, 1);
    for refused in [true, true, false] {
        faults.settle();
        assert_ne!(rig.settle(), 0, "it called");
        assert_eq!(rig.settle(), 0, "nothing is tried before it calls");
        faults.settle();
        assert_eq!(answers(&mut client).is_empty(), refused);
    }
}

//! The driver's ends of the links: batches between their ports and the node.
//!
//! A tick looks only at links that called since the last one, that the node would not read then, or that the node has
//! something for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;
use router_core::node::Node;
use wire_link::port::{LinkPort, LinkWaker, SendError};
use wire_link::{LinkId, LinkTable};

/// All links that are up.
pub(super) struct Links<P> {
    links: LinkTable<Link<P>>,
    /// Links that may have a batch; each has `is_readable`.
    readable: Vec<LinkId>,
    calls: Arc<Calls>,
}

struct Link<P> {
    port: P,
    bell: Arc<Bell>,
    /// Stands in `readable`.
    is_readable: bool,
}

/// Who called. Shape: each link at most once.
#[derive(Default)]
struct Calls {
    rung: SegQueue<LinkId>,
    /// Wakes the thread of the router.
    thread: OnceLock<LinkWaker>,
}

/// What a port calls when it has something, or room.
struct Bell {
    link: LinkId,
    /// Stands in [`Calls::rung`], or was taken out and not looked after yet.
    is_rung: AtomicBool,
    calls: Arc<Calls>,
}

impl Bell {
    fn ring(&self) {
        // Whoever rang it first has woken the thread, which will look at the port after it has lifted the mark.
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.calls.rung.push(self.link);
            if let Some(thread) = self.calls.thread.get() {
                thread();
            }
        }
    }
}

/// Whether a link has more for the node.
enum Read {
    /// No: it calls when it has.
    Nothing,
    /// Perhaps, but the node wants none now.
    NotNow,
    /// It is over.
    Over,
}

impl<P: LinkPort> Links<P> {
    pub(super) fn new() -> Self {
        Self {
            links: LinkTable::new(),
            readable: Vec::new(),
            calls: Arc::default(),
        }
    }

    pub(super) fn add(&mut self, mut port: P, node: &mut Node) {
        let link = self.links.next_id();
        let bell = Arc::new(Bell {
            link,
            is_rung: AtomicBool::new(false),
            calls: Arc::clone(&self.calls),
        });
        let rung = Arc::clone(&bell);
        // Called at once, for whatever came before.
        port.set_waker(Arc::new(move || rung.ring()));
        let is_readable = false;
        self.links.insert(Link {
            port,
            bell,
            is_readable,
        });
        node.handle_link_up(link);
    }

    pub(super) fn close(&mut self, id: LinkId) {
        self.links.remove(id);
    }

    /// Sets what wakes the thread of the router, and calls it once.
    pub(super) fn set_waker(&self, waker: &LinkWaker) {
        let first = self.calls.thread.set(Arc::clone(waker)).is_ok();
        assert!(first, "a router has one thread for its life");
        waker();
    }

    /// Gives the node what the links brought, as far as it wants it. Returns whether there was any.
    pub(super) fn receive(&mut self, node: &mut Node) -> bool {
        self.answer_calls(node);
        let mut is_any = false;
        for id in std::mem::take(&mut self.readable) {
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            let read = link.read(id, node, &mut is_any);
            link.is_readable = matches!(read, Read::NotNow);
            match read {
                Read::Nothing => {}
                Read::NotNow => self.readable.push(id),
                Read::Over => node.handle_link_down(id),
            }
        }
        is_any
    }

    /// Gives the links what the node has for them, as far as they have room.
    pub(super) fn send(&mut self, node: &mut Node) {
        while let Some(id) = node.poll_link() {
            while let Some(batch) = node.poll_batch(id) {
                let sent = match self.links.get_mut(id) {
                    Some(link) => link.port.try_send(batch),
                    None => Err(SendError::Closed(batch)),
                };
                match sent {
                    Ok(()) => {}
                    Err(SendError::Full(batch)) => node.handle_refused(id, batch),
                    Err(SendError::Closed(_)) => node.handle_link_down(id),
                }
            }
        }
    }

    fn answer_calls(&mut self, node: &mut Node) {
        while let Some(id) = self.calls.rung.pop() {
            let Some(link) = self.links.get_mut(id) else {
                continue;
            };
            // Lifted before the look: who rings behind it is heard at the next tick.
            link.bell.is_rung.swap(false, Ordering::AcqRel);
            node.handle_link_room(id); // A call does not say what for; trying is as cheap as asking.
            if !std::mem::replace(&mut link.is_readable, true) {
                self.readable.push(id);
            }
        }
    }
}

impl<P: LinkPort> Link<P> {
    fn read(&mut self, id: LinkId, node: &mut Node, is_any: &mut bool) -> Read {
        while node.wants_batch(id) {
            match self.port.try_recv() {
                Ok(Some(batch)) => {
                    *is_any = true;
                    node.handle_batch(id, batch);
                }
                Ok(None) => return Read::Nothing,
                Err(_) => return Read::Over,
            }
        }
        Read::NotNow
    }
}

#[cfg(test)]
mod tests {
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
}

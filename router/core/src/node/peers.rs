//! Which process stands behind a link, so that an earlier one of the same name has no say any more.

use std::collections::BTreeMap;

use wire_link::{LinkHello, LinkId};

/// The processes that said hello, by kind, name and worker.
///
/// Shape: those with a link, and at most [`GONE_MAX`] without.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<(u8, String, u16), Peer>,
}

#[derive(Debug)]
struct Peer {
    epoch: u64,
    /// `None` once it is over.
    link: Option<LinkId>,
}

/// What a hello leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// The link stands.
    Welcome,
    /// It stands in place of this one, whose end nobody has noticed yet.
    Successor(LinkId),
    /// It is over: a later process of that name has said hello.
    Outlived,
}

impl Peers {
    /// Judges a hello, and remembers it unless it is outlived.
    pub(super) fn greet(&mut self, link: LinkId, hello: &LinkHello) -> Greeting {
        let name = (hello.kind as u8, hello.node.clone(), hello.worker);
        let peer = Peer {
            epoch: hello.epoch,
            link: Some(link),
        };
        let before = match self.known.get_mut(&name) {
            Some(known) if hello.epoch < known.epoch => return Greeting::Outlived,
            Some(known) => std::mem::replace(known, peer).link,
            None => {
                self.known.insert(name, peer);
                None
            }
        };
        before.map_or(Greeting::Welcome, Greeting::Successor)
    }

    /// Notes that a link is over. What stood behind it is still known.
    pub(super) fn remove(&mut self, link: LinkId) {
        if let Some(peer) = self.known.values_mut().find(|peer| peer.link == Some(link)) {
            peer.link = None;
            self.forget_surplus();
        }
    }

    /// Forgets the process that started first of those without a link, if they are too many.
    fn forget_surplus(&mut self) {
        let gone = || self.known.iter().filter(|(_, peer)| peer.link.is_none());
        if gone().count() > GONE_MAX
            && let Some((name, _)) = gone().min_by_key(|(_, peer)| peer.epoch)
        {
            let name = name.clone();
            self.known.remove(&name);
        }
    }
}

/// Processes that are remembered although they have no link, about 100 bytes each.
const GONE_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use wire_link::{LINK_VERSION, LinkKind};

    use super::*;

    const fn link(slot: u16) -> LinkId {
        LinkId { slot, generation: 1 }
    }

    fn hello(node: &str, worker: u16, epoch: u64) -> LinkHello {
        LinkHello {
            version: LINK_VERSION,
            kind: LinkKind::Gateway,
            node: node.into(),
            epoch,
            worker,
        }
    }

    #[test]
    fn a_later_hello_of_a_name_takes_over_and_an_earlier_process_is_refused() {
        let mut peers = Peers::default();
        assert_eq!(peers.greet(link(1), &hello("a", 0, 5)), Greeting::Welcome);
        assert_eq!(peers.greet(link(2), &hello("a", 1, 5)), Greeting::Welcome);
        assert_eq!(peers.greet(link(3), &hello("b", 0, 1)), Greeting::Welcome);
        assert_eq!(peers.greet(link(4), &hello("a", 0, 4)), Greeting::Outlived);
        assert_eq!(
            peers.greet(link(5), &hello("a", 0, 5)),
            Greeting::Successor(link(1))
        );
        peers.remove(link(1));
        assert_eq!(
            peers.greet(link(6), &hello("a", 0, 6)),
            Greeting::Successor(link(5))
        );
        peers.remove(link(6));
        assert_eq!(peers.greet(link(7), &hello("a", 0, 5)), Greeting::Outlived);
        assert_eq!(peers.greet(link(8), &hello("a", 0, 6)), Greeting::Welcome);
    }

    #[test]
    fn processes_without_a_link_are_remembered_in_bounded_number() {
        let mut peers = Peers::default();
        peers.greet(link(0), &hello("stays", 0, 0));
        for n in 1..=GONE_MAX as u16 + 10 {
            peers.greet(link(n), &hello(&format!("pod {n}"), 0, u64::from(n)));
            peers.remove(link(n));
        }
        assert_eq!(peers.known.len(), GONE_MAX + 1);
        assert_eq!(
            peers.greet(link(9), &hello("stays", 0, 1)),
            Greeting::Successor(link(0))
        );
    }
}

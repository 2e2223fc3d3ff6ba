//! Who writes to whom, fixed before the run and the same for every run of one seed.
//!
//! A pair is one direction, sender to receiver; its id is what a message carries. Pairs are ordered by sender, and
//! every pair also has a place in the order of receivers, so that a worker keeps both halves of its clients' ledger in
//! plain arrays. A client is an index from 0; its user is `user_base + index`.

use std::ops::Range;

use wire_base::random::Random;

/// How partners are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Pairing {
    /// Couples drawn at random, writing to each other (of an odd number, three write in a circle).
    Random,
    /// Each client writes to the next, the last to the first.
    Ring,
}

impl Pairing {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Ring => "ring",
        }
    }
}

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
}

/// All pairs of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Ordered by sender.
    pairs: Vec<Pair>,
    /// Pair id -> place in the order of receivers.
    incoming: Vec<u32>,
    /// Client -> its first pair, with one entry more at the end.
    first_outgoing: Vec<u32>,
    /// Client -> its first place in the order of receivers, with one entry more at the end.
    first_incoming: Vec<u32>,
}

impl Plan {
    /// Returns the plan of `clients` (at least 2).
    pub(crate) fn new(clients: u32, pairing: Pairing, seed: u64) -> Self {
        let mut pairs = match pairing {
            Pairing::Random => couples(clients, &mut Random::for_purpose(seed, PURPOSE_PAIRS)),
            Pairing::Ring => (0..clients)
                .map(|sender| Pair {
                    sender,
                    receiver: (sender + 1) % clients,
                })
                .collect(),
        };
        pairs.sort_unstable_by_key(|pair| (pair.sender, pair.receiver));
        Self::from_sorted(clients, pairs)
    }

    fn from_sorted(clients: u32, pairs: Vec<Pair>) -> Self {
        let first_outgoing = first_places(clients, pairs.iter().map(|pair| pair.sender));
        let first_incoming = first_places(clients, pairs.iter().map(|pair| pair.receiver));
        let mut next = first_incoming.clone();
        let incoming = pairs
            .iter()
            .map(|pair| {
                let place = &mut next[pair.receiver as usize];
                *place += 1;
                *place - 1
            })
            .collect();
        Self {
            pairs,
            incoming,
            first_outgoing,
            first_incoming,
        }
    }

    /// Returns the pair of an id that came over the wire.
    pub(crate) fn pair(&self, id: u32) -> Option<Pair> {
        self.pairs.get(id as usize).copied()
    }

    /// Returns the pairs, ordered by sender; the index is the id.
    pub(crate) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Returns the place of a pair (of this plan) in the order of receivers.
    pub(crate) fn incoming_place(&self, id: u32) -> u32 {
        self.incoming[id as usize]
    }

    /// Returns the ids of the pairs whose senders are `clients`.
    pub(crate) fn outgoing_of(&self, clients: &Range<u32>) -> Range<u32> {
        self.first_outgoing[clients.start as usize]..self.first_outgoing[clients.end as usize]
    }

    /// Returns the places of the pairs whose receivers are `clients`.
    pub(crate) fn incoming_of(&self, clients: &Range<u32>) -> Range<u32> {
        self.first_incoming[clients.start as usize]..self.first_incoming[clients.end as usize]
    }
}

/// Returns the clients of one of `workers` workers: blocks of equal size, give or take one.
pub(crate) fn block(clients: u32, workers: u32, worker: u32) -> Range<u32> {
    let edge = |worker: u32| (u64::from(clients) * u64::from(worker) / u64::from(workers)) as u32;
    edge(worker)..edge(worker + 1)
}

fn couples(clients: u32, random: &mut Random) -> Vec<Pair> {
    let order = random.permutation(clients);
    let circle_from = if clients % 2 == 1 {
        order.len() - 3.min(order.len())
    } else {
        order.len()
    };
    let (even, circle) = order.split_at(circle_from);
    let both_ways = even.chunks_exact(2).flat_map(|couple| {
        [(couple[0], couple[1]), (couple[1], couple[0])].map(|(sender, receiver)| Pair { sender, receiver })
    });
    let around = circle.iter().zip(circle.iter().cycle().skip(1));
    both_ways
        .chain(around.map(|(sender, receiver)| Pair {
            sender: *sender,
            receiver: *receiver,
        }))
        .collect()
}

/// Returns for each client how many of `owners` are below it.
fn first_places(clients: u32, owners: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut first = vec![0; clients as usize + 1];
    for owner in owners {
        first[owner as usize + 1] += 1;
    }
    for client in 1..first.len() {
        first[client] += first[client - 1];
    }
    first
}

const PURPOSE_PAIRS: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let plan = |seed| Plan::new(101, Pairing::Random, seed).pairs;
        assert_eq!(plan(5), plan(5));
        assert_ne!(plan(5), plan(6));
    }

    #[test]
    fn every_client_writes_to_one_other_and_hears_from_one_other() {
        for pairing in [Pairing::Random, Pairing::Ring] {
            for clients in [2, 3, 4, 5, 100, 101] {
                let plan = Plan::new(clients, pairing, 9);
                let mut receivers: Vec<u32> = plan.pairs.iter().map(|pair| pair.receiver).collect();
                receivers.sort_unstable();
                assert_eq!(
                    receivers,
                    (0..clients).collect::<Vec<_>>(),
                    "{pairing:?} {clients}"
                );
                assert!(plan.pairs.iter().all(|pair| pair.sender != pair.receiver));
                assert!(
                    plan.pairs
                        .iter()
                        .zip(0..)
                        .all(|(pair, client)| pair.sender == client)
                );
            }
        }
    }

    #[test]
    fn random_couples_write_to_each_other() {
        let plan = Plan::new(100, Pairing::Random, 3);
        for pair in plan.pairs() {
            let back = plan.pairs()[pair.receiver as usize];
            assert_eq!((back.sender, back.receiver), (pair.receiver, pair.sender));
        }
    }

    #[test]
    fn blocks_cover_all_clients_and_the_places_of_their_pairs() {
        let plan = Plan::new(37, Pairing::Random, 11);
        let mut places: Vec<u32> = Vec::new();
        let mut ids: Vec<u32> = Vec::new();
        for worker in 0..5 {
            let clients = block(37, 5, worker);
            ids.extend(plan.outgoing_of(&clients));
            let incoming = plan.incoming_of(&clients);
            for (id, pair) in plan.pairs().iter().enumerate() {
                let inside = incoming.contains(&plan.incoming_place(id as u32));
                assert_eq!(inside, clients.contains(&pair.receiver));
            }
            places.extend(incoming);
        }
        assert_eq!(ids, (0..37).collect::<Vec<_>>());
        assert_eq!(places, (0..37).collect::<Vec<_>>());
    }
}

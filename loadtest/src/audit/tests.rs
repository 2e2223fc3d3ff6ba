//! A stream of deliveries is simulated, faults are put into it, and the checker must find them: all of them, and no
//! others.

use proptest::prelude::*;

use super::*;
use crate::clock::Ns;
use crate::plan::{Pairing, block};

const RUN: u32 = 0x5eed;
const USER_BASE: u64 = 100;
const CLIENTS: u32 = 8;
const WORKERS: u32 = 2;

/// One delivery on its way: pair, number, seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flight {
    pair: u32,
    number: u32,
    seq: u64,
}

/// A target that gives seqs, and two workers' ledgers around it.
struct World {
    plan: Arc<Plan>,
    ledgers: Vec<Ledger>,
    /// Per pair: the next seq of its conversation is kept at the lower pair id.
    next_seq: Vec<u64>,
    unknown: Vec<(u32, u32)>,
}

impl World {
    fn new(pairing: Pairing) -> Self {
        let plan = Arc::new(Plan::new(CLIENTS, pairing, 1));
        let ledgers = (0..WORKERS)
            .map(|worker| {
                Ledger::new(
                    Arc::clone(&plan),
                    &block(CLIENTS, WORKERS, worker),
                    RUN,
                    USER_BASE,
                )
            })
            .collect();
        Self {
            next_seq: vec![0; plan.pairs().len()],
            plan,
            ledgers,
            unknown: Vec::new(),
        }
    }

    fn worker_of(client: u32) -> usize {
        (0..WORKERS)
            .position(|worker| block(CLIENTS, WORKERS, worker).contains(&client))
            .unwrap()
    }

    fn outgoing(&mut self, pair: u32) -> &mut Outgoing {
        let sender = self.plan.pairs()[pair as usize].sender;
        self.ledgers[Self::worker_of(sender)].outgoing(pair)
    }

    fn issue(&mut self, pair: u32) -> u32 {
        self.outgoing(pair).issue()
    }

    fn give_seq(&mut self, pair: u32) -> u64 {
        let members = self.plan.pairs()[pair as usize];
        let back = self
            .plan
            .pairs()
            .iter()
            .position(|p| (p.receiver, p.sender) == (members.sender, members.receiver));
        let place = back.map_or(pair, |back| pair.min(back as u32));
        self.next_seq[place as usize] += 1;
        self.next_seq[place as usize]
    }

    /// Sends and gets `sent`; the delivery is still to come.
    fn send(&mut self, pair: u32) -> Flight {
        let number = self.issue(pair);
        let seq = self.give_seq(pair);
        self.outgoing(pair).accept(number, Seq(seq));
        Flight { pair, number, seq }
    }

    fn refuse(&mut self, pair: u32) -> u32 {
        let number = self.issue(pair);
        self.outgoing(pair).refuse(number);
        number
    }

    fn deliver(&mut self, flight: Flight) {
        self.deliver_to(self.plan.pairs()[flight.pair as usize].receiver, flight, false);
    }

    fn deliver_to(&mut self, receiver: u32, flight: Flight, resumed: bool) {
        let pair = self.plan.pairs()[flight.pair as usize];
        let (sender, to) = (user(USER_BASE, pair.sender), user(USER_BASE, pair.receiver));
        let content = content(flight);
        let conversation = ConversationId::direct(sender, to);
        let message = Received {
            content: Some(&content),
            sender,
            conversation,
            seq: Seq(flight.seq),
        };
        self.ledgers[Self::worker_of(receiver)].receive(receiver, &message, resumed);
    }

    fn deliver_all(&mut self, flights: &[Flight]) {
        for flight in flights {
            self.deliver(*flight);
        }
    }

    fn judge(mut self) -> Audit {
        judge(self.ledgers, &mut self.unknown, |_| true, false)
    }
}

fn content(flight: Flight) -> String {
    let identity = Identity {
        run: RUN,
        pair: flight.pair,
        number: flight.number,
        intended: Ns(0),
    };
    let mut out = Vec::new();
    identity.write(64, &mut out);
    String::from_utf8(out).unwrap()
}

/// What a clean run of all pairs gives.
fn clean(unknown: u64) -> Audit {
    let pairs = u64::from(CLIENTS);
    Audit {
        pairs,
        pairs_judged: pairs,
        conversations_judged: pairs / 2,
        unknown,
        ..Audit::default()
    }
}

/// Sends by the pairs in `order`.
fn stream(world: &mut World, order: &[u32]) -> Vec<Flight> {
    order.iter().map(|pair| world.send(*pair)).collect()
}

/// A stream of every pair, in any interleaving, each pair at least `least` times.
fn any_order(least: usize) -> impl Strategy<Value = Vec<u32>> {
    let every: Vec<u32> = (0..CLIENTS).flat_map(|pair| vec![pair; least]).collect();
    (prop::collection::vec(0..CLIENTS, 0..200), Just(every))
        .prop_map(|(mut order, every)| {
            order.extend(every);
            order
        })
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_clean_stream_passes_in_any_interleaving_of_its_conversations(order in any_order(1), ring in any::<bool>()) {
        let pairing = if ring { Pairing::Ring } else { Pairing::Random };
        let mut world = World::new(pairing);
        let mut flights = stream(&mut world, &order);
        // Deliveries of different pairs overtake each other freely; only a pair's own order is promised.
        flights.sort_by_key(|flight| (flight.number, flight.pair));
        world.deliver_all(&flights);
        let audit = world.judge();
        prop_assert_eq!(audit.defects(false), Vec::<String>::new());
        prop_assert_eq!((audit.pairs_judged, audit.unknown), (8, 0));
    }

    #[test]
    fn lost_messages_are_counted_exactly(order in any_order(2), lose in prop::collection::vec(any::<prop::sample::Index>(), 1..20)) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        let lost: std::collections::BTreeSet<usize> = lose.iter().map(|index| index.index(flights.len())).collect();
        for (at, flight) in flights.iter().enumerate() {
            if !lost.contains(&at) {
                world.deliver(*flight);
            }
        }
        let audit = world.judge();
        prop_assert_eq!(audit.lost, lost.len() as u64);
        prop_assert_eq!((audit.duplicates, audit.reordered, audit.ghosts, audit.mismatched), (0, 0, 0, 0));
        prop_assert!(audit.gaps <= audit.lost);
    }

    #[test]
    fn a_message_under_a_second_seq_is_a_duplicate(order in any_order(2), at in any::<prop::sample::Index>()) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let again = *at.get(&flights);
        let seq = world.give_seq(again.pair);
        world.deliver(Flight { seq, ..again });
        prop_assert_eq!(world.judge(), Audit { duplicates: 1, ..clean(0) });
    }

    #[test]
    fn a_repeat_is_told_apart_by_whether_the_connection_broke(order in any_order(1), at in any::<prop::sample::Index>(), resumed in any::<bool>()) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let again = *at.get(&flights);
        world.deliver_to(world.plan.pairs()[again.pair as usize].receiver, again, resumed);
        let audit = world.judge();
        let repeats = if resumed { Audit { repeats_resumed: 1, ..clean(0) } } else { Audit { repeats_live: 1, ..clean(0) } };
        prop_assert_eq!(&audit, &repeats);
        prop_assert_eq!(audit.defects(false).is_empty(), resumed);
        prop_assert!(audit.defects(true).is_empty());
    }

    #[test]
    fn swapped_deliveries_of_a_pair_are_a_reorder_and_no_loss(order in any_order(2), pair in 0..CLIENTS, first in any::<prop::sample::Index>()) {
        let mut world = World::new(Pairing::Random);
        let mut flights = stream(&mut world, &order);
        let own: Vec<usize> = (0..flights.len()).filter(|at| flights[*at].pair == pair).collect();
        let first = first.index(own.len() - 1);
        flights.swap(own[first], own[first + 1]);
        world.deliver_all(&flights);
        prop_assert_eq!(world.judge(), Audit { reordered: 1, ..clean(0) });
    }

    #[test]
    fn a_target_that_breaks_the_senders_order_is_found(order in any_order(2), pair in 0..CLIENTS) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let (first, second) = (world.issue(pair), world.issue(pair));
        for number in [second, first] {
            let seq = world.give_seq(pair);
            world.outgoing(pair).accept(number, Seq(seq));
            world.deliver(Flight { pair, number, seq });
        }
        prop_assert_eq!(world.judge(), Audit { reordered: 1, ..clean(0) });
    }

    #[test]
    fn a_message_nobody_sent_is_a_ghost(order in any_order(1), pair in 0..CLIENTS, above in 1_u32..2000) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let number = world.outgoing(pair).issued + above;
        let seq = world.give_seq(pair);
        world.deliver(Flight { pair, number, seq });
        prop_assert_eq!(world.judge(), Audit { ghosts: 1, ..clean(0) });
    }

    #[test]
    fn a_message_to_somebody_else_is_a_ghost(order in any_order(1), at in any::<prop::sample::Index>()) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        let astray = *at.get(&flights);
        world.deliver_all(&flights);
        let wrong = (world.plan.pairs()[astray.pair as usize].receiver + 1) % CLIENTS;
        world.deliver_to(wrong, astray, false);
        prop_assert_eq!(world.judge(), Audit { ghosts: 1, ..clean(0) });
    }

    #[test]
    fn refused_messages_may_stay_away_however_many(order in any_order(2), refused in any_order(30)) {
        let mut world = World::new(Pairing::Random);
        let half = order.len() / 2;
        let mut flights = stream(&mut world, &order[..half]);
        for pair in &refused {
            world.refuse(*pair);
            // Accepted sends between the refused ones make every refusal a hole of its own.
            flights.push(world.send(*pair));
        }
        flights.extend(stream(&mut world, &order[half..]));
        world.deliver_all(&flights);
        prop_assert_eq!(world.judge(), clean(0));
    }

    #[test]
    fn a_refused_message_that_arrives_is_a_ghost(order in any_order(2), pair in 0..CLIENTS, holes in 0_usize..150) {
        let mut world = World::new(Pairing::Random);
        let mut flights = stream(&mut world, &order);
        let number = world.refuse(pair);
        let seq = world.give_seq(pair);
        flights.push(Flight { pair, number, seq });
        for _ in 0..holes {
            world.refuse(pair);
            flights.push(world.send(pair));
        }
        world.deliver_all(&flights);
        prop_assert_eq!(world.judge(), Audit { ghosts: 1, ..clean(0) });
    }

    #[test]
    fn an_unknown_outcome_excuses_both_delivery_and_absence(order in any_order(1), pair in 0..CLIENTS, kept in any::<bool>()) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let number = world.issue(pair);
        world.unknown.push((pair, number));
        if kept {
            let seq = world.give_seq(pair);
            world.deliver(Flight { pair, number, seq });
        }
        prop_assert_eq!(world.judge(), clean(1));
    }

    #[test]
    fn a_retried_message_may_arrive_late_and_another_may_not(order in any_order(1), pair in 0..CLIENTS, retried in any::<bool>()) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let late = world.issue(pair);
        let next = world.send(pair);
        world.deliver(next);
        if retried {
            world.outgoing(pair).retry();
        }
        let seq = world.give_seq(pair);
        world.outgoing(pair).accept(late, Seq(seq));
        world.deliver(Flight { pair, number: late, seq });
        let expected = if retried { Audit { late_retries: 1, ..clean(0) } } else { Audit { reordered: 1, ..clean(0) } };
        prop_assert_eq!(world.judge(), expected);
    }

    #[test]
    fn another_seq_than_sent_told_is_a_mismatch(order in any_order(2), pair in 0..CLIENTS) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        let number = world.issue(pair);
        let seq = world.give_seq(pair);
        world.outgoing(pair).accept(number, Seq(seq + 7));
        world.deliver(Flight { pair, number, seq });
        prop_assert_eq!(world.judge(), Audit { mismatched: 1, ..clean(0) });
    }

    #[test]
    fn a_seq_that_no_message_has_is_a_gap(order in any_order(2), pair in 0..CLIENTS, skipped in 1_u64..1_000_000) {
        let mut world = World::new(Pairing::Random);
        let flights = stream(&mut world, &order);
        world.deliver_all(&flights);
        for _ in 0..skipped.min(50) {
            world.give_seq(pair);
        }
        let flight = world.send(pair);
        world.deliver(flight);
        prop_assert_eq!(world.judge(), Audit { gaps: skipped.min(50), ..clean(0) });
    }
}

#[test]
fn a_receiver_that_was_away_at_the_end_is_not_judged() {
    let mut world = World::new(Pairing::Random);
    let flight = world.send(0);
    let away = world.plan.pairs()[flight.pair as usize].receiver;
    let audit = judge(world.ledgers, &mut world.unknown, |client| client != away, false);
    assert_eq!(
        (
            audit.pairs,
            audit.pairs_judged,
            audit.conversations_judged,
            audit.lost
        ),
        (8, 7, 3, 0)
    );
}

#[test]
fn a_run_cut_short_is_not_judged_on_what_may_still_be_under_way() {
    let mut world = World::new(Pairing::Random);
    let members = world.plan.pairs()[0];
    let is_back = |pair: &Pair| (pair.receiver, pair.sender) == (members.sender, members.receiver);
    let back = world.plan.pairs().iter().position(is_back).unwrap() as u32;
    let other = (0..CLIENTS).find(|pair| ![0, back].contains(pair)).unwrap();
    // The second message of both conversations is missing; that of the other one has a later one of its sender behind it.
    for (first, second, third) in [(back, 0, back), (other, other, other)] {
        let [before, _, after] = [first, second, third].map(|pair| world.send(pair));
        world.deliver_all(&[before, after]);
    }
    let audit = judge(world.ledgers, &mut world.unknown, |_| true, true);
    assert_eq!(
        (
            audit.pairs_judged,
            audit.conversations_judged,
            audit.lost,
            audit.gaps
        ),
        (7, 3, 1, 1)
    );
}

#[test]
fn foreign_and_damaged_messages_are_told_apart() {
    let mut world = World::new(Pairing::Random);
    let flight = world.send(0);
    let pair = world.plan.pairs()[0];
    let (sender, to) = (user(USER_BASE, pair.sender), user(USER_BASE, pair.receiver));
    let conversation = ConversationId::direct(sender, to);
    let good = content(flight);
    let damaged = good.replace("quick", "quack");
    assert_ne!(good, damaged);
    let mut other_run = Vec::new();
    Identity {
        run: RUN + 1,
        pair: 0,
        number: flight.number,
        intended: Ns(0),
    }
    .write(64, &mut other_run);
    let other_run = String::from_utf8(other_run).unwrap();
    for content in [None, Some("hello"), Some(&damaged), Some(&other_run), Some(&good)] {
        let message = Received {
            content,
            sender,
            conversation,
            seq: Seq(flight.seq),
        };
        world.ledgers[World::worker_of(pair.receiver)].receive(pair.receiver, &message, false);
    }
    assert_eq!(
        world.judge(),
        Audit {
            foreign: 3,
            damaged: 1,
            ..clean(0)
        }
    );
}

#[test]
fn a_wrong_sender_or_conversation_is_a_ghost() {
    let mut world = World::new(Pairing::Random);
    let flight = world.send(0);
    let pair = world.plan.pairs()[0];
    let (sender, to) = (user(USER_BASE, pair.sender), user(USER_BASE, pair.receiver));
    let right = ConversationId::direct(sender, to);
    let content = content(flight);
    let ledger = &mut world.ledgers[World::worker_of(pair.receiver)];
    let mut receive = |sender, conversation| {
        let message = Received {
            content: Some(&content),
            sender,
            conversation,
            seq: Seq(flight.seq),
        };
        matches!(ledger.receive(pair.receiver, &message, false), Taken::InOrder(_))
    };
    assert!(!receive(sender, ConversationId::direct(sender, user(1, 0))));
    assert!(!receive(to, right));
    assert!(receive(sender, right));
    assert_eq!(
        world.judge(),
        Audit {
            ghosts: 2,
            ..clean(0)
        }
    );
}

#[test]
fn memory_of_a_pair_does_not_grow_with_its_messages() {
    let mut world = World::new(Pairing::Ring);
    for _ in 0..10_000 {
        let flight = world.send(3);
        world.deliver(flight);
    }
    let place = world.plan.incoming_place(3);
    let half = world
        .ledgers
        .iter()
        .find_map(|l| l.incoming.get(place.checked_sub(l.first_incoming)? as usize))
        .unwrap();
    assert!(half.irregular.is_none());
    assert_eq!(half.delivered(), 10_000);
}

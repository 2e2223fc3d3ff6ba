//! The promises of [`crate::port`], each as a test that any port runs: see [`link_contract`](crate::link_contract).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::BATCH_BYTES_MAX;
use crate::port::{Closed, LinkPort, SendError};

/// A link under test.
pub struct Rig<P> {
    /// One end.
    pub left: P,
    /// The other.
    pub right: P,
    /// Lets what is under way arrive; nothing to do for a link that is as fast as a call.
    pub settle: Box<dyn FnMut()>,
}

/// Makes a test of each promise, named after it. `$open` takes a bound in bytes and returns a [`Rig`].
#[macro_export]
macro_rules! link_contract {
    ($open:expr) => {
        $crate::link_contract!(
            $open,
            l1_batches_arrive_whole_once_and_in_order,
            l2_what_was_taken_arrives_unless_the_link_ends,
            l3_a_refused_batch_comes_back_and_was_not_sent,
            l4_credit_is_counted_in_bytes_and_given_back_on_receiving,
            l4_an_empty_direction_takes_the_largest_batch,
            l5_an_end_in_order_lets_arrive_what_was_sent_and_is_for_ever,
            l5_a_dropped_port_ends_the_link,
            l6_a_waker_is_called_when_it_is_set,
            l6_a_receiver_that_found_nothing_is_woken,
            l6_a_refused_sender_is_woken_by_room,
            l6_who_waits_is_woken_by_the_end,
            l6_two_that_sleep_whenever_they_can_pass_everything,
            l7_an_empty_batch_does_not_arrive,
        );
    };
    ($open:expr, $($promise:ident),* $(,)?) => {
        $(#[test]
        fn $promise() {
            $crate::testing::contract::$promise($open);
        })*
    };
}

/// Counts the wake-ups of a side.
pub struct Wakes(Arc<AtomicUsize>);

impl Wakes {
    /// Sets the waker of a port.
    pub fn of(port: &mut impl LinkPort) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        port.set_waker(Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        }));
        Self(count)
    }

    /// Returns whether there were any since the last time.
    pub fn take(&self) -> bool {
        self.0.swap(0, Ordering::SeqCst) > 0
    }
}

#[allow(missing_docs, reason = "each promise says in its name what it is")]
mod promises {
    use super::*;

    pub fn l1_batches_arrive_whole_once_and_in_order<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(1_000);
        for number in 0..5 {
            rig.left.try_send(batch(number, 3)).unwrap();
            rig.right.try_send(batch(number + 100, 7)).unwrap();
        }
        (rig.settle)();
        for number in 0..5 {
            assert_eq!(rig.right.try_recv(), Ok(Some(batch(number, 3))));
            assert_eq!(rig.left.try_recv(), Ok(Some(batch(number + 100, 7))));
        }
        assert_eq!((rig.left.try_recv(), rig.right.try_recv()), (Ok(None), Ok(None)));
    }

    pub fn l2_what_was_taken_arrives_unless_the_link_ends<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(10);
        let (mut sent, mut received) = (0, 0);
        for _ in 0..50 {
            while rig.left.try_send(batch(sent, 4)).is_ok() {
                sent += 1;
            }
            (rig.settle)();
            while let Some(arrived) = rig.right.try_recv().unwrap() {
                assert_eq!(arrived, batch(received, 4));
                received += 1;
            }
        }
        assert!(sent > 50 && received == sent, "{received} of {sent}");
    }

    pub fn l3_a_refused_batch_comes_back_and_was_not_sent<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(10);
        rig.left.try_send(batch(1, 10)).unwrap();
        assert_eq!(rig.left.try_send(batch(2, 5)), Err(SendError::Full(batch(2, 5))));
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Ok(Some(batch(1, 10))));
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Ok(None));
        rig.left.close();
        assert_eq!(
            rig.left.try_send(batch(3, 5)),
            Err(SendError::Closed(batch(3, 5)))
        );
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Err(Closed));
    }

    pub fn l4_credit_is_counted_in_bytes_and_given_back_on_receiving<P: LinkPort>(
        open: impl Fn(usize) -> Rig<P>,
    ) {
        let mut rig = open(100);
        assert_eq!(rig.left.try_send(batch(1, 60)), Ok(()));
        assert!(matches!(rig.left.try_send(batch(2, 41)), Err(SendError::Full(_))));
        assert_eq!(rig.left.try_send(batch(2, 40)), Ok(()));
        assert!(matches!(rig.left.try_send(batch(3, 1)), Err(SendError::Full(_))));
        // The directions have credit of their own.
        assert_eq!(rig.right.try_send(batch(4, 100)), Ok(()));
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Ok(Some(batch(1, 60))));
        (rig.settle)();
        assert_eq!(rig.left.try_send(batch(5, 60)), Ok(()));
        assert!(matches!(rig.left.try_send(batch(6, 1)), Err(SendError::Full(_))));
    }

    pub fn l4_an_empty_direction_takes_the_largest_batch<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(10);
        for _ in 0..2 {
            assert_eq!(rig.left.try_send(batch(1, BATCH_BYTES_MAX)), Ok(()));
            assert!(matches!(rig.left.try_send(batch(2, 1)), Err(SendError::Full(_))));
            (rig.settle)();
            assert_eq!(rig.right.try_recv().unwrap().unwrap().len(), BATCH_BYTES_MAX);
            (rig.settle)();
        }
    }

    pub fn l5_an_end_in_order_lets_arrive_what_was_sent_and_is_for_ever<P: LinkPort>(
        open: impl Fn(usize) -> Rig<P>,
    ) {
        let mut rig = open(100);
        rig.left.try_send(batch(1, 5)).unwrap();
        rig.left.try_send(batch(2, 5)).unwrap();
        rig.left.close();
        rig.left.close();
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Ok(Some(batch(1, 5))));
        assert_eq!(
            rig.right.try_send(batch(3, 1)),
            Err(SendError::Closed(batch(3, 1)))
        );
        assert_eq!(rig.right.try_recv(), Ok(Some(batch(2, 5))));
        for _ in 0..2 {
            assert_eq!(
                (rig.right.try_recv(), rig.left.try_recv()),
                (Err(Closed), Err(Closed))
            );
            assert!(matches!(
                rig.left.try_send(batch(4, 1)),
                Err(SendError::Closed(_))
            ));
        }
    }

    pub fn l5_a_dropped_port_ends_the_link<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let Rig {
            left,
            mut right,
            mut settle,
        } = open(100);
        drop(left);
        settle();
        assert_eq!(right.try_recv(), Err(Closed));
        assert!(matches!(right.try_send(batch(1, 1)), Err(SendError::Closed(_))));
    }

    pub fn l6_a_waker_is_called_when_it_is_set<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(100);
        rig.left.try_send(batch(1, 1)).unwrap();
        (rig.settle)();
        assert!(Wakes::of(&mut rig.right).take(), "for whatever came before");
    }

    pub fn l6_a_receiver_that_found_nothing_is_woken<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(100);
        let wakes = Wakes::of(&mut rig.right);
        for number in 0..3 {
            assert_eq!(rig.right.try_recv(), Ok(None));
            wakes.take();
            rig.left.try_send(batch(number, 1)).unwrap();
            rig.left.try_send(batch(number, 2)).unwrap();
            (rig.settle)();
            assert!(wakes.take(), "a wake-up was lost");
            assert_eq!(rig.right.try_recv(), Ok(Some(batch(number, 1))));
            assert_eq!(rig.right.try_recv(), Ok(Some(batch(number, 2))));
        }
    }

    pub fn l6_a_refused_sender_is_woken_by_room<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(2);
        let wakes = Wakes::of(&mut rig.left);
        rig.left.try_send(batch(1, 2)).unwrap();
        for number in 2..5 {
            assert!(matches!(
                rig.left.try_send(batch(number, 2)),
                Err(SendError::Full(_))
            ));
            wakes.take();
            (rig.settle)();
            rig.right.try_recv().unwrap().unwrap();
            (rig.settle)();
            assert!(wakes.take(), "a wake-up was lost");
            assert_eq!(rig.left.try_send(batch(number, 2)), Ok(()));
        }
    }

    pub fn l6_who_waits_is_woken_by_the_end<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut receiver = open(2);
        let wakes = Wakes::of(&mut receiver.right);
        assert_eq!(receiver.right.try_recv(), Ok(None));
        wakes.take();
        receiver.left.close();
        (receiver.settle)();
        assert!(wakes.take());

        let mut sender = open(2);
        let wakes = Wakes::of(&mut sender.right);
        sender.right.try_send(batch(1, 2)).unwrap();
        sender.right.try_send(batch(2, 2)).unwrap_err();
        wakes.take();
        sender.left.close();
        (sender.settle)();
        assert!(wakes.take());
    }

    /// Each side does what a driver does: when it was woken it goes on until it is told `Full` or `None`, and else it sleeps.
    pub fn l6_two_that_sleep_whenever_they_can_pass_everything<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        const BATCHES: u32 = 500;
        for bytes_max in [1, 10, 33, 1_000] {
            let mut rig = open(bytes_max);
            let wakes = [Wakes::of(&mut rig.left), Wakes::of(&mut rig.right)];
            let (mut sent, mut received) = ([0; 2], [0; 2]);
            while received != [BATCHES; 2] {
                (rig.settle)();
                let woken = wakes.each_ref().map(Wakes::take);
                assert_ne!(
                    woken, [false; 2],
                    "both sleep: {received:?} of {sent:?}, {bytes_max} bytes"
                );
                for (side, port) in [&mut rig.left, &mut rig.right].into_iter().enumerate() {
                    if !woken[side] {
                        continue;
                    }
                    while let Some(arrived) = port.try_recv().unwrap() {
                        let number = received[side];
                        assert_eq!(arrived, batch(number, length(number)));
                        received[side] += 1;
                    }
                    while sent[side] < BATCHES && port.try_send(batch(sent[side], length(sent[side]))).is_ok()
                    {
                        sent[side] += 1;
                    }
                }
            }
        }
    }

    pub fn l7_an_empty_batch_does_not_arrive<P: LinkPort>(open: impl Fn(usize) -> Rig<P>) {
        let mut rig = open(10);
        assert_eq!(rig.left.try_send(Bytes::new()), Ok(()));
        (rig.settle)();
        assert_eq!(rig.right.try_recv(), Ok(None));
    }

    /// Returns a batch that no other number gives.
    fn batch(number: u32, bytes: usize) -> Bytes {
        let mut bytes = vec![0; bytes];
        for (byte, value) in bytes.iter_mut().zip(number.to_le_bytes()) {
            *byte = value;
        }
        bytes.into()
    }

    fn length(number: u32) -> usize {
        4 + (number as usize * 7) % 23
    }
}

pub use promises::*;

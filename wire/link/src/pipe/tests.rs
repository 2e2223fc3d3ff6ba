use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::*;

mod contract {
    use super::super::pipe;
    use crate::testing::contract::Rig;

    crate::link_contract!(|bytes_max| {
        let (left, right) = pipe(bytes_max);
        Rig {
            left,
            right,
            settle: Box::new(|| {}),
        }
    });
}

/// Counts wake-ups.
fn counting() -> (LinkWaker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let waker = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    (Arc::new(waker), count)
}

fn taken(count: &AtomicUsize) -> usize {
    count.swap(0, Ordering::SeqCst)
}

fn batch(bytes: usize) -> Bytes {
    vec![7; bytes].into()
}

#[test]
fn batches_arrive_in_order_in_both_directions() {
    let (left, right) = pipe(1_000);
    for number in 0..5u8 {
        left.try_send(Bytes::from(vec![number])).unwrap();
        right.try_send(Bytes::from(vec![number + 100])).unwrap();
    }
    for number in 0..5u8 {
        assert_eq!(right.try_recv(), Ok(Some(Bytes::from(vec![number]))));
        assert_eq!(left.try_recv(), Ok(Some(Bytes::from(vec![number + 100]))));
    }
    assert_eq!((left.try_recv(), right.try_recv()), (Ok(None), Ok(None)));
}

#[test]
fn credit_is_counted_in_bytes_and_given_back_on_receiving() {
    let (left, right) = pipe(100);
    assert_eq!(left.try_send(batch(60)), Ok(()));
    assert_eq!(left.try_send(batch(41)), Err(SendError::Full(batch(41))));
    assert_eq!(left.try_send(batch(40)), Ok(()));
    assert_eq!(left.try_send(batch(1)), Err(SendError::Full(batch(1))));
    assert_eq!(
        right.try_send(batch(100)),
        Ok(()),
        "the directions have credit of their own"
    );
    assert_eq!(right.try_recv(), Ok(Some(batch(60))));
    assert_eq!(left.try_send(batch(60)), Ok(()));
}

#[test]
fn an_empty_direction_takes_the_largest_batch() {
    let (left, right) = pipe(10);
    assert_eq!(left.try_send(batch(BATCH_BYTES_MAX)), Ok(()));
    assert!(matches!(left.try_send(batch(1)), Err(SendError::Full(_))));
    assert_eq!(right.try_recv().unwrap().unwrap().len(), BATCH_BYTES_MAX);
    assert_eq!(left.try_send(batch(BATCH_BYTES_MAX)), Ok(()));
}

#[test]
#[should_panic(expected = "over the bound")]
fn a_batch_over_the_bound_is_the_senders_mistake() {
    let (left, _right) = pipe(10);
    let _ = left.try_send(batch(BATCH_BYTES_MAX + 1));
}

#[test]
fn small_batches_are_bounded_in_number() {
    let (left, right) = pipe(usize::MAX);
    for _ in 0..BATCHES_MAX {
        left.try_send(batch(1)).unwrap();
    }
    assert_eq!(left.try_send(batch(1)), Err(SendError::Full(batch(1))));
    right.try_recv().unwrap();
    assert_eq!(left.try_send(batch(1)), Ok(()));
}

#[test]
fn an_empty_batch_says_nothing() {
    let (left, right) = pipe(10);
    assert_eq!(left.try_send(Bytes::new()), Ok(()));
    assert_eq!(right.try_recv(), Ok(None));
}

#[test]
fn a_receiver_that_found_nothing_is_woken_once() {
    let (left, right) = pipe(1_000);
    let (waker, wakes) = counting();
    right.set_waker(waker);
    assert_eq!(taken(&wakes), 1, "for whatever came before");
    left.try_send(batch(1)).unwrap();
    assert_eq!(taken(&wakes), 0, "it has not looked yet and will");
    assert_eq!(
        (right.try_recv(), right.try_recv()),
        (Ok(Some(batch(1))), Ok(None))
    );
    left.try_send(batch(1)).unwrap();
    left.try_send(batch(1)).unwrap();
    assert_eq!(taken(&wakes), 1);
}

#[test]
fn a_refused_sender_is_woken_once_by_room() {
    let (left, right) = pipe(2);
    let (waker, wakes) = counting();
    left.set_waker(waker);
    taken(&wakes);
    left.try_send(batch(1)).unwrap();
    left.try_send(batch(1)).unwrap();
    right.try_recv().unwrap();
    assert_eq!(taken(&wakes), 0, "nobody was refused");
    left.try_send(batch(2)).unwrap_err();
    right.try_recv().unwrap();
    assert_eq!(right.try_recv(), Ok(None));
    assert_eq!(taken(&wakes), 1);
}

#[test]
fn closing_wakes_the_other_side_which_first_receives_the_rest() {
    let (left, right) = pipe(100);
    let (waker, wakes) = counting();
    right.set_waker(waker);
    taken(&wakes);
    left.try_send(batch(1)).unwrap();
    left.close();
    left.close();
    assert_eq!(taken(&wakes), 1);
    assert_eq!(right.try_send(batch(1)), Err(SendError::Closed(batch(1))));
    assert_eq!(left.try_send(batch(1)), Err(SendError::Closed(batch(1))));
    assert_eq!(right.try_recv(), Ok(Some(batch(1))));
    assert_eq!(right.try_recv(), Err(Closed));
}

#[test]
fn dropping_an_endpoint_closes_the_link() {
    let (left, right) = pipe(100);
    drop(left);
    assert_eq!(right.try_recv(), Err(Closed));
}

/// A thread that sleeps until it is woken, and says so when nobody does.
struct Sleeper(Receiver<()>);

impl Sleeper {
    fn of(endpoint: &Endpoint) -> Self {
        // Room for one mark is enough: a mark that is already there stands for this one too.
        let (sender, receiver): (SyncSender<()>, _) = sync_channel(1);
        endpoint.set_waker(Arc::new(move || {
            let _ = sender.try_send(());
        }));
        Self(receiver)
    }

    fn sleep(&self) {
        match self.0.recv_timeout(Duration::from_secs(30)) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => panic!("a wake-up was lost"),
            Err(RecvTimeoutError::Disconnected) => panic!("the waker is gone"),
        }
    }
}

/// One side only sends and one only receives; both sleep whenever they can, so that a single lost wake-up leaves both
/// asleep for good.
fn stream(bytes_max: usize, batches: u32) {
    let (left, right) = pipe(bytes_max);
    let sender = thread::spawn(move || {
        let sleeper = Sleeper::of(&left);
        for number in 0..batches {
            while left.try_send(number.to_le_bytes().to_vec().into()).is_err() {
                sleeper.sleep();
            }
        }
    });
    let sleeper = Sleeper::of(&right);
    let mut received = 0u32;
    loop {
        match right.try_recv() {
            Ok(Some(batch)) => {
                assert_eq!(batch[..], received.to_le_bytes());
                received += 1;
            }
            Ok(None) => sleeper.sleep(),
            Err(Closed) => break,
        }
    }
    assert_eq!(received, batches);
    sender.join().unwrap();
}

#[test]
fn no_wake_up_is_lost_when_every_batch_fills_the_pipe() {
    stream(1, 50_000);
}

#[test]
fn no_wake_up_is_lost_when_a_few_batches_fit() {
    stream(12, 50_000);
}

#[test]
fn no_wake_up_is_lost_when_the_number_of_batches_is_the_bound() {
    stream(usize::MAX, 200_000);
}

#[test]
fn what_was_sent_before_the_close_is_received_before_it() {
    for _ in 0..3_000 {
        let (left, right) = pipe(10);
        let sender = thread::spawn(move || left.try_send(batch(3)).map(|()| left.close()));
        let mut received = 0;
        loop {
            match right.try_recv() {
                Ok(Some(batch)) => received += batch.len(),
                Ok(None) => thread::yield_now(),
                Err(Closed) => break,
            }
        }
        assert_eq!(received, 3);
        assert_eq!(sender.join().unwrap(), Ok(()));
    }
}

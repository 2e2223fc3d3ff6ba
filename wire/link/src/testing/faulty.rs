//! A link that keeps its promises and nothing beyond them: slow, short of room, sparing with wake-ups, and mortal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::BATCH_BYTES_MAX;
use crate::port::{Closed, LinkPort, LinkWaker, SendError};

/// Returns the two ends of a link, and what makes it move and fail. Each direction holds at most `bytes_max` bytes.
///
/// Order: nothing that is sent, given back or ended shows on the other side, and nobody is woken, before [`Faults::settle`].
pub fn faulty_pipe(bytes_max: usize) -> (FaultyPort, FaultyPort, Faults) {
    let state = Arc::new(Mutex::new(State {
        lanes: [Lane::default(), Lane::default()],
        wakers: [None, None],
        bytes_max,
        end: End::Open,
    }));
    let port = |side| FaultyPort {
        state: Arc::clone(&state),
        side,
    };
    let (left, right) = (port(Side::Left), port(Side::Right));
    (left, right, Faults { state })
}

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Left = 0,
    /// The second.
    Right = 1,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Left, Self::Right];

    const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// One end of such a link. Dropping it closes the link.
pub struct FaultyPort {
    state: Arc<Mutex<State>>,
    side: Side,
}

/// The hand on a link, for a test.
#[derive(Clone)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

struct State {
    /// By who sends.
    lanes: [Lane; 2],
    wakers: [Option<LinkWaker>; 2],
    bytes_max: usize,
    end: End,
}

/// One direction.
#[derive(Default)]
struct Lane {
    /// Sent, and not to be seen yet.
    under_way: VecDeque<Bytes>,
    arrived: VecDeque<Bytes>,
    /// Of both.
    bytes_used: usize,
    /// Sends that are refused whatever room there is.
    refusals: usize,
    /// Sends after which the link breaks.
    breaks_after: Option<usize>,
    /// The receiver found nothing, or the sender no room, and neither has been woken since.
    receiver_waits: bool,
    sender_waits: bool,
    /// Room appeared since the sender was last told.
    has_freed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    /// In order: what is under way still arrives.
    Closed,
    Broken,
}

impl Faults {
    /// Lets everything that is under way arrive, and wakes whoever waits for what happened since the last time, once.
    pub fn settle(&self) {
        let mut state = self.lock();
        let has_ended = state.end != End::Open;
        let mut woken = [false; 2];
        for side in Side::BOTH {
            let lane = &mut state.lanes[side as usize];
            lane.arrived.extend(lane.under_way.drain(..));
            if lane.receiver_waits && (has_ended || !lane.arrived.is_empty()) {
                lane.receiver_waits = false;
                woken[side.other() as usize] = true;
            }
            if lane.sender_waits && (has_ended || lane.has_freed) {
                lane.sender_waits = false;
                woken[side as usize] = true;
            }
            lane.has_freed = false;
        }
        let wakers: Vec<LinkWaker> = Side::BOTH
            .into_iter()
            .filter(|&side| woken[side as usize])
            .filter_map(|side| state.wakers[side as usize].clone())
            .collect();
        drop(state);
        wakers.iter().for_each(|waker| waker());
    }

    /// Breaks the link: what has not arrived is lost.
    pub fn break_off(&self) {
        self.lock().break_off();
    }

    /// Breaks the link with the `sends`-th send of a side from now on, which is taken and lost.
    pub fn break_after(&self, side: Side, sends: usize) {
        self.lock().lanes[side as usize].breaks_after = Some(sends);
    }

    /// Refuses the next `sends` sends of a side, whatever room there is.
    pub fn refuse(&self, side: Side, sends: usize) {
        self.lock().lanes[side as usize].refusals = sends;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn break_off(&mut self) {
        self.end = End::Broken;
        self.lanes.iter_mut().for_each(|lane| lane.under_way.clear());
    }

    fn send(&mut self, side: Side, batch: Bytes) -> Result<(), SendError> {
        if self.end != End::Open {
            return Err(SendError::Closed(batch));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let bytes_max = self.bytes_max;
        let lane = &mut self.lanes[side as usize];
        if lane.refusals > 0 {
            lane.refusals -= 1;
            (lane.sender_waits, lane.has_freed) = (true, true);
            return Err(SendError::Full(batch));
        }
        if lane.bytes_used > 0 && lane.bytes_used + batch.len() > bytes_max {
            lane.sender_waits = true;
            return Err(SendError::Full(batch));
        }
        lane.bytes_used += batch.len();
        lane.under_way.push_back(batch);
        if let Some(left) = &mut lane.breaks_after {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.break_off();
            }
        }
        Ok(())
    }

    fn receive(&mut self, side: Side) -> Result<Option<Bytes>, Closed> {
        let end = self.end;
        let lane = &mut self.lanes[side.other() as usize];
        if let Some(batch) = lane.arrived.pop_front() {
            lane.bytes_used -= batch.len();
            lane.has_freed = true;
            return Ok(Some(batch));
        }
        if end != End::Open && lane.under_way.is_empty() {
            return Err(Closed);
        }
        lane.receiver_waits = true;
        Ok(None)
    }
}

impl FaultyPort {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkPort for FaultyPort {
    fn set_waker(&mut self, waker: LinkWaker) {
        let before = self.lock().wakers[self.side as usize].replace(Arc::clone(&waker));
        assert!(before.is_none(), "a port has one waker for its life");
        waker();
    }

    fn try_send(&mut self, batch: Bytes) -> Result<(), SendError> {
        assert!(
            batch.len() <= BATCH_BYTES_MAX,
            "a batch of {} bytes is over the bound",
            batch.len()
        );
        self.lock().send(self.side, batch)
    }

    fn try_recv(&mut self) -> Result<Option<Bytes>, Closed> {
        self.lock().receive(self.side)
    }

    fn close(&mut self) {
        let mut state = self.lock();
        if state.end == End::Open {
            state.end = End::Closed;
        }
    }
}

impl Drop for FaultyPort {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::contract::Rig;

    crate::link_contract!(|bytes_max| {
        let (left, right, faults) = faulty_pipe(bytes_max);
        Rig {
            left,
            right,
            settle: Box::new(move || faults.settle()),
        }
    });

    #[test]
    fn l5_after_a_break_the_beginning_arrives_and_nothing_behind_it() {
        let (mut left, mut right, faults) = faulty_pipe(100);
        faults.break_after(Side::Left, 3);
        for number in 0..2u8 {
            left.try_send(vec![number].into()).unwrap();
            faults.settle();
        }
        assert_eq!(left.try_send(vec![2].into()), Ok(()), "taken, and lost");
        assert!(matches!(left.try_send(vec![3].into()), Err(SendError::Closed(_))));
        faults.settle();
        assert_eq!(right.try_recv(), Ok(Some(vec![0].into())));
        assert_eq!(right.try_recv(), Ok(Some(vec![1].into())));
        assert_eq!((right.try_recv(), right.try_recv()), (Err(Closed), Err(Closed)));
        assert_eq!(left.try_recv(), Err(Closed));
    }

    #[test]
    fn l4_a_refusal_for_no_reason_comes_back_too_and_its_sender_is_woken() {
        let (mut left, _right, faults) = faulty_pipe(100);
        let wakes = crate::testing::contract::Wakes::of(&mut left);
        assert!(wakes.take());
        faults.refuse(Side::Left, 1);
        let batch = Bytes::from_static(b"x");
        assert_eq!(left.try_send(batch.clone()), Err(SendError::Full(batch.clone())));
        faults.settle();
        assert!(wakes.take());
        assert_eq!(left.try_send(batch), Ok(()));
    }
}

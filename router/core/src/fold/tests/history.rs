//! Random logs of four users with few ids, so that sends repeat, conflict and cross.

use proptest::prelude::*;
use router_records::log::{AckInput, Delivered, DeviceInput, Input, LogRecord, StatusInput};
use wire_base::ids::{MessageId, Seq, SessionNumber};
use wire_base::status::Status;

use crate::testing::{device, direct, message_id_at, other_message_id, position, record, send, user};

const START_MS: u64 = 1_000_000_000;
/// Ids carry a time of this grain, so that they repeat.
const GRAIN_MS: i64 = 100_000;

#[derive(Clone, Debug)]
enum Step {
    Send {
        sender: u64,
        receiver: u64,
        age_ms: i64,
        id: u64,
        content: u8,
    },
    Ack {
        user: u64,
        device: u32,
        offset: u64,
        index: u16,
        peers: Vec<(u64, u64)>,
    },
    Status {
        user: u64,
        peer: u64,
        is_read: bool,
        seq: u64,
    },
    Device {
        user: u64,
        device: u32,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let users = || 1u64..5;
    // Within what the check before the log lets through; an odd id is no UUIDv7.
    let age = prop_oneof![3 => -60_000i64..200_000, 1 => -60_000i64..3_000_000];
    prop_oneof![
        6 => (users(), users(), age, 0u64..3, 0u8..8).prop_map(|(sender, receiver, age_ms, id, content)| {
            Step::Send { sender, receiver, age_ms, id, content: content / 7 }
        }),
        2 => (users(), 1u32..4, 0u64..60, 0u16..4, prop::collection::vec((users(), 1u64..20), 0..3))
            .prop_map(|(user, device, offset, index, peers)| Step::Ack { user, device, offset, index, peers }),
        2 => (users(), users(), any::<bool>(), 1u64..20)
            .prop_map(|(user, peer, is_read, seq)| Step::Status { user, peer, is_read, seq }),
        1 => (users(), 1u32..4).prop_map(|(user, device)| Step::Device { user, device }),
    ]
}

/// Up to 60 records; the clock runs, stands still and goes back.
pub(super) fn histories() -> impl Strategy<Value = Vec<LogRecord>> {
    let passed = prop_oneof![4 => 0i64..2_000, 2 => 0i64..300_000, 1 => -100_000i64..0];
    prop::collection::vec((passed, steps()), 1..60).prop_map(|steps| {
        let (mut clock, mut log_time) = (START_MS, START_MS);
        let with_time = steps.into_iter().map(|(passed, step)| {
            clock = clock.saturating_add_signed(passed);
            log_time = log_time.max(clock);
            // Stamped as a driver does, or with a clock that is behind.
            (if clock % 2 == 0 { log_time } else { clock }, step)
        });
        with_time
            .map(|(time, step)| record(time, input(time, step)))
            .collect()
    })
}

fn input(time: u64, step: Step) -> Input {
    match step {
        Step::Send {
            sender,
            receiver,
            age_ms,
            id,
            content,
        } => Input::Send(send(
            sender,
            receiver,
            message_id(time, age_ms, id),
            ["a", "b"][usize::from(content)],
        )),
        Step::Ack {
            user: number,
            device: which,
            offset,
            index,
            peers,
        } => Input::Ack(AckInput {
            user: user(number),
            device: device(which),
            session: SessionNumber(offset),
            position: position(offset, index),
            delivered: peers
                .into_iter()
                .map(|(peer, seq)| delivered(number, peer, seq))
                .collect(),
        }),
        Step::Status {
            user: number,
            peer,
            is_read,
            seq,
        } => {
            let Delivered {
                conversation,
                seq,
                message_id,
            } = delivered(number, peer, seq);
            let status = if is_read { Status::Read } else { Status::Delivered };
            Input::Status(StatusInput {
                user: user(number),
                device: device(1),
                conversation,
                status,
                seq,
                message_id,
            })
        }
        Step::Device {
            user: number,
            device: which,
        } => Input::Device(DeviceInput {
            user: user(number),
            device: device(which),
            session: SessionNumber(time),
        }),
    }
}

fn message_id(time: u64, age_ms: i64, id: u64) -> MessageId {
    let id_time = (time as i64 - age_ms) / GRAIN_MS * GRAIN_MS;
    if id == 2 {
        other_message_id(id_time as u64 % 1_000_000 / 100_000 + 1)
    } else {
        message_id_at(id_time as u64, id)
    }
}

/// The id is any: a fold repeats what the check before the log put there.
fn delivered(user_number: u64, peer: u64, seq: u64) -> Delivered {
    Delivered {
        conversation: direct(user_number, peer),
        seq: Seq(seq),
        message_id: other_message_id(seq),
    }
}

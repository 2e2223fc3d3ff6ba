use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use wire_base::body::{Body, Content};
use wire_base::ids::{
    ConnectionHandle, ConversationId, MessageId, Position, Seq, SessionNumber, UnixMs, UserId,
};
use wire_base::message::{Draft, Target};
use wire_base::samples::*;

fn request() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId)
}

fn session_ref() -> impl Strategy<Value = SessionRef> {
    (connection(), user(), stored_device()).prop_map(|(connection, user, device)| SessionRef {
        connection,
        user,
        device,
    })
}

fn to_router() -> impl Strategy<Value = ToRouter> {
    let kind = prop_oneof![
        Just(LinkKind::Gateway),
        Just(LinkKind::Api),
        Just(LinkKind::Router)
    ];
    let hello = (any::<u16>(), kind, text(), any::<u64>(), any::<u16>()).prop_map(
        |(version, kind, node, epoch, worker)| LinkHello {
            version,
            kind,
            node,
            epoch,
            worker,
        },
    );
    let positions = (option::of(position()), option::of(position()));
    let open = (
        connection(),
        user(),
        device(),
        option::of(session()),
        positions,
        1..=WINDOW_MAX,
    )
        .prop_map(
            |(connection, user, device, session, (cursor, forwarded), window)| SessionOpen {
                connection,
                user,
                device,
                session,
                cursor,
                forwarded,
                window,
            },
        );
    let send =
        (request(), option::of(message_id()), draft()).prop_map(|(request, message_id, draft)| SendRecord {
            request,
            message_id,
            draft,
        });
    let ack =
        (user(), stored_device(), session(), position()).prop_map(|(user, device, session, position)| {
            AckRecord {
                user,
                device,
                session,
                position,
            }
        });
    let status = (request(), user(), stored_device(), status_command(seq())).prop_map(
        |(request, user, device, command)| StatusRecord {
            request,
            user,
            device,
            command,
        },
    );
    let history = (
        request(),
        user(),
        conversation(),
        option::of(seq()),
        1..=PAGE_LIMIT_MAX,
    )
        .prop_map(|(request, user, conversation, before, limit)| HistoryRecord {
            request,
            user,
            conversation,
            before,
            limit,
        });
    let conversations = (request(), user(), 1..=PAGE_LIMIT_MAX, option::of(text())).prop_map(
        |(request, user, limit, before)| ConversationsRecord {
            request,
            user,
            limit,
            before,
        },
    );
    prop_oneof![
        hello.prop_map(ToRouter::Hello),
        open.prop_map(ToRouter::SessionOpen),
        session_ref().prop_map(ToRouter::SessionClose),
        send.prop_map(ToRouter::Send),
        ack.prop_map(ToRouter::Ack),
        status.prop_map(ToRouter::Status),
        history.prop_map(ToRouter::History),
        conversations.prop_map(ToRouter::Conversations),
    ]
}

fn summary() -> impl Strategy<Value = SummaryRecord> {
    (
        conversation(),
        target(),
        option::of(body()),
        time(),
        seq(),
        text(),
        any::<u64>(),
        seq(),
        seq(),
    )
        .prop_map(
            |(conversation, with, last_body, last_time, last_seq, next, unread, delivered, read)| {
                SummaryRecord {
                    conversation,
                    with,
                    last_body,
                    last_time,
                    last_seq,
                    next,
                    unread,
                    delivered,
                    read,
                }
            },
        )
}

fn from_router() -> impl Strategy<Value = FromRouter> {
    let opened = (
        connection(),
        session(),
        position(),
        any::<bool>(),
        option::of((text(), position())),
    )
        .prop_map(|(connection, session, cursor, resumed, resync)| SessionOpened {
            connection,
            session,
            cursor,
            resumed,
            resync,
        });
    let refused = (connection(), code(), text()).prop_map(|(connection, code, reason)| SessionRefused {
        connection,
        code,
        reason,
    });
    let sent = (
        request(),
        message_id(),
        conversation(),
        seq(),
        time(),
        any::<bool>(),
    )
        .prop_map(
            |(request, message_id, conversation, seq, timestamp, duplicate)| SentRecord {
                request,
                message_id,
                conversation,
                seq,
                timestamp,
                duplicate,
            },
        );
    let rejected = (request(), code(), text(), option::of(any::<u32>())).prop_map(
        |(request, code, reason, retry_after_ms)| RejectedRecord {
            request,
            code,
            reason,
            retry_after_ms,
        },
    );
    let deliver =
        (message(), vec((connection(), position()), 0..5)).prop_map(|(message, to)| Deliver { message, to });
    let synced = (connection(), position()).prop_map(|(connection, cursor)| Synced { connection, cursor });
    let update = (
        conversation(),
        user(),
        status(),
        seq(),
        message_id(),
        vec(connection(), 0..5),
    )
        .prop_map(
            |(conversation, user, status, seq, message_id, to)| StatusUpdateRecord {
                conversation,
                user,
                status,
                seq,
                message_id,
                to,
            },
        );
    let history = (
        request(),
        conversation(),
        vec(message(), 0..4),
        any::<bool>(),
        seq(),
        seq(),
    )
        .prop_map(
            |(request, conversation, messages, more, delivered, read)| HistoryPageRecord {
                request,
                conversation,
                messages,
                more,
                delivered,
                read,
            },
        );
    let conversations =
        (request(), vec(summary(), 0..4), any::<bool>()).prop_map(|(request, conversations, more)| {
            ConversationsPageRecord {
                request,
                conversations,
                more,
            }
        });
    let failed = (request(), code(), text()).prop_map(|(request, code, reason)| FailedRecord {
        request,
        code,
        reason,
    });
    prop_oneof![
        opened.prop_map(FromRouter::SessionOpened),
        refused.prop_map(FromRouter::SessionRefused),
        session_ref().prop_map(FromRouter::SessionReplaced),
        sent.prop_map(FromRouter::Sent),
        rejected.prop_map(FromRouter::Rejected),
        deliver.prop_map(FromRouter::Deliver),
        synced.prop_map(FromRouter::Synced),
        update.prop_map(FromRouter::StatusUpdate),
        history.prop_map(FromRouter::HistoryPage),
        conversations.prop_map(FromRouter::ConversationsPage),
        request().prop_map(FromRouter::Done),
        failed.prop_map(FromRouter::Failed),
    ]
}

fn batch_of<T: Record>(records: &[T]) -> Bytes {
    let mut writer = BatchWriter::new();
    records.iter().for_each(|record| writer.push(record));
    writer.take()
}

fn records<T: Record>(batch: Bytes) -> Result<Vec<T>, DecodeError> {
    Records {
        rest: batch,
        records: PhantomData,
    }
    .collect()
}

fn round_trips<T: Record + PartialEq + std::fmt::Debug>(sent: Vec<T>) -> Result<(), TestCaseError> {
    prop_assert_eq!(records(batch_of(&sent)), Ok(sent));
    Ok(())
}

/// A prefix of a batch is refused unless it ends between two records.
fn truncations_never_panic<T: Record + PartialEq + std::fmt::Debug>(
    sent: Vec<T>,
) -> Result<(), TestCaseError> {
    let mut ends = vec![0];
    for record in &sent {
        ends.push(ends[ends.len() - 1] + batch_of(std::slice::from_ref(record)).len());
    }
    let batch = batch_of(&sent);
    for length in 0..=batch.len() {
        match records::<T>(batch.slice(..length)) {
            Ok(read) => prop_assert_eq!(ends[read.len()], length),
            Err(_) => prop_assert!(!ends.contains(&length)),
        }
    }
    Ok(())
}

/// What is still accepted is the one encoding of what it says.
fn flips_never_panic<T: Record>(sent: &T, place: prop::sample::Index, flip: u8) -> Result<(), TestCaseError> {
    let mut batch = batch_of(std::slice::from_ref(sent)).to_vec();
    let place = place.index(batch.len());
    batch[place] ^= flip;
    if let Ok(read) = records::<T>(batch.clone().into()) {
        prop_assert_eq!(&batch_of(&read)[..], batch);
    }
    Ok(())
}

proptest! {
    #[test]
    fn records_for_the_router_round_trip(sent in vec(to_router(), 0..8)) {
        round_trips(sent)?;
    }

    #[test]
    fn records_of_the_router_round_trip(sent in vec(from_router(), 0..8)) {
        round_trips(sent)?;
    }

    #[test]
    fn a_truncated_batch_for_the_router_is_refused(sent in vec(to_router(), 1..3)) {
        truncations_never_panic(sent)?;
    }

    #[test]
    fn a_truncated_batch_of_the_router_is_refused(sent in vec(from_router(), 1..3)) {
        truncations_never_panic(sent)?;
    }

    #[test]
    fn changed_bytes_for_the_router_never_panic(sent in to_router(), place in any::<prop::sample::Index>(), flip in 1..=255u8) {
        flips_never_panic(&sent, place, flip)?;
    }

    #[test]
    fn changed_bytes_of_the_router_never_panic(sent in from_router(), place in any::<prop::sample::Index>(), flip in 1..=255u8) {
        flips_never_panic(&sent, place, flip)?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), kind in 0..16u8) {
        let mut record = (bytes.len() as u32 + 1).to_le_bytes().to_vec();
        record.push(kind);
        record.extend_from_slice(&bytes);
        let _ = records::<ToRouter>(record.clone().into());
        let _ = records::<FromRouter>(record.into());
    }
}

fn synced(slot: u32) -> FromRouter {
    FromRouter::Synced(Synced {
        connection: ConnectionHandle { slot, generation: 2 },
        cursor: Position {
            generation: 3,
            offset: wire_base::ids::Offset(4),
            index: 5,
        },
    })
}

#[test]
fn the_layout_is_length_kind_and_fields() {
    let mut writer = BatchWriter::new();
    writer.push_from_router(&synced(1));
    let expected = [
        23, 0, 0, 0, 7, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0,
    ];
    assert_eq!(writer.take()[..], expected);
}

#[test]
fn an_unknown_kind_and_a_bad_length_name_themselves_and_end_the_batch() {
    let refused = |bytes: &[u8]| {
        let mut records = decode_to_router(Bytes::copy_from_slice(bytes));
        let error = records.next().unwrap().unwrap_err().to_string();
        assert!(records.next().is_none());
        error
    };
    assert_eq!(
        refused(&[1, 0, 0, 0, 99, 1, 0, 0, 0, 99]),
        "record kind: unknown kind 99"
    );
    assert_eq!(refused(&[0, 0, 0, 0]), "record kind: cut short");
    assert_eq!(refused(&[1, 0, 0]), "record length: cut short");
    assert_eq!(refused(&[5, 0, 0, 0, 1]), "record: cut short");
    assert_eq!(refused(&[255; 8]), "record length: out of bounds");
    let mut long = batch_of(&[ToRouter::Ack(ack())]).to_vec();
    long.push(0);
    long[0] += 1;
    assert_eq!(refused(&long), "record: bytes left over");
}

fn ack() -> AckRecord {
    AckRecord {
        user: user_one(),
        device: DeviceId::DEFAULT,
        session: SessionNumber(1),
        position: Position::start(1),
    }
}

fn user_one() -> UserId {
    UserId::new(1).unwrap()
}

#[test]
fn what_no_session_has_is_refused() {
    let open = SessionOpen {
        connection: ConnectionHandle {
            slot: 0,
            generation: 0,
        },
        user: user_one(),
        device: DeviceId::DEFAULT,
        session: None,
        cursor: None,
        forwarded: None,
        window: 1,
    };
    let read = |open| records::<ToRouter>(batch_of(&[ToRouter::SessionOpen(open)]));
    assert!(read(open).is_ok());
    for bad in [
        SessionOpen {
            device: DeviceId::API,
            ..open
        },
        SessionOpen { window: 0, ..open },
        SessionOpen {
            window: WINDOW_MAX + 1,
            ..open
        },
    ] {
        assert_eq!(read(bad).unwrap_err().to_string(), "session open: out of bounds");
    }
}

#[test]
fn bodies_are_slices_of_the_batch() {
    let body = Body {
        content: Content::Text("zero copies"),
        media_url: None,
        kind: None,
    }
    .encode();
    let send = SendRecord {
        request: RequestId(1),
        message_id: MessageId::new(uuid::Uuid::from_u128(1)),
        draft: Draft {
            sender: user_one(),
            sender_device: DeviceId::API,
            target: Target::Direct(user_one()),
            body,
        },
    };
    let batch = batch_of(&[ToRouter::Send(send)]);
    let Some(Ok(ToRouter::Send(read))) = decode_to_router(batch.clone()).next() else {
        panic!("one send")
    };
    let body = read.draft.body.as_bytes().as_ptr_range();
    assert!(batch.as_ptr_range().contains(&body.start) && body.end <= batch.as_ptr_range().end);
}

#[test]
fn a_batch_taken_when_full_stays_within_its_bound() {
    let mut writer = BatchWriter::new();
    assert!(writer.is_empty() && !writer.is_full());
    while !writer.is_full() {
        writer.push_from_router(&synced(7));
    }
    assert!(writer.len() + LENGTH_BYTES + RECORD_BYTES_MAX > BATCH_BYTES_MAX);
    assert!(writer.len() <= BATCH_BYTES_MAX);
    let batch = writer.take();
    assert!(writer.is_empty());
    let count = batch.len() / batch_of(&[synced(7)]).len();
    assert_eq!(
        records::<FromRouter>(batch).map(|records| records.len()),
        Ok(count)
    );
}

#[test]
#[should_panic(expected = "over the bound")]
fn an_endless_list_is_the_routers_mistake() {
    let connection = ConnectionHandle {
        slot: 0,
        generation: 0,
    };
    BatchWriter::new().push_from_router(&FromRouter::StatusUpdate(StatusUpdateRecord {
        conversation: wire_base::ids::ConversationId::direct(user_one(), user_one()),
        user: user_one(),
        status: wire_base::status::Status::Read,
        seq: wire_base::ids::Seq(1),
        message_id: MessageId::new(uuid::Uuid::from_u128(1)).unwrap(),
        to: vec![connection; RECORD_BYTES_MAX / 8],
    }));
}

#[test]
fn a_page_that_is_cut_goes_on_behind_the_last_that_is_shown() {
    let summary = |next: &str| SummaryRecord {
        conversation: ConversationId::new(uuid::Uuid::from_u128(1)).unwrap(),
        with: Target::Direct(user_one()),
        last_body: None,
        last_time: UnixMs(1),
        last_seq: Seq(1),
        next: next.to_owned(),
        unread: 0,
        delivered: Seq(0),
        read: Seq(0),
    };
    let page = |more| ConversationsPageRecord {
        request: RequestId(1),
        conversations: vec![summary("behind 1"), summary("behind 2")],
        more,
    };
    let nexts = |page: &ConversationsPageRecord| {
        [1, 2, usize::MAX].map(|count| page.shown(None, count).next.map(str::to_owned))
    };
    let [one, two] = ["behind 1", "behind 2"].map(|next| Some(next.to_owned()));
    assert_eq!(nexts(&page(true)), [one.clone(), two.clone(), two]);
    assert_eq!(nexts(&page(false)), [one, None, None]);
}

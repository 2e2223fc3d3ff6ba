//! [`Reads`] and [`Apply`]: what was applied is read back, in order, and only what was asked for.

use router_records::row::{
    CheckpointRow, ConversationRow, DedupeRow, DeviceRow, InboxRow, MessageRow, ReceiptRow, Row, Table,
    UserConversationRow,
};
use wire_base::ids::{Offset, Position, Seq, UnixMs, UserId};

use super::Place;
use super::samples::*;
use crate::store::{Apply, Direction, Limits, Page, Range, Reads};

/// Holds a store to [`Reads`] and [`Apply`]; `place` makes an empty place.
pub fn keeps_reads_and_apply<P: Place>(place: impl Fn() -> P) {
    store_keeps_its_generation(&place());
    every_kind_of_row_comes_back(&place());
    flushed_offset_goes_with_the_rows(&place());
    pages_are_bounded_by_count_and_bytes(&place());
    a_range_is_read_from_one_place_to_another(&place());
    lists_hold_what_belongs_to_their_owner(&place());
    rows_written_again_change_nothing(&place());
    complete_checkpoint_ends_after_the_flushed_offset_of_then(&place());
}

fn store_keeps_its_generation(place: &impl Place) {
    let mut store = place.open();
    let generation = store.generation();
    assert_eq!((store.flushed(), store.checkpoint_end()), (None, None));
    store.probe().unwrap();
    drop(store);
    assert_eq!(place.open().generation(), generation);
}

fn every_kind_of_row_comes_back(place: &impl Place) {
    let entry = position(GENERATION, 30, 1);
    let rows = [
        Row::Message(message_row(1, 3, 30, "hello")),
        Row::Dedupe(index_row(31, 1, 1, 30)),
        Row::Conversation(conversation_row(1, 3)),
        Row::Receipt(receipt_row(1, 2)),
        Row::UserConversation(user_conversation_row(1, 1)),
        Row::Inbox(inbox_row(2, entry)),
        Row::Device(device_row(2, 1)),
        Row::Checkpoint(checkpoint_row(500, 30)),
    ];
    let mut store = place.open();
    store.apply(&rows, Offset(30)).unwrap();
    let check = |store: &_| {
        is_there(store, conversation(1), Seq(3), message_row(1, 3, 30, "hello"));
        is_there(
            store,
            message_id(31),
            (user(1), conversation(1)),
            index_row(31, 1, 1, 30),
        );
        is_there(store, conversation(1), (), conversation_row(1, 3));
        is_there(store, conversation(1), user(2), receipt_row(1, 2));
        is_there(store, user(1), conversation(1), user_conversation_row(1, 1));
        is_there(store, user(2), entry, inbox_row(2, entry));
        is_there(store, user(2), device(1), device_row(2, 1));
        is_there(store, (), UnixMs(500), checkpoint_row(500, 30));
        is_absent::<MessageRow>(store, conversation(1), Seq(4));
        is_absent::<DedupeRow>(store, message_id(31), (user(2), conversation(1)));
        is_absent::<ConversationRow>(store, conversation(2), ());
        is_absent::<ReceiptRow>(store, conversation(1), user(1));
        is_absent::<UserConversationRow>(store, user(2), conversation(1));
        is_absent::<InboxRow>(store, user(1), entry);
        is_absent::<DeviceRow>(store, user(2), device(2));
        is_absent::<CheckpointRow>(store, (), UnixMs(501));
    };
    check(&store);
    store.persist().unwrap();
    drop(store);
    check(&place.open());
}

fn is_there<T>(store: &impl Reads, owner: T::Owner, order: T::Order, row: T)
where
    T: Table + PartialEq + std::fmt::Debug,
{
    assert_eq!(store.get(owner, order).unwrap(), Some(row));
}

fn is_absent<T: Table>(store: &impl Reads, owner: T::Owner, order: T::Order) {
    assert!(store.get::<T>(owner, order).unwrap().is_none());
}

fn flushed_offset_goes_with_the_rows(place: &impl Place) {
    let mut store = place.open();
    let rows = [Row::Conversation(conversation_row(1, 1))];
    store.apply(&rows, Offset(0)).unwrap();
    assert_eq!(store.flushed(), Some(Offset(0)));
    store.apply(&[], Offset(u64::MAX - 1)).unwrap();
    store.persist().unwrap();
    drop(store);
    assert_eq!(place.open().flushed(), Some(Offset(u64::MAX - 1)));
}

fn pages_are_bounded_by_count_and_bytes(place: &impl Place) {
    let mut store = place.open();
    let text = "x".repeat(100);
    let size = body(&text).len();
    let rows: Vec<_> = (1..=300)
        .map(|seq| Row::Message(message_row(5, seq, seq, &text)))
        .collect();
    store.apply(&rows, Offset(300)).unwrap();
    let others = [
        message_row(4, 900, 301, "before"),
        message_row(6, 1, 302, "after"),
    ];
    store.apply(&others.map(Row::Message), Offset(302)).unwrap();
    let page = |before: Option<u64>, rows, bytes| {
        let range = Range::<MessageRow>::of(conversation(5)).before(before.map(Seq));
        let page = store
            .scan(range, Direction::Backward, Limits { rows, bytes })
            .unwrap();
        (
            page.rows.iter().map(|row| row.message.seq.0).collect::<Vec<_>>(),
            page.more,
        )
    };
    assert_eq!(page(None, 3, usize::MAX), (vec![300, 299, 298], true));
    assert_eq!(page(Some(298), 2, usize::MAX), (vec![297, 296], true));
    assert_eq!(page(Some(256), 1, usize::MAX), (vec![255], true));
    assert_eq!(page(Some(3), 2, usize::MAX), (vec![2, 1], false));
    assert_eq!(page(Some(4), 2, usize::MAX), (vec![3, 2], true));
    assert_eq!(page(Some(1), 2, usize::MAX), (vec![], false));
    assert_eq!(page(Some(u64::MAX), 1, usize::MAX), (vec![300], true));
    assert_eq!(page(None, 100, 3 * size), (vec![300, 299, 298], true));
    assert_eq!(page(None, 100, 3 * size - 1), (vec![300, 299], true));
    assert_eq!(page(None, 100, 0), (vec![300], true));
    assert_eq!(page(Some(2), 100, 0), (vec![1], false));
    let unknown = Range::<MessageRow>::of(conversation(7));
    let nothing = Page {
        rows: vec![],
        more: false,
    };
    assert_eq!(
        store
            .scan(unknown, Direction::Backward, Limits::rows(10))
            .unwrap(),
        nothing
    );
}

fn a_range_is_read_from_one_place_to_another(place: &impl Place) {
    let mut store = place.open();
    let places = [
        (1, 9, 1),
        (2, 0, 1),
        (2, 0, 2),
        (2, 255, 1),
        (2, 256, 1),
        (2, 256, 256),
    ];
    let places = places.map(|(generation, offset, index)| position(generation, offset, index));
    let mut rows: Vec<_> = places.iter().map(|at| Row::Inbox(inbox_row(7, *at))).collect();
    rows.reverse();
    rows.extend([6, 8].map(|other| Row::Inbox(inbox_row(other, places[2]))));
    store.apply(&rows, Offset(256)).unwrap();
    let scan = |range, direction, rows| -> Vec<Position> {
        let page: Page<InboxRow> = store.scan(range, direction, Limits::rows(rows)).unwrap();
        page.rows.iter().map(|row| row.position).collect()
    };
    let after = |at, rows| scan(Range::of(user(7)).after(at), Direction::Forward, rows);
    let before = |at, rows| scan(Range::of(user(7)).before(at), Direction::Backward, rows);
    let reversed = |places: &[Position]| places.iter().rev().copied().collect::<Vec<_>>();
    assert_eq!(after(None, 100), places);
    assert_eq!(before(None, 100), reversed(&places));
    for (index, at) in places.iter().enumerate() {
        let (older, newer) = (&places[..index], &places[index + 1..]);
        assert_eq!(after(Some(*at), 100), newer);
        assert_eq!(after(Some(*at), 2), newer[..newer.len().min(2)]);
        assert_eq!(before(Some(*at), 100), reversed(older));
    }
    assert_eq!(after(Some(Position::start(2)), 1), places[1..2]);
    assert_eq!(after(Some(places[0]), 0), []);
    let between = Range::of(user(7)).after(Some(places[1])).before(Some(places[4]));
    assert_eq!(scan(between, Direction::Forward, 9), places[2..4]);
    assert_eq!(scan(Range::of(user(9)), Direction::Forward, 9), []);
    assert_eq!(scan(Range::of(user(5)), Direction::Backward, 9), []);
}

fn lists_hold_what_belongs_to_their_owner(place: &impl Place) {
    let mut store = place.open();
    let devices =
        [(1, 2), (2, 1), (2, 300), (3, 1)].map(|(user, device)| Row::Device(device_row(user, device)));
    let index = [(1, 1, 1), (2, 1, 9), (2, 5, 1), (2, 5, 2), (3, 1, 1)]
        .map(|(id, sender, conversation)| Row::Dedupe(index_row(id, sender, conversation, 1)));
    let conversations = [(1, 1), (2, 3), (2, 256), (2, 1), (3, 1)]
        .map(|(user, conversation)| Row::UserConversation(user_conversation_row(user, conversation)));
    let checkpoints = [3, 1, 2].map(|time| Row::Checkpoint(checkpoint_row(time, time * 10)));
    let rows = [&devices[..], &index, &conversations, &checkpoints].concat();
    store.apply(&rows, Offset(30)).unwrap();
    assert_eq!(
        all::<DeviceRow>(&store, user(2)),
        [device_row(2, 1), device_row(2, 300)]
    );
    assert_eq!(all::<DeviceRow>(&store, user(4)), []);
    let of_two = [
        index_row(2, 1, 9, 1),
        index_row(2, 5, 1, 1),
        index_row(2, 5, 2, 1),
    ];
    assert_eq!(all::<DedupeRow>(&store, message_id(2)), of_two);
    assert_eq!(
        all::<UserConversationRow>(&store, user(2)),
        [1, 3, 256].map(|conversation| user_conversation_row(2, conversation))
    );
    let rest = Range::<UserConversationRow>::of(user(2)).after(Some(conversation(2)));
    assert_eq!(
        store.scan(rest, Direction::Forward, Limits::rows(1)).unwrap(),
        Page {
            rows: vec![user_conversation_row(2, 3)],
            more: true
        }
    );
    assert_eq!(
        all::<CheckpointRow>(&store, ()),
        [1, 2, 3].map(|time| checkpoint_row(time, time * 10))
    );
    assert_eq!(all::<ConversationRow>(&store, conversation(1)), []);
}

fn all<T: Table>(store: &impl Reads, owner: T::Owner) -> Vec<T> {
    let page = store.scan(Range::of(owner), Direction::Forward, Limits::rows(100));
    page.unwrap().rows
}

fn rows_written_again_change_nothing(place: &impl Place) {
    let mut store = place.open();
    let rows = [
        Row::Message(message_row(1, 1, 1, "a")),
        Row::Inbox(inbox_row(UserId::MAX, position(1, 1, 1))),
    ];
    for _ in 0..2 {
        store.apply(&rows, Offset(1)).unwrap();
        assert_eq!(all::<MessageRow>(&store, conversation(1)).len(), 1);
        assert_eq!(all::<InboxRow>(&store, user(UserId::MAX)).len(), 1);
    }
}

fn complete_checkpoint_ends_after_the_flushed_offset_of_then(place: &impl Place) {
    let mut store = place.open();
    store.complete_checkpoint().unwrap();
    assert_eq!(store.checkpoint_end(), Some(Offset(0)));
    let rows = [Row::Conversation(conversation_row(1, 3))];
    store.apply(&rows, Offset(7)).unwrap();
    assert_eq!(
        store.checkpoint_end(),
        Some(Offset(0)),
        "another offset than the store's"
    );
    store.complete_checkpoint().unwrap();
    assert_eq!(store.checkpoint_end(), Some(Offset(8)));
    drop(store);
    assert_eq!(place.open().checkpoint_end(), Some(Offset(8)));
}

//! Rows that a batch would write twice.

use std::collections::HashMap;

use router_records::row::Row;
use wire_base::ids::{ConversationId, DeviceId, UserId};

/// Leaves of the rows that are overwritten in place only the last of each key.
///
/// Shape: keeps its table, which is as large as the largest group.
#[derive(Default)]
pub(super) struct Coalescer {
    places: HashMap<Key, usize>,
}

/// Key of a row that is overwritten in place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Conversation(ConversationId),
    Receipt(ConversationId, UserId),
    Device(UserId, DeviceId),
}

impl Coalescer {
    pub(super) fn coalesce(&mut self, rows: &mut Vec<Row>) {
        self.places.clear();
        let mut kept = 0;
        for at in 0..rows.len() {
            let place = key(&rows[at]).and_then(|key| self.places.insert(key, kept));
            match place {
                // The earlier one is not wanted; which place a row has in its batch means nothing.
                Some(place) => {
                    rows.swap(place, at);
                    let key = key(&rows[place]).expect("it replaced a row with the same key");
                    self.places.insert(key, place);
                }
                None => {
                    rows.swap(kept, at);
                    kept += 1;
                }
            }
        }
        rows.truncate(kept);
    }
}

fn key(row: &Row) -> Option<Key> {
    match row {
        Row::Conversation(row) => Some(Key::Conversation(row.conversation)),
        Row::Receipt(row) => Some(Key::Receipt(row.conversation, row.user)),
        Row::Device(row) => Some(Key::Device(row.user, row.device)),
        Row::Message(_)
        | Row::Dedupe(_)
        | Row::UserConversation(_)
        | Row::Inbox(_)
        | Row::Checkpoint(_)
        | Row::LastSent(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use router_records::row::{DeviceRow, ReceiptRow, UserConversationRow};
    use wire_base::ids::{Position, Seq, SessionNumber, UnixMs};

    use super::*;

    fn user(id: u64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn device_row(device: u32, last_seen: u64) -> Row {
        Row::Device(DeviceRow {
            user: user(1),
            device: DeviceId::new(device).unwrap(),
            acked: Position::start(1),
            session: SessionNumber(1),
            last_seen: UnixMs(last_seen),
        })
    }

    fn receipt_row(peer: u64, read: u64) -> Row {
        let conversation = ConversationId::direct(user(1), user(peer));
        Row::Receipt(ReceiptRow {
            conversation,
            user: user(1),
            delivered: Seq(read),
            read: Seq(read),
        })
    }

    fn inserted_row(peer: u64) -> Row {
        let conversation = ConversationId::direct(user(1), user(peer));
        Row::UserConversation(UserConversationRow {
            user: user(1),
            conversation,
        })
    }

    fn any_row() -> impl Strategy<Value = Row> {
        prop_oneof![
            (1..5u32, 0..100u64).prop_map(|(device, seen)| device_row(device, seen)),
            (1..5u64, 0..100u64).prop_map(|(peer, read)| receipt_row(peer, read)),
            (1..5u64).prop_map(inserted_row),
        ]
    }

    proptest! {
        #[test]
        fn what_is_left_writes_the_same_as_everything_did(rows in prop::collection::vec(any_row(), 0..60)) {
            let written = |rows: &[Row]| {
                let mut table = std::collections::BTreeMap::new();
                for row in rows {
                    let (key, value) = row.encode();
                    table.insert(key, value);
                }
                table
            };
            let mut left = rows.clone();
            Coalescer::default().coalesce(&mut left);
            prop_assert_eq!(written(&left), written(&rows));
            let keys: std::collections::HashSet<_> = left.iter().filter_map(key).collect();
            prop_assert_eq!(keys.len(), left.iter().filter_map(key).count());
        }
    }
}

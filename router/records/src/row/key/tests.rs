use proptest::prelude::*;

use super::*;
use crate::row::{InboxRow, Row, Table};
use wire_base::samples::{
    conversation as conversations, message_id, offset, position, seq, stored_device, time, user,
};

/// Keys are ordered like the fields they are made of.
macro_rules! ordered_like {
    ($name:ident, $fields:expr) => {
        proptest! {
            #[test]
            fn $name(one in $fields, other in $fields, same in any::<bool>()) {
                // Half of the pairs share the first field, so that the second one decides.
                let other = if same { (one.0, other.1) } else { other };
                let key = |fields: (_, _)| {
                    let mut key = Vec::new();
                    fields.write_key(&mut key);
                    key
                };
                prop_assert_eq!(key(one).cmp(&key(other)), one.cmp(&other));
                let bytes = key(one);
                prop_assert_eq!(KeyField::read_key(&mut Reader::borrowed(&bytes)), Ok(one));
            }
        }
    };
}

ordered_like!(conversations_and_seqs_sort, (conversations(), seq()));
ordered_like!(conversations_and_users_sort, (conversations(), user()));
ordered_like!(message_ids_and_users_sort, (message_id(), user()));
ordered_like!(users_and_positions_sort, (user(), position()));
ordered_like!(users_and_devices_sort, (user(), stored_device()));
ordered_like!(users_and_conversations_sort, (user(), conversations()));
ordered_like!(times_and_offsets_sort, (time(), offset()));

proptest! {
    #[test]
    fn the_range_of_an_owner_holds_its_keys_and_no_others(owner in user(), other in user(), at in position()) {
        let prefix = InboxRow::encode_owner(owner);
        let range = prefix.clone()..after(&prefix);
        prop_assert_eq!(prefix.len(), InboxRow::INFO.owner_bytes);
        prop_assert!(range.contains(&InboxRow::encode_key(owner, at)));
        prop_assert_eq!(range.contains(&InboxRow::encode_key(other, at)), owner == other);
    }
}

#[test]
fn the_open_end_carries_over_full_bytes() {
    assert_eq!(after(&[6, 1]), [6, 2]);
    assert_eq!(after(&[6, 0xff, 0xff]), [7]);
}

#[test]
fn every_table_has_a_byte_of_its_own() {
    let bytes: Vec<_> = Row::TABLES.iter().map(|table| table.byte).collect();
    assert_eq!((TABLE_META, &bytes[..]), (0, &[1, 2, 3, 4, 5, 6, 7, 8, 9][..]));
}

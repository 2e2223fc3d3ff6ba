use proptest::prelude::*;

use super::*;
use wire_base::samples::{conversation as conversations, position, seq, stored_device, time, user};

/// Keys are ordered like the fields they are made of.
macro_rules! ordered_like {
    ($name:ident, $fields:expr, $key:expr) => {
        proptest! {
            #[test]
            fn $name(one in $fields, other in $fields, same in any::<bool>()) {
                // Half of the pairs share the first field, so that the second one decides.
                let other = if same { (one.0, other.1) } else { other };
                let key = $key;
                prop_assert_eq!(key(one).cmp(&key(other)), one.cmp(&other));
            }
        }
    };
}

ordered_like!(
    messages_sort_by_conversation_and_seq,
    (conversations(), seq()),
    |(id, seq)| message(id, seq)
);
ordered_like!(
    receipts_sort_by_conversation_and_user,
    (conversations(), user()),
    |(id, user)| receipt(id, user)
);
ordered_like!(inboxes_sort_by_user_and_position, (user(), position()), |(
    user,
    at,
)| inbox(
    user, at
));
ordered_like!(devices_sort_by_user_and_number, (user(), stored_device()), |(
    user,
    id,
)| {
    device(user, id)
});
ordered_like!(user_conversations_sort_by_user, (user(), conversations()), |(
    user,
    id,
)| {
    user_conversation(user, id)
});
ordered_like!(checkpoints_sort_by_time, (time(), Just(())), |(time, ())| {
    checkpoint(time)
});

proptest! {
    #[test]
    fn the_range_of_a_prefix_holds_its_keys_and_no_others(owner in user(), other in user(), at in position()) {
        let prefix = inbox_prefix(owner);
        let range = prefix.to_vec()..after(&prefix);
        prop_assert!(range.contains(&inbox(owner, at).to_vec()));
        prop_assert_eq!(range.contains(&inbox(other, at).to_vec()), owner == other);
    }
}

#[test]
fn the_open_end_carries_over_full_bytes() {
    assert_eq!(after(&[6, 1]), [6, 2]);
    assert_eq!(after(&[6, 0xff, 0xff]), [7]);
}

#[test]
fn every_table_has_a_byte_of_its_own() {
    let tables = [
        TABLE_META,
        TABLE_MESSAGE,
        TABLE_DEDUPE,
        TABLE_CONVERSATION,
        TABLE_RECEIPT,
        TABLE_USER_CONVERSATION,
        TABLE_INBOX,
        TABLE_DEVICE,
        TABLE_CHECKPOINT,
        TABLE_LAST_SENT,
    ];
    assert_eq!(tables, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

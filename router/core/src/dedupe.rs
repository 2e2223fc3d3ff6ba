//! Which sends are surely new: the memory that spares nearly every send its look-up in the index.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use wire_base::ids::{ConversationId, MessageId, Offset, UnixMs, UserId};
use wire_base::limits::MESSAGE_ID_AHEAD_MS_MAX;

use crate::time::Stamp;

/// The identity of a send: two sends with one key are one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendKey {
    /// Where it goes.
    pub conversation: ConversationId,
    /// Who sends it.
    pub sender: UserId,
    /// The sender's id for it.
    pub message_id: MessageId,
}

/// Bounds of a [`Window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Log time, in ms, that an id is remembered for. Default 15 minutes.
    pub span_ms: u64,
    /// Ids remembered. Default 4 Mi, about 120 MB when full (28 bytes each).
    ///
    /// A window that holds less than the last minute and the clients' delay proves nothing, and every send then costs
    /// a look-up: at 50,000 sends a second the default is 84 s.
    pub ids_max: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            span_ms: 15 * 60 * 1000,
            ids_max: 4 << 20,
        }
    }
}

/// The ids that arrived lately, in arrival order. It proves one thing only: that an id is surely new.
///
/// With E the log time of the newest arrival that is no longer remembered: an id carries a time of at most 60 s after
/// its arrival (later ones are refused before the log), so a UUIDv7 whose time is after E + 60 s has not been
/// forgotten, and if it is not here it never came. Any other id must be looked up.
///
/// Shape: a 64-bit fingerprint an id, since a false "seen" costs a look-up and nothing else. Fingerprints are keyed
/// (SipHash with a random key), so a peer cannot aim for collisions; they decide no outcome. Ids go in whole blocks.
#[derive(Debug)]
pub struct Window {
    config: WindowConfig,
    /// E.
    evicted: UnixMs,
    fingerprints: RandomState,
    /// Several sets, so that a growing one is copied in small steps.
    shards: Vec<HashSet<u64, BuildHasherDefault<AlreadyHashed>>>,
    /// How often more than once a fingerprint stands in `blocks`.
    repeats: HashMap<u64, u32>,
    /// Oldest first; only the last one grows.
    blocks: VecDeque<Block>,
    ids: usize,
}

#[derive(Debug)]
struct Block {
    fingerprints: Vec<u64>,
    first: UnixMs,
    newest: Stamp,
}

const SHARDS: usize = 64;
/// A block ends after this much log time, so that ids leave soon after their span.
const BLOCK_MS: u64 = 10_000;
const BLOCK_IDS_MAX: usize = 4_096;

impl Window {
    /// Returns a window that knows nothing of arrivals up to log time `evicted`, and that nothing came after it.
    pub fn new(config: WindowConfig, evicted: UnixMs) -> Self {
        Self {
            config,
            evicted,
            fingerprints: RandomState::new(),
            shards: vec![HashSet::default(); SHARDS],
            repeats: HashMap::new(),
            blocks: VecDeque::new(),
            ids: 0,
        }
    }

    /// Returns whether the send has certainly not come before; `false` says nothing.
    pub fn is_surely_new(&self, key: &SendKey) -> bool {
        self.is_provable(key.message_id) && {
            let fingerprint = self.fingerprints.hash_one(key);
            !self.shards[shard_of(fingerprint)].contains(&fingerprint)
        }
    }

    /// Remembers a send that the record at `stamp` made or repeated.
    ///
    /// Order: stamps ascend.
    pub fn insert(&mut self, key: &SendKey, stamp: Stamp) {
        // What can never be proven need not be remembered: E only grows.
        if !self.is_provable(key.message_id) {
            return;
        }
        let fingerprint = self.fingerprints.hash_one(key);
        if !self.shards[shard_of(fingerprint)].insert(fingerprint) {
            *self.repeats.entry(fingerprint).or_default() += 1;
        }
        self.ids += 1;
        let ids_max = self.block_ids_max();
        match self.blocks.back_mut() {
            Some(block) if block.fingerprints.len() < ids_max && stamp.time.0 < block.first.0 + BLOCK_MS => {
                block.fingerprints.push(fingerprint);
                block.newest = stamp;
            }
            _ => {
                self.blocks.push_back(Block {
                    fingerprints: vec![fingerprint],
                    first: stamp.time,
                    newest: stamp,
                });
            }
        }
    }

    /// Forgets what is over the bounds at log time `time`, but no id whose outcome is not in the store yet.
    ///
    /// Order: records up to `applied` can be read back from the store.
    pub fn evict(&mut self, time: UnixMs, applied: Option<Offset>) {
        loop {
            let has_many = self.ids > self.config.ids_max;
            let block = self.blocks.pop_front_if(|block| {
                let is_over = has_many || block.newest.time.0.saturating_add(self.config.span_ms) < time.0;
                is_over && Some(block.newest.offset) <= applied
            });
            let Some(block) = block else { return };
            self.evicted = self.evicted.max(block.newest.time);
            self.ids -= block.fingerprints.len();
            for fingerprint in block.fingerprints {
                self.forget(fingerprint);
            }
        }
    }

    /// Returns how many arrivals are remembered.
    pub fn len(&self) -> usize {
        self.ids
    }

    /// Returns whether no arrival is remembered.
    pub fn is_empty(&self) -> bool {
        self.ids == 0
    }

    fn is_provable(&self, id: MessageId) -> bool {
        id.unix_ms()
            .is_some_and(|time| time > self.evicted.0.saturating_add(MESSAGE_ID_AHEAD_MS_MAX))
    }

    fn forget(&mut self, fingerprint: u64) {
        match self.repeats.get_mut(&fingerprint) {
            Some(1) => {
                self.repeats.remove(&fingerprint);
            }
            Some(repeats) => *repeats -= 1,
            None => {
                self.shards[shard_of(fingerprint)].remove(&fingerprint);
            }
        }
    }

    fn block_ids_max(&self) -> usize {
        (self.config.ids_max / 64).clamp(1, BLOCK_IDS_MAX)
    }
}

/// Takes bits that the set's own hashing (lowest and highest) does not use.
fn shard_of(fingerprint: u64) -> usize {
    (fingerprint >> 40) as usize % SHARDS
}

/// Passes a fingerprint through: it is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed, by write_u64");
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{message_id_at, other_message_id, send_key, stamp};

    const SPAN_MS: u64 = 1_000_000;

    fn window(ids_max: usize, evicted: u64) -> Window {
        Window::new(
            WindowConfig {
                span_ms: SPAN_MS,
                ids_max,
            },
            UnixMs(evicted),
        )
    }

    #[test]
    fn an_id_is_new_until_it_arrives_and_never_again() {
        let mut window = window(100, 0);
        let key = send_key(1, 2, message_id_at(500_000, 1));
        assert!(window.is_surely_new(&key));
        window.insert(&key, stamp(1, 500_000));
        assert!(!window.is_surely_new(&key));
        // Forgotten by age; now its time is within 60 s of E.
        window.evict(UnixMs(500_000 + SPAN_MS + 1), Some(Offset(1)));
        assert!(window.is_empty() && !window.is_surely_new(&key));
    }

    #[test]
    fn the_same_id_of_another_sender_or_conversation_is_another_send() {
        let mut window = window(100, 0);
        let id = message_id_at(500_000, 1);
        window.insert(&send_key(1, 2, id), stamp(1, 500_000));
        assert!(window.is_surely_new(&send_key(2, 1, id)));
        assert!(window.is_surely_new(&send_key(1, 3, id)));
    }

    #[test]
    fn nothing_is_proven_of_other_versions_or_up_to_a_minute_after_what_was_forgotten() {
        let window = window(100, 1_000_000);
        assert!(!window.is_surely_new(&send_key(1, 2, other_message_id(7))));
        assert!(!window.is_surely_new(&send_key(1, 2, message_id_at(1_060_000, 1))));
        assert!(window.is_surely_new(&send_key(1, 2, message_id_at(1_060_001, 1))));
    }

    #[test]
    fn an_id_stays_while_its_outcome_is_not_in_the_store() {
        let mut window = window(1, 0);
        for offset in 1..=3 {
            window.insert(
                &send_key(1, 2, message_id_at(500_000, offset)),
                stamp(offset, 500_000),
            );
        }
        window.evict(UnixMs(500_000 + 2 * SPAN_MS), None);
        assert_eq!(window.len(), 3);
        window.evict(UnixMs(500_000 + 2 * SPAN_MS), Some(Offset(2)));
        assert_eq!(window.len(), 1);
    }

    /// A send that arrives: how much log time passes before, the age of its id (negative: ahead), which id, and how
    /// far behind the store is.
    fn arrivals() -> impl Strategy<Value = Vec<(u64, i64, u64, u64)>> {
        let age = prop_oneof![3 => -60_000i64..60_000, 1 => -60_000i64..2_000_000];
        prop::collection::vec((0u64..40_000, age, 0u64..6, 0u64..20), 1..400)
    }

    proptest! {
        #[test]
        fn a_send_that_came_before_is_never_called_new(
            arrivals in arrivals(),
            ids_max in 1usize..300,
            start in 0usize..50,
        ) {
            // The window starts in the middle of history, as that of a new owner does.
            let mut time = 10_000_000u64;
            let mut seen = BTreeSet::new();
            let mut window = None;
            for (offset, (passed, age, salt, behind)) in arrivals.into_iter().enumerate() {
                if offset == start {
                    window = Some(self::window(ids_max, time));
                }
                time += passed;
                // Few distinct times, so that ids repeat.
                let id_time = time.saturating_add_signed(-age) / 20_000 * 20_000;
                let key = send_key(1, 2 + salt % 2, message_id_at(id_time, salt));
                if let Some(window) = &mut window {
                    prop_assert!(!(window.is_surely_new(&key) && seen.contains(&key)));
                    let is_far = id_time > window.evicted.0 + MESSAGE_ID_AHEAD_MS_MAX;
                    prop_assert_eq!(window.is_surely_new(&key), is_far && !seen.contains(&key));
                    window.insert(&key, stamp(offset as u64, time));
                    window.evict(UnixMs(time), (offset as u64).checked_sub(behind).map(Offset));
                }
                seen.insert(key);
            }
        }

        #[test]
        fn everything_can_be_forgotten(ids in prop::collection::vec(0u64..20, 0..200)) {
            let mut window = window(50, 0);
            for (offset, id) in ids.iter().enumerate() {
                let key = send_key(1, 2, message_id_at(500_000, *id));
                window.insert(&key, stamp(offset as u64, 500_000));
            }
            window.evict(UnixMs(500_000), Some(Offset(ids.len() as u64)));
            prop_assert!(window.len() <= 50);
            window.evict(UnixMs(500_001 + SPAN_MS), Some(Offset(ids.len() as u64)));
            prop_assert!(window.is_empty() && window.repeats.is_empty());
            prop_assert!(window.shards.iter().all(HashSet::is_empty));
        }
    }
}

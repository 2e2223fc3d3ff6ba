//! The folds against a model that remembers everything, over a store of maps.

mod driver;
mod history;
mod model;
mod rules;

use std::collections::BTreeMap;

use proptest::prelude::*;
use router_records::log::Input;
use wire_base::ids::{Offset, Seq};

use self::driver::{Driver, FORGETFUL, configs, groups};
use self::history::histories;
use self::model::Model;
use super::*;
use crate::testing::Tables;

proptest! {
    #[test]
    fn rows_outcomes_and_updates_are_those_of_a_model_that_remembers_everything(
        log in histories(), groups in groups(), config in configs(),
    ) {
        let mut driver = Driver::new(config);
        driver.run(&log, 0, &groups);
        let model = Model::of(&log);
        let outcomes: BTreeMap<_, _> = model.outcomes.iter().map(|(at, outcome)| (*at, vec![*outcome])).collect();
        prop_assert_eq!(&driver.outcomes, &outcomes);
        prop_assert_eq!(&driver.updates, &model.updates);
        prop_assert_eq!(&driver.store, &model.store);
    }

    #[test]
    fn seqs_are_dense_and_an_inbox_links_them_without_a_gap(log in histories(), groups in groups()) {
        let mut driver = Driver::new(FORGETFUL);
        driver.run(&log, 0, &groups);
        for row in driver.store.conversations.values() {
            let seqs: Vec<_> = driver.store.messages_of(row.conversation).map(|row| row.message.seq.0).collect();
            prop_assert_eq!(seqs, (1..=row.last_seq.0).collect::<Vec<_>>());
        }
        let mut last = BTreeMap::new();
        for row in driver.store.inbox.values() {
            let last = last.entry((row.user, row.conversation)).or_insert(Seq(0));
            prop_assert_eq!((row.prev_seq, row.seq), (*last, last.next()));
            *last = row.seq;
        }
    }

    #[test]
    fn two_folds_of_one_log_agree_whatever_their_memory_and_their_groups(
        log in histories(), groups in (groups(), groups()),
    ) {
        let (mut one, mut other) = (Driver::new(FoldsConfig::default()), Driver::new(FORGETFUL));
        one.run(&log, 0, &groups.0);
        other.run(&log, 0, &groups.1);
        prop_assert_eq!(one.store, other.store);
        prop_assert_eq!(one.outcomes, other.outcomes);
        prop_assert_eq!(one.messages, other.messages);
        prop_assert_eq!(one.updates, other.updates);
    }

    #[test]
    fn after_a_crash_the_replay_gives_the_same_rows_and_the_same_answers(
        log in histories(), groups in groups(), config in (configs(), configs()),
        (crash, reverted, observed) in (0usize..40, 0usize..40, 0usize..40),
    ) {
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);

        // The first owner gets as far as `crash`; what survives of its store is the batch at `kept`.
        let crash = crash.min(log.len());
        let kept = crash.saturating_sub(reverted);
        let mut first = Driver::new(config.0);
        first.run(&log[..kept], 0, &groups);
        let survived = first.store.clone();
        first.run(&log[..crash], kept, &groups);

        let mut second = Driver::restarted(survived, config.1, &log, kept, observed);
        second.run(&log, kept, &groups);
        prop_assert_eq!(&second.store, &whole.store);
        for (offset, outcomes) in first.outcomes.iter().chain(&second.outcomes) {
            prop_assert_eq!(outcomes, &whole.outcomes[offset], "{:?}", offset);
        }
        prop_assert_eq!(&second.messages[..], &whole.messages[whole.messages.len() - second.messages.len()..]);
    }

    #[test]
    fn records_that_the_store_is_ahead_of_are_done_and_answered_the_same(
        log in histories(), groups in groups(), config in configs(), (from, observed) in (0usize..40, 0usize..40),
    ) {
        // Only sends: positions and seqs of other records are bounded by a head that the store has moved on.
        let log: Vec<_> = log.into_iter().filter(|record| matches!(record.input, Input::Send(_))).collect();
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);
        let from = from.min(log.len());
        let mut again = Driver::restarted(whole.store.clone(), config, &log, from, observed);
        again.run(&log, from, &groups);
        prop_assert_eq!(again.store, whole.store);
        prop_assert!(again.messages.is_empty());
        prop_assert_eq!(again.outcomes, whole.outcomes.split_off(&Offset(from as u64)));
    }
}

proptest! {
    /// A cluster's store takes rows one by one: what is written once may be ahead of the states of conversations.
    #[test]
    fn rows_that_a_lost_owner_wrote_ahead_count_as_absent_and_are_written_the_same(
        log in histories(), groups in groups(), config in configs(), (from, observed) in (0usize..40, 0usize..40),
    ) {
        let log: Vec<_> = log.into_iter().filter(|record| matches!(record.input, Input::Send(_))).collect();
        let mut whole = Driver::new(FoldsConfig::default());
        whole.run(&log, 0, &[1]);
        let from = from.min(log.len());
        let mut before = Driver::new(FoldsConfig::default());
        before.run(&log[..from], 0, &[1]);

        let store = Tables { conversations: before.store.conversations, ..whole.store.clone() };
        let mut again = Driver::restarted(store, config, &log, from, observed);
        again.run(&log, from, &groups);
        prop_assert_eq!(again.store, whole.store);
        prop_assert_eq!(again.outcomes, whole.outcomes.split_off(&Offset(from as u64)));
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn a_deadline_fires_at_its_millisecond_and_not_before() {
    for deadline in [1, 63, 64, 65, 4_095, 4_096, 25_000, 300_000, 16_000_000] {
        let mut wheel = Wheel::new();
        wheel.set(7, deadline);
        assert_eq!(wheel.expire(deadline - 1), None, "{deadline}");
        assert_eq!(wheel.expire(deadline), Some(7), "{deadline}");
        assert_eq!(wheel.expire(deadline + SPAN_MS), None, "{deadline}");
        assert_eq!(wheel.next_ms(), None);
    }
}

#[test]
fn a_deadline_beyond_the_span_fires_at_the_span() {
    let mut wheel = Wheel::new();
    wheel.expire(1_000);
    wheel.set(1, u64::MAX / 2);
    assert_eq!(wheel.expire(1_000 + SPAN_MS - 1), None);
    assert_eq!(wheel.expire(1_000 + SPAN_MS), Some(1));
}

#[test]
fn an_earlier_deadline_stays_and_a_later_one_gives_way() {
    let mut wheel = Wheel::new();
    wheel.set_earlier(1, 500);
    wheel.set_earlier(1, 900);
    assert_eq!(wheel.expire(499), None);
    wheel.set_earlier(1, 499_000);
    assert_eq!(wheel.expire(500), Some(1));
    wheel.set(1, 600);
    wheel.cancel(1);
    assert_eq!(wheel.expire(10_000), None);
}

#[derive(Clone, Debug)]
enum Step {
    Set { slot: u32, ahead_ms: u64 },
    Cancel { slot: u32 },
    Advance { by_ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![0u64..130, 0u64..70_000, 0u64..SPAN_MS + 10];
    prop_oneof![
        4 => (0u32..600, ahead.clone()).prop_map(|(slot, ahead_ms)| Step::Set { slot, ahead_ms }),
        1 => (0u32..600).prop_map(|slot| Step::Cancel { slot }),
        2 => ahead.prop_map(|by_ms| Step::Advance { by_ms }),
    ]
}

proptest! {
    #[test]
    fn the_wheel_agrees_with_a_sorted_map(start in prop_oneof![Just(0u64), Just((1 << 32) - 40_000)],
                                          steps in prop::collection::vec(step(), 1..200)) {
        let mut wheel = Wheel::new();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        let mut now = start;
        wheel.expire(now);
        for step in steps {
            match step {
                Step::Set { slot, ahead_ms } => {
                    wheel.set(slot, now + ahead_ms);
                    model.insert(slot, now + ahead_ms.clamp(1, SPAN_MS));
                }
                Step::Cancel { slot } => {
                    wheel.cancel(slot);
                    model.remove(&slot);
                }
                Step::Advance { by_ms } => {
                    now += by_ms;
                    let mut fired: Vec<u32> = std::iter::from_fn(|| wheel.expire(now)).collect();
                    fired.sort_unstable();
                    let due: Vec<u32> = model.iter().filter(|&(_, &at)| at <= now).map(|(&slot, _)| slot).collect();
                    prop_assert_eq!(fired, due);
                    model.retain(|_, at| *at > now);
                }
            }
            match (wheel.next_ms(), model.values().min()) {
                (None, None) => {}
                (Some(next), Some(&first)) => prop_assert!(now < next && next <= first, "{now} {next} {first}"),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}

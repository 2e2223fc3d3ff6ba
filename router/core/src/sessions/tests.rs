//! Sessions against clients that check every delivery, and the rules one by one.

mod acks;
mod inbox;
mod opening;
mod reading;
mod world;

use proptest::prelude::*;

use self::world::World;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn every_device_sees_what_follows_its_cursor_in_order_and_never_more_than_its_window(
        steps in prop::collection::vec(world::steps(), 1..150),
        (page_entries_max, window_bytes_max) in (1usize..8, 1usize..120),
    ) {
        let config = SessionsConfig { window_bytes_max, page_entries_max, ..SessionsConfig::default() };
        let mut world = World::new(config);
        for step in steps {
            world.take(step);
        }
        world.settle();
    }
}

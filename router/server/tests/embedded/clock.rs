//! Wall clocks that are wrong, for a moment or for days: nothing is lost by them, and nothing stays refused.

use router_core::testing::{direct, page_texts, user};
use router_server::health::Readiness;
use wire_base::code::Code;
use wire_base::ids::UnixMs;
use wire_link::ToRouter;

use crate::retention::let_time_pass;
use crate::world::{Device, Link, World};

const DAY_MS: u64 = 24 * 3_600_000;
/// After which a clock is believed that says something unlikely.
const SETTLE_MS: u64 = 62_000;

struct Told {
    world: World,
    gateway: Link,
    a: Device,
}

/// Returns a world in which user 1 told user 2 five things.
fn told(seed: u64) -> Told {
    let mut world = World::seeded(seed);
    let (gateway, a) = world.one();
    for n in 0..5 {
        world.send(&a, user(2), &n.to_string()).unwrap();
    }
    Told { world, gateway, a }
}

impl Told {
    fn set_wall(&mut self, days: i64) {
        let UnixMs(now) = self.world.now.unix;
        self.world.now.unix = UnixMs(now.saturating_add_signed(days * DAY_MS as i64));
    }

    fn restart(&mut self) {
        self.world.kill();
        self.world.start().unwrap();
        self.gateway = self.world.gateway();
        self.a = self.world.connect(self.gateway, user(1), 1);
    }

    fn pass(&mut self, ms: u64) {
        let_time_pass(&mut self.world, ms);
    }

    fn send(&mut self, text: &str) -> Result<u64, Code> {
        let sent = self.world.send(&self.a, user(2), text);
        sent.map(|sent| sent.seq.0).map_err(|refused| refused.code)
    }

    fn readiness(&mut self) -> Readiness {
        self.world.readiness()
    }

    fn stored(&mut self) -> usize {
        let conversation = direct(1, 2);
        let page = self.world.history(self.gateway, user(1), conversation, None, 100);
        page_texts(&page.unwrap()).len()
    }
}

#[test]
fn a_start_with_the_clock_weeks_ahead_for_a_moment_costs_nothing() {
    let mut it = told(1);
    it.set_wall(40);
    it.restart();
    assert_eq!(it.readiness(), Readiness::ClockUnset);
    it.pass(200);
    assert_eq!(it.send("when?"), Err(Code::Unavailable));
    assert_eq!(it.stored(), 5, "reads go on");
    it.set_wall(-40);
    it.restart();
    it.pass(3 * 600_000);
    assert_eq!(it.readiness(), Readiness::Ready);
    assert_eq!((it.stored(), it.send("now")), (5, Ok(6)));
}

#[test]
fn a_clock_that_stays_weeks_ahead_over_restarts_costs_nothing_either() {
    let mut it = told(2);
    for days in [40, 40, 300] {
        it.set_wall(days);
        it.restart();
        it.pass(SETTLE_MS);
        it.send("later").unwrap();
        it.pass(2 * 3_600_000);
    }
    assert_eq!(it.stored(), 8);
}

#[test]
fn a_clock_that_jumps_weeks_ahead_while_the_router_runs_costs_nothing() {
    let mut it = told(3);
    it.pass(3_600_000);
    it.set_wall(31);
    it.pass(SETTLE_MS);
    it.send("believed").unwrap();
    it.pass(3 * 600_000);
    assert_eq!(it.stored(), 6);
    assert_eq!(it.world.metric("router_sweep_steps_total"), 0);
}

#[test]
fn a_jump_of_a_moment_leaves_no_trace() {
    let mut it = told(4);
    let before = it.world.now.unix;
    for days in [60, -60] {
        it.set_wall(days);
        it.world.advance(1_000);
        assert_eq!(
            it.send("an id of that time"),
            Err(Code::Unavailable),
            "it may be right"
        );
        it.set_wall(-days);
        it.world.advance(1_000);
        it.send("right").unwrap();
    }
    let sent = it.world.send(&it.a, user(2), "stamped").unwrap();
    assert!(sent.timestamp.0 - before.0 < 10_000, "{sent:?}");
}

#[test]
fn ids_of_the_right_time_are_good_after_records_of_a_wrong_one() {
    let mut it = told(5);
    it.set_wall(60);
    it.pass(SETTLE_MS);
    let wrong = it.world.send(&it.a, user(2), "60 days ahead").unwrap();
    it.set_wall(-60);
    it.world.advance(1_000);
    assert_eq!(it.send("which clock?"), Err(Code::Unavailable));
    it.pass(SETTLE_MS);
    let id = it.world.new_id();
    let right = it.world.send_with_id(&it.a, user(2), id, "right").unwrap();
    assert!(right.timestamp >= wrong.timestamp, "time stamps never go back");
    it.restart();
    assert_eq!(it.readiness(), Readiness::ClockUnset);
    it.pass(SETTLE_MS);
    assert_eq!(it.send("right again"), Ok(8));
    let again = it.world.send_with_id(&it.a, user(2), id, "right").unwrap();
    assert!(again.duplicate && again.seq == right.seq);
}

#[test]
fn an_id_whose_outcome_is_deleted_gets_no_second_seq_when_the_clock_is_set_back() {
    for restarts in [true, false] {
        let mut world = World::seeded(6);
        let (gateway, a) = world.one();
        let id = world.new_id();
        world.send_with_id(&a, user(2), id, "once").unwrap();
        for text in ["x", "y"] {
            world.send(&a, user(2), text).unwrap();
        }
        let mut it = Told { world, gateway, a };
        it.pass(31 * DAY_MS);
        assert!(it.world.metric("router_sweep_steps_total") > 0);
        it.set_wall(-31);
        if restarts {
            it.restart();
        }
        it.pass(SETTLE_MS);
        let again = it.world.send_with_id(&it.a, user(2), id, "once");
        assert_eq!(again.unwrap_err().code, Code::BadRequest);
        it.set_wall(31);
        it.pass(SETTLE_MS);
        assert_eq!(it.send("new"), Ok(4));
    }
}

#[test]
fn a_boot_at_1970_waits_for_the_clock_and_stamps_nothing() {
    let mut world = World::down(7, told(7).world.config);
    let right = std::mem::replace(&mut world.now.unix, UnixMs(5_000));
    world.start().unwrap();
    let gateway = world.gateway();
    let open = world.open_record(user(1), 1);
    world.say(gateway, &[ToRouter::SessionOpen(open)]);
    let_time_pass(&mut world, DAY_MS);
    assert_eq!(world.readiness(), Readiness::ClockUnset);
    assert_eq!(world.metric("router_records_total"), 0);

    world.now.unix = right;
    world.pass(1_001);
    assert_eq!(world.readiness(), Readiness::Ready);
    let a = world.connect(gateway, user(1), 1);
    let sent = world.send(&a, user(2), "x").unwrap();
    world.send(&a, user(2), "y").unwrap();
    assert!(sent.timestamp >= right);
    let mut it = Told { world, gateway, a };
    it.pass(2 * DAY_MS);
    assert_eq!(it.stored(), 2);

    // The same with records of before in the log: none that comes now is of their time.
    let right = it.world.now.unix;
    it.world.now.unix = UnixMs(5_000);
    it.restart();
    it.pass(2 * SETTLE_MS);
    assert_eq!(it.send("z"), Err(Code::Unavailable));
    it.world.now.unix = UnixMs(right.0 + DAY_MS);
    it.world.advance(1_001);
    assert_eq!(it.send("z"), Ok(3));
}

#[test]
fn after_a_rest_of_two_months_reads_and_sends_work_and_retention_goes_on() {
    let mut it = told(8);
    it.pass(3 * 3_600_000);
    it.set_wall(60);
    it.restart();
    assert_eq!(it.stored(), 5);
    it.pass(SETTLE_MS);
    assert_eq!(it.send("back"), Ok(6));
    it.pass(28 * DAY_MS);
    assert_eq!(it.stored(), 6, "a rest counts as a day");
    it.pass(2 * DAY_MS);
    assert_eq!(it.stored(), 1);
}

#[test]
fn a_start_after_days_on_which_nobody_sent_is_no_start_after_a_rest() {
    let mut it = told(9);
    it.pass(20 * DAY_MS);
    it.restart();
    assert_eq!(it.readiness(), Readiness::Ready);
    assert_eq!(it.send("at once"), Ok(6));
}

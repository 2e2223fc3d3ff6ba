//! A log that is full of what nobody needs any more makes room by itself, and never of what the store lacks.

use router_core::testing::user;
use router_server::health::Readiness;
use router_storage::disk::Disk;
use router_storage::store::KvFault;
use wire_base::code::Code;

use crate::retention::let_time_pass;
use crate::world::{Device, Link, World};

const MINUTE_MS: u64 = 60_000;
/// Of 10,000 bytes each; 105 fill a segment.
const SENDS: u64 = 420;

fn world(seed: u64) -> (World, Link, Device) {
    let mut world = World::with(seed, |config| config.log_segment_bytes = 1 << 20);
    let (gateway, a) = world.one();
    (world, gateway, a)
}

/// Fills four segments and begins a fifth.
fn fill(world: &mut World, gateway: Link, a: &Device) {
    let text = "x".repeat(10_000);
    for _ in 0..SENDS {
        world.say_send(a, user(2), &text);
        world.tick();
    }
    world.heard(gateway);
    assert_eq!(segments(world), 5);
}

fn segments(world: &World) -> usize {
    let names = world.disk.list().unwrap();
    names.iter().filter(|name| name.ends_with(".log")).count()
}

#[test]
fn old_segments_go_by_time_though_nothing_is_written() {
    let (mut world, gateway, a) = world(1);
    fill(&mut world, gateway, &a);
    let_time_pass(&mut world, 50 * MINUTE_MS);
    assert_eq!(segments(&world), 5, "they are kept for an hour");
    let_time_pass(&mut world, 16 * MINUTE_MS);
    assert_eq!(segments(&world), 1);
}

#[test]
fn a_full_log_gives_up_what_it_kept_for_longer_than_dedupe_needs() {
    let (mut world, gateway, a) = world(2);
    fill(&mut world, gateway, &a);
    let_time_pass(&mut world, 10 * MINUTE_MS);
    world.disk.set_space_left(Some(10));
    assert_eq!(world.send(&a, user(2), "x").unwrap_err().code, Code::Unavailable);
    let_time_pass(&mut world, 2 * MINUTE_MS);
    assert_eq!(world.readiness(), Readiness::LogFull);
    assert_eq!(segments(&world), 5, "dedupe reads them at a start");
    let_time_pass(&mut world, 4 * MINUTE_MS);
    assert_eq!(world.readiness(), Readiness::Ready);
    assert_eq!(world.send(&a, user(2), "x").unwrap().seq.0, SENDS + 1);
}

#[test]
fn a_start_on_a_full_disk_makes_room_too() {
    let (mut world, gateway, a) = world(3);
    fill(&mut world, gateway, &a);
    let_time_pass(&mut world, MINUTE_MS);
    world.kill();
    world.advance(2 * 60 * MINUTE_MS);
    world.disk.set_space_left(Some(0));
    world.start().unwrap();
    let (_, a) = world.one();
    let_time_pass(&mut world, 2_000);
    assert_eq!(world.send(&a, user(2), "x").unwrap().seq.0, SENDS + 1);
}

#[test]
fn segments_go_though_log_time_stands_still_after_a_wrong_clock() {
    let (mut world, gateway, a) = world(4);
    world.now.unix.0 += 90 * 24 * 60 * MINUTE_MS;
    let_time_pass(&mut world, 2 * MINUTE_MS);
    fill(&mut world, gateway, &a);
    world.now.unix.0 -= 90 * 24 * 60 * MINUTE_MS;
    let_time_pass(&mut world, 67 * MINUTE_MS);
    assert_eq!(segments(&world), 1);
}

#[test]
fn what_the_store_does_not_surely_have_stays_in_the_log_however_old_and_full_it_is() {
    let (mut world, gateway, a) = world(5);
    world.kv.fail_persists(Some(KvFault::NoSpace));
    fill(&mut world, gateway, &a);
    let_time_pass(&mut world, 3 * 60 * MINUTE_MS);
    world.disk.set_space_left(Some(10));
    assert_eq!(world.send(&a, user(2), "x").unwrap_err().code, Code::Unavailable);
    let_time_pass(&mut world, 3 * 60 * MINUTE_MS);
    assert_eq!(segments(&world), 5);
    // Whatever the power leaves of the store, the log has the rest.
    world.crash();
    world.disk.set_space_left(None);
    world.start().unwrap();
    let (_, a) = world.one();
    assert_eq!(world.send(&a, user(2), "next").unwrap().seq.0, SENDS + 1);
}

use super::*;

#[test]
fn a_drain_closes_every_client_with_4503_spread_over_its_time() {
    let mut world = echo(HubConfig {
        drain_ms: 1_000,
        ..HubConfig::default()
    });
    let ids: Vec<_> = (0..100).map(|_| world.connect()).collect();
    let waiting = world.accept();
    world.hub.start_drain(world.now);
    world.tick();
    let first = world.hub.stats().closes(Reason::Draining);
    assert!((1..=10).contains(&first), "{first}");
    world.pass_ms(500);
    let half = world.hub.stats().closes(Reason::Draining);
    assert!((40..=70).contains(&half), "{half}");
    world.pass_ms(500);
    assert_eq!(world.hub.stats().closes(Reason::Draining), 100);
    assert_eq!(world.client(waiting).status(), 503);
    assert!(!world.hub.is_drained());
    for id in ids {
        assert_eq!(world.client(id).close_code(), 4503);
        world.send_end(id);
    }
    world.send_end(waiting);
    assert!(world.hub.is_drained());
    assert_all_ended(&world);
    assert!(
        world
            .hub
            .poll_timeout()
            .is_none_or(|at_ms| at_ms > world.now.mono_ms)
    );
}

#[test]
fn an_upgrade_during_a_drain_is_refused_with_503() {
    let mut world = echo(HubConfig {
        drain_ms: 1_000,
        ..HubConfig::default()
    });
    world.hub.start_drain(world.now);
    world.tick();
    let id = world.accept();
    assert_eq!(world.upgrade_with(id, "/ws", ""), 503);
    assert!(world.client(id).response.contains("Retry-After: 5\r\n"));
    only_reason(&world, Reason::UpgradeDraining);
}

#[test]
fn clients_that_do_not_go_are_cut_off_at_the_hard_deadline() {
    let mut world = echo(HubConfig {
        drain_ms: 1_000,
        ..HubConfig::default()
    });
    let id = world.connect();
    world.client(id).room = 0;
    world.hub.start_drain(world.now);
    world.tick();
    let late = world.accept();
    world.pass_ms(5_999);
    assert_eq!(world.hub.connections(), 0); // Five seconds for the close, and for the upgrade.
    assert!(world.client(id).is_closed && world.client(late).is_closed);
    let later = world.accept();
    world.pass_ms(1);
    assert!(world.client(later).is_closed && world.hub.is_drained());
    assert_all_ended(&world);
}

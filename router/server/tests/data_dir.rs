//! A router on real files, on its thread.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use router_server::config::RouterConfig;
use router_server::embedded::{RouterThread, check_data_dir, clocks, open_data_dir, spawn};
use router_server::health::Readiness;
use wire::body::{Body, Content};
use wire::ids::{DeviceId, UserId};
use wire::link::codec::{BatchWriter, decode_from_router};
use wire::link::pipe::{Endpoint, pipe};
use wire::link::{
    FromRouter, LINK_VERSION, LinkHello, LinkKind, RequestId, SendRecord, SentRecord, ToRouter,
};

/// A link whose waker rings.
struct Link {
    endpoint: Endpoint,
    bell: Receiver<()>,
}

fn start(config: &RouterConfig) -> (Link, RouterThread, u64) {
    let started = Instant::now();
    let (mut router, report) = open_data_dir(config.clone(), clocks(started)).unwrap();
    let (endpoint, theirs) = pipe(config.link_pipe_bytes);
    router.add_link(theirs);
    let (ring, bell) = channel();
    endpoint.set_waker(Arc::new(move || {
        let _ = ring.send(());
    }));
    let mut batch = BatchWriter::new();
    batch.push_to_router(&ToRouter::Hello(LinkHello {
        version: LINK_VERSION,
        kind: LinkKind::Api,
        node: "test".into(),
        epoch: 1,
        worker: 0,
    }));
    endpoint.try_send(batch.take()).unwrap();
    (
        Link { endpoint, bell },
        spawn(router, started).unwrap(),
        report.replayed,
    )
}

impl Link {
    /// Sends messages of user 1 to user 2 in one batch and waits until all are durable.
    fn send(&self, texts: &[String]) -> Vec<SentRecord> {
        let mut batch = BatchWriter::new();
        for (request, text) in (0..).zip(texts) {
            batch.push_to_router(&ToRouter::Send(SendRecord {
                request: RequestId(request),
                sender: UserId::new(1).unwrap(),
                sender_device: DeviceId::API,
                receiver: UserId::new(2).unwrap(),
                message_id: None,
                body: Body {
                    content: Content::Text(text),
                    media_url: None,
                    kind: None,
                }
                .encode(),
            }));
        }
        self.endpoint.try_send(batch.take()).unwrap();
        let mut sent = Vec::new();
        while sent.len() < texts.len() {
            while let Some(batch) = self.endpoint.try_recv().expect("the router is up") {
                for record in decode_from_router(batch) {
                    match record.unwrap() {
                        FromRouter::Sent(record) => sent.push(record),
                        other => panic!("not sent: {other:?}"),
                    }
                }
            }
            if sent.len() < texts.len() {
                self.bell
                    .recv_timeout(Duration::from_secs(60))
                    .expect("the router wakes its links");
            }
        }
        sent
    }
}

#[test]
fn a_data_directory_is_made_used_stopped_checked_and_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = RouterConfig {
        data_dir: directory.path().join("deep/data"),
        sends_per_s: Some(0),
        ..RouterConfig::default()
    };
    let texts: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let (link, router, _) = start(&config);
    let sent = link.send(&texts);
    assert_eq!(
        sent.iter().map(|sent| sent.seq.0).collect::<Vec<_>>(),
        (1..=500).collect::<Vec<_>>()
    );

    let second = open_data_dir(config.clone(), clocks(Instant::now()))
        .err()
        .expect("it is in use")
        .to_string();
    assert!(
        second.contains("in use") && second.contains("deep/data"),
        "{second}"
    );

    router.stop();
    assert!(link.endpoint.try_recv().is_err(), "its links are closed");
    let check = check_data_dir(&config.data_dir).unwrap();
    assert!(check.is_sound(), "{check}");

    let (link, router, replayed) = start(&config);
    assert_eq!(replayed, 0, "a stop leaves nothing to replay");
    assert_eq!(link.send(&["next".to_owned()])[0].seq.0, 501);
    drop(link);
    drop(router);
}

#[test]
fn a_check_changes_nothing_and_calls_what_a_crash_tears_sound() {
    let directory = tempfile::tempdir().unwrap();
    let config = RouterConfig {
        data_dir: directory.path().to_owned(),
        sends_per_s: Some(0),
        ..RouterConfig::default()
    };
    let (link, router, _) = start(&config);
    link.send(&(0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    router.stop();
    let tear = |folder: &str, extension: &str| {
        let files = std::fs::read_dir(directory.path().join(folder)).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == extension));
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(files.last().unwrap())
            .unwrap();
        file.write_all(b"half a batch").unwrap();
    };
    tear("log", "log");
    tear("store", "jnl");
    let before = contents(directory.path());
    let check = check_data_dir(&config.data_dir).unwrap();
    assert!(check.is_sound(), "{check}");
    let text = check.to_string();
    assert!(
        text.contains("start would cut") && text.contains("ends in a torn batch"),
        "{text}"
    );
    assert_eq!(contents(directory.path()), before);
    let (link, router, _) = start(&config);
    assert_eq!(link.send(&["next".to_owned()])[0].seq.0, 501);
    router.stop();
}

/// Returns every file below a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn without_sync_a_data_directory_works_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let config = RouterConfig {
        data_dir: directory.path().to_owned(),
        fsync: false,
        sends_per_s: Some(0),
        ..RouterConfig::default()
    };
    let (link, router, _) = start(&config);
    assert_eq!(link.send(&["x".to_owned()])[0].seq.0, 1);
    router.stop();
    let (link, router, _) = start(&config);
    assert_eq!(link.send(&["y".to_owned()])[0].seq.0, 2);
    router.stop();
}

#[test]
fn dropping_the_thread_ends_the_router() {
    let directory = tempfile::tempdir().unwrap();
    let config = RouterConfig {
        data_dir: directory.path().to_owned(),
        ..RouterConfig::default()
    };
    let started = Instant::now();
    let (router, _) = open_data_dir(config, clocks(started)).unwrap();
    let health = router.health();
    assert_eq!(health.readiness(), Readiness::Ready);
    drop(spawn(router, started).unwrap());
    let end = Instant::now() + Duration::from_secs(60);
    while health.readiness() != Readiness::Stopped {
        assert!(Instant::now() < end, "it never stops");
        std::thread::sleep(Duration::from_millis(1));
    }
}

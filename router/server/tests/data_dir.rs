//! A router on real files, on its thread.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use router_core::testing::{decode, encode, link_hello, send_of};
use router_server::config::RouterConfig;
use router_server::embedded::{FOLD_VERSION, RouterThread, check_data_dir, clocks, open_data_dir, spawn};
use router_server::health::Readiness;
use router_storage::disk::RealDisk;
use router_storage::log::{Group, Log, LogConfig, SegmentedLog};
use router_storage::store::{Batch, FjallConfig, FjallKv, Kv};
use tempfile::TempDir;
use wire_base::ids::{DeviceId, Offset};
use wire_link::pipe::{Endpoint, pipe};
use wire_link::{FromRouter, LinkKind, RequestId, SentRecord, ToRouter};

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
    let hello = ToRouter::Hello(link_hello(LinkKind::Api));
    endpoint.try_send(encode(&[hello])).unwrap();
    (
        Link { endpoint, bell },
        spawn(router, started).unwrap(),
        report.replayed,
    )
}

impl Link {
    /// Sends messages of user 1 to user 2 in one batch and waits until all are durable.
    fn send<T: ToString>(&self, texts: impl IntoIterator<Item = T>) -> Vec<SentRecord> {
        let sends: Vec<_> = (0..)
            .map(RequestId)
            .zip(texts)
            .map(|(request, text)| send_of(request, (1, DeviceId::API), 2, None, &text.to_string()))
            .map(ToRouter::Send)
            .collect();
        self.endpoint.try_send(encode(&sends)).unwrap();
        let mut sent = Vec::new();
        while sent.len() < sends.len() {
            while let Some(batch) = self.endpoint.try_recv().expect("the router is up") {
                sent.extend(decode(batch).map(|record| match record {
                    FromRouter::Sent(record) => record,
                    other => panic!("not sent: {other:?}"),
                }));
            }
            if sent.len() < sends.len() {
                self.bell
                    .recv_timeout(Duration::from_secs(60))
                    .expect("the router wakes its links");
            }
        }
        sent
    }
}

/// Returns settings that leave as many messages through as come.
fn config_in(data_dir: impl Into<PathBuf>) -> RouterConfig {
    RouterConfig {
        data_dir: data_dir.into(),
        sends_per_s: Some(0),
        ..RouterConfig::default()
    }
}

/// Returns an empty directory and settings to serve from it, while no child is started.
fn data_dir() -> (RwLockReadGuard<'static, ()>, TempDir, RouterConfig) {
    let unforked = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let config = config_in(directory.path());
    (unforked, directory, config)
}

/// A child between its fork and its exec holds the locks of every data directory here: who starts one is alone.
static FORKS: RwLock<()> = RwLock::new(());

#[test]
fn a_data_directory_is_made_used_stopped_checked_and_started_again() {
    let (_unforked, directory, _) = data_dir();
    let config = config_in(directory.path().join("deep/data"));
    let (link, router, _) = start(&config);
    let sent = link.send(0..500);
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
    assert_eq!(link.send(["next"])[0].seq.0, 501);
    drop(link);
    drop(router);
}

#[test]
fn a_check_changes_nothing_and_calls_what_a_crash_tears_sound() {
    let (_unforked, directory, config) = data_dir();
    let (link, router, _) = start(&config);
    link.send(0..500);
    router.stop();
    let tear = |folder: &str, extension: &str| {
        let files = files(&directory.path().join(folder), extension);
        let mut file = fs::OpenOptions::new()
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
    assert_eq!(link.send(["next"])[0].seq.0, 501);
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
    let (_unforked, _directory, mut config) = data_dir();
    config.fsync = false;
    let (link, router, _) = start(&config);
    assert_eq!(link.send(["x"])[0].seq.0, 1);
    router.stop();
    let (link, router, _) = start(&config);
    assert_eq!(link.send(["y"])[0].seq.0, 2);
    router.stop();
}

#[test]
fn dropping_the_thread_ends_the_router() {
    let (_unforked, _directory, config) = data_dir();
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

#[test]
fn a_data_directory_is_its_owners_alone_whatever_the_umask() {
    let _alone = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    for umask in ["000", "022"] {
        let data = directory.path().join(umask).join("data");
        for _ in 0..2 {
            let script = format!(
                "umask {umask}; {DATA}={} exec {} --exact --ignored child_that_serves_a_while",
                data.display(),
                std::env::current_exe().unwrap().display()
            );
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let everything = modes(&data);
            assert!(everything.len() > 10, "{everything:?}");
            for (path, mode) in everything {
                let own = if path.is_dir() { 0o700 } else { 0o600 };
                assert_eq!(mode, own, "umask {umask}: {} has {mode:o}", path.display());
                // As an earlier version made it; the next start tightens it.
                fs::set_permissions(path, fs::Permissions::from_mode(own | 0o044)).unwrap();
            }
        }
    }
}

const DATA: &str = "ROUTER_SERVER_TEST_DATA";

#[test]
#[ignore = "run by a_data_directory_is_its_owners_alone_whatever_the_umask, since a umask is that of a process"]
fn child_that_serves_a_while() {
    let config = RouterConfig {
        log_segment_bytes: 8_192,
        ..config_in(std::env::var_os(DATA).expect("set by the parent test"))
    };
    for _ in 0..2 {
        let (link, router, _) = start(&config);
        for n in 0..10 {
            link.send([n; 10]);
        }
        router.stop();
    }
}

/// Returns the mode of a directory and of everything in it.
fn modes(path: &Path) -> Vec<(PathBuf, u32)> {
    let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut all = vec![(path.to_owned(), mode)];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all.extend(modes(&entry.unwrap().path()));
        }
    }
    all
}

/// What makes a start refuse, as done to the directory of a stopped server, and what it has to say.
struct Reason {
    name: &'static str,
    spoil: fn(&Path),
    says: &'static str,
}

/// The header of a first segment as the former format had it: version 2, generation 7, fold version 1.
#[rustfmt::skip]
const FORMER_SEGMENT: [u8; 36] = [
    b'T', b'G', b'S', b'G', 2, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0,
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0, 0, 0, 0, 0,
    0xbe, 0xbf, 0x14, 0x54, // CRC32C
];

const REASONS: &[Reason] = &[
    Reason {
        name: "no log",
        spoil: |data| fs::remove_dir_all(data.join("log")).unwrap(),
        says: "records are missing",
    },
    Reason {
        name: "no segments",
        spoil: |data| {
            files(&data.join("log"), "log")
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap())
        },
        says: "records are missing",
    },
    Reason {
        name: "the end of the log is gone",
        spoil: |data| fs::remove_file(files(&data.join("log"), "log").last().unwrap()).unwrap(),
        says: "records are missing",
    },
    Reason {
        name: "a damaged log",
        spoil: |data| flip(&files(&data.join("log"), "log")[0], 40),
        says: "is damaged at byte",
    },
    Reason {
        name: "the log of another store",
        spoil: |data| {
            fs::remove_dir_all(data.join("log")).unwrap();
            drop(open_log_of(data, 7, FOLD_VERSION, None));
        },
        says: "they do not belong together",
    },
    Reason {
        name: "no store",
        spoil: |data| fs::remove_dir_all(data.join("store")).unwrap(),
        says: "gone or lost its identity",
    },
    Reason {
        name: "something else in place of a store",
        spoil: |data| fs::remove_file(data.join("store/version")).unwrap(),
        says: "is no store",
    },
    Reason {
        name: "a store that lost its first row",
        spoil: |data| flip(&files(&data.join("store"), "jnl")[0], 30),
        says: "which store it is, cannot be read",
    },
    Reason {
        name: "a store that lost rows which the log has no more",
        spoil: |data| {
            let journal = &files(&data.join("store"), "jnl")[0];
            flip(journal, 5_000);
            fs::remove_file(&files(&data.join("log"), "log")[0]).unwrap();
            fs::remove_file(&files(&data.join("log"), "log")[0]).unwrap();
        },
        says: "records are missing",
    },
    Reason {
        name: "a store of the former version",
        spoil: |data| {
            let mut kv = FjallKv::open(data.join("store"), FjallConfig::default()).unwrap();
            let mut batch = Batch::default();
            let mut identity = kv.get(&[0, 1]).unwrap().unwrap();
            identity[0] = 1;
            batch.put([0, 1], identity);
            kv.apply(&batch).unwrap();
        },
        says: "the store has schema 1, this build has 2, and none is converted: run the version that wrote it",
    },
    Reason {
        name: "a segment of the former version",
        spoil: |data| write_at_start(&files(&data.join("log"), "log")[0], &FORMER_SEGMENT),
        says: "has log format 2, this build has 3, and none is converted: run the version that wrote it",
    },
    Reason {
        name: "a log without a record, of the former version",
        spoil: |data| {
            fs::remove_dir_all(data.join("store")).unwrap();
            let segments = files(&data.join("log"), "log");
            segments[1..]
                .iter()
                .for_each(|path| fs::remove_file(path).unwrap());
            fs::write(&segments[0], FORMER_SEGMENT).unwrap();
        },
        says: "has log format 2, this build has 3",
    },
    Reason {
        name: "a log of another fold version",
        spoil: |data| {
            drop(open_log(data, FOLD_VERSION + 1));
            // As after a kill: nothing says that the store is complete as it is.
            let mut kv = FjallKv::open(data.join("store"), FjallConfig::default()).unwrap();
            let mut batch = Batch::default();
            batch.put([0, 4], [0xff; 8]);
            kv.apply(&batch).unwrap();
        },
        says: "fold version",
    },
    Reason {
        name: "a record of another version",
        spoil: |data| {
            let mut group = Group::new();
            group.push_bytes(&[200; 40]);
            open_log(data, FOLD_VERSION).append(&mut group).unwrap();
        },
        says: "cannot be understood",
    },
];

#[test]
fn a_start_that_is_refused_leaves_every_byte_as_it_was() {
    let (_unforked, directory, _) = data_dir();
    for reason in REASONS {
        let config = RouterConfig {
            log_segment_bytes: 8_192,
            ..config_in(directory.path().join(reason.name))
        };
        let (link, router, _) = start(&config);
        for round in 0..20 {
            link.send((0..20).map(|n| format!("{round} {n}")));
        }
        router.stop();
        (reason.spoil)(&config.data_dir);
        let before = contents(&config.data_dir);
        for _ in 0..2 {
            let Err(error) = open_data_dir(config.clone(), clocks(Instant::now())) else {
                panic!("{}: it started", reason.name)
            };
            let error = error.to_string();
            assert!(error.contains(reason.says), "{}: {error}", reason.name);
            let after = contents(&config.data_dir);
            assert_eq!(
                after.keys().collect::<Vec<_>>(),
                before.keys().collect::<Vec<_>>(),
                "{}",
                reason.name
            );
            for (path, bytes) in &after {
                assert!(*bytes == before[path], "{}: {}", reason.name, path.display());
            }
        }
    }
}

#[test]
fn what_a_start_cuts_off_the_store_is_kept_beside_it_and_folded_again() {
    let (_unforked, directory, config) = data_dir();
    for round in 0..6 {
        let (link, router, _) = start(&config);
        link.send(["one"]);
        link.send(["two"]);
        router.stop();
        let journal = files(&directory.path().join("store"), "jnl").pop().unwrap();
        let bytes = fs::read(&journal).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        flip(&journal, end - 500);
        let (link, router, replayed) = start(&config);
        assert!(replayed > 0);
        let sent = link.send(["next"]);
        assert_eq!(sent[0].seq.0, 3 * (round + 1), "nothing is lost");
        router.stop();
        let mut cut = files(&directory.path().join("store"), "cut");
        assert_eq!(cut.len() as u64, (round + 1).min(4), "and not for ever");
        cut.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let kept = fs::read(cut.last().unwrap()).unwrap();
        let mut tail = bytes[end - kept.len()..end].to_vec();
        tail[kept.len() - 500] ^= 4;
        assert!(kept.len() >= 500 && kept == tail, "the end of the journal");
    }
}

#[test]
fn a_journal_that_is_damaged_where_tables_hold_its_rows_costs_nothing() {
    let (_unforked, directory, config) = data_dir();
    for round in 0..3 {
        let (link, router, _) = start(&config);
        assert_eq!(link.send(0..100)[99].seq.0, 100 * (round + 1));
        router.stop();
        if round == 1 {
            // Its first rows became a table when the second start read them.
            flip(&files(&directory.path().join("store"), "jnl")[0], 5_000);
        }
    }
}

/// Opens the log of a stopped server as a build with that fold version would.
fn open_log(data: &Path, fold_version: u32) -> SegmentedLog<RealDisk> {
    let store = check_data_dir(data).unwrap().store;
    open_log_of(data, store.generation.unwrap(), fold_version, store.flushed)
}

fn open_log_of(
    data: &Path,
    generation: u32,
    fold_version: u32,
    flushed: Option<Offset>,
) -> SegmentedLog<RealDisk> {
    let config = LogConfig {
        generation,
        fold_version,
        checkpoint_complete: true,
        ..LogConfig::default()
    };
    let disk = RealDisk::open(data.join("log")).unwrap();
    SegmentedLog::open(disk, config, flushed).unwrap().0
}

/// Returns the files of a directory with that extension, by name.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .collect();
    files.sort();
    files
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn write_at_start(file: &Path, front: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    bytes[..front.len()].copy_from_slice(front);
    fs::write(file, bytes).unwrap();
}

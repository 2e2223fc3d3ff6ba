//! An engine on disk that runs out of something and gets it back: each test runs itself in a process of its own, where it
//! mounts a small file system or lowers a limit.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::fjall::rows;
use super::*;
use crate::disk::RealDisk;
use crate::log::{AppendError, Group, Log, LogConfig, SegmentedLog};

#[test]
fn full_disk_is_told_from_failure_and_writes_go_on_when_space_returns() {
    on_small_disk("24m", "child_on_a_small_disk");
}

#[test]
fn worker_that_died_on_a_full_disk_is_replaced_though_there_is_much_room_by_then() {
    on_small_disk("40m", "child_on_a_disk_that_grows");
}

#[test]
fn worker_that_died_for_lack_of_descriptors_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", &test_name("child_without_descriptors")]);
    assert_passed(&child.env(FOLDER, folder.path()).output().unwrap());
}

/// Runs a test of this file in a mount namespace, on a file system of that size; skips it where that is not allowed.
fn on_small_disk(size: &str, child: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs {0} || exit 77; {FOLDER}={0} exec {1} --exact --ignored {2}",
        folder.path().display(),
        std::env::current_exe().unwrap().display(),
        test_name(child),
    );
    let namespace = |flags: &str| {
        Command::new("unshare")
            .args([flags, "sh", "-c", &script])
            .output()
    };
    let is_refused = |output: &std::io::Result<Output>| match output {
        Ok(output) => output.status.code() == Some(77) || output.stderr.starts_with(b"unshare"),
        Err(_) => true,
    };
    let mut output = namespace("-m");
    if is_refused(&output) {
        output = namespace("-rm");
    }
    if is_refused(&output) {
        eprintln!("SKIPPED: this host allows no mount namespace, so that a full disk was not tried");
        return;
    }
    assert_passed(&output.unwrap());
}

fn test_name(child: &str) -> String {
    format!("store::tests::shortage::{child}")
}

fn assert_passed(output: &Output) {
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
}

const FOLDER: &str = "ROUTER_BACKEND_TEST_SHORTAGE_FOLDER";

#[test]
#[ignore = "run by full_disk_is_told_from_failure_and_writes_go_on_when_space_returns on a file system of 24 MiB"]
fn child_on_a_small_disk() {
    let folder = std::env::var_os(FOLDER).expect("set by the parent test");
    let folder = Path::new(&folder);
    let filler = folder.join("filler");
    let (mut log, _) = SegmentedLog::open(
        RealDisk::open(folder.join("log")).unwrap(),
        LogConfig::default(),
        None,
    )
    .unwrap();
    let config = FjallConfig {
        memtable_bytes: 512 * 1024,
        ..FjallConfig::default()
    };
    let mut store = KvStore::open(FjallKv::open(folder.join("store"), config.clone()).unwrap(), 1).unwrap();
    let (mut applied, mut appended) = (0, 0);
    for round in 0..3 {
        fill(&filler, 20_000_000 - round * 1_000_000);
        // The store runs full, whether in the journal or in the background while a table is written.
        loop {
            match store.apply(&rows(applied), Offset(applied)) {
                Ok(()) => applied += 1,
                Err(StoreError::NoSpace) => break,
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        assert!(matches!(
            store.apply(&rows(applied), Offset(applied)),
            Err(StoreError::NoSpace)
        ));
        assert!(
            store
                .get::<MessageRow>(conversation(1), Seq(applied - 1))
                .unwrap()
                .is_some(),
            "reads go on"
        );
        // The log runs full as well.
        fill(&filler, 30_000_000);
        let mut group = Group::new();
        group.push_bytes(&[7; 100_000]);
        while log
            .append(&mut group)
            .map_err(|error| assert!(matches!(error, AppendError::NoSpace)))
            .is_ok()
        {
            appended += 1;
        }
        assert!(matches!(log.probe(), Err(AppendError::NoSpace)));
        fs::remove_file(&filler).unwrap();
        log.probe().unwrap();
        log.append(&mut group).unwrap();
        appended += 1;
        store.apply(&rows(applied), Offset(applied)).unwrap();
        applied += 1;
        store.persist().unwrap();
        for offset in 0..applied {
            assert!(
                store
                    .get::<MessageRow>(conversation(1), Seq(offset))
                    .unwrap()
                    .is_some(),
                "round {round}, batch {offset}"
            );
        }
        assert_eq!(
            log.read_from(Offset(0)).unwrap().filter(Result::is_ok).count(),
            appended
        );
    }
    drop(store);
    let store = KvStore::open(FjallKv::open(folder.join("store"), config).unwrap(), 1).unwrap();
    assert_eq!(store.flushed(), Some(Offset(applied - 1)));
}

/// Makes a file as large as there is room for, at most `bytes`.
fn fill(path: &Path, bytes: u64) {
    use std::io::Write;
    let mut file = fs::File::create(path).unwrap();
    let block = [1; 4096];
    for _ in 0..bytes / 4096 {
        if file.write_all(&block).is_err() {
            break;
        }
    }
}

#[test]
#[ignore = "run by worker_that_died_on_a_full_disk_is_replaced_though_there_is_much_room_by_then on a disk of its own"]
fn child_on_a_disk_that_grows() {
    let folder = std::env::var_os(FOLDER).expect("set by the parent test");
    let folder = Path::new(&folder);
    let mut store = Small::open(&folder.join("store"));
    store.write(84);
    // Room for the journal to go on, and none for the table that a worker then has to write.
    fill(&folder.join("filler"), 100_000_000);
    fs::File::options()
        .write(true)
        .open(folder.join("filler"))
        .and_then(|file| file.set_len(file.metadata()?.len() - 500_000))
        .unwrap();
    store.write(22);
    let grown = Command::new("mount")
        .args(["-o", "remount,size=900m"])
        .arg(folder)
        .status();
    assert!(grown.unwrap().success());
    let told = store.apply();
    // As a rule nobody has noticed by now that the worker died.
    assert!(!matches!(told, Err(StoreError::Failed(_))), "{told:?}");
    store.heals();
}

#[test]
#[ignore = "run by worker_that_died_for_lack_of_descriptors_is_replaced, since the limit is that of a process"]
fn child_without_descriptors() {
    let folder = std::env::var_os(FOLDER).expect("set by the parent test");
    let mut store = Small::open(&Path::new(&folder).join("store"));
    store.write(84);
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        ..limit
    };
    setrlimit(Resource::Nofile, none).unwrap();
    store.write(22);
    // While the want lasts it is told as one, however often it is tried.
    for _ in 0..20 {
        assert!(matches!(
            store.apply(),
            Err(StoreError::NoSpace | StoreError::Stopped { .. })
        ));
    }
    assert!(matches!(store.apply(), Err(StoreError::NoSpace)));
    setrlimit(Resource::Nofile, limit).unwrap();
    store.heals();
}

/// A store with memtables of 1 MiB, and how many batches it took.
struct Small {
    store: KvStore<FjallKv>,
    path: std::path::PathBuf,
    applied: u64,
}

impl Small {
    fn open(path: &Path) -> Self {
        Self {
            store: KvStore::open(FjallKv::open(path, Self::config()).unwrap(), 1).unwrap(),
            path: path.to_owned(),
            applied: 0,
        }
    }

    fn config() -> FjallConfig {
        FjallConfig {
            memtable_bytes: 1 << 20,
            ..FjallConfig::default()
        }
    }

    fn row(offset: u64) -> Row {
        Row::Message(message_row(1, offset, offset, &"y".repeat(10_000)))
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        self.store
            .apply(&[Self::row(self.applied)], Offset(self.applied))?;
        self.applied += 1;
        Ok(())
    }

    /// Writes so many batches, or until the engine stops, and gives its workers the time to do theirs. A memtable is full
    /// with about 104.
    fn write(&mut self, batches: u64) {
        for _ in 0..batches {
            if self.apply().is_err() {
                break;
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }

    /// It works when it is asked to, takes changes again, and lacks nothing that it took.
    fn heals(mut self) {
        self.store.probe().unwrap();
        for _ in 0..1_000 {
            self.apply().unwrap();
        }
        self.store.persist().unwrap();
        self.holds_all();
        let (path, applied) = (self.path.clone(), self.applied);
        drop(self);
        let store = Self {
            applied,
            ..Self::open(&path)
        };
        assert_eq!(store.store.flushed(), Some(Offset(applied - 1)));
        store.holds_all();
    }

    fn holds_all(&self) {
        for offset in 0..self.applied {
            let row = self
                .store
                .get::<MessageRow>(conversation(1), Seq(offset))
                .unwrap()
                .map(Row::Message);
            assert_eq!(row, Some(Self::row(offset)), "batch {offset}");
        }
    }
}

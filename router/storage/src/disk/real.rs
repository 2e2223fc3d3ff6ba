//! A directory of the file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatvfs};

use super::private::{create_private_dir, private_file};
use super::{Disk, DiskError, DiskFile};

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Open all the time, so that a sync of it needs no descriptor.
    directory: Arc<File>,
    syncs: bool,
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    path: PathBuf,
    syncs: bool,
}

/// An flock(2) on the file `lock` of the directory; the kernel drops it with the process, however it ends.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

impl RealDisk {
    /// Returns the directory, created with its parents where missing. What is created here and below, its owner alone may
    /// read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let path = path.into();
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|ancestor| !ancestor.exists())
            .collect();
        create_private_dir(&path).map_err(|error| explain("create directory", &path, error))?;
        // A new name is an entry of its parent; without this a crash may take the whole directory.
        for parent in missing.into_iter().filter_map(Path::parent) {
            sync_directory(if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            })?;
        }
        let directory = File::open(&path).map_err(|error| explain("open", &path, error))?;
        Ok(Self {
            path,
            directory: Arc::new(directory),
            syncs: true,
        })
    }

    /// Returns the directory with syncs that do nothing: what is written survives the process and not the machine. For
    /// measurements only.
    #[must_use]
    pub fn without_sync(self) -> Self {
        Self { syncs: false, ..self }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(
        &self,
        operation: &'static str,
        name: &str,
        options: &OpenOptions,
    ) -> Result<RealFile, DiskError> {
        let path = self.path.join(name);
        let file = options
            .open(&path)
            .map_err(|error| explain(operation, &path, error))?;
        Ok(RealFile {
            file,
            path,
            syncs: self.syncs,
        })
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn lock(&self) -> Result<RealLock, DiskError> {
        let RealFile { file, path, .. } = self.file(
            "open",
            LOCK_NAME,
            private_file().create(true).truncate(false).write(true),
        )?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(RealLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DiskError::Locked {
                directory: self.describe(),
            }),
            Err(error) => Err(explain("lock", &path, error.into())),
        }
    }

    fn create(&self, name: &str) -> Result<RealFile, DiskError> {
        self.file(
            "create",
            name,
            private_file().create_new(true).read(true).write(true),
        )
    }

    fn open(&self, name: &str) -> Result<RealFile, DiskError> {
        self.file("open", name, OpenOptions::new().read(true).write(true))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|error| explain("remove", &path, error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let path = self.path.join(from);
        fs::rename(&path, self.path.join(to)).map_err(|error| explain("rename", &path, error))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let failed = |error| explain("list", &self.path, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A name that is not UTF-8 is none of ours.
            if let (true, Ok(name)) = (
                entry.file_type().map_err(failed)?.is_file(),
                entry.file_name().into_string(),
            ) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        if !self.syncs {
            return Ok(());
        }
        self.directory
            .sync_all()
            .map_err(|error| explain("sync directory", &self.path, error))
    }
}

impl DiskFile for RealFile {
    fn write_at(&self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file
            .write_all_at(bytes, position)
            .map_err(|error| explain("write", &self.path, error))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(explain("read", &self.path, error)),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self
            .file
            .metadata()
            .map_err(|error| explain("stat", &self.path, error))?
            .len())
    }

    fn truncate(&self, length: u64) -> Result<(), DiskError> {
        self.file
            .set_len(length)
            .map_err(|error| explain("truncate", &self.path, error))
    }

    /// fallocate(2). The extents are unwritten until something is written there.
    fn preallocate(&self, length: u64) -> Result<(), DiskError> {
        let failed = |error: rustix::io::Errno| explain("preallocate", &self.path, error.into());
        let present = self.len()?;
        let missing = length.saturating_sub(present);
        if missing == 0 {
            return Ok(());
        }
        let space = fstatvfs(&self.file).map_err(failed)?;
        if space.f_bavail.saturating_mul(space.f_frsize) / FREE_SHARE < missing {
            return Err(DiskError::NoSpace {
                file: self.path.display().to_string(),
            });
        }
        fallocate(&self.file, FallocateFlags::empty(), present, missing).map_err(failed)
    }

    /// fdatasync(2), which also writes the length when it changed.
    fn sync_data(&self) -> Result<(), DiskError> {
        if !self.syncs {
            return Ok(());
        }
        self.file
            .sync_data()
            .map_err(|error| explain("sync", &self.path, error))
    }
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| explain("sync directory", path, error))
}

fn explain(operation: &'static str, path: &Path, source: io::Error) -> DiskError {
    let file = path.display().to_string();
    match source.kind() {
        _ if is_no_room(&source) => DiskError::NoSpace { file },
        // A regular file takes nothing more only when there is no room for it.
        io::ErrorKind::WriteZero => DiskError::NoSpace { file },
        io::ErrorKind::NotFound => DiskError::NotFound { file },
        _ => DiskError::Io {
            operation,
            file,
            source,
        },
    }
}

/// Returns whether something lacks space, quota or a file descriptor, of which there may be some again. So may a file that
/// has reached the largest size it may have (`RLIMIT_FSIZE`): the limit of a running process can be raised.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    let is_out_of_descriptors = matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    is_out_of_descriptors || is_full
}

const LOCK_NAME: &str = "lock";
/// A file is lengthened in advance by no more than this part of what the disk has free.
const FREE_SHARE: u64 = 16;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn bytes_come_back_and_a_read_past_the_end_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path().join("new/deep")).unwrap();
        let file = disk.create("a").unwrap();
        file.write_at(3, b"hello").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        let mut buffer = [9; 10];
        assert_eq!(disk.open("a").unwrap().read_at(0, &mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"\0\0\0hello\x09\x09");
        file.truncate(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert!(matches!(disk.create("a"), Err(DiskError::Io { .. })));
        assert!(matches!(disk.open("b"), Err(DiskError::NotFound { .. })));
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn full_device_is_reported_as_no_space() {
        let disk = RealDisk::open("/dev").unwrap();
        let full = disk.open("full").unwrap();
        assert!(matches!(full.write_at(0, b"x"), Err(DiskError::NoSpace { file }) if file == "/dev/full"));
    }

    #[test]
    fn lack_of_descriptors_and_a_file_at_its_limit_are_reported_as_no_space() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        for errno in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
            rustix::io::Errno::FBIG,
        ] {
            let error = explain("create", disk.path(), errno.into());
            assert!(matches!(error, DiskError::NoSpace { .. }), "{error}");
        }
    }

    #[test]
    fn second_handle_is_refused_until_the_first_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let lock = disk.lock().unwrap();
        let error = RealDisk::open(folder.path()).unwrap().lock().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is in use by another process", folder.path().display())
        );
        drop(lock);
        disk.lock().unwrap();
    }

    #[test]
    fn second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(folder.path()).unwrap();
        let child_may_lock = || {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args([
                "--exact",
                "--ignored",
                "disk::real::tests::child_that_takes_the_lock",
            ]);
            child
                .env(CHILD_FOLDER, folder.path())
                .output()
                .unwrap()
                .status
                .success()
        };
        let lock = disk.lock().unwrap();
        assert!(!child_may_lock());
        drop(lock);
        assert!(child_may_lock());
    }

    const CHILD_FOLDER: &str = "ROUTER_BACKEND_TEST_FOLDER";

    #[test]
    #[ignore = "run by second_process_is_refused in a process of its own"]
    fn child_that_takes_the_lock() {
        let folder = std::env::var_os(CHILD_FOLDER).expect("set by the parent test");
        RealDisk::open(folder).unwrap().lock().unwrap();
    }
}

//! Messages lie in what is written, so that only the owner of a data directory may open it and what is in it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::umask;

/// Takes every right of group and others from a directory and from these entries of it, with all that is in them, and has
/// this process make no file any more that others could open.
///
/// Shape: what is not there is passed over. A directory with the sticky bit, like `/tmp`, is shared on purpose and keeps
/// its own rights.
pub fn keep_private(directory: &Path, entries: &[&Path]) {
    // fjall makes its files with the mode that the process gives.
    umask(Mode::RWXG | Mode::RWXO);
    let is_shared = fs::metadata(directory).is_ok_and(|it| it.permissions().mode() & STICKY != 0);
    let own = (!is_shared).then_some(directory);
    let mut tightened = 0;
    let outcome = own
        .into_iter()
        .try_for_each(|path| tighten(path, &mut tightened))
        .and_then(|()| {
            entries
                .iter()
                .try_for_each(|path| tighten_all(path, &mut tightened))
        });
    if tightened > 0 {
        tracing::warn!(
            directory = %directory.display(),
            tightened,
            "other users could open the data directory or files in it; now its owner alone may"
        );
    }
    if let Err(error) = outcome {
        tracing::warn!(directory = %directory.display(), %error, "other users may be able to read the data directory");
    }
}

/// Creates a directory, and its parents where missing, for its owner alone.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns options that give a file which they create to its owner alone.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn tighten_all(path: &Path, tightened: &mut usize) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.file_type(),
    };
    if kind.is_dir() || kind.is_file() {
        tighten(path, tightened)?;
    }
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            tighten_all(&entry?.path(), tightened)?;
        }
    }
    Ok(())
}

/// Leaves the rights of the owner.
fn tighten(path: &Path, tightened: &mut usize) -> io::Result<()> {
    let mut permissions = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?.permissions(),
    };
    if permissions.mode() & OTHERS != 0 {
        permissions.set_mode(permissions.mode() & !OTHERS);
        fs::set_permissions(path, permissions)?;
        *tightened += 1;
    }
    Ok(())
}

const STICKY: u32 = 0o1000;
/// What group and others may do.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_directory_stays_so_and_what_is_not_ours_in_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let (shared, store, other) = (
            folder.path().join("shared"),
            folder.path().join("shared/store"),
            folder.path().join("shared/other"),
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (path, mode) in [(&shared, 0o1777), (&store, 0o755), (&other, 0o755)] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        keep_private(&shared, &[&store, &shared.join("missing")]);
        assert_eq!(
            [mode(&shared), mode(&store), mode(&other)],
            [0o1777, 0o700, 0o755]
        );
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        keep_private(&shared, &[]);
        assert_eq!([mode(&shared), mode(&other)], [0o700, 0o755]);
    }
}

//! Files and folders that only we can read, whole and on the disk.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::master::gob::MAX_FILE;

/// A folder that no other master has while this lives.
#[derive(Debug)]
pub(super) struct Held(File);

impl Held {
    /// Opens and locks it. `None`: another has it.
    pub(super) fn new(folder: &Path) -> io::Result<Option<Held>> {
        let folder = File::open(folder)?;
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => Ok(None),
            // Not all network file systems know locks. The original has none either.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Held(folder))),
        }
    }
}

impl Deref for Held {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Held {
    /// Closing alone would do so later if a child is just starting: it has a copy until its own program runs.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Makes a folder, with all those above it that are missing.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)?;
    // Whatever the umask took away.
    fs::set_permissions(path, Permissions::from_mode(PRIVATE_FOLDER))
}

/// A file's bytes, but not more than one too many.
pub(super) fn content(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe or a device may wait for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a file that only we can read, to the disk.
pub(super) fn written(path: &Path, content: &[u8]) -> io::Result<()> {
    // One that a crash has left; or a link that another user has put there, which must not be followed.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Whether an open folder is still the one of that name.
pub(super) fn same(handle: &File, folder: &Path) -> bool {
    let of = |data: fs::Metadata| (data.dev(), data.ino());
    matches!((handle.metadata().map(of), fs::metadata(folder).map(of)), (Ok(held), Ok(there)) if held == there)
}

/// The folder's mode: it holds keys.
const PRIVATE_FOLDER: u32 = 0o700;

/// The files' mode.
const PRIVATE_FILE: u32 = 0o600;

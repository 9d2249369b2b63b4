//! The master's folder: whether it can be written, who uses it, what is in it. Nothing there is touched.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::holders::about;
use super::words::*;
use crate::config::Config;
use crate::error::Error;
use crate::master::record::{Record, KEY_ID};
use crate::master::state::State;
use crate::net::sys;

/// What was found in a state folder.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Why it cannot be written.
    pub denied: Option<String>,
    /// The program that uses it.
    pub user: Option<String>,
    /// Whether every user may read what is in it.
    pub open: bool,
    /// The instances in it, in the order of their ids.
    pub records: Result<Vec<Record>, Error>,
    /// States that were kept aside.
    pub kept: Vec<String>,
}

/// Looks at the folder of a master.
pub fn look(config: &Config) -> Folder {
    let path = State::folder(config.limits.state.as_deref());
    let about_it = fs::metadata(&path);
    let exists = about_it.is_ok();
    let denied = match &about_it {
        Ok(about) if !about.is_dir() => Some(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Ok(_) => sys::may_write(&path).err(),
        Err(_) => path.ancestors().find(|above| above.exists()).and_then(|above| sys::may_write(above).err()),
    };
    let reads = |path: &Path| fs::metadata(path).is_ok_and(|about| about.permissions().mode() & OTHERS_READ != 0);
    let enters = about_it.as_ref().is_ok_and(|about| about.permissions().mode() & OTHERS_ENTER != 0);
    let open = enters && reads(&path.join(STATE_FILE));
    let records = State::peek(&path).map(|all| all.into_values().filter(|record| record.id != KEY_ID).collect());
    let user = about_it.ok().and_then(|about| lock_holder(&fs::read_to_string("/proc/locks").ok()?, &about));
    let user = user.map(|pid| about(Path::new("/proc"), pid).named());
    Folder { exists, denied: denied.map(|error| error.to_string()), user, open, records, kept: kept(&path), path }
}

fn kept(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut kept: Vec<String> = names.filter(|name| name.contains(KEPT)).collect();
    kept.sort();
    kept
}

/// The process that has a lock on a file: `1: FLOCK  ADVISORY  WRITE 1234 fe:00:12345 0 EOF`.
fn lock_holder(locks: &str, file: &fs::Metadata) -> Option<u32> {
    let (major, minor) = (libc::major(file.dev()), libc::minor(file.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let line = locks.lines().find(|line| line.split_whitespace().nth(5) == Some(&place))?;
    line.split_whitespace().nth(4)?.parse().ok()
}

/// What the folder comes to.
pub fn judge(folder: &Folder) -> Vec<Finding> {
    let finding = |case| Finding::new(case, folder.path.display());
    let mut found = Vec::new();
    found.extend(folder.user.as_ref().map(|user| finding(&STATE_BUSY).with(user)));
    found.extend(folder.denied.as_ref().map(|why| finding(&STATE_DENIED).with(why)));
    found.extend(folder.open.then(|| finding(&STATE_OPEN)));
    found.extend(folder.kept.iter().map(|name| finding(&STATE_KEPT).with(name)));
    match &folder.records {
        Err(error) => found.push(finding(&STATE_BAD).with(error.cause())),
        Ok(_) if !folder.exists && folder.denied.is_none() => found.push(finding(&STATE_NEW)),
        Ok(records) if folder.denied.is_none() => found.insert(0, finding(&STATE_FINE).with(records.len())),
        Ok(_) => {}
    }
    found
}

/// The state's file in the folder.
const STATE_FILE: &str = "nodepass.gob";
/// What is in the names of states that were kept aside.
const KEPT: &str = ".corrupted-";
/// The right of all users to read a file, and to enter a folder, in their modes.
const OTHERS_READ: u32 = 0o004;
const OTHERS_ENTER: u32 = 0o001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::codes;

    fn folder() -> Folder {
        let (path, records) = (PathBuf::from("/state"), Ok(vec![Record::default()]));
        Folder { path, exists: true, denied: None, user: None, open: false, records, kept: Vec::new() }
    }

    #[test]
    fn each_state_of_the_folder_has_its_case() {
        assert_eq!(codes(&judge(&folder())), ["state-fine"]);
        assert_eq!(codes(&judge(&Folder { exists: false, ..folder() })), ["state-new"]);
        assert_eq!(codes(&judge(&Folder { denied: Some("no".into()), ..folder() })), ["state-denied"]);
        assert_eq!(
            codes(&judge(&Folder { user: Some("nodepass (pid 7)".into()), ..folder() })),
            ["state-fine", "state-busy"]
        );
        assert_eq!(codes(&judge(&Folder { open: true, ..folder() })), ["state-fine", "state-open"]);
        let kept = vec!["nodepass.gob.corrupted-1".to_owned()];
        assert_eq!(codes(&judge(&Folder { kept, ..folder() })), ["state-fine", "state-kept"]);
        let records = Err(Error::file("nodepass.gob", "it is cut short"));
        assert_eq!(codes(&judge(&Folder { records, ..folder() })), ["state-bad"]);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_the_file() {
        let about = fs::metadata("/").unwrap();
        let place = format!("{:02x}:{:02x}:{}", libc::major(about.dev()), libc::minor(about.dev()), about.ino());
        let locks = format!("1: POSIX  ADVISORY  WRITE 5 00:00:1 0 EOF\n2: FLOCK  ADVISORY  WRITE 77 {place} 0 EOF\n");
        assert_eq!(lock_holder(&locks, &about), Some(77));
        assert_eq!(lock_holder("", &about), None);
    }
}

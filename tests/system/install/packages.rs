//! The Debian package in the hands of dpkg, in a root of its own, and of lintian.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::{Release, MACHINE, VERSION};
use crate::support::*;

/// The package of a release, with its revision.
fn package(dist: &Path, revision: &str) -> PathBuf {
    let names = fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().path());
    let mut ours = names.filter(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let file = ours.next().unwrap_or_else(|| panic!("no package for {MACHINE}"));
    assert!(
        file.file_name().unwrap().to_str().unwrap().starts_with(&format!("nodepass_{VERSION}-{revision}_")),
        "{file:?}"
    );
    file
}

/// A root that dpkg has, and nothing else is in.
struct Debian {
    folder: Folder,
}

impl Debian {
    fn new() -> Option<Debian> {
        program("dpkg")?;
        if !present(root(), "root") {
            return None;
        }
        let debian = Debian { folder: Folder::new() };
        for place in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"] {
            fs::create_dir_all(debian.path(place)).unwrap();
        }
        fs::write(debian.path("var/lib/dpkg/status"), "").unwrap();
        Some(debian)
    }

    fn path(&self, place: &str) -> PathBuf {
        self.folder.file("root").join(place)
    }

    /// The root has no shell: dpkg runs the package's scripts outside, and tells them the root.
    fn dpkg(&self, args: &[&str]) {
        let mut command = Command::new("dpkg");
        command
            .arg(format!("--root={}", self.path("").display()))
            .args(["--force-script-chrootless", "--force-architecture"]);
        command.args(args);
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "dpkg {args:?}: {said}{errors}");
    }

    /// Files of the package's that are there.
    fn program(&self) -> bool {
        let files = ["usr/bin/nodepass", "usr/share/man/man1/nodepass.1.gz", "lib/systemd/system/nodepass@.service"];
        let there = files.map(|file| self.path(file).exists());
        assert!(there.iter().all(|one| *one == there[0]), "{there:?}");
        there[0]
    }
}

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let Some(debian) = Debian::new() else { return };
    let Some(release) = Release::shared() else { return };
    let first = package(&release.dist(), "1");
    debian.dpkg(&["--install", first.to_str().unwrap()]);
    assert!(debian.program());
    let unit = fs::read_to_string(debian.path("lib/systemd/system/nodepass@.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/nodepass "), "{unit}");
    assert_eq!(fs::metadata(debian.path("etc/nodepass")).unwrap().permissions().mode() & 0o777, 0o700);

    // What is configured and kept belongs to the user: it stays until a purge.
    let (config, state) = (debian.path("etc/nodepass/web.conf"), debian.path("var/lib/nodepass/nodepass.gob"));
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&config, "NODEPASS_URL=x").unwrap();
    fs::write(&state, "").unwrap();
    let second = package(&release.make("upgrade", "2", "022"), "2");
    debian.dpkg(&["--install", second.to_str().unwrap()]);
    assert!(debian.program() && config.exists() && state.exists());
    debian.dpkg(&["--remove", "nodepass"]);
    assert!(!debian.program() && config.exists() && state.exists());
    debian.dpkg(&["--purge", "nodepass"]);
    assert!(!config.parent().unwrap().exists() && !state.parent().unwrap().exists());
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let Some(lintian) = program("lintian") else { return };
    let Some(release) = Release::shared() else { return };
    let mut command = Command::new(lintian);
    command.args(["--allow-root", "--fail-on", "error"]).arg(package(&release.dist(), "1"));
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");
}

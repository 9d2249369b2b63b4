//! The packages in the hands of dpkg and rpm, each in a root of its own, and of lintian; the container image as others read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::release::{Release, MACHINE, VERSION};
use crate::support::*;

/// The package of a release with this ending.
fn package(dist: &Path, ending: &str) -> String {
    let names = fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().path());
    let mut ours = names.filter(|path| path.to_str().unwrap().ends_with(ending));
    let file = ours.next().unwrap_or_else(|| panic!("no {ending} for {MACHINE}"));
    file.to_str().unwrap().to_owned()
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
    debian.dpkg(&["--install", &package(&release.dist(), ".deb")]);
    assert!(debian.program());
    let unit = fs::read_to_string(debian.path("lib/systemd/system/nodepass@.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/nodepass\n"), "{unit}");
    assert_eq!(fs::metadata(debian.path("etc/nodepass")).unwrap().permissions().mode() & 0o777, 0o700);

    // What is configured and kept belongs to the user: it stays until a purge.
    let (config, state) = (debian.path("etc/nodepass/web.conf"), debian.path("var/lib/nodepass/nodepass.gob"));
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&config, "NP_URL=x").unwrap();
    fs::write(&state, "").unwrap();
    let newer = release.newer();
    assert!(package(&newer, ".deb").contains(&format!("{VERSION}-2")));
    debian.dpkg(&["--install", &package(&newer, ".deb")]);
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
    command.args(["--allow-root", "--fail-on", "error"]).arg(package(&release.dist(), ".deb"));
    let (status, said, errors) = output(command);
    assert_eq!(status, 0, "{said}{errors}");
}

#[test]
fn the_rpm_is_installed_upgraded_and_removed() {
    let Some(rpm) = program("rpm") else { return };
    let Some(release) = Release::shared() else { return };
    let folder = Folder::new();
    let run = |args: &[&str]| {
        let mut command = Command::new(&rpm);
        command.args(["--root", folder.path().to_str().unwrap(), "--dbpath", "/var/lib/rpm"]);
        command.args(args);
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "rpm {args:?}: {said}{errors}");
        said
    };
    let program = folder.file("usr/bin/nodepass");
    // The root has no shell, which the package's scripts want.
    run(&["--install", "--nodeps", "--noscripts", &package(&release.dist(), ".rpm")]);
    let unit = fs::read_to_string(folder.file("usr/lib/systemd/system/nodepass@.service")).unwrap();
    assert!(program.exists() && unit.contains("\nExecStart=/usr/bin/nodepass\n"), "{unit}");
    let config = folder.file("etc/nodepass/web.conf");
    fs::write(&config, "NP_URL=x").unwrap();
    run(&["--upgrade", "--nodeps", "--noscripts", &package(&release.newer(), ".rpm")]);
    assert_eq!(run(&["--query", "--queryformat", "%{version}-%{release}", "nodepass"]), format!("{VERSION}-2"));
    run(&["--erase", "--noscripts", "nodepass"]);
    assert!(!program.exists() && config.exists());
}

#[test]
fn the_image_of_a_release_is_read_and_has_the_program_of_its_processor() {
    let Some(buildah) = program("buildah") else { return };
    let Some(release) = Release::shared() else { return };
    let folder = Folder::new();
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildah);
        command.args(["--storage-driver", "vfs", "--root"]).arg(folder.file("images"));
        command.arg("--runroot").arg(folder.file("run")).args(args);
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "buildah {args:?}: {said}{errors}");
        said
    };
    let name = run(&["from", &format!("oci-archive:{}", package(&release.dist(), "-oci.tar"))]);
    let root = PathBuf::from(run(&["mount", &name]));
    assert!(fs::read(root.join("nodepass")).unwrap() == release.program(), "another program");
}

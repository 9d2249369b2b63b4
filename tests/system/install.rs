//! scripts/install.sh into an empty root, with no programs but busybox's: a first installation, a newer one while the old one runs, removal.
//! Then what was installed is shown to those who are to use it: systemd's own checker, and shells.

mod image;
mod packages;
mod release;
mod setup;

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// A root to install into, and a folder of busybox's programs to do it with.
struct Root {
    folder: Folder,
    busybox: PathBuf,
}

impl Root {
    fn new(marker: &str) -> Option<Root> {
        let (folder, busybox) = (Folder::new(), program("busybox")?);
        let root = Root { folder, busybox };
        fs::create_dir_all(root.folder.file("programs")).unwrap();
        let mut list = Command::new(&root.busybox);
        list.arg("--list");
        for applet in output(list).1.lines() {
            symlink(&root.busybox, root.folder.file("programs").join(applet)).unwrap();
        }
        let marker = root.path(marker);
        fs::create_dir_all(marker.parent().unwrap()).unwrap();
        fs::write(marker, "").unwrap();
        Some(root)
    }

    /// A place in the root.
    fn path(&self, place: &str) -> PathBuf {
        self.folder.file("root").join(place)
    }

    /// Runs the script: its status, and all that it says.
    fn install(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(&self.busybox);
        command.args(["ash", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh")]).args(args);
        command.env("PATH", self.folder.file("programs")).env("DESTDIR", self.path(""));
        let (status, said, errors) = output(command);
        (status, said + &errors)
    }

    fn installed(&self, args: &[&str]) -> String {
        let (status, said) = self.install(args);
        assert_eq!(status, 0, "{said}");
        said
    }

    /// A program of the root's own, which is this shell script.
    fn has_program(&self, name: &str, script: &str) {
        let file = self.folder.file("programs").join(name);
        // What was there is a link to busybox itself.
        let _ = fs::remove_file(&file);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// All files in the root but the marker, with their modes.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.path(""), &self.path(""), &mut found);
        found.retain(|file| !file.ends_with("openwrt_release") && !file.ends_with("lib/systemd/systemd"));
        found.sort();
        found
    }
}

fn list(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            list(&path, root, found);
        } else {
            found.push(format!("{mode:o} {}", path.strip_prefix(root).unwrap().display()));
        }
    }
}

const BINARY: &str = env!("CARGO_BIN_EXE_nodepass");

#[test]
fn on_systemd_units_completions_and_manual_are_installed_and_taken_away() {
    let Some(root) = Root::new("lib/systemd/systemd") else { return };
    let said = root.installed(&[BINARY]);
    assert!(said.starts_with("Installing nodepass "), "{said}");
    let all = [
        "644 usr/local/lib/systemd/system/nodepass-master.service",
        "644 usr/local/lib/systemd/system/nodepass@.service",
        "644 usr/local/share/bash-completion/completions/nodepass",
        "644 usr/local/share/fish/vendor_completions.d/nodepass.fish",
        "644 usr/local/share/man/man1/nodepass.1",
        "644 usr/local/share/zsh/site-functions/_nodepass",
        "755 usr/local/bin/nodepass",
    ];
    let mut found = root.files();
    let mut wanted = all.to_vec();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert_eq!(fs::metadata(root.path("etc/nodepass")).unwrap().permissions().mode() & 0o777, 0o700);

    fs::write(root.path("etc/nodepass/web.conf"), "NP_URL=x").unwrap();
    assert!(root.installed(&["--remove"]).contains("kept"));
    assert_eq!(root.files().len(), 1, "{:?}", root.files());
    root.installed(&["--purge"]);
    assert!(root.files().is_empty() && !root.path("etc/nodepass").exists());
}

#[test]
fn the_units_pass_systemds_own_check() {
    let Some(analyze) = program("systemd-analyze") else { return };
    let Some(root) = Root::new("lib/systemd/systemd") else { return };
    root.installed(&["--prefix", "/usr", BINARY]);
    // The process after the first one speaks to systemd, too: two tenths more (NotifyAccess).
    for (unit, most) in [("nodepass@web.service", 16), ("nodepass-master.service", 14)] {
        let folder = root.path("usr/lib/systemd/system");
        let text = fs::read_to_string(folder.join(unit.replace("@web", "@"))).unwrap();
        assert!(text.contains("ExecStart=/usr/bin/nodepass\n"), "{text}");
        // The checker wants to find the program where the unit says; everything else is checked as it is.
        let file = folder.join(unit);
        fs::write(&file, text.replace("/usr/bin/nodepass", BINARY)).unwrap();
        let mut command = Command::new(&analyze);
        command.args(["verify", "--man=no"]).arg(&file);
        let (status, said, errors) = output(command);
        let ours: Vec<_> = errors.lines().filter(|line| line.contains("nodepass")).collect();
        assert!(status == 0 && ours.is_empty(), "{said}{errors}");

        let mut command = Command::new(&analyze);
        command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={most}")]).arg(&file);
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "more exposed than {most} tenths: {said}{errors}");
    }
}

#[test]
fn on_openwrt_the_service_is_installed_and_a_configuration_that_is_there_stays() {
    let Some(root) = Root::new("etc/openwrt_release") else { return };
    root.installed(&[BINARY]);
    let all = [
        "600 etc/config/nodepass",
        "644 lib/upgrade/keep.d/nodepass",
        "755 etc/init.d/nodepass",
        "755 usr/bin/nodepass",
    ];
    assert_eq!(root.files(), all);
    fs::write(root.path("etc/config/nodepass"), "mine").unwrap();
    root.installed(&["--prefix=/opt/np", BINARY]);
    assert_eq!(fs::read_to_string(root.path("etc/config/nodepass")).unwrap(), "mine");
    let script = fs::read_to_string(root.path("etc/init.d/nodepass")).unwrap();
    assert!(script.contains("\nPROG=/opt/np/bin/nodepass\n"));
    root.installed(&["--prefix=/opt/np", "--remove"]);
    assert_eq!(root.files(), ["600 etc/config/nodepass", "755 usr/bin/nodepass"]);
}

#[test]
fn a_newer_one_replaces_a_running_one_in_one_step() {
    let Some(root) = Root::new("etc/none") else { return };
    root.installed(&[BINARY]);
    let place = root.path("usr/local/bin/nodepass");
    let before = fs::metadata(&place).unwrap().ino();
    let mut command = Command::new(&place);
    command.arg(format!("client://127.0.0.1:{}/127.0.0.1:9?mode=1", free_port()));
    let running = Process::run("old", command);
    running.says("Client started", GRACE);
    root.installed(&[BINARY]);
    assert_ne!(fs::metadata(&place).unwrap().ino(), before);
    assert!(running.ended().is_none());
    let left: Vec<_> = root.files().into_iter().filter(|file| file.contains(".new")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn every_shell_installs_from_a_folder_copied_elsewhere() {
    for shell in ["dash", "bash", "busybox"] {
        let Some(shell) = program(shell) else { continue };
        let archive = Folder::new();
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        for part in ["scripts", "docs", "cross/openwrt"] {
            let place = archive.file(&format!("an archive/{part}"));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let mut copy = Command::new("cp");
            copy.arg("-R").arg(project.join(part)).arg(place);
            assert_eq!(output(copy).0, 0);
        }
        fs::copy(BINARY, archive.file("an archive/scripts/nodepass")).unwrap();
        let root = archive.file("root");
        let run = |args: &[&str]| {
            let mut command = Command::new(&shell);
            command.args(shell.ends_with("busybox").then_some("ash"));
            command.arg(archive.file("an archive/scripts/install.sh")).args(args);
            command.args(["--system", "systemd"]).env("DESTDIR", &root);
            let (status, said, errors) = output(command);
            assert_eq!((status, errors.as_str()), (0, ""), "{shell:?}: {said}");
            let mut found = Vec::new();
            list(&root, &root, &mut found);
            found.len()
        };
        fs::create_dir(&root).unwrap();
        assert_eq!(run(&["--dry-run"]), 0);
        assert_eq!((run(&[]), run(&[])), (7, 7));
        assert_eq!(run(&["--purge"]), 0);
    }
}

#[test]
fn a_program_for_another_processor_is_refused() {
    let Some(busybox) = program("busybox") else { return };
    let folder = Folder::new();
    let mut foreign = fs::read(BINARY).unwrap();
    // The processor's number in the header of an ELF file; no processor has this one.
    foreign[18..20].copy_from_slice(&[0x34, 0x12]);
    let foreign = folder.write("nodepass", foreign);
    fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
    let prefix = folder.file("prefix");
    let mut command = Command::new(busybox);
    command.args(["ash", concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh"), "--system", "none", "--prefix"]);
    command.arg(&prefix).arg(&foreign).env_remove("DESTDIR");
    let (status, said, errors) = output(command);
    let told = format!("Error: {} does not run here: is it built for this machine?", foreign.display());
    assert_eq!((status, errors), (1, told), "{said}");
    assert!(!prefix.exists());
}

#[test]
fn a_dry_run_tells_all_and_does_nothing() {
    let Some(root) = Root::new("lib/systemd/systemd") else { return };
    let said = root.installed(&["--dry-run", BINARY]);
    assert_eq!(said.lines().filter(|line| line.starts_with("would install")).count(), 7, "{said}");
    assert!(root.files().is_empty() && !root.path("etc").exists());
    root.installed(&[BINARY]);
    let before = root.files();
    assert!(root.installed(&["--purge", "--dry-run"]).contains("would remove"));
    assert_eq!(root.files(), before);
}

#[test]
fn what_cannot_be_done_is_told_and_nothing_is_touched() {
    let Some(root) = Root::new("etc/none") else { return };
    let bad: &[(&[&str], &str)] = &[
        (&["/nowhere/nodepass"], "Error: no file /nowhere/nodepass"),
        (&["--prefix"], "Error: --prefix has no value"),
        (&["--prefix", "here"], "Error: bad --prefix \"here\": expected a path that begins with /"),
        (&["--prefix", "/a b"], "Error: bad --prefix \"/a b\": expected a path without blanks and signs"),
        (&["--system", "plan9"], "Error: bad --system \"plan9\": expected systemd, openwrt or none"),
        (&["--frobnicate"], "Error: unknown option --frobnicate: --help lists all"),
        (&["a", "b"], "Error: stray argument \"b\": expected one source"),
    ];
    for (args, told) in bad {
        let (status, said) = root.install(args);
        assert_eq!((status, said.trim_end()), (1, *told), "{args:?}");
    }
    assert_eq!(root.files(), ["644 etc/none"]);
    assert!(root.installed(&["--help"]).starts_with("Usage: install.sh"));
}

#[test]
fn the_scripts_of_installation_and_routers_are_clean() {
    let Some(shellcheck) = program("shellcheck") else { return };
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let check = |shell: &str, files: &[&str]| {
        let mut command = Command::new(&shellcheck);
        command.args(["-s", shell]).args(files).current_dir(project);
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "{said}{errors}");
    };
    check("sh", &["scripts/install.sh", "scripts/setup.sh", "cross/debian/deb.sh", "cross/rpm/rpm.sh"]);
    check(
        "dash",
        &["postinst", "prerm", "postrm"].map(|file| format!("cross/debian/{file}")).each_ref().map(String::as_str),
    );
    check("bash", &["scripts/completions/nodepass.bash"]);
    let openwrt = [
        "nodepass/files/nodepass.init",
        "nodepass/files/nodepass.defaults",
        "nodepass/test.sh",
        "apk.sh",
        "ipk.sh",
        "tests/init.sh",
        "tests/router.sh",
        "tests/stub.sh",
    ];
    check("dash", &openwrt.map(|file| format!("cross/openwrt/{file}")).each_ref().map(String::as_str));
}

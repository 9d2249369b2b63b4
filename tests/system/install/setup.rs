//! scripts/setup.sh on machines that lack this and that: a folder of busybox's programs, with package managers that are made up.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::process::Command;

use crate::support::*;

/// A machine whose programs are these alone.
struct Machine {
    folder: Folder,
}

impl Machine {
    /// With a C compiler, make and all that a shell script uses, but no Rust.
    fn new() -> Option<Machine> {
        let busybox = program("busybox")?;
        let machine = Machine { folder: Folder::new() };
        for tool in "sh sed awk tr sort cut cat env id dirname printf".split(' ') {
            symlink(&busybox, machine.folder.file(tool)).unwrap();
        }
        machine.has("cc", "");
        machine.has("make", "");
        Some(machine)
    }

    /// A program that is this shell script.
    fn has(&self, name: &str, script: &str) {
        // What was there may be a link to busybox itself.
        let _ = fs::remove_file(self.folder.file(name));
        let file = self.folder.write(name, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn lacks(&self, name: &str) {
        fs::remove_file(self.folder.file(name)).unwrap();
    }

    fn has_rust(&self, version: &str) {
        self.has("cargo", &format!("echo cargo {version}"));
        self.has("rustc", &format!("echo rustc {version}"));
    }

    /// Debian's package manager: it notes what it is asked for, and brings a compiler and the newest Rust.
    fn has_apt(&self, cargo: &str, cargo_web: &str) {
        let own = self.folder.path().display();
        self.has(
            "apt-get",
            &format!("echo \"$@\" >>{own}/asked; case $* in install*) {BRINGS}; esac").replace("OWN", &own.to_string()),
        );
        let candidate = |version: &str| format!("echo '  Candidate: {version}'");
        let (release, web) = (candidate(cargo), candidate(cargo_web));
        self.has("apt-cache", &format!("case $2 in cargo) {release} ;; cargo-web) {web} ;; esac"));
    }

    /// Runs the script without a terminal: its status and what it says.
    fn set_up(&self, set: &str) -> (i32, String) {
        let mut command = Command::new(self.folder.file("sh"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/setup.sh")).arg(set);
        command.env_clear().env("PATH", self.folder.path()).env("LIBCLANG_PATH", "/somewhere");
        let (status, said, errors) = output(command);
        (status, said + &errors)
    }

    /// What apt-get was asked for.
    fn asked(&self) -> String {
        fs::read_to_string(self.folder.file("asked")).unwrap_or_default()
    }
}

/// What the made-up apt-get leaves behind: programs that answer with a new version.
const BRINGS: &str = "for name in cc rustc cargo; do /bin/rm -f OWN/$name; echo '#!/bin/sh' >OWN/$name; echo 'echo tool 1.99.0' >>OWN/$name; /bin/chmod +x OWN/$name; done";

#[test]
fn a_machine_that_has_all_is_left_alone_without_a_word() {
    let Some(machine) = Machine::new() else { return };
    machine.has_rust("1.99.0");
    machine.has_apt("1.99.0", "1.99.0");
    assert_eq!(machine.set_up("demo"), (0, String::new()));
    assert_eq!(machine.asked(), "");
}

#[test]
fn root_gets_all_that_is_missing_by_one_command_without_a_question() {
    let Some(machine) = Machine::new() else { return };
    machine.lacks("cc");
    machine.has_apt("0.66.0+ds1-1", "1.96.0+dfsg1-1~deb12u2");
    machine.has("id", "echo 0");
    let (status, said) = machine.set_up("demo");
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("missing: cc, Rust "), "{said}");
    assert!(said.contains("apt-get install -y --no-install-recommends gcc rustc-web cargo-web"), "{said}");
    assert_eq!(machine.asked().lines().count(), 2, "{}", machine.asked());
    assert!(machine.asked().starts_with("update "), "{}", machine.asked());
}

#[test]
fn another_user_without_a_terminal_is_told_the_command_and_nothing_is_done() {
    let Some(machine) = Machine::new() else { return };
    machine.lacks("cc");
    machine.has_rust("1.63.0");
    machine.has_apt("0.66.0+ds1-1", "1.96.0+dfsg1-1~deb12u2");
    machine.has("id", "echo 1000");
    machine.has("sudo", "\"$@\"");
    let (status, said) = machine.set_up("demo");
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("(here: 1.63.0)"), "{said}");
    assert!(said.contains(" sudo apt-get install -y --no-install-recommends gcc rustc-web cargo-web"), "{said}");
    assert_eq!(machine.asked(), "");
}

#[test]
fn rust_that_no_package_brings_is_one_line_with_the_version_and_the_way_to_it() {
    let Some(machine) = Machine::new() else { return };
    machine.has_rust("1.63.0");
    machine.has_apt("0.66.0+ds1-1", "1.85.0+dfsg3-1~deb12u3");
    machine.has("id", "echo 0");
    let (status, said) = machine.set_up("demo");
    assert_eq!((status, said.lines().count()), (1, 1), "{said}");
    let least = env!("CARGO_PKG_RUST_VERSION");
    assert!(said.starts_with(&format!("setup: Rust {least} or newer with cargo (here: 1.63.0) is needed:")), "{said}");
    assert!(said.contains("rustup.rs"), "{said}");
    assert!(!machine.asked().contains("install"), "{}", machine.asked());

    machine.has("rustup", "");
    assert!(machine.set_up("demo").1.contains("rustup update stable"));
}

#[test]
fn other_systems_are_told_their_own_command() {
    let commands = [
        ("dnf", "dnf install gcc rust cargo"),
        ("pacman", "pacman -S --needed gcc rust"),
        ("apk", "apk add gcc rust cargo"),
    ];
    for (manager, command) in commands {
        let Some(machine) = Machine::new() else { return };
        machine.lacks("cc");
        machine.has(manager, "echo run >>asked");
        let (status, said) = machine.set_up("demo");
        assert_eq!(status, 1, "{said}");
        assert!(said.ends_with(command), "{said}");
    }
}

#[test]
fn programs_that_only_tests_use_do_not_stop_anything() {
    let Some(machine) = Machine::new() else { return };
    machine.has_rust("1.99.0");
    for tool in "c++ cmake git python3 patch dpkg-deb rpmbuild buildah cargo-fmt cargo-clippy".split(' ') {
        machine.has(tool, "");
    }
    machine.has("id", "echo 1000");
    let (status, said) = machine.set_up("test");
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("going on: tests that need curl, "), "{said}");
}

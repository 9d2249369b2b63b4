//! cross/dist.sh around a small static program, and scripts/install.sh with what it makes: from a folder, and from a web server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use super::Root;
use crate::support::*;

/// A release for this machine's processor alone.
pub struct Release {
    folder: Folder,
}

impl Release {
    /// The one that all tests share; none where a tool is missing.
    pub fn shared() -> Option<&'static Release> {
        static SHARED: OnceLock<Option<Release>> = OnceLock::new();
        SHARED.get_or_init(Release::new).as_ref()
    }

    fn new() -> Option<Release> {
        for tool in ["cc", "cargo", "python3", "dpkg-deb", "rpmbuild", "buildah", "sha256sum"] {
            program(tool)?;
        }
        if !present(root(), "root") {
            return None;
        }
        let release = Release { folder: Folder::new() };
        let source = release
            .folder
            .write("program.c", format!("int puts(); int main() {{ puts(\"nodepass {VERSION}\"); return 0; }}"));
        let binary = release.folder.file(&format!("nodepass-{MACHINE}"));
        let mut compile = Command::new("cc");
        compile.args(["-w", "-O", "-static-pie", "-s", "-o"]).arg(&binary).arg(source);
        assert_eq!(output(compile).0, 0);
        fs::copy(&binary, release.folder.file(&format!("nodepass-{MACHINE}-lite"))).unwrap();
        release.make("dist", "1", "022");
        Some(release)
    }

    /// Runs the script; what it makes goes to a folder of this name.
    pub fn make(&self, name: &str, revision: &str, mask: &str) -> PathBuf {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cross/dist.sh");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {mask}; exec {script} {MACHINE}")]);
        command.env("CROSS_OUT", self.folder.path()).env("DIST_OUT", self.folder.file(name));
        command.env("DIST_REVISION", revision).env("SOURCE_DATE_EPOCH", "1700000000");
        let (status, said, errors) = output(command);
        assert_eq!(status, 0, "{said}{errors}");
        self.folder.file(name)
    }

    /// The same with packages of revision 2, made once.
    pub fn newer(&self) -> PathBuf {
        static NEWER: OnceLock<PathBuf> = OnceLock::new();
        NEWER.get_or_init(|| self.make("newer", "2", "022")).clone()
    }

    /// The program inside.
    pub fn program(&self) -> Vec<u8> {
        fs::read(self.folder.file(&format!("nodepass-{MACHINE}"))).unwrap()
    }

    /// What the script made.
    pub fn dist(&self) -> PathBuf {
        self.folder.file("dist")
    }
}

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
pub const MACHINE: &str = std::env::consts::ARCH;

fn archive(machine: &str) -> String {
    format!("nodepass-{VERSION}-linux-{machine}.tar.gz")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A web server that has the files of a folder.
fn web_server(folder: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let Some(request) = lines.next() else { continue };
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = match fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all(&[head.as_bytes(), &body].concat());
        }
    });
    addr
}

#[test]
fn two_runs_make_the_same_bytes_whatever_the_umask() {
    let Some(release) = Release::shared() else { return };
    let again = release.make("again", "1", "077");
    assert_eq!(names(&release.dist()), names(&again));
    for name in names(&again) {
        assert!(
            fs::read(release.dist().join(&name)).unwrap() == fs::read(again.join(&name)).unwrap(),
            "{name} differs"
        );
    }
}

#[test]
fn the_sums_name_every_file_and_are_right() {
    let Some(release) = Release::shared() else { return };
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "SHA256SUMS"]).current_dir(release.dist());
    let (status, said, errors) = output(check);
    assert_eq!(status, 0, "{said}{errors}");
    let sums = fs::read_to_string(release.dist().join("SHA256SUMS")).unwrap();
    let mut named: Vec<_> = sums.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    named.push("SHA256SUMS");
    named.sort_unstable();
    assert_eq!(names(&release.dist()), named);
}

#[test]
fn the_list_of_contents_has_the_crates_of_the_program_and_none_of_its_tests() {
    let Some(release) = Release::shared() else { return };
    let text = fs::read(release.dist().join(format!("nodepass-{VERSION}.cdx.json"))).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(list["bomFormat"], "CycloneDX");
    assert_eq!(list["metadata"]["component"]["purl"], format!("pkg:cargo/nodepass@{VERSION}"));
    let parts: Vec<_> =
        list["components"].as_array().unwrap().iter().map(|part| part["name"].as_str().unwrap()).collect();
    for name in ["rustls", "ring", "quiche", "boring-sys", "libnghttp2-sys", "mio"] {
        assert!(parts.contains(&name), "{name} is missing: {parts:?}");
    }
    for name in ["syn", "cc", "bindgen"] {
        assert!(!parts.contains(&name), "{name} is not linked");
    }
}

#[test]
fn a_release_is_installed_from_a_folder_and_from_a_web_server() {
    let Some(release) = Release::shared() else { return };
    let folder = release.dist().display().to_string();
    let url = format!("http://{}", web_server(release.dist()));
    let (one, lite) = (format!("{folder}/{}", archive(MACHINE)), format!("-linux-{MACHINE}-lite.tar.gz"));
    let sources: [(&[&str], &str); 5] = [
        (&[&folder], &archive(MACHINE)),
        (&[&url], &archive(MACHINE)),
        (&[&format!("{url}/{}", archive(MACHINE))], &archive(MACHINE)),
        (&[&one], &archive(MACHINE)),
        (&["--lite", &url], &lite),
    ];
    for (source, from) in sources {
        let Some(root) = Root::new("lib/systemd/systemd") else { return };
        let said = root.installed(source);
        assert!(said.contains("From ") && said.contains(from), "{said}");
        assert!(said.contains(&format!("Installing nodepass {VERSION}")), "{said}");
        assert_eq!(root.files().len(), 7, "{:?}", root.files());
    }
}

#[test]
fn the_archive_is_the_one_for_what_uname_says() {
    let Some(release) = Release::shared() else { return };
    let machines =
        [("x86_64", "x86_64"), ("aarch64", "aarch64"), ("armv7l", "armv7"), ("armv6l", "arm"), ("i686", "i686")];
    let others = Folder::new();
    let mut sums = String::new();
    for (_, name) in machines {
        fs::copy(release.dist().join(archive(MACHINE)), others.file(&archive(name))).unwrap();
    }
    let mut sum = Command::new("sh");
    sum.args(["-c", "sha256sum *.tar.gz"]).current_dir(others.path());
    sums += &output(sum).1;
    others.write("SHA256SUMS", sums);
    let source = others.path().display().to_string();
    for (said, name) in machines {
        let Some(root) = Root::new("etc/none") else { return };
        root.has_program("uname", &format!("echo {said}"));
        let told = root.installed(&[&source]);
        assert!(told.contains(&archive(name)), "{said}: {told}");
    }
    let Some(root) = Root::new("etc/none") else { return };
    root.has_program("uname", "echo vax");
    let (status, told) = root.install(&[&source]);
    assert_eq!((status, told.trim()), (1, "Error: no release for the processor \"vax\": --target names one"));
    assert!(root.installed(&["--target", "arm", &source]).contains(&archive("arm")));
}

#[test]
fn what_the_sums_do_not_confirm_is_refused_and_nothing_is_touched() {
    let Some(release) = Release::shared() else { return };
    let Some(root) = Root::new("etc/none") else { return };
    let bad = Folder::new();
    let source = bad.path().display().to_string();
    let refused = |words: &str| {
        let (status, said) = root.install(&["--target", MACHINE, &source]);
        assert!(status == 1 && said.contains(words), "{words:?}: {said}");
        assert_eq!(root.files(), ["644 etc/none"]);
    };
    refused("cannot read");
    let sums = fs::read_to_string(release.dist().join("SHA256SUMS")).unwrap();
    bad.write("SHA256SUMS", &sums);
    refused(&format!("cannot read {source}/{}", archive(MACHINE)));
    let whole = fs::read(release.dist().join(archive(MACHINE))).unwrap();
    bad.write(&archive(MACHINE), &whole[..whole.len() - 1]);
    refused("is not what SHA256SUMS says");
    bad.write("SHA256SUMS", sums.replace(&archive(MACHINE), "other.tar.gz"));
    refused("no archive for");
}

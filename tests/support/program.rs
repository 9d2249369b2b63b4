//! Programs from the system, folders that go away, and a certificate authority for an afternoon.

use super::{finished, output, skip, Process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a program is. If it is nowhere, the test is skipped.
///
/// ```ignore
/// let Some(nginx) = program("nginx") else { return };
/// ```
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/local/sbin", "/usr/sbin", "/sbin"]);
    let found = folders.map(|folder| Path::new(folder).join(name)).find(|file| file.is_file());
    if found.is_none() {
        skip(name);
    }
    found
}

/// Copies an executable that is to be run. By a process of its own: one that another test starts meanwhile would keep the file open for
/// writing, and so from being run.
pub fn copy_program(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg(from).arg(to);
    let (status, _, errors) = output(command);
    assert_eq!(status, 0, "{errors}");
}

/// A Python that has this module: `target/python`, as `.ci/run` makes it, or the system's. If none has it, the test is skipped.
pub fn python(module: &str) -> Option<&'static str> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let found = [ours, "python3"].into_iter().find(|python| {
        let mut command = Command::new(python);
        command.args(["-c", &format!("import {module}")]);
        finished(command).is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        skip(&format!("Python's {module}"));
    }
    found
}

/// Whether the tests run as root; some things (namespaces, mounts) need it.
pub fn root() -> bool {
    // SAFETY: reads a number.
    unsafe { libc::geteuid() == 0 }
}

/// A folder under the system's temporary one that is removed with this value.
pub struct Folder(PathBuf);

impl Folder {
    /// A new, empty one, which other users may enter (some programs drop root's rights).
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("nodepass-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, content).expect("writing a file");
        file
    }
}

impl Default for Folder {
    fn default() -> Self {
        Folder::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate authority and a server certificate signed by it, made with openssl.
pub struct Authority {
    folder: Folder,
}

impl Authority {
    /// An authority with one certificate for `name` (a DNS name) and for 127.0.0.1; where openssl is not there, `None`, and the
    /// test is skipped.
    pub fn new(name: &str) -> Option<Authority> {
        let folder = Folder::new();
        let authority = Authority { folder };
        program("openssl")?;
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=test-ca \
             -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign",
        );
        authority.issue(name, "server");
        Some(authority)
    }

    /// Signs a certificate: `<stem>.pem` and `<stem>.key` in the folder.
    pub fn issue(&self, name: &str, stem: &str) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {stem}.key -out \
             {stem}.csr"
        ));
        let extensions = format!("subjectAltName=DNS:{name},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
        self.folder.write(&format!("{stem}.ext"), extensions);
        self.openssl(&format!(
            "x509 -req -in {stem}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile {stem}.ext -out \
             {stem}.pem"
        ));
    }

    fn openssl(&self, args: &str) {
        let mut command = Command::new("openssl");
        command.args(args.split_whitespace()).current_dir(self.folder.path());
        let (status, _, errors) = output(command);
        assert_eq!(status, 0, "openssl {args}: {errors}");
    }

    /// The authority's certificate, for `SSL_CERT_FILE` or `-CAfile`.
    pub fn ca(&self) -> String {
        self.path("ca.pem")
    }

    /// `crt=...&key=...` of the server's certificate, for a URL.
    pub fn parameters(&self) -> String {
        format!("crt={}&key={}", self.path("server.pem"), self.path("server.key"))
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> String {
        self.folder.file(name).to_string_lossy().into_owned()
    }
}

/// Starts a program with arguments and gives it as a [`Process`].
pub fn start(path: &Path, args: &[&str]) -> Process {
    let mut command = Command::new(path);
    command.args(args);
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Process::run(&name, command)
}

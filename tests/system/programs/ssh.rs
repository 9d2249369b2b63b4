//! OpenSSH: a login, a command and copies both ways, with keys that the test makes.

use super::sha256;
use crate::support::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn ssh_logs_in_and_scp_copies_a_file_unchanged_both_ways() {
    let Some(ssh) = Ssh::new() else { return };
    let addr = free_addr();
    let _server = Process::run("sshd", ssh.server(addr));
    connect(addr);
    let size = megabytes() << 20;
    let file = ssh.folder.write("file", noise(3, size));
    let wanted = sha256(&file);
    each_way(|builder| {
        let tunnel = builder.target(addr).start();
        let (status, out, errors) = output(ssh.says(tunnel.user, "hello", "read line; echo \"heard $line\"; exit 7"));
        assert_eq!((status, out.as_str()), (7, "heard hello"), "{errors}");
        let here = Folder::new();
        let (there, back) = (here.file("there"), here.file("back"));
        let remote = format!("{}@{}:{}", ssh.user, tunnel.user.ip(), there.display());
        for (from, to) in [(file.to_str(), Some(remote.as_str())), (Some(remote.as_str()), back.to_str())] {
            let mut scp = ssh.program("scp", "-P", tunnel.user);
            scp.arg("-q").args([from.unwrap(), to.unwrap()]);
            let (status, _, errors) = output(scp);
            assert_eq!(status, 0, "{errors}");
        }
        for copy in [there, back] {
            assert_eq!(std::fs::metadata(&copy).unwrap().len(), size as u64);
            assert!(sha256(&copy) == wanted, "{} is not what was sent", copy.display());
        }
    });
}

/// How much is copied: a few megabytes, or as many as the environment says.
fn megabytes() -> usize {
    std::env::var("NODEPASS_SCP_MB").ok().map_or(MEGABYTES, |text| text.parse().expect("megabytes"))
}

/// A server's and a user's keys, and how both are started.
pub struct Ssh {
    folder: Folder,
    sshd: PathBuf,
    user: String,
}

impl Ssh {
    pub fn new() -> Option<Ssh> {
        let sshd = program("sshd")?;
        for client in ["ssh", "scp", "ssh-keygen"] {
            program(client)?;
        }
        let (_, user, _) = output(command("id", &["-un"]));
        if root() {
            std::fs::create_dir_all("/run/sshd").expect("the folder in which it drops its rights");
        }
        let ssh = Ssh { folder: Folder::new(), sshd, user: user.trim().into() };
        for key in ["host", "user"] {
            let (status, _, errors) =
                output(command("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &ssh.path(key)]));
            assert_eq!(status, 0, "{errors}");
        }
        let host = std::fs::read_to_string(ssh.path("host.pub")).expect("a key");
        ssh.folder.write("known", format!("target {host}"));
        Some(ssh)
    }

    /// The server, in the foreground, with its log at hand.
    pub fn server(&self, addr: SocketAddr) -> Command {
        let config = format!(
            "ListenAddress {addr}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\n",
            self.path("host"),
            self.path("user.pub"),
        );
        let file = self.folder.write(&format!("sshd-{}", addr.port()), config);
        let mut command = Command::new(&self.sshd);
        command.args(["-D", "-e", "-f"]).arg(file);
        command
    }

    /// A session of these words, with something to read for them.
    pub fn says(&self, to: SocketAddr, line: &str, words: &str) -> Command {
        let ssh = self.session(to, words);
        let mut command = Command::new("sh");
        command.args(["-c", "said=$1; shift; echo \"$said\" | \"$@\"", "-", line]).arg(ssh.get_program());
        command.args(ssh.get_args());
        command
    }

    /// A session of these words.
    pub fn session(&self, to: SocketAddr, words: &str) -> Command {
        let mut ssh = self.program("ssh", "-p", to);
        ssh.arg(format!("{}@{}", self.user, to.ip())).arg(words);
        ssh
    }

    /// One of the client's programs; `port` is how it is told the port. It says nothing by itself while nothing is to be said.
    fn program(&self, name: &str, port: &str, to: SocketAddr) -> Command {
        let options = [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "HostKeyAlias=target",
            "StrictHostKeyChecking=yes",
            "LogLevel=ERROR",
            "TCPKeepAlive=no",
            "ServerAliveInterval=0",
            &format!("IdentityFile={}", self.path("user")),
            &format!("UserKnownHostsFile={}", self.path("known")),
        ];
        let mut command = command(name, &["-F", "none", port, &to.port().to_string()]);
        command.args(options.iter().flat_map(|option| ["-o", option]));
        command
    }

    fn path(&self, name: &str) -> String {
        self.folder.file(name).to_string_lossy().into_owned()
    }

    /// Where a test may put files of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args);
    command
}

/// What is copied each way through each tunnel.
const MEGABYTES: usize = 32;

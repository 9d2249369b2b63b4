//! OpenSSH across a NAT that forgets.

use super::{each_kind, try_run, Land};
use crate::programs::ssh::Ssh;
use crate::support::*;
use std::fs::File;
use std::io::Write;
use std::process::Command;

#[test]
fn an_ssh_session_that_is_idle_for_longer_than_a_nat_remembers_goes_on() {
    if !present(try_run("iptables --version").is_ok(), "iptables") {
        return;
    }
    each_kind(|kind| {
        let (Some(ssh), Some(land)) = (Ssh::new(), Land::new()) else { return };
        land.forgets_after_three_seconds();
        let target = "127.0.0.1:7000".parse().expect("an address");
        let _server = Process::run("sshd", land.client.command(&ssh.server(target)));
        land.client.enter(|| connect(target));
        let tunnel = land.tunnel_to_target(kind, ("1s", "1s"), "4s");

        let words = ssh.folder().join("words");
        assert_eq!(output(named_pipe(&words)).0, 0);
        // Open for reading too, so that it can be opened before the session opens it.
        let mut typed = File::options().read(true).write(true).open(&words).expect("a pipe");
        let session = land.server.command(&ssh.session(tunnel.user, "cat"));
        let mut shell = Command::new("sh");
        shell.args(["-c", "said=$1; shift; \"$@\" <\"$said\"", "-"]).arg(&words);
        shell.arg(session.get_program()).args(session.get_args());
        let session = Process::run("ssh", shell);
        for word in ["first", "second"] {
            writeln!(typed, "{word}").expect("a pipe");
            session.says(word, GRACE);
            // More than twice of what the NAT remembers.
            tunnel.client.reports(7);
        }
        assert_eq!(session.ended(), None);
        tunnel.is_whole();
    });
}

fn named_pipe(at: &std::path::Path) -> Command {
    let mut command = Command::new("mkfifo");
    command.arg(at);
    command
}

//! Where the URL comes from, and that no other user of the machine sees the key in it.

use super::{nodepass, refused};
use crate::support::*;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn a_url_may_be_in_a_file_on_standard_input_or_in_the_environment() {
    let folder = Folder::new();
    let (target, port) = (Target::echo(), free_port());
    let url = format!("client://127.0.0.1:{port}/{}?mode=1", target.addr());
    let file = folder.write("web.url", format!("# the web server\n\n{url}\r\n"));
    chmod(&file, 0o640);
    let by_file = || Process::nodepass_with(&[&format!("@{}", file.display())], &[]);
    let by_variable = || Process::nodepass_with(&[], &[("NP_URL", &url)]);
    let by_input = || {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" - <<END\n$1\nEND", env!("CARGO_BIN_EXE_nodepass"), &url]);
        Process::run("standard input", command)
    };
    let starts: [&dyn Fn() -> Process; 3] = [&by_file, &by_variable, &by_input];
    for start in starts {
        let process = start();
        process.says("Client started", GRACE);
        until("a user", GRACE, || exchange(([127, 0, 0, 1], port).into(), b"hello"));
        assert!(!process.said("can be read by every user"));
        process.terminate();
    }
}

#[test]
fn an_argument_counts_before_the_environment() {
    let (status, version, _) = nodepass(&["version"]);
    assert_eq!(status, 0);
    let mut command = nodepass_command();
    command.arg("version").env("NP_URL", "server://k@127.0.0.1:1/127.0.0.1:2");
    assert_eq!(output(command), (0, version, String::new()));
    let mut command = nodepass_command();
    command.env("NP_URL", "");
    let (status, _, errors) = output(command);
    assert!(status == 1 && errors.starts_with("Error: no argument"), "{errors}");
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_name_and_without_the_key() {
    let folder = Folder::new();
    let at = |name: &str, text: &[u8]| format!("@{}", folder.write(name, text).display());
    refused(&[&at("empty", b"# nothing\n\n")], 1, &["empty: ", "no URL"]);
    refused(&[&at("two", b"server://h:1/t:2\nclient://h:1/t:2\n")], 1, &["two: ", "line 2"]);
    refused(&[&at("large", &vec![b'x'; 70_000])], 1, &["large: ", "65536 bytes"]);
    refused(&[&at("bytes", b"server://\xff@h:1/t:2")], 1, &["bytes: ", "UTF-8"]);
    refused(&[&at("tls", b"server://secret@h:1/t:2?tls=7")], 1, &["tls: bad parameter tls \"7\""]);
    refused(&[&at("more", b"server://h:1/t:2"), "more"], 2, &["more: bad argument \"more\""]);
    refused(&[&format!("@{}", folder.path().display())], 1, &["directory"]);
    refused(&[&format!("@{}", folder.file("missing\n").display())], 1, &["missing\\x0a: No such file"]);
    for file in ["tls", "two"] {
        let (_, _, errors) = nodepass(&[&format!("@{}", folder.file(file).display())]);
        assert!(!errors.contains("secret"), "{errors}");
    }
    let mut command = nodepass_command();
    command.env("NP_URL", "server://secret@h:1/t:2?tls=7");
    let (status, _, errors) = output(command);
    assert!(status == 1 && errors.starts_with("Error: NP_URL: bad parameter tls \"7\""), "{errors}");
}

#[test]
fn a_file_that_every_user_may_read_is_a_warning() {
    let folder = Folder::new();
    let url = format!("client://127.0.0.1:{}/127.0.0.1:{}?mode=1", free_port(), free_port());
    let file = folder.write("web.url", url);
    chmod(&file, 0o644);
    let process = Process::nodepass_with(&[&format!("@{}", file.display())], &[]);
    let line = process.says("can be read by every user", GRACE);
    assert!(line.contains("  WARN  ") && line.contains("web.url"), "{line}");
}

#[test]
fn no_role_shows_its_key_to_other_users() {
    let (server, client, master) = (free_port(), free_port(), free_port());
    let folder = Folder::new();
    for (role, port, rest) in
        [("server", server, "/127.0.0.1:1?mode=2"), ("client", client, "/127.0.0.1:1?mode=1"), ("master", master, "")]
    {
        let (url, shown) =
            (format!("{role}://geheim@127.0.0.1:{port}{rest}"), format!("{role}://***@127.0.0.1:{port}{rest}"));
        let port = port.to_string();
        let flags =
            [role, "--tunnel-addr", "127.0.0.1", "--tunnel-port", &port, "--password", "geheim", "--target-port", "1"];
        let masked = flags.join(" ").replace("geheim", "***");
        let state = ("NP_STATE_DIR", folder.path().to_str().unwrap());
        let starts = [
            (vec![url.as_str()], vec![state, ("NP_WORKERS", "1")], shown.as_str()),
            (vec![], vec![state, ("NP_WORKERS", "1"), ("NP_URL", url.as_str())], shown.as_str()),
            (flags.to_vec(), vec![state, ("NP_WORKERS", "1")], masked.as_str()),
        ];
        for (args, env, shown) in starts {
            let process = Process::nodepass_with(&args, &env);
            process.says(" started: ", GRACE);
            let about = |name: &str| std::fs::read(format!("/proc/{}/{name}", process.pid())).unwrap();
            let text = |name: &str| String::from_utf8(about(name)).unwrap().replace('\0', " ");
            let (own, environ) = (text("cmdline"), text("environ"));
            assert!(own.trim_end().ends_with(&format!("nodepass {shown}")), "{own}");
            assert!(!environ.contains("geheim") && !environ.contains("NP_URL="), "{environ}");
            assert!(environ.contains("NP_WORKERS=1"), "the rest of the environment stays");
            assert_eq!(text("comm").trim_end(), "nodepass", "it is found by its name");
            if program("ps").is_some() {
                let mut ps = Command::new("ps");
                ps.args(["-o", "args=", "-p", &process.pid().to_string()]);
                let (_, listed, _) = output(ps);
                assert!(listed.contains("***") && !listed.contains("geheim"), "{listed}");
            }
            assert!(!process.said("can be seen in the list"), "{args:?}");
            process.terminate();
            assert_eq!(process.wait(GRACE), 0, "{args:?}");
        }
    }
}

#[test]
fn a_program_whose_file_is_gone_runs_and_says_that_its_key_is_seen() {
    let folder = Folder::new();
    let mut command = Command::new("sh");
    let script = "cp \"$0\" \"$1\" && exec 3<\"$1\" && rm \"$1\" && exec /proc/self/fd/3 \"$2\"";
    let url = format!("server://geheim@127.0.0.1:{}/127.0.0.1:1?mode=2", free_port());
    command.args(["-c", script, env!("CARGO_BIN_EXE_nodepass")]).arg(folder.file("gone")).arg(&url);
    let process = Process::run("a program without a file", command);
    let line = process.says("the key can be seen in the list of processes", GRACE);
    assert!(line.contains("  WARN  ") && line.contains("nodepass @FILE"), "{line}");
    process.says("Server started", GRACE);
    process.terminate();
    assert_eq!(process.wait(GRACE), 0);
}

#[test]
fn a_process_that_begins_anew_keeps_its_leash() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = nodepass_command();
    let url = format!("server://geheim@127.0.0.1:{}/127.0.0.1:1?mode=2", free_port());
    let theirs = OwnedFd::from(theirs);
    command.arg(url).env("NP_LEASH", "1").stdin(theirs.try_clone().unwrap()).stdout(theirs).stderr(Stdio::null());
    let process = Process::unheard("a child of another master", command);
    let cmdline = || std::fs::read_to_string(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
    assert!(eventually(GRACE, || cmdline().contains("***")), "{}", cmdline());
    assert_eq!(process.ended(), None);
    drop(ours);
    assert_eq!(process.wait(GRACE), 0);
}

#[test]
fn a_path_with_a_line_break_forges_no_line() {
    let forged = "%0A2026-01-31%2018:05:09.123%20%20ERROR%20%20Server%20error:%20forged%1B[31m";
    let url = format!("server://k@127.0.0.1:{}/127.0.0.1:1?mode=2&tls=2&crt=/missing{forged}&key=/k", free_port());
    let (status, said, errors) = nodepass(&[&url]);
    assert_eq!(status, 1);
    let lines: Vec<&str> = said.lines().chain(errors.lines()).filter(|line| line.contains("forged")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("Error: "), "{said}{errors}");
    assert!(lines[0].contains("missing\\n2026-01-31") && lines[0].contains("forged\\u{1b}[31m"), "{errors}");
}

fn chmod(file: &Path, mode: u32) {
    std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

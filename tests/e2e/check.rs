//! `nodepass check`: what it finds on this machine, without starting or disturbing anything.
//!
//! `check/certificates.rs`: certificate files as openssl makes them. `check/masters.rs`: a running master, and `nodepass status`.
//! `check/network.rs`: the path to the server, and targets. `check/report.rs`: the text for a bug report.

mod certificates;
#[cfg(feature = "master")]
mod masters;
mod network;
mod report;

use serde_json::Value;

use crate::support::*;
use std::net::{TcpListener, UdpSocket};

/// What `check` says of arguments and an environment, as a program reads it; and its exit status.
pub struct Checked {
    pub status: i32,
    object: Value,
}

/// Runs `nodepass check --json` with these arguments.
pub fn check(args: &[&str]) -> Checked {
    check_with(args, &[])
}

/// The same with an environment.
pub fn check_with(args: &[&str], env: &[(&str, &str)]) -> Checked {
    let (status, out, errors) = run(&[&["check", "--json"], args].concat(), env);
    assert_eq!(errors, "", "{args:?}");
    Checked { status, object: serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}")) }
}

/// Runs the binary to its end.
pub fn run(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = nodepass_command();
    command.args(args).envs(env.iter().copied());
    output(command)
}

impl Checked {
    /// The findings with this code.
    pub fn all(&self, code: &str) -> Vec<&Value> {
        self.object["findings"].as_array().expect("a list").iter().filter(|one| one["code"] == code).collect()
    }

    /// The one finding with this code, its texts side by side.
    #[track_caller]
    pub fn one(&self, code: &str) -> String {
        let found = self.all(code);
        assert!(!found.is_empty(), "no {code} in {:#}", self.object);
        let text = |name: &str| found[0][name].as_str().expect("a text").to_owned();
        [text("subject"), text("what"), text("cause"), text("cure")].join(" | ")
    }

    /// The codes of what should be seen to, machine and language apart.
    pub fn bad(&self) -> Vec<&str> {
        let all = self.object["findings"].as_array().expect("a list").iter();
        all.filter(|one| ["warning", "fault"].contains(&one["level"].as_str().unwrap_or_default()))
            .filter_map(|one| one["code"].as_str())
            .collect()
    }
}

fn forwarder(at: impl std::fmt::Display, target: impl std::fmt::Display) -> String {
    format!("client://{at}/{target}?mode=1")
}

#[test]
fn a_set_up_without_a_fault_is_fine_and_nothing_is_left_behind() {
    let (target, at) = (Target::echo(), free_addr());
    let checked = check(&[&forwarder(at, target.addr())]);
    assert_eq!((checked.status, checked.bad()), (0, vec![]), "{:#}", checked.object);
    assert_eq!(checked.all("port-free").len(), 2, "TCP and UDP");
    assert!(checked.one("config-fine").contains("slot=65536"));
    TcpListener::bind(at).expect("the port is free as before");
}

#[test]
fn what_cannot_be_used_is_told_with_a_cure_and_its_own_exit_status() {
    for (args, env, code, words) in [
        (vec!["server://h:1/t:2?tls=9"], vec![], "url-unusable", "expected 0, 1 or 2"),
        (vec!["sever://h:1/t:2"], vec![], "url-unusable", "did you mean server?"),
        (vec!["server", "--tunnel-prot", "1"], vec![], "url-unusable", "did you mean --tunnel-port?"),
        (vec![], vec![], "url-unusable", "a URL"),
        (vec!["client://h:1/t:2"], vec![("NP_WORKERS", "many")], "url-unusable", "NP_WORKERS"),
    ] {
        let checked = check_with(&args, &env);
        assert_eq!(checked.status, 2, "{args:?}");
        assert!(checked.one(code).contains(words), "{args:?}: {}", checked.one(code));
    }
    let (status, out, errors) = run(&["check", "@/no/such/file"], &[]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(errors.contains("/no/such/file"), "{errors}");
    let (status, _, errors) = run(&["check", "--jsn"], &[]);
    assert!(status == 2 && errors.contains("did you mean --json?"), "{errors}");
}

#[test]
fn mistyped_parameters_and_variables_are_findings() {
    let target = Target::echo();
    let url = format!("{}&tsl=1", forwarder(free_addr(), target.addr()));
    let checked = check_with(&[&url], &[("NP_WORKER", "2")]);
    assert_eq!((checked.status, checked.bad()), (1, vec!["config-remark", "variable-unknown"]));
    assert!(checked.one("config-remark").contains("did you mean tls?"));
    assert!(checked.one("variable-unknown").contains("did you mean NP_WORKERS?"));
}

#[test]
fn the_url_may_be_in_a_file_on_standard_input_or_in_flags_and_its_key_is_never_shown() {
    let (folder, at, target) = (Folder::new(), free_addr(), Target::echo());
    let url = format!("server://planted-secret-of-tests@{at}/{}?mode=2&tls=1", target.addr());
    let file = folder.write("web.url", format!("# a comment\n{url}\n"));
    let named = format!("@{}", file.display());
    let port = at.port().to_string();
    let flags =
        ["server", "--password", "planted-secret-of-tests", "--tunnel-addr", "127.0.0.1", "--tunnel-port", &port];
    let targets = target.addr().to_string();
    let flags = [&flags[..], &["--targets", &targets, "--mode", "2", "--tls", "1"]].concat();
    for args in [vec![url.as_str()], vec![named.as_str()], flags] {
        for lang in ["en", "zh"] {
            let (status, out, errors) = run(&[&["check", "--lang", lang], &args[..]].concat(), &[]);
            assert!(status < 2 && errors.is_empty() && out.contains("***@"), "{args:?}: {out}{errors}");
            assert!(!out.contains("planted-secret"), "{out}");
        }
    }
    let checked = check_with(&[], &[("NP_URL", &url)]);
    assert!(checked.one("config-fine").contains("server://***@"));
    // A file that every user may read has the key in it.
    assert!(check(&[&named]).one("config-remark").contains("chmod 600"));
}

#[test]
fn a_port_that_is_taken_is_told_with_the_program_that_has_it() {
    let (taken, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), Target::echo());
    let at = taken.local_addr().unwrap();
    let checked = check(&[&forwarder(at, target.addr())]);
    let told = checked.one("port-taken");
    assert!(checked.status == 1 && told.contains(&format!("pid {}", std::process::id())), "{told}");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let checked = check(&[&forwarder(udp.local_addr().unwrap(), target.addr())]);
    assert!(checked.one("port-taken").contains("(UDP)"));
}

#[test]
fn a_set_up_that_runs_is_told_and_not_disturbed() {
    let target = Target::echo();
    target.handle(echo);
    let at = free_addr();
    let url = forwarder(at, target.addr());
    let process = Process::nodepass(&url);
    let user = connect(at);
    put(&user, b"before");
    assert_eq!(take(&user, 6), b"before");
    let checked = check(&[&url]);
    assert_eq!((checked.status, checked.bad()), (0, vec![]), "{:#}", checked.object);
    assert!(checked.one("port-ours").contains(&format!("pid {}", process.pid())));
    put(&user, b"after");
    assert_eq!(take(&user, 5), b"after");
    // To another set-up the same port is taken.
    assert_eq!(check(&[&format!("{url}&noudp=1")]).bad(), ["port-taken"]);
}

#[test]
fn a_server_whose_users_port_is_taken_is_told_what_mode_0_makes_of_it() {
    let target = Target::echo();
    let url = format!("server://planted-secret-of-tests@{}/{}?tls=1", free_addr(), target.addr());
    let checked = check(&[&url]);
    assert_eq!((checked.status, checked.bad()), (1, vec!["mode-flips"]));
    assert!(checked.one("mode-flips").contains("mode=2"));
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_at() {
    let target = Target::echo();
    let checked = check(&[&forwarder("203.0.113.7:9000", target.addr())]);
    assert!(checked.bad().iter().all(|code| *code == "port-address") && checked.status == 1, "{:?}", checked.bad());
}

#[test]
fn a_name_without_an_address_is_a_fault() {
    let checked = check(&[&forwarder(free_addr(), "no.such.name.invalid:80")]);
    assert!(checked.one("name-failed").contains("no.such.name.invalid"));
    let fine = check(&[&forwarder(free_addr(), format!("localhost:{}", Target::echo().addr().port()))]);
    assert!(fine.one("name-fine").contains("127.0.0.1"));
}

#[test]
fn the_language_is_the_users() {
    let target = Target::echo();
    let url = forwarder(free_addr(), target.addr());
    let (_, out, _) = run(&["check", "--lang", "zh", &url], &[]);
    assert!(out.contains("端口空闲") && out.contains("0 个故障"), "{out}");
    let (_, out, _) = run(&["check", &url], &[]);
    assert!(out.contains("the port is free") && out.contains("0 faults, 0 warnings"), "{out}");
}

#[cfg(feature = "master")]
#[test]
fn a_masters_folder_is_looked_at_and_left_alone() {
    let (folder, at) = (Folder::new(), free_addr());
    let state = folder.file("state");
    let url = format!("master://{at}?log=info");
    let env = [("NP_STATE_DIR", state.to_str().unwrap())];
    assert!(check_with(&[&url], &env).one("state-new").contains("state"));
    assert!(!state.exists(), "looking makes nothing");
    let master = Process::nodepass_with(&[&url], &env);
    master.says("API Key created", GRACE);
    assert!(eventually(GRACE, || state.join("nodepass.gob").exists()));
    let checked = check_with(&[&url], &env);
    assert!(checked.one("state-busy").contains(&format!("pid {}", master.pid())));
    assert_eq!((checked.status, checked.bad()), (0, vec![]), "{:#}", checked.object);
    drop(master);
    std::fs::write(state.join("nodepass.gob"), b"nonsense").unwrap();
    assert_eq!(check_with(&[&url], &env).bad(), ["state-bad"]);
    assert!(state.join("nodepass.gob").exists(), "and it is where it was");
}

//! `check --master` and `status`: a running master, asked by its API.

use super::{check_with, run};
use crate::support::*;
use serde_json::Value;

/// A master with its state in a folder of its own, and the key to it.
struct Master {
    process: Process,
    url: String,
    key: String,
    folder: Folder,
}

impl Master {
    fn start() -> Master {
        let (folder, at) = (Folder::new(), free_addr());
        let state = folder.file("state");
        let process = Process::nodepass_with(
            &[&format!("master://{at}/np?log=info")],
            &[("NP_STATE_DIR", state.to_str().unwrap())],
        );
        let line = process.says("API Key created: ", GRACE);
        let key = line.rsplit(' ').next().unwrap().to_owned();
        process.says("Master started", GRACE);
        Master { process, url: format!("http://{at}/np"), key, folder }
    }

    fn env(&self) -> [(&str, &str); 1] {
        [("NP_API_KEY", &self.key)]
    }

    /// Makes an instance, and waits until the master says that it runs or fails.
    fn create(&self, alias: &str, url: &str) {
        let Some(curl) = program("curl") else { panic!("curl") };
        let body = serde_json::json!({"alias": alias, "url": url}).to_string();
        let mut command = std::process::Command::new(curl);
        command.args([
            "-sf",
            "-H",
            &format!("X-API-Key: {}", self.key),
            "-d",
            &body,
            &format!("{}/v1/instances", self.url),
        ]);
        assert_eq!(output(command).0, 0);
        let settled = eventually(GRACE, || {
            let (_, out, _) = run(&["status", "--json", "--master", &self.url], &self.env());
            let object: Value = serde_json::from_str(&out).unwrap();
            let all = object["instances"].as_array().unwrap().clone();
            all.iter().any(|one| one["alias"] == alias && one["status"] != "stopped" && one["since"] != "")
        });
        assert!(settled, "{alias} neither runs nor fails");
    }
}

fn has_curl() -> bool {
    program("curl").is_some()
}

#[test]
fn instances_of_a_running_master_are_checked_and_those_that_run_are_fine() {
    if !has_curl() {
        return;
    }
    let (master, target) = (Master::start(), Target::echo());
    master.create("web", &format!("client://{}/{}?mode=1", free_addr(), target.addr()));
    let checked = check_with(&["--master", &master.url], &master.env());
    assert_eq!((checked.status, checked.bad()), (0, vec![]));
    assert!(checked.one("master-fine").contains("1 instances") && checked.one("port-ours").contains("web ("));
    // The same from its folder, without its API.
    let state = master.folder.file("state");
    let url = master.url.replace("http://", "master://") + "?log=info";
    assert!(eventually(GRACE, || {
        let checked = check_with(&[&url], &[("NP_STATE_DIR", state.to_str().unwrap())]);
        checked.status == 0 && !checked.all("port-ours").is_empty() && !checked.all("state-busy").is_empty()
    }));
}

#[test]
fn instances_that_want_one_port_are_told() {
    if !has_curl() {
        return;
    }
    let (master, target, at) = (Master::start(), Target::echo(), free_addr());
    master.create("one", &format!("client://{at}/{}?mode=1", target.addr()));
    master.create("two", &format!("client://planted-secret-of-tests@{at}/{}?mode=1&rate=1", target.addr()));
    let (_, out, _) = run(&["check", "--master", &master.url], &master.env());
    assert!(out.contains("[instances-collide]") && !out.contains("planted-secret"), "{out}");
    let checked = check_with(&["--master", &master.url], &master.env());
    assert!(checked.status == 1 && checked.one("instances-collide").contains("two ("));
    assert!(checked.one("instances-collide").contains("one ("));
}

#[test]
fn a_master_that_is_not_there_or_knows_another_key_is_told() {
    let nowhere = format!("http://{}/api", free_addr());
    for command in ["check", "status"] {
        let (status, out, _) = run(&[command, "--master", &nowhere], &[]);
        assert!(status == 2 && out.contains("[master-unreachable]"), "{out}");
    }
    let master = Master::start();
    let (status, out, _) = run(&["status", "--master", &master.url], &[("NP_API_KEY", "planted-secret")]);
    assert!(status == 2 && out.contains("[master-key]") && !out.contains("planted-secret"), "{out}");
    let other = master.url.replace("/np", "/other");
    let (status, out, _) = run(&["status", "--master", &other], &master.env());
    assert!(status == 2 && out.contains("[master-other]"), "{out}");
    assert!(!master.process.said("planted-secret"));
}

#[test]
fn status_is_a_table_that_fits_a_terminal_and_the_key_may_be_in_the_url() {
    if !has_curl() {
        return;
    }
    let (master, target) = (Master::start(), Target::echo());
    master.create("web", &format!("client://{}/{}?mode=1", free_addr(), target.addr()));
    let with_key = master.url.replace("http://", &format!("http://{}@", master.key));
    let (status, out, errors) = run(&["status", &with_key], &[]);
    assert_eq!((status, errors.as_str()), (0, ""));
    let line = out.lines().find(|line| line.starts_with("web ")).unwrap_or_else(|| panic!("{out}"));
    assert!(line.contains("client") && line.contains("running"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80) && !out.contains(&master.key), "{out}");
}

#[test]
fn a_watch_goes_on_and_its_arguments_hold_no_key() {
    let master = Master::start();
    let with_key = master.url.replace("http://", &format!("http://{}@", master.key));
    let watch = Process::nodepass_with(&["status", "--watch", &with_key], &[]);
    assert!(eventually(GRACE, || watch.count("no instances") >= 2), "{watch:?}");
    let line = std::fs::read(format!("/proc/{}/cmdline", watch.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&line).contains(&master.key));
}

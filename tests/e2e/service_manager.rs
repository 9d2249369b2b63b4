//! What a service manager hears (sd_notify): readiness, a sign of life, reload, stop. The receiver is a socket as systemd's is.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Instant;

use crate::support::*;

/// A service manager's socket, and all that has come to it.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn on(socket: UnixDatagram) -> Manager {
        socket.set_read_timeout(Some(GRACE)).expect("a timeout");
        Manager { socket, heard: Vec::new() }
    }

    /// Waits for a message that begins so. Any number of others may come before it.
    fn hears(&mut self, begin: &str) -> String {
        let mut bytes = [0; 4096];
        let late = Instant::now() + GRACE;
        loop {
            assert!(Instant::now() < late, "no {begin}: {:?}", self.heard);
            let count = self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("no {begin}: {:?}", self.heard));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            self.heard.push(text.clone());
            if text.starts_with(begin) {
                return text;
            }
        }
    }

    /// A file for the socket, and the command of a service with this URL.
    fn of(folder: &Folder, url: &str) -> (Manager, Command) {
        let path = folder.path().join("notify");
        let manager = Manager::on(UnixDatagram::bind(&path).expect("a socket"));
        let mut command = nodepass_command();
        command.arg(url).env("NP_SHUTDOWN_TIMEOUT", "5s").env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "200000");
        (manager, command)
    }
}

#[test]
fn a_server_is_ready_when_its_ports_are_open_and_tells_how_its_tunnels_are() {
    let (folder, target, tunnel, user) = (Folder::new(), Target::echo(), free_addr(), free_addr());
    let (mut manager, command) = Manager::of(&folder, &format!("server://key@{tunnel}/{user}?mode=1"));
    let server = Process::run("server", command);
    manager.hears("READY=1");
    assert!(try_connect(tunnel).is_ok(), "ready, and the port is closed");
    manager.hears("STATUS=no tunnel");
    let client = Process::nodepass(&format!("client://key@{tunnel}/{}?mode=2", target.addr()));
    manager.hears("STATUS=a tunnel is up");
    drop(client);
    manager.hears("STATUS=no tunnel");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    server.signal(libc::SIGHUP);
    manager.hears("RELOADING=1");
    manager.hears("READY=1");
    server.signal(libc::SIGTERM);
    assert_eq!(manager.hears("STOPPING=1"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000");
}

#[test]
fn a_forwarder_finds_its_manager_by_a_name_of_the_kernels_too() {
    let name = format!("nodepass-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let mut manager = Manager::on(UnixDatagram::bind_addr(&address).expect("a socket"));
    let mut command = nodepass_command();
    command.arg(format!("client://{}/{}?mode=1", free_addr(), free_addr())).env("NOTIFY_SOCKET", format!("@{name}"));
    // What another process is to be watched for is nothing to this one.
    command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let client = Process::run("client", command);
    manager.hears("READY=1");
    manager.hears("STATUS=forwarding");
    client.signal(libc::SIGTERM);
    manager.hears("STOPPING=1");
    assert!(!manager.heard.iter().any(|text| text.starts_with("WATCHDOG")), "{:?}", manager.heard);
}

#[test]
#[cfg(feature = "master")]
fn a_master_speaks_for_itself_and_its_instances_say_nothing() {
    let (folder, state, api) = (Folder::new(), Folder::new(), free_addr());
    let (mut manager, mut command) = Manager::of(&folder, &format!("master://{api}/api"));
    command.env("NP_STATE_DIR", state.path());
    let master = Process::run("master", command);
    manager.hears("READY=1");
    let line = master.says("API Key created: ", GRACE);
    let key = line.rsplit(' ').next().expect("a key");
    let mut curl = Command::new("curl");
    let url = format!("{{\"url\":\"client://{}/{}?mode=1\"}}", free_addr(), free_addr());
    curl.args(["-sf", "-H", &format!("X-API-Key: {key}"), "-d", &url, &format!("http://{api}/api/v1/instances")]);
    assert!(finished(curl).is_ok_and(|done| done.status.success()));
    manager.hears("STATUS=1 of 1 instances run");
    manager.hears("WATCHDOG=1");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", master.pid())).unwrap_or_default();
    for child in children.split_whitespace() {
        let environment = fs::read_to_string(format!("/proc/{child}/environ")).unwrap_or_default();
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
    }
    master.signal(libc::SIGHUP);
    manager.hears("RELOADING=1");
    master.signal(libc::SIGTERM);
    manager.hears("STOPPING=1");
}

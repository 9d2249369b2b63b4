//! How many messages of MQTT that nothing repeats (QoS 0) are lost by pauses and cuts: a measurement, beside another program.
//!
//! ```text
//!   namespace s                                                  namespace c
//!   publisher -> broker -- bridge --> [server ===path=== client] --> broker -> subscriber
//! ```
//!
//! All programs have their own defaults, as an operator meets them. RATHOLE names the other program's binary:
//! `RATHOLE=... cargo test --test system netns::losses -- --ignored --nocapture`.

use super::{Land, Space};
use crate::support::*;
use std::process::Command;
use std::time::Duration;

#[test]
#[ignore = "a measurement of four minutes"]
fn messages_of_qos_0_that_pauses_and_cuts_lose() {
    if ["mosquitto", "mosquitto_pub", "mosquitto_sub"].iter().any(|name| program(name).is_none()) {
        return;
    }
    let own = kinds().into_iter().map(|(transport, tls)| format!("type={transport}&tls={tls}"));
    let other = std::env::var("RATHOLE").ok().map(|_| "rathole".to_string());
    side_by_side(own.chain(other).map(|name| (name.clone(), name)), |name| {
        let Some(land) = Land::new() else { return };
        let (server, client) = if name == "rathole" { rathole(&land) } else { nodepass(&land, &name) };
        let run = Run::new(&land);
        let mut lost = vec![format!("{name}: lost")];
        for (fault, seconds) in FAULTS {
            let (sent, came) = run.messages(|| {
                let length = Duration::from_secs(*seconds);
                match *fault {
                    "a path that carries nothing" => {
                        land.path.loses(1000);
                        std::thread::sleep(length);
                        land.path.loses(0);
                    }
                    side => {
                        let process = if side == "a pause of the client" { &client } else { &server };
                        process.signal(libc::SIGSTOP);
                        std::thread::sleep(length);
                        process.signal(libc::SIGCONT);
                    }
                }
            });
            lost.push(format!("{} of {sent} by {fault} of {seconds} s", sent - came));
        }
        println!("{}", lost.join("; "));
    });
}

fn nodepass(land: &Land, query: &str) -> (Process, Process) {
    let at = land.at(1);
    let server = format!("server://a-key-of-the-measurement@{at}:7001/127.0.0.1:7002?mode=1&{query}");
    let client = format!("client://a-key-of-the-measurement@{at}:7001/127.0.0.1:7000?mode=2");
    let run = |space: &Space, url: &str| {
        let mut command = Command::new(nodepass_command().get_program());
        command.arg(url);
        Process::run("nodepass", space.command(&command))
    };
    (run(&land.server, &server), run(&land.client, &client))
}

fn rathole(land: &Land) -> (Process, Process) {
    let at = land.at(1);
    let folder = Folder::new();
    let server = format!(
        "[server]\nbind_addr = \"{at}:7001\"\ndefault_token = \"key\"\n[server.services.mqtt]\nbind_addr = \
         \"127.0.0.1:7002\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{at}:7001\"\ndefault_token = \"key\"\n[client.services.mqtt]\nlocal_addr = \
         \"127.0.0.1:7000\"\n"
    );
    let run = |space: &Space, side: &str, config: String| {
        let mut command = Command::new(std::env::var("RATHOLE").expect("its binary"));
        command.arg(folder.write(&format!("{side}.toml"), config));
        let process = Process::run("rathole", space.command(&command));
        // It has read its configuration.
        process.says("INFO", GRACE);
        process
    };
    (run(&land.server, "server", server), run(&land.client, "client", client))
}

/// The two brokers, and who listens at the far one.
struct Run<'a> {
    land: &'a Land,
    subscriber: Process,
    _brokers: [Process; 2],
    folder: Folder,
}

impl Run<'_> {
    fn new(land: &Land) -> Run<'_> {
        let folder = Folder::new();
        let broker = |space: &Space, port: u16, more: &str| {
            let user = if root() { "user root\n" } else { "" };
            let config = format!("{user}listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n{more}");
            let mut command = Command::new(program("mosquitto").expect("mosquitto"));
            command.arg("-c").arg(folder.write(&format!("broker-{port}"), config));
            let process = Process::run("mosquitto", space.command(&command));
            space.enter(|| connect(([127, 0, 0, 1], port).into()));
            process
        };
        let far = broker(&land.client, FAR, "");
        let bridge = "connection far\naddress 127.0.0.1:7002\ntopic # out 0\nrestart_timeout 1\nnotifications false\n";
        let near = broker(&land.server, NEAR, bridge);
        let mut listens = Command::new("mosquitto_sub");
        listens.args(["-p", &FAR.to_string(), "-t", "#", "-q", "0"]);
        let subscriber = Process::run("mosquitto_sub", land.client.command(&listens));
        let run = Run { land, subscriber, _brokers: [near, far], folder };
        run.ends("ready");
        run
    }

    /// Messages are published all the time, before, during and after the fault: how many were said, and how many came.
    fn messages(&self, fault: impl FnOnce()) -> (usize, usize) {
        let mark = self.subscriber.mark();
        let publisher =
            self.publishes("i=0; while [ ! -e \"$0\" ]; do i=$((i+1)); echo m$i; sleep 0.05; done; echo $i >\"$0\"");
        let enough = || self.subscriber.mark() > mark + BEFORE;
        assert!(eventually(GRACE, enough), "messages come");
        fault();
        std::thread::sleep(AFTER);
        std::fs::write(self.stop(), "").expect("a file");
        assert_eq!(publisher.wait(GRACE), 0);
        let sent = std::fs::read_to_string(self.stop()).expect("a number").trim().parse().expect("a number");
        std::fs::remove_file(self.stop()).expect("a file");
        self.ends("end");
        let came = self.subscriber.lines()[mark..].iter().filter(|line| line.starts_with('m')).count();
        (sent, came)
    }

    /// Says a word until it arrives: what was said before and has not come then will not come.
    fn ends(&self, word: &str) {
        let mark = self.subscriber.mark();
        let came = eventually(GRACE * 6, || {
            let said = self.publishes(&format!("echo {word}; : \"$0\""));
            said.wait(GRACE);
            self.subscriber.said_after(mark, word)
        });
        assert!(came, "the bridge is up again");
    }

    fn publishes(&self, script: &str) -> Process {
        let mut publish = Command::new("sh");
        let to = format!("mosquitto_pub -p {NEAR} -l -q 0 -t x");
        publish.args(["-c", &format!("({script}) | {to}")]).arg(self.stop());
        Process::run("mosquitto_pub", self.land.server.command(&publish))
    }

    fn stop(&self) -> std::path::PathBuf {
        self.folder.file("stop")
    }
}

/// What happens, and for how many seconds.
const FAULTS: &[(&str, u64)] = &[
    ("a pause of the client", 16),
    ("a pause of the server", 16),
    ("a path that carries nothing", 16),
    ("a path that carries nothing", 30),
];
/// Messages before a fault.
const BEFORE: usize = 60;
/// How long messages are said after one.
const AFTER: Duration = Duration::from_secs(15);
const NEAR: u16 = 1883;
const FAR: u16 = 7000;

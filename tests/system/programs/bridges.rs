//! Three mosquitto brokers that tell each other everything over bridges, each bridge through a tunnel of its own.
//!
//! ```text
//!   a ==tunnel== b       Each broker bridges to the next: out goes what was published at it,
//!    \\         //       in comes what was published at the next. Nothing goes in circles.
//!     ==== c ====
//! ```

use super::client;
use crate::support::*;
use std::collections::HashMap;
use std::net::SocketAddr;

#[test]
fn bridged_brokers_lose_nothing_and_deliver_qos_2_once_while_each_tunnel_is_cut_in_turn() {
    for name in ["mosquitto", "mosquitto_pub", "mosquitto_sub"] {
        if program(name).is_none() {
            return;
        }
    }
    let kinds = kinds();
    let of = |flow, at: usize| {
        let (transport, tls) = kinds[at % kinds.len()];
        Cell { flow, tls, transport }
    };
    let clusters = [
        [of(Flow::Reverse, 0), of(Flow::Forward, 1), of(Flow::Reverse, 2)],
        [of(Flow::Forward, 3), of(Flow::Reverse, 4), of(Flow::Forward, 0)],
    ];
    let named = clusters.map(|cells| (cells.map(|cell| cell.to_string()).join(", "), cells));
    side_by_side(named.into_iter(), |cells| Cluster::new(cells).cut_in_turn());
}

struct Cluster {
    /// From each broker to the next.
    tunnels: Vec<Tunnel>,
    _brokers: Vec<Process>,
    folder: Folder,
    addrs: Vec<SocketAddr>,
    /// One at each broker, who hears everything.
    subscribers: Vec<Process>,
}

impl Cluster {
    fn new(cells: [Cell; 3]) -> Cluster {
        let folder = Folder::new();
        let addrs: Vec<SocketAddr> = cells.iter().map(|_| free_addr()).collect();
        let next = |at: usize| (at + 1) % addrs.len();
        let tunnels: Vec<Tunnel> =
            cells.iter().enumerate().map(|(at, cell)| cell.tunnel().target(addrs[next(at)]).start()).collect();
        let brokers: Vec<Process> = (0..addrs.len())
            .map(|at| {
                let config = broker(at, next(at), addrs[at], tunnels[at].user);
                let file = folder.write(&format!("broker-{at}"), config);
                start(&program("mosquitto").expect("mosquitto"), &["-c", file.to_str().unwrap()])
            })
            .collect();
        let subscribers = addrs
            .iter()
            .zip(&brokers)
            .map(|(&addr, broker)| {
                connect(addr);
                let mut listens = client("mosquitto_sub", addr);
                listens.args(["-i", "all", "-t", "from/#", "-q", "2", "-v"]);
                let subscriber = Process::run("mosquitto_sub", listens);
                broker.says("Sending SUBACK to all", GRACE);
                subscriber
            })
            .collect();
        for (at, broker) in brokers.iter().enumerate() {
            // Both ends of each bridge have subscribed to what they want.
            broker.says(&format!("Received SUBACK from local.bridge-{at}"), GRACE * 2);
            broker.says(&format!("Sending SUBACK to bridge-{}", (at + 2) % addrs.len()), GRACE * 2);
        }
        Cluster { tunnels, _brokers: brokers, folder, addrs, subscribers }
    }

    fn cut_in_turn(mut self) {
        let publishers: Vec<Process> =
            (0..self.addrs.len()).flat_map(|at| ["1", "2"].map(|qos| self.publishes(at, qos))).collect();
        for at in 0..self.tunnels.len() {
            // In the middle of what is being said: nobody says that it is the end before all tunnels were cut.
            let heard = self.subscribers[0].mark();
            assert!(eventually(GRACE * 3, || self.subscribers[0].mark() > heard + BETWEEN_CUTS), "messages come");
            let tunnel = &mut self.tunnels[at];
            if at % 2 == 0 {
                tunnel.server.as_ref().expect("a server").kill();
                tunnel.restart_server();
            } else {
                tunnel.client.kill();
                tunnel.restart_client();
            }
        }
        self.folder.write(ENOUGH, "");
        for publisher in publishers {
            assert_eq!(publisher.wait(GRACE * 6), 0);
        }
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            self.hears_all(at, subscriber);
        }
    }

    /// A publisher at that broker, who says numbers until it is enough, and then that this is the end after how many.
    fn publishes(&self, at: usize, qos: &str) -> Process {
        let publish = client("mosquitto_pub", self.addrs[at]);
        let enough = self.folder.path().join(ENOUGH);
        let numbers = format!(
            "n=0; until [ -e {} ]; do n=$((n+1)); echo $n; sleep 0.01; done; echo end after $n",
            enough.display()
        );
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("({numbers}) | \"$@\""), "-"]).arg(publish.get_program()).args(publish.get_args());
        command.args(["-l", "-q", qos, "-t", &format!("from/{at}/{qos}")]);
        Process::run("mosquitto_pub", command)
    }

    fn topics(&self) -> Vec<String> {
        (0..self.addrs.len()).flat_map(|at| ["1", "2"].map(|qos| format!("from/{at}/{qos}"))).collect()
    }

    fn hears_all(&self, at: usize, subscriber: &Process) {
        let ends = self.topics().into_iter().map(|topic| {
            let end = format!("{topic} end after ");
            let line = subscriber.says(&end, GRACE * 6);
            let said: usize = line.strip_prefix(&end).and_then(|said| said.parse().ok()).expect("how many there were");
            (topic, said)
        });
        let ends: Vec<_> = ends.collect();
        let mut times: HashMap<String, usize> = HashMap::new();
        subscriber.lines().into_iter().for_each(|line| *times.entry(line).or_default() += 1);
        for (topic, said) in ends {
            for n in 1..=said {
                let count = times.get(&format!("{topic} {n}")).copied().unwrap_or(0);
                let once = topic.ends_with("/2");
                assert!(count == 1 || (count > 1 && !once), "broker {at}: {topic} {n} came {count} times");
            }
        }
    }
}

/// The bound on messages in flight is off: mosquitto 2.0 counts those that it sends again after a cut against it, and then ends the
/// connection each time.
fn broker(at: usize, next: usize, addr: SocketAddr, tunnel: SocketAddr) -> String {
    let user = if root() { "user root\n" } else { "" };
    format!(
        "{user}listener {} {}\nallow_anonymous true\npersistence false\nlog_dest stderr\nlog_type all\n\
         max_queued_messages 0\nmax_inflight_messages 0\nconnection bridge-{at}\naddress {tunnel}\nremote_clientid bridge-{at}\n\
         topic from/{at}/# out 2\ntopic from/{next}/# in 2\ncleansession false\nnotifications false\n\
         keepalive_interval 5\nrestart_timeout 1\n",
        addr.port(),
        addr.ip(),
    )
}

/// The file that tells the publishers that it is enough.
const ENOUGH: &str = "enough";
/// Lines that a subscriber hears from one cut to the next.
const BETWEEN_CUTS: usize = 300;

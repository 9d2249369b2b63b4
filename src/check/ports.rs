//! Ports to listen at: free, or who has them. A port is bound to find out, and never listened at, so nothing is refused meanwhile.

use std::fs;
use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::finding::{Case, Finding};
use super::holders::{holder, Held, Protocol};
use super::setup::listens_for_quic;
use super::words::*;
use crate::config::{masked, Config, Endpoint, Mode, Role};
use crate::error::Error;
use crate::net::listen_addr::ListenAddr;
use crate::run::hub::ingress::listeners::listening_addresses;

/// What a port is to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It has to be had.
    Needed,
    /// A server that decides its direction by whether it can have it (`mode=0`).
    ServerTries,
    /// A client that decides what it is by whether it can have it (`mode=0`).
    ClientTries,
}

/// A port to listen at, and what became of that.
#[derive(Clone, Debug)]
pub struct Port {
    /// What it is to the instance.
    pub what: Use,
    /// Where.
    pub at: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The system's error number, if it cannot be had.
    pub failure: Option<i32>,
    /// Who has it.
    pub held: Held,
}

/// What judging ports takes besides them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The arguments of this set-up, as other users see them when it runs.
    pub args: Vec<String>,
    /// The ports that the system gives to outgoing connections, first and last.
    pub outgoing: Option<(u16, u16)>,
}

impl Surroundings {
    /// Of a set-up that is started with these words.
    pub fn of(words: &[String]) -> Surroundings {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = range.split_whitespace().map(|number| number.parse().ok());
        Surroundings { args: masked(words), outgoing: numbers.next().flatten().zip(numbers.next().flatten()) }
    }
}

/// Where an instance listens, and for what.
pub fn listening(config: &Config) -> Vec<(Use, Endpoint, Protocol)> {
    let users = |what, at: &Endpoint| {
        let tcp = config.tcp.then(|| (what, at.clone(), Protocol::Tcp));
        tcp.into_iter().chain(config.udp.then(|| (what, at.clone(), Protocol::Udp))).collect::<Vec<_>>()
    };
    let tunnel = |protocol| (Use::Needed, config.tunnel.clone(), protocol);
    let mut all = Vec::new();
    match (config.role, config.mode) {
        (Role::Master, _) => all.push(tunnel(Protocol::Tcp)),
        (Role::Server, mode) => {
            all.push(tunnel(Protocol::Tcp));
            all.extend(listens_for_quic(config).then(|| tunnel(Protocol::Udp)));
            match mode {
                Mode::One => all.extend(users(Use::Needed, &config.targets[0])),
                Mode::Auto => all.extend(users(Use::ServerTries, &config.targets[0])),
                Mode::Two => {}
            }
        }
        (Role::Client, Mode::One) => all.extend(users(Use::Needed, &config.tunnel)),
        (Role::Client, Mode::Auto) => all.extend(users(Use::ClientTries, &config.tunnel)),
        (Role::Client, Mode::Two) => {}
    }
    all
}

/// Tries each port. The error is a name that has no address.
pub fn look(config: &Config) -> Result<Vec<Port>, Error> {
    let mut ports = Vec::new();
    for (what, at, protocol) in listening(config) {
        for address in listening_addresses(&at)? {
            let (failure, held) = tried(address, protocol);
            ports.push(Port { what, at: address.address, protocol, failure, held });
        }
    }
    Ok(ports)
}

/// Why a listener has no place there, and who has it. Programs start and stop meanwhile: one that cannot be found may have just gone.
fn tried(at: ListenAddr, protocol: Protocol) -> (Option<i32>, Held) {
    let once = || {
        let failure = bound(at, protocol).err().map(|error| error.raw_os_error().unwrap_or_default());
        (failure, failure.map_or(Held::Free, |_| holder(at.address, protocol)))
    };
    let vanished = |tried: &(Option<i32>, Held)| *tried == (Some(libc::EADDRINUSE), Held::Free);
    let first = once();
    if vanished(&first) {
        once()
    } else {
        first
    }
}

/// Binds to an address for a moment. A TCP port without a listener is not in the way of one that comes.
fn bound(at: ListenAddr, protocol: Protocol) -> io::Result<()> {
    let kind = if protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(Domain::for_address(at.address), kind.cloexec(), None)?;
    if protocol == Protocol::Tcp {
        socket.set_reuse_address(true)?;
    }
    if at.address.is_ipv6() {
        socket.set_only_v6(!at.dual)?;
    }
    socket.bind(&at.address.into())
}

/// What the ports come to.
pub fn judge(ports: &[Port], around: &Surroundings) -> Vec<Finding> {
    let mut found: Vec<Finding> = ports.iter().flat_map(|port| port.judge(around)).collect();
    // Direction and kind are decided once, whatever the number of addresses and protocols.
    found.dedup_by(|one, other| one.case.code.starts_with(DECISION) && one.case.code == other.case.code);
    found
}

/// Whether this client calls a server, as its ports came out.
pub fn is_calling(config: &Config, ports: &[Port], around: &Surroundings) -> bool {
    match config.mode {
        _ if config.role != Role::Client => false,
        Mode::One => false,
        Mode::Two => true,
        Mode::Auto => ports.iter().any(|port| port.failure.is_some() && !port.is_ours(around)),
    }
}

/// The targets that this instance dials, as far as its URL and its ports say. Which way a tunnel's users go, only its server knows.
pub fn dialled<'a>(config: &'a Config, ports: &[Port]) -> Vec<&'a Endpoint> {
    let listens = |what| ports.iter().any(|port| port.what == what && port.failure.is_none());
    let is_entry = match (config.role, config.mode) {
        (Role::Master, _) | (Role::Server, Mode::One) => true,
        (Role::Server, Mode::Auto) => listens(Use::ServerTries),
        _ => false,
    };
    if is_entry {
        Vec::new()
    } else {
        config.targets.iter().collect()
    }
}

impl Port {
    fn judge(&self, around: &Surroundings) -> Vec<Finding> {
        let subject = format!("{} ({})", self.at, self.protocol.name());
        let finding = |case: &'static Case| Finding::new(case, &subject);
        let cause = || self.failure.map(|code| io::Error::from_raw_os_error(code).to_string()).unwrap_or_default();
        match (self.what, self.failure) {
            _ if self.is_ours(around) => {
                let Held::By(holder) = &self.held else { return Vec::new() };
                vec![finding(&PORT_OURS).with(holder.named())]
            }
            (Use::ServerTries, Some(_)) => vec![finding(&MODE_FLIPS).with(self.why().unwrap_or_else(cause))],
            (Use::ClientTries, Some(_)) => vec![finding(&MODE_CALLS).with(self.why().unwrap_or_else(cause))],
            (what, None) => {
                let decided = (what == Use::ClientTries).then(|| finding(&MODE_FORWARDS));
                let range = around.outgoing.filter(|(first, last)| (*first..=*last).contains(&self.at.port()));
                let outgoing = range.map(|(first, last)| finding(&PORT_EPHEMERAL).with(first).with(last));
                [Some(finding(&PORT_FREE)), outgoing, decided].into_iter().flatten().collect()
            }
            (Use::Needed, Some(libc::EADDRINUSE)) => vec![match self.why() {
                Some(holder) => finding(&PORT_TAKEN).with(holder),
                None => finding(&PORT_HELD),
            }],
            (Use::Needed, Some(libc::EACCES)) => vec![finding(&PORT_RIGHT)],
            (Use::Needed, Some(libc::EADDRNOTAVAIL)) => vec![finding(&PORT_ADDRESS)],
            (Use::Needed, Some(_)) => vec![finding(&PORT_FAILED).with(cause())],
        }
    }

    /// The program that has it.
    fn why(&self) -> Option<String> {
        match &self.held {
            Held::By(holder) if self.failure == Some(libc::EADDRINUSE) => Some(holder.named()),
            _ => None,
        }
    }

    /// Whether an instance of this very set-up has it.
    fn is_ours(&self, around: &Surroundings) -> bool {
        matches!(&self.held, Held::By(holder) if !around.args.is_empty() && holder.args == around.args)
    }
}

/// How the codes begin that tell of a decision of the whole instance.
const DECISION: &str = "mode-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::holders::Holder;
    use crate::check::testing::{codes, parsed};

    fn port(what: Use, failure: Option<i32>, held: Held) -> Port {
        Port { what, at: "127.0.0.1:8080".parse().unwrap(), protocol: Protocol::Tcp, failure, held }
    }

    fn held(args: &[&str]) -> Held {
        let args = args.iter().map(|word| word.to_string()).collect();
        Held::By(Holder { pid: 7, name: "nginx".into(), args })
    }

    #[test]
    fn each_outcome_of_a_port_has_its_case() {
        let around = Surroundings { args: vec!["server://***@:1/:2".into()], outgoing: Some((32768, 60999)) };
        for (what, failure, held, code) in [
            (Use::Needed, None, Held::Free, "port-free"),
            (Use::Needed, Some(libc::EADDRINUSE), held(&[]), "port-taken"),
            (Use::Needed, Some(libc::EADDRINUSE), Held::Unseen, "port-held"),
            (Use::Needed, Some(libc::EADDRINUSE), held(&["server://***@:1/:2"]), "port-ours"),
            (Use::Needed, Some(libc::EACCES), Held::Free, "port-right"),
            (Use::Needed, Some(libc::EADDRNOTAVAIL), Held::Free, "port-address"),
            (Use::Needed, Some(libc::EINVAL), Held::Free, "port-failed"),
            (Use::ServerTries, Some(libc::EADDRINUSE), held(&[]), "mode-flips"),
            (Use::ClientTries, Some(libc::EADDRNOTAVAIL), Held::Free, "mode-calls"),
        ] {
            assert_eq!(codes(&judge(&[port(what, failure, held)], &around)), [code]);
        }
        let forwards = judge(&[port(Use::ClientTries, None, Held::Free)], &around);
        assert_eq!(codes(&forwards), ["port-free", "mode-forwards"]);
        let mut high = port(Use::Needed, None, Held::Free);
        high.at.set_port(40000);
        assert_eq!(codes(&judge(&[high], &around)), ["port-free", "port-ephemeral"]);
        let taken = judge(&[port(Use::Needed, Some(libc::EADDRINUSE), held(&["-g", "daemon off"]))], &around);
        assert_eq!(taken[0].values, ["nginx (pid 7)"]);
    }

    #[test]
    fn a_decision_of_the_instance_is_told_once() {
        let ports = [Use::ServerTries; 2].map(|what| port(what, Some(libc::EADDRINUSE), Held::Unseen));
        assert_eq!(codes(&judge(&ports, &Surroundings::default())), ["mode-flips"]);
    }

    #[test]
    fn an_instance_listens_where_its_role_and_mode_say() {
        let listening = |url: &str| -> Vec<String> {
            let all = listening(&parsed(url).0);
            all.iter().map(|(what, at, protocol)| format!("{at} {} {what:?}", protocol.name())).collect()
        };
        assert_eq!(listening("master://:9"), [":9 TCP Needed"]);
        assert_eq!(listening("server://:1/:2?mode=2&type=1"), [":1 TCP Needed", ":1 UDP Needed"]);
        assert_eq!(listening("server://:1/:2?mode=1&noudp=1"), [":1 TCP Needed", ":2 TCP Needed"]);
        assert_eq!(listening("server://:1/:2?notcp=1"), [":1 TCP Needed", ":2 UDP ServerTries"]);
        assert_eq!(listening("client://:1/:2?mode=1"), [":1 TCP Needed", ":1 UDP Needed"]);
        assert_eq!(listening("client://:1/:2?noudp=1"), [":1 TCP ClientTries"]);
        assert!(listening("client://:1/:2?mode=2").is_empty());
    }

    #[test]
    fn a_port_is_tried_without_being_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let (config, _) = parsed(&format!("client://{taken}/127.0.0.1:1?mode=1&noudp=1"));
        let ports = look(&config).unwrap();
        assert_eq!(ports[0].failure, Some(libc::EADDRINUSE));
        assert!(matches!(&ports[0].held, Held::By(holder) if holder.pid == std::process::id()));
    }
}

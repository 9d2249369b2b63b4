//! Who has a port, as far as `/proc` tells: the socket by its address, the process by its descriptors.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As errors and findings name it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }

    fn tables(self) -> [&'static str; 2] {
        match self {
            Protocol::Tcp => ["tcp", "tcp6"],
            Protocol::Udp => ["udp", "udp6"],
        }
    }
}

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its program's name.
    pub name: String,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
}

/// What is known of who listens at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing does.
    Free,
    /// Something does, and it cannot be seen what.
    Unseen,
    /// This process does.
    By(Holder),
}

/// A line of `/proc/net/tcp` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    inode: u64,
}

/// Who listens at this address, or at all addresses with its port.
pub fn holder(at: SocketAddr, protocol: Protocol) -> Held {
    let sockets = protocol.tables().map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let wanted: Vec<u64> = sockets
        .iter()
        .flat_map(|table| table.lines().filter_map(socket))
        .filter(|socket| is_listening(socket, protocol) && overlap(socket.local, at))
        .map(|socket| socket.inode)
        .collect();
    match wanted.is_empty() {
        true => Held::Free,
        false => process_of(Path::new("/proc"), &wanted).map_or(Held::Unseen, Held::By),
    }
}

/// How many connections of this machine lead to an address.
pub fn connections_to(to: SocketAddr) -> usize {
    let tables =
        Protocol::Tcp.tables().map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let is_one = |socket: &Socket| socket.state == ESTABLISHED && socket.remote == to;
    tables.iter().flat_map(|table| table.lines().filter_map(socket)).filter(is_one).count()
}

fn is_listening(socket: &Socket, protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => socket.state == LISTEN,
        Protocol::Udp => socket.remote.port() == 0,
    }
}

/// Whether two listeners at these addresses are in each other's way.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |ip: IpAddr, other: IpAddr| match ip {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => other.is_ipv4() || other.is_unspecified(),
        _ => false,
    };
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 ...`
fn socket(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, remote) = (address(fields.get(1)?)?, address(fields.get(2)?)?);
    let state = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    Some(Socket { local, remote, state, inode: fields.get(9)?.parse().ok()? })
}

/// `0100007F:1F90`: words of 32 bits as this machine has them, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The first process that has one of these sockets open.
fn process_of(proc: &Path, inodes: &[u64]) -> Option<Holder> {
    let names: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut processes: Vec<u32> =
        fs::read_dir(proc).ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    let has = |pid: &u32| {
        let files = fs::read_dir(proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
        files
            .filter_map(|file| fs::read_link(file.path()).ok())
            .any(|link| names.iter().any(|name| link.as_os_str() == name.as_str()))
    };
    processes.into_iter().find(has).map(|pid| about(proc, pid))
}

/// A process by its number.
pub fn about(proc: &Path, pid: u32) -> Holder {
    let name = fs::read_to_string(proc.join(format!("{pid}/comm"))).unwrap_or_default().trim().to_owned();
    let line = fs::read(proc.join(format!("{pid}/cmdline"))).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).skip(1).filter(|word| !word.is_empty());
    Holder { pid, name, args: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect() }
}

impl Holder {
    /// Name and number. Its arguments may hold secrets of another program.
    pub fn named(&self) -> String {
        format!("{} (pid {})", self.name, self.pid)
    }
}

/// The state of a listening TCP socket (`include/net/tcp_states.h`).
const LISTEN: u8 = 10;
/// That of a connection.
const ESTABLISHED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let read = socket(line).unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(read.local, "127.0.0.1:8080".parse().unwrap());
        }
        assert_eq!((read.state, read.inode), (LISTEN, 4711));
        assert_eq!(socket("  sl  local_address rem_address   st"), None);
        assert_eq!(socket(""), None);
    }

    #[test]
    fn listeners_are_in_each_others_way_at_the_same_address_or_at_all() {
        let overlap = |one: &str, other: &str| super::overlap(one.parse().unwrap(), other.parse().unwrap());
        for (one, other) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("127.0.0.1:1", "127.0.0.1:2"), ("127.0.0.2:1", "127.0.0.1:1"), ("0.0.0.0:1", "[::1]:1")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn a_listener_of_this_very_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        match holder(at, Protocol::Tcp) {
            Held::By(holder) => assert_eq!(holder.pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        assert_eq!(holder(at, Protocol::Udp), Held::Free);
        let _connection = std::net::TcpStream::connect(at).unwrap();
        assert_eq!(connections_to(at), 1);
    }
}

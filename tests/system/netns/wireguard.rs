//! WireGuard over UDP forwarding, with the sizes that its networks have.
//!
//! ```text
//!   namespace s                                                          namespace c
//!   users -- 10.66.0.1 -- wireguard-go -- server ===path=== client -- wireguard-go -- 10.66.0.2 -- echo
//! ```

use super::{each_kind, five_megabytes, Land, Space};
use crate::support::*;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;

#[test]
fn wireguard_carries_full_packets_of_its_usual_and_its_smallest_size() {
    if program("wireguard-go").is_none() || program("wg").is_none() {
        return;
    }
    each_kind(|kind| {
        let Some(land) = Land::new() else { return };
        let tunnel = land.tunnel_to_target(kind, ("1s", "1s"), "30s");
        let keys = Folder::new();
        let [here, there] = [Peer::new(&land.server, 's', &keys), Peer::new(&land.client, 'c', &keys)];
        there.runs("10.66.0.2", &format!("listen-port 7000 peer {}", here.public));
        here.runs("10.66.0.1", &format!("peer {} endpoint {} persistent-keepalive 25", there.public, tunnel.user));

        let at: SocketAddr = "10.66.0.2:7".parse().expect("an address");
        let (listener, datagrams) =
            land.client.enter(|| (TcpListener::bind(at).expect("a target"), UdpSocket::bind(at).expect("a target")));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(|| echo(stream));
            }
        });
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((count, from)) = datagrams.recv_from(&mut packet) {
                let _ = datagrams.send_to(&packet[..count], from);
            }
        });
        for mtu in [1420, 1280] {
            here.has_packets_of(mtu);
            there.has_packets_of(mtu);
            land.server.enter(|| fits(at, mtu));
            five_megabytes(&land.server, at);
        }
        tunnel.is_unbroken();
    });
}

/// A datagram that makes a packet of this size comes through whole, and one that is a byte larger would not be sent.
fn fits(at: SocketAddr, mtu: usize) {
    let socket = udp_user(at);
    let discover = libc::IP_PMTUDISC_DO;
    let size = size_of_val(&discover) as libc::socklen_t;
    // SAFETY: the kernel reads a number that lives on this stack.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            std::ptr::from_ref(&discover).cast(),
            size,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    let data = noise(2, mtu - HEADERS);
    let larger = socket.send(&noise(2, mtu - HEADERS + 1)).expect_err("a packet that is too large");
    assert_eq!(larger.raw_os_error(), Some(libc::EMSGSIZE));
    let back = until("a full packet", GRACE, || {
        socket.set_read_timeout(Some(std::time::Duration::from_millis(500)))?;
        socket.send(&data)?;
        let mut back = [0; 2048];
        socket.recv(&mut back).map(|count| back[..count].to_vec())
    });
    assert!(back == data, "another packet came back");
}

/// One end of the virtual network.
struct Peer<'a> {
    space: &'a Space,
    device: String,
    key: String,
    public: String,
    _process: Process,
}

impl<'a> Peer<'a> {
    fn new(space: &'a Space, side: char, keys: &Folder) -> Peer<'a> {
        // Its control socket has this name on the whole machine.
        let device = format!("w{}", &space.name[3..]).replace('-', "x");
        let mut command = Command::new("wireguard-go");
        command.args(["-f", &device]);
        let process = Process::run("wireguard-go", space.command(&command));
        let key = keys.file(&side.to_string());
        let mut make = Command::new("sh");
        make.args(["-c", "umask 77; wg genkey >\"$0\" && wg pubkey <\"$0\""]).arg(&key);
        let (status, public, errors) = output(make);
        assert_eq!(status, 0, "{errors}");
        let peer = Peer { space, device, key: key.display().to_string(), public, _process: process };
        until("its control socket", GRACE, || {
            super::try_run(&format!("ip netns exec {} wg show {}", space.name, peer.device))
        });
        peer
    }

    fn runs(&self, address: &str, peer: &str) {
        let Peer { space, device, key, .. } = self;
        space.run(&format!("wg set {device} private-key {key} {peer} allowed-ips 10.66.0.0/24"));
        space.run(&format!("ip addr add {address}/24 dev {device}"));
        space.run(&format!("ip link set {device} up"));
    }

    fn has_packets_of(&self, mtu: usize) {
        self.space.run(&format!("ip link set {} mtu {mtu}", self.device));
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.device));
    }
}

/// Bytes of the headers of a datagram: IPv4 and UDP.
const HEADERS: usize = 28;

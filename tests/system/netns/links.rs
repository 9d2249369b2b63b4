//! A client with two links to its server: the routes prefer the first, and `bind` chooses the other.
//!
//! ```text
//!   namespace c                                          namespace s
//!   10.212.1.2  path   === carries nothing ===  10.212.1.1
//!                                                           10.99.0.1 (server)
//!   10.212.2.2  other  =======================  10.212.2.1
//! ```

use super::path::{named_device, Path};
use super::{Carried, Land, POOL};
use crate::support::*;

#[test]
fn bind_takes_every_kind_of_pool_over_the_link_that_the_routes_do_not_prefer() {
    for kind in ["type=0", "type=0&tls=1", "type=1", "type=2", "type=3"] {
        for bind in ["other", "10.212.2.2"] {
            let Some(land) = Land::new() else { return };
            let links = Links::new(&land);
            let _other = links.other();
            let server = links.server(kind);
            let client = links.client(bind);
            let tunnel = Carried::over(&land, server, client);
            until("the first user", GRACE, || tunnel.exchange(b"hello"));
            tunnel.serves_twenty_small_requests();
            assert!(!tunnel.client.said("going on over TCP"), "{kind}");
            assert_eq!(land.path.lost(), 0, "{kind}, {bind}: something went by the other link");
        }
    }
}

#[test]
fn a_device_that_bind_names_may_be_missing_at_the_start_and_go_and_come_back() {
    for kind in ["type=0", "type=1"] {
        let Some(land) = Land::new() else { return };
        let links = Links::new(&land);
        let server = links.server(kind);
        let client = links.client("other");
        client.says("this machine has no network device of that name, or not yet", GRACE);
        let other = links.other();
        let tunnel = Carried::over(&land, server, client);
        until("a user after the device has come", GRACE, || tunnel.exchange(b"hello"));
        assert_eq!(land.path.lost(), 0, "{kind}: something went by the other link");

        land.client.run("ip link del other");
        land.server.run("ip link del other");
        drop(other);
        tunnel.client.says("ended", GRACE);
        let _other = links.other();
        until("a user after the device has come back", GRACE, || tunnel.exchange(b"hello"));
    }
}

/// What lies between a server at an address of its own and a client.
struct Links<'a> {
    land: &'a Land,
}

impl Links<'_> {
    /// The preferred link is there, and carries nothing.
    fn new(land: &Land) -> Links<'_> {
        land.path.loses(1000);
        land.server.run("ip addr add 10.99.0.1/32 dev lo");
        land.client.run(&format!("ip route add 10.99.0.1/32 via {} dev path", land.at(1)));
        // An address of the other link is of use there alone; before it has its route, the kernel's own resets go nowhere.
        land.client.run("ip rule add from 10.212.2.2 lookup 100");
        land.client.run("ip route add unreachable default table 100");
        Links { land }
    }

    /// The other link, which carries everything.
    fn other(&self) -> Path {
        let ends = [&self.land.server, &self.land.client].map(|space| space.enter(|| named_device("other")));
        let [one, other] = ends.map(|end| end.expect("a device"));
        let path = Path::between(one, other);
        for (space, last) in [(&self.land.server, 1), (&self.land.client, 2)] {
            space.run(&format!("ip addr add 10.212.2.{last}/24 dev other"));
            space.run("ip link set other up");
        }
        self.land.client.run("ip route add 10.99.0.1/32 via 10.212.2.1 dev other metric 100");
        self.land.client.run("ip route add 10.99.0.1/32 via 10.212.2.1 dev other table 100");
        path
    }

    fn server(&self, kind: &str) -> Process {
        let url = format!("server://key@10.99.0.1:7001/127.0.0.1:7002?log=debug&mode=1&max={POOL}&{kind}");
        self.land.server.nodepass_with(&url, "1s", &[])
    }

    fn client(&self, bind: &str) -> Process {
        self.land.echoes();
        let url = format!("client://key@10.99.0.1:7001/127.0.0.1:7000?log=debug&mode=2&min={POOL}&bind={bind}");
        self.land.client.nodepass_with(&url, "1s", &[("NP_SERVICE_COOLDOWN", "300ms")])
    }
}

//! Many clients of one server (`clients`), and two that share one key by mistake.

use crate::narrow::narrow;
use crate::original::Originals;
use crate::support::*;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn users_are_shared_among_clients_and_only_those_of_a_dead_one_notice() {
    for (transport, tls) in kinds() {
        let fleet = Fleet::start(3, &format!("type={transport}&tls={tls}&clients=3"));
        let mut users: Vec<User> = (0..30).map(|_| fleet.user()).collect();
        let count = |users: &[User], client| users.iter().filter(|user| user.client == client).count();
        for client in 0..3 {
            assert_eq!(count(&users, client), 10, "type={transport} tls={tls}: {:?}", clients(&users));
        }
        fleet.clients[1].kill();
        fleet.server.says("ended", GRACE);
        users.iter_mut().filter(|user| user.client == 1).for_each(|user| assert!(user.is_cut()));
        users.retain(|user| user.client != 1);
        users.iter_mut().for_each(User::still_works);
        // Newcomers go to the two that are left.
        let newcomers: Vec<User> = (0..10).map(|_| fleet.user()).collect();
        assert_eq!(count(&newcomers, 1), 0, "type={transport} tls={tls}");
        users.iter_mut().for_each(User::still_works);
    }
}

#[test]
fn a_client_that_is_cut_off_without_a_word_takes_only_its_own_users_with_it() {
    let fleet = Fleet::start(3, "tls=1&clients=0");
    let mut users: Vec<User> = (0..30).map(|_| fleet.user()).collect();
    let mark = fleet.server.mark();
    fleet.clients[2].signal(libc::SIGSTOP);
    // Newcomers go to those that answer, as soon as one is overdue.
    fleet.server.says_after(mark, "ended: nothing heard", GRACE);
    users.iter_mut().filter(|user| user.client != 2).for_each(User::still_works);
    let newcomers: Vec<User> = (0..10).map(|_| fleet.user()).collect();
    assert!(newcomers.iter().all(|user| user.client != 2), "{:?}", clients(&newcomers));
    fleet.clients[2].signal(libc::SIGCONT);
}

#[test]
fn a_thousand_users_lose_nothing_while_a_client_among_three_dies() {
    if !raise_limits(8192) {
        return skip("8192 descriptors");
    }
    let fleet = Fleet::start(3, "tls=1&clients=3");
    let mut users: Vec<User> = (0..1000).map(|_| fleet.user()).collect();
    fleet.clients[0].kill();
    fleet.server.says("ended", GRACE);
    let (mut lost, mut kept): (Vec<User>, Vec<User>) = users.drain(..).partition(|user| user.client == 0);
    assert!(lost.len() >= 300 && kept.len() >= 600, "{} and {}", lost.len(), kept.len());
    lost.iter_mut().for_each(|user| assert!(user.is_cut()));
    kept.iter_mut().for_each(User::still_works);
}

#[test]
fn of_three_clients_one_is_killed_one_cut_off_and_one_too_slow_and_the_others_lose_nothing() {
    if !raise_limits(8192) {
        return skip("8192 descriptors");
    }
    let mut fleet = Fleet::start(2, "tls=1&clients=0");
    // The path of the third takes so much and no more; the fourth has no trouble.
    let mark = fleet.server.mark();
    fleet.clients.push(fleet.client_at(narrow(fleet.tunnel), 2));
    fleet.server.says_after(mark, "is up", GRACE);
    fleet.clients.push(fleet.client(3));
    fleet.serve(4);
    let mut users: Vec<User> = (0..1000).map(|_| fleet.user()).collect();
    let of = |users: &mut Vec<User>, client| users.extract_if(.., |user| user.client == client).collect::<Vec<User>>();
    let (mut killed, mut cut_off, mut slow) = (of(&mut users, 0), of(&mut users, 1), of(&mut users, 2));
    for each in [&killed, &cut_off, &slow, &users] {
        assert!(each.len() > 50, "{}", each.len());
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Some fill that path for as long as the others are looked at.
        for user in slow.drain(..FILLING) {
            let (mut sends, mut reads) = (user.stream.try_clone().expect("a socket"), user.stream);
            scope.spawn(move || while sends.write_all(&[0; 1 << 14]).is_ok() {});
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    reads.read_exact(&mut [0; 1 << 12]).expect("too slow is not dead");
                }
                reads.shutdown(Shutdown::Both)
            });
        }
        let mark = fleet.server.mark();
        fleet.clients[0].kill();
        fleet.clients[1].signal(libc::SIGSTOP);
        killed.iter_mut().for_each(|user| assert!(user.is_cut()));
        fleet.server.says_after(mark, "ended: nothing heard", GRACE);
        users.iter_mut().for_each(User::still_works);
        let newcomers: Vec<User> = (0..10).map(|_| fleet.user()).collect();
        assert!(newcomers.iter().all(|user| user.client >= 2), "{:?}", clients(&newcomers));
        users.iter_mut().for_each(User::still_works);
        slow.iter_mut().take(FILLING).for_each(User::still_works);
        over.store(true, Ordering::SeqCst);
    });
    // What was cut off and not dead finds its users' connections again.
    fleet.clients[1].signal(libc::SIGCONT);
    cut_off.iter_mut().for_each(User::still_works);
}

#[test]
fn one_key_from_three_addresses_is_three_clients() {
    for (transport, tls) in kinds() {
        let mut fleet = Fleet::empty(&format!("type={transport}&tls={tls}&clients=3"));
        let sources = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
        let paths = sources.map(|source| path_from(source, fleet.tunnel));
        for (number, (source, path)) in sources.iter().zip(paths).enumerate() {
            let mark = fleet.server.mark();
            fleet.clients.push(fleet.client_at(path, number));
            let up = fleet.server.says_after(mark, "is up", GRACE);
            assert!(up.contains(&format!("{source}:")), "the log names the client: {up}");
        }
        fleet.serve(3);
        let mut users: Vec<User> = (0..9).map(|_| fleet.user()).collect();
        fleet.clients[1].kill();
        fleet.server.says("ended", GRACE);
        users.retain(|user| user.client != 1);
        assert_eq!(users.len(), 6, "type={transport} tls={tls}: {:?}", clients(&users));
        users.iter_mut().for_each(User::still_works);
    }
}

#[test]
fn originals_of_three_generations_beside_ours_have_users_of_their_own() {
    let Some(peer) = Originals::new() else { return };
    for tls in [0, 1] {
        let fleet = Fleet::start(1, &format!("tls={tls}&clients=0"));
        // An original is told by its address.
        let original = |(number, wire): (usize, &str)| {
            let path = path_from(Ipv4Addr::new(127, 0, 0, 2 + number as u8), fleet.tunnel);
            let original = peer.client(KEY, wire, path, fleet.targets[1 + number].addr(), tls);
            fleet.server.says(&format!("the wire of NodePass {wire}"), GRACE);
            original
        };
        let originals: Vec<Process> = ["1.13", "1.14", "2.0"].into_iter().enumerate().map(original).collect();
        fleet.serve(4);
        let mut users: Vec<User> = (0..20).map(|_| fleet.user()).collect();
        for client in 0..4 {
            let count = users.iter().filter(|user| user.client == client).count();
            assert_eq!(count, 5, "tls={tls}: {:?}", clients(&users));
        }
        users.iter_mut().for_each(User::still_works);
        for (number, original) in originals.iter().enumerate() {
            let mark = fleet.server.mark();
            original.kill();
            fleet.server.says_after(mark, "ended", GRACE);
            users.iter_mut().filter(|user| user.client == 0 || user.client > 1 + number).for_each(User::still_works);
        }
        assert_eq!(fleet.user().client, 0);
    }
}

#[test]
fn in_the_forward_flow_each_client_has_users_of_its_own() {
    let (target, tunnel) = (Target::echo(), free_addr());
    let server = Process::nodepass(&format!("server://{KEY}@{tunnel}/{}?log=debug&mode=2&clients=2", target.addr()));
    let ports = [free_addr(), free_addr()];
    let clients =
        ports.map(|port| Process::nodepass(&format!("client://{KEY}@{tunnel}/{port}?log=debug&mode=2&min=2")));
    ports.iter().for_each(|port| until("a user of each client", GRACE, || exchange(*port, b"hello").map(drop)));
    let held = connect(ports[1]);
    put(&held, b"held");
    assert_eq!(take(&held, 4), b"held");
    clients[0].kill();
    server.says("ended", GRACE);
    put(&held, b"still");
    assert_eq!(take(&held, 5), b"still");
    echoed(ports[1], b"and newcomers");
}

#[test]
fn beyond_the_limit_a_newcomer_takes_the_place_of_one_client_and_the_others_stay() {
    let fleet = Fleet::start(2, "tls=1&clients=2");
    let mut users: Vec<User> = (0..10).map(|_| fleet.user()).collect();
    let _third = fleet.client(2);
    fleet.server.says("takes it over", GRACE);
    let cut = users.iter_mut().map(User::is_cut).filter(|cut| *cut).count();
    assert_eq!(cut, 5, "the users of one of two");
}

#[test]
fn of_two_clients_with_one_key_the_loser_is_told_and_waits_longer_each_time() {
    for (transport, tls) in kinds() {
        let fleet = Fleet::start(1, &format!("type={transport}&tls={tls}"));
        let second = fleet.client(1);
        fleet.clients[0].says(TOLD, GRACE);
        second.says(TOLD, GRACE);
    }
    let fleet = Fleet::start(1, "tls=1");
    let _second = fleet.client(1);
    // 300 ms, 600 ms, 1.2 s, 2.4 s: each time the other one has the tunnel for longer.
    assert!(eventually(GRACE, || fleet.clients[0].count(TOLD) >= 3), "{}", fleet.clients[0].count(TOLD));
    let taken = || fleet.server.count("takes it over");
    let before = taken();
    fleet.server.reports(3);
    assert!(taken() - before <= 4, "they calm down: {} times in three seconds", taken() - before);
    until("a user meanwhile", GRACE, || exchange(fleet.user_port, b"hello"));
}

/// A server, and clients whose targets say which client dialled them.
struct Fleet {
    server: Process,
    clients: Vec<Process>,
    targets: Vec<Target>,
    tunnel: SocketAddr,
    user_port: SocketAddr,
}

/// A user who is served, and by which client.
struct User {
    stream: TcpStream,
    client: usize,
}

impl Fleet {
    /// A server with these parameters, and so many clients, each of which has served a user.
    fn start(count: usize, parameters: &str) -> Fleet {
        let mut fleet = Fleet::empty(parameters);
        for number in 0..count {
            let mark = fleet.server.mark();
            let client = fleet.client(number);
            fleet.server.says_after(mark, "is up", GRACE);
            fleet.clients.push(client);
        }
        fleet.serve(count);
        fleet
    }

    /// A server with these parameters, and the targets of clients to come.
    fn empty(parameters: &str) -> Fleet {
        let (tunnel, user_port) = (free_addr(), free_addr());
        let url = format!("server://{KEY}@{tunnel}/{user_port}?log=debug&mode=1&max=64&{parameters}");
        let targets = (0..MAX_CLIENTS).map(|number| Target::with(move |stream| introduce(stream, number as u8)));
        let (server, targets) = (Process::nodepass(&url), targets.collect());
        Fleet { server, clients: Vec::new(), targets, tunnel, user_port }
    }

    /// Waits until each of so many clients has served a user, and nothing is left of these.
    fn serve(&self, count: usize) {
        let mut served = HashMap::new();
        until("a user of each client", GRACE, || {
            self.try_user().map(|user| served.insert(user.client, user)).map_err(|error| error.to_string())?;
            if served.len() == count {
                Ok(())
            } else {
                Err(format!("{} clients", served.len()))
            }
        });
        drop(served);
        self.server.checkpoint(|now| now.tcps == 0 && now.pool >= 2 * count as u64);
    }

    /// A client whose target introduces itself with that number.
    fn client(&self, number: usize) -> Process {
        self.client_at(self.tunnel, number)
    }

    /// The same, for a server that is found at `tunnel`.
    fn client_at(&self, tunnel: SocketAddr, number: usize) -> Process {
        let target = self.targets[number].addr();
        Process::nodepass(&format!("client://{KEY}@{tunnel}/{target}?log=debug&mode=2&min=4"))
    }

    fn user(&self) -> User {
        until("a user", GRACE, || self.try_user())
    }

    fn try_user(&self) -> std::io::Result<User> {
        let mut stream = try_connect(self.user_port)?;
        stream.set_read_timeout(Some(GRACE))?;
        let mut number = [0];
        stream.read_exact(&mut number)?;
        Ok(User { stream, client: number[0].into() })
    }
}

impl User {
    fn still_works(&mut self) {
        self.stream.write_all(b"ping").expect("a connection that lives");
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"ping");
    }

    /// Whether the connection has ended. One that has not says so itself.
    fn is_cut(&mut self) -> bool {
        let mut answer = [0; 4];
        self.stream.write_all(b"ping").and_then(|()| self.stream.read_exact(&mut answer)).is_err()
    }
}

fn clients(users: &[User]) -> Vec<usize> {
    users.iter().map(|user| user.client).collect()
}

/// A target that says its number, and then echoes.
fn introduce(mut stream: TcpStream, number: u8) {
    if stream.write_all(&[number]).is_ok() {
        echo(stream);
    }
}

const KEY: &str = "a-test-key";
const TOLD: &str = "another client with this key (127.0.0.1:";
/// Users who fill the path of a client.
const FILLING: usize = 4;
/// Targets of a fleet.
const MAX_CLIENTS: usize = 4;

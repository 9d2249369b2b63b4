//! A chat: long-lived connections with heartbeats, and a room that tells all of them what is said, while client and server are restarted.

use crate::support::*;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn two_hundred_users_of_a_chat_are_back_after_each_restart_of_client_and_server() {
    let each = USERS / cells().len();
    each_tunnel(|builder| {
        let mut chat = Chat::new(builder, each, HEARTBEAT);
        for side in [Side::Server, Side::Client] {
            for signal in [libc::SIGTERM, libc::SIGKILL] {
                chat.survives(side, signal);
            }
        }
        chat.ends();
    });
}

#[test]
#[ignore = "an hour, or NODEPASS_CHAT_MINUTES"]
fn a_chat_of_an_hour_survives_restarts() {
    if !raise_limits(20_000) {
        return;
    }
    let minutes = std::env::var("NODEPASS_CHAT_MINUTES").ok().map_or(60, |text| text.parse().expect("minutes"));
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    each_tunnel(|builder| {
        let name = format!("{:?} type={} tls={}", builder.flow(), builder.transport(), u8::from(builder.encrypted()));
        let mut chat = Chat::new(builder, USERS, HEARTBEAT_OF_MANY);
        let (mut restarts, mut longest) = (0, Duration::ZERO);
        while Instant::now() < until {
            chat.tunnel.client.reports(PAUSE);
            for side in [Side::Server, Side::Client] {
                let signal = if restarts % 4 < 2 { libc::SIGTERM } else { libc::SIGKILL };
                longest = longest.max(chat.survives(side, signal));
                restarts += 1;
            }
        }
        let losses: usize = chat.users.iter().map(|user| user.losses.load(Ordering::SeqCst)).sum();
        println!("{name}: {restarts} restarts, {losses} connections lost, all back after {longest:?} at most");
        chat.ends();
    });
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Server,
    Client,
}

struct Chat {
    tunnel: Tunnel,
    room: Arc<Room>,
    users: Vec<Arc<User>>,
    said: usize,
}

impl Chat {
    fn new(builder: Builder, count: usize, heartbeat: Duration) -> Chat {
        let room = Room::open();
        let tunnel = builder.target(room.addr).start();
        let users: Vec<Arc<User>> = (0..count).map(|_| User::enters(tunnel.user, heartbeat)).collect();
        let chat = Chat { tunnel, room, users, said: 0 };
        chat.all_beat();
        chat
    }

    /// One side is ended and started again: all users are back, and hear what is said then. How long that took.
    fn survives(&mut self, side: Side, signal: i32) -> Duration {
        let process = match side {
            Side::Server => self.tunnel.server.as_ref().expect("a server"),
            Side::Client => &self.tunnel.client,
        };
        process.signal(signal);
        process.wait(GRACE);
        let begin = Instant::now();
        match side {
            Side::Server => self.tunnel.restart_server(),
            Side::Client => self.tunnel.restart_client(),
        }
        self.all_beat();
        let took = begin.elapsed();
        self.said += 1;
        self.room.say(self.said);
        for user in &self.users {
            let heard = eventually(GRACE, || user.heard.lock().unwrap().contains(&self.said));
            assert!(heard, "what is said after {side:?} has ended by signal {signal} is heard by all");
        }
        took
    }

    /// Waits until each user has had two answers from now on: the second surely asked for meanwhile.
    fn all_beat(&self) {
        let before: Vec<usize> = self.users.iter().map(|user| user.beats.load(Ordering::SeqCst)).collect();
        for (user, before) in self.users.iter().zip(before) {
            let back = eventually(GRACE * 2, || user.beats.load(Ordering::SeqCst) >= before + 2);
            assert!(back, "a user is not back");
        }
    }

    fn ends(self) {
        for user in &self.users {
            user.leaves.store(true, Ordering::SeqCst);
        }
        for process in self.tunnel.processes() {
            process.checkpoint(|now| now.tcps == 0);
        }
    }
}

/// Who has a connection, and makes a new one when it is lost.
#[derive(Default)]
struct User {
    /// Answers to heartbeats.
    beats: AtomicUsize,
    heard: Mutex<HashSet<usize>>,
    losses: AtomicUsize,
    leaves: AtomicBool,
}

impl User {
    fn enters(room: SocketAddr, heartbeat: Duration) -> Arc<User> {
        let user = Arc::new(User::default());
        let stays = Arc::clone(&user);
        std::thread::spawn(move || {
            while !stays.leaves.load(Ordering::SeqCst) {
                if stays.talks(room, heartbeat).is_err() {
                    stays.losses.fetch_add(1, Ordering::SeqCst);
                    // As a program waits before it tries again.
                    std::thread::sleep(AGAIN);
                }
            }
        });
        user
    }

    fn talks(&self, room: SocketAddr, heartbeat: Duration) -> std::io::Result<()> {
        let mut stream = try_connect(room)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        for beat in 0.. {
            stream.write_all(format!("{beat}\n").as_bytes())?;
            let answer = format!("beat {beat}\n");
            line.clear();
            while line != answer {
                line.clear();
                if lines.read_line(&mut line)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                if let Some(said) = line.trim().strip_prefix("said ") {
                    self.heard.lock().unwrap().insert(said.parse().expect("what the room says"));
                } else {
                    assert!(line == answer || !line.ends_with('\n'), "{line:?} is no answer to {beat}");
                }
            }
            self.beats.fetch_add(1, Ordering::SeqCst);
            if self.leaves.load(Ordering::SeqCst) {
                return Ok(());
            }
            std::thread::sleep(heartbeat);
        }
        Ok(())
    }
}

/// Where all users meet: it answers heartbeats, and says things to all.
struct Room {
    addr: SocketAddr,
    members: Mutex<Vec<TcpStream>>,
}

impl Room {
    fn open() -> Arc<Room> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a room");
        let room = Arc::new(Room { addr: listener.local_addr().expect("an address"), members: Mutex::default() });
        let opened = Arc::clone(&room);
        std::thread::spawn(move || {
            for member in listener.incoming().flatten() {
                let room = Arc::clone(&opened);
                std::thread::spawn(move || room.hosts(&member));
            }
        });
        room
    }

    fn hosts(&self, member: &TcpStream) {
        let told = member.try_clone().expect("a descriptor");
        self.members.lock().unwrap().push(told);
        for line in BufReader::new(member).lines() {
            // What is said to all must not come into the middle of an answer.
            let _one = self.members.lock().unwrap();
            if line.and_then(|beat| (&*member).write_all(format!("beat {beat}\n").as_bytes())).is_err() {
                break;
            }
        }
        let _ = member.shutdown(Shutdown::Both);
        let own = member.peer_addr().ok();
        self.members.lock().unwrap().retain(|other| other.peer_addr().is_ok_and(|addr| Some(addr) != own));
    }

    fn say(&self, what: usize) {
        for mut member in self.members.lock().unwrap().iter() {
            let _ = member.write_all(format!("said {what}\n").as_bytes());
        }
    }
}

/// Users of all tunnels together; in the chat of an hour, of each.
const USERS: usize = 200;
/// How often each asks whether the room is there.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// In the chat of an hour, whose users are ten times as many.
const HEARTBEAT_OF_MANY: Duration = Duration::from_secs(1);
/// Before a lost connection is replaced.
const AGAIN: Duration = Duration::from_millis(100);
/// Check points, one a second, between restarts in the chat of an hour.
const PAUSE: usize = 20;

//! The path between two namespaces: packets go from one TUN device to the other by way of this process, which delays and
//! loses as many of them as the test wants.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc};
use std::time::{Duration, Instant};

/// How packets fare, the same in both directions.
pub struct Path {
    fate: Arc<Fate>,
}

#[derive(Default)]
struct Fate {
    delay_micros: AtomicU64,
    lost_of_a_thousand: AtomicU64,
    lost: AtomicU64,
    largest: AtomicUsize,
}

impl Path {
    /// A path between two devices, at first without delay and loss. It carries until the devices are gone.
    pub fn between(one: File, other: File) -> Path {
        let fate = Arc::new(Fate { largest: AtomicUsize::new(MAX_PACKET), ..Fate::default() });
        let ends = [one, other].map(Arc::new);
        for (seed, [from, to]) in [[&ends[0], &ends[1]], [&ends[1], &ends[0]]].into_iter().enumerate() {
            carry(Arc::clone(from), Arc::clone(to), Arc::clone(&fate), seed as u64 + 1);
        }
        Path { fate }
    }

    /// From now on every packet takes so long, in each direction.
    pub fn delays(&self, by: Duration) {
        self.fate.delay_micros.store(by.as_micros() as u64, Ordering::SeqCst);
    }

    /// From now on so many packets of a thousand are lost; all of them is a cut without a word.
    pub fn loses(&self, of_a_thousand: u64) {
        self.fate.lost_of_a_thousand.store(of_a_thousand, Ordering::SeqCst);
    }

    /// From now on packets of more bytes are lost, without a word.
    pub fn narrows(&self, to: usize) {
        self.fate.largest.store(to, Ordering::SeqCst);
    }

    /// How many packets of IPv4 it has lost: what a device says of itself is IPv6.
    pub fn lost(&self) -> u64 {
        self.fate.lost.load(Ordering::SeqCst)
    }
}

/// Opens the TUN device `path` in the namespace of this thread.
pub fn tunnel_device() -> io::Result<File> {
    named_device(super::LINK)
}

/// Opens a TUN device of that name there.
pub fn named_device(name: &str) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeroes is a valid request; name and flags are filled in below.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives on this stack, and the kernel reads and writes no more than its size.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// One direction: a thread that takes packets in and dooms some, and one that hands them out when their time has come.
fn carry(from: Arc<File>, to: Arc<File>, fate: Arc<Fate>, seed: u64) {
    let (sender, packets) = mpsc::sync_channel::<(Instant, Vec<u8>)>(QUEUE);
    std::thread::spawn(move || {
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut packet = [0; MAX_PACKET];
        loop {
            match (&*from).read(&mut packet) {
                Ok(len) => {
                    chance ^= chance << 13;
                    chance ^= chance >> 7;
                    chance ^= chance << 17;
                    let too_large = len > fate.largest.load(Ordering::SeqCst);
                    if too_large || chance % 1000 < fate.lost_of_a_thousand.load(Ordering::SeqCst) {
                        fate.lost.fetch_add(u64::from(packet[0] >> 4 == 4), Ordering::SeqCst);
                    } else {
                        let delay = Duration::from_micros(fate.delay_micros.load(Ordering::SeqCst));
                        // A full queue loses the packet, as a router's would.
                        let _ = sender.try_send((Instant::now() + delay, packet[..len].to_vec()));
                    }
                }
                // The device is down: it may come up again.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => return,
            }
        }
    });
    std::thread::spawn(move || {
        for (due, packet) in packets {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = (&*to).write(&packet);
        }
    });
}

/// The largest packet.
const MAX_PACKET: usize = 2048;
/// Packets on their way in one direction.
const QUEUE: usize = 4096;

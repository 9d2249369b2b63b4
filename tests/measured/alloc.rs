//! In its steady state a relay allocates nothing: every byte that comes in goes out through buffers and pipes that are
//! there already.

use crate::alone;
use crate::support::{registry, skip};
use nodepass::net::relay::Half;
use nodepass::net::stream::Stores;
use nodepass::net::sys;
use nodepass::net::tcp::Tcp;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Counts what each thread takes, so that the test harness's own threads do not matter.
struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; the counter needs no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.with(|taken| taken.set(taken.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_counter_counts() {
    alone(|| {
        let before = TAKEN.get();
        drop(std::hint::black_box(vec![1_u8; 100]));
        assert_eq!(TAKEN.get(), before + 1);
    });
}

#[test]
fn a_thousand_reads_and_writes_through_memory_allocate_nothing() {
    alone(|| {
        assert_eq!(Relay::new(false).allocations(), 0);
    });
}

#[test]
fn a_thousand_reads_and_writes_through_a_pipe_allocate_nothing() {
    alone(|| {
        if !sys::SPLICE {
            return skip("splice");
        }
        assert_eq!(Relay::new(true).allocations(), 0);
    });
}

/// Both directions of a relay between two socket pairs, and the far ends of these pairs.
///
/// ```text
///   user <-- pair --> near  [forth, back]  far <-- pair --> target
/// ```
struct Relay {
    poll: mio::Poll,
    events: mio::Events,
    near: Tcp,
    far: Tcp,
    forth: Half,
    back: Half,
    stores: Stores,
    user: TcpStream,
    target: TcpStream,
}

impl Relay {
    fn new(splice: bool) -> Relay {
        let poll = mio::Poll::new().unwrap();
        let ((user, near), (target, far)) = (pair(), pair());
        let (mut near, mut far) = (Tcp::new(near), Tcp::new(far));
        near.register(&registry(&poll), NEAR).unwrap();
        far.register(&registry(&poll), FAR).unwrap();
        let (forth, back) = (Half::default(), Half::default());
        let (events, stores) = (mio::Events::with_capacity(64), Stores::new(16 * 1024, splice));
        Relay { poll, events, near, far, forth, back, stores, user, target }
    }

    /// What a thousand requests and answers allocate, after some to warm up.
    fn allocations(&mut self) -> usize {
        let mut bytes = vec![7; LENGTH];
        for _ in 0..20 {
            self.exchange(&mut bytes);
        }
        let before = TAKEN.get();
        for _ in 0..1000 {
            self.exchange(&mut bytes);
        }
        TAKEN.get() - before
    }

    /// A request and its answer.
    fn exchange(&mut self, bytes: &mut [u8]) {
        self.user.write_all(bytes).unwrap();
        self.carry();
        self.target.read_exact(bytes).unwrap();
        self.target.write_all(bytes).unwrap();
        self.carry();
        self.user.read_exact(bytes).unwrap();
    }

    /// Waits for edges and pumps until a whole message has gone through.
    fn carry(&mut self) {
        let mut moved = 0;
        while moved < LENGTH {
            self.poll.poll(&mut self.events, None).unwrap();
            for event in &self.events {
                match event.token() {
                    NEAR => self.near.note(event),
                    _ => self.far.note(event),
                }
            }
            moved += self.forth.pump(&mut self.near, &mut self.far, BUDGET, &mut self.stores).unwrap().moved;
            moved += self.back.pump(&mut self.far, &mut self.near, BUDGET, &mut self.stores).unwrap().moved;
        }
    }
}

/// Two ends of a TCP connection: a test's, which waits, and the relay's, which does not.
fn pair() -> (TcpStream, mio::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    one.set_nodelay(true).unwrap();
    other.set_nodelay(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (one, mio::net::TcpStream::from_std(other))
}

const NEAR: mio::Token = mio::Token(0);
const FAR: mio::Token = mio::Token(1);
/// Bytes of a message: more than one buffer, less than a socket takes at once.
const LENGTH: usize = 40_000;
const BUDGET: usize = 512 * 1024;

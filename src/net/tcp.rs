//! TCP sockets: listening, dialling, and a socket that remembers what it is ready for.

use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::inherited::Inherited;
use super::listen_addr::ListenAddr;
use super::pipe::{Pipe, Splice};
use super::stream::{would_block, Buffer, Stream};
use super::{bind, sys};
use crate::logic::local_end::LocalEnd;

/// A connected (or connecting) socket with remembered readiness.
///
/// It is registered for edges only: of what comes, and of room from the moment when it first waits for some, as nearly every socket
/// has room at once and many never lack it. `readable` and `writable` say what may be tried; each is cleared by the `WouldBlock`
/// that the kernel answers, and while it is cleared no system call is made.
pub struct Tcp {
    socket: TcpStream,
    /// Where it is registered, as long as it is not told of room there.
    untold: Option<(Arc<Registry>, Token)>,
    connected: bool,
    readable: bool,
    writable: bool,
    failed: bool,
    /// The other side's end has been announced.
    ending: bool,
    /// Our end follows what is written.
    last: bool,
    urgent: bool,
}

impl Tcp {
    /// Wraps a socket that was accepted. Nothing is known of it, so both directions may be tried.
    pub fn new(socket: TcpStream) -> Tcp {
        Tcp {
            socket,
            untold: None,
            connected: true,
            readable: true,
            writable: true,
            failed: false,
            ending: false,
            last: false,
            urgent: false,
        }
    }

    /// Starts to connect to `to`, from the local end `from` if one is given; kept alive as `keepalive` says.
    ///
    /// An address or device that cannot be used is an error here and never replaced by another.
    pub fn dial(to: SocketAddr, from: Option<&LocalEnd>, keepalive: SocketKeepalive) -> io::Result<Tcp> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        keepalive.set(&socket)?;
        if let Some(from) = from {
            sys::choose_port_late(socket.as_fd());
            bind::bind(&socket, from, to)?;
        }
        let connected = match socket.connect(&to.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            result => result.is_ok(),
        };
        // Nothing has come yet, and what comes makes an edge.
        let socket = TcpStream::from_std(socket.into());
        Ok(Tcp { readable: false, writable: connected, connected, ..Tcp::new(socket) })
    }

    /// Whether a dialled socket has connected: `WouldBlock` while it has not, the reason when it can't.
    pub fn connected(&mut self) -> io::Result<()> {
        if self.connected {
            return Ok(());
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                (self.connected, self.writable) = (true, true);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => match self.socket.take_error()? {
                Some(error) => Err(error),
                None => would_block(),
            },
            Err(error) => Err(error),
        }
    }

    /// Registers it under `token`, once.
    pub fn register(&mut self, registry: &Arc<Registry>, token: Token) -> io::Result<()> {
        if !self.writable {
            return self.socket.register(registry, token, EDGES | Interest::WRITABLE);
        }
        self.socket.register(registry, token, EDGES)?;
        self.untold = Some((registry.clone(), token));
        Ok(())
    }

    /// Learns from what came of a write whether there is room, and is told of it from the first time that there is none.
    fn wrote(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        self.writable = !is_blocked(&result);
        if let (false, Some((registry, token))) = (self.writable, &self.untold) {
            // Room that has come meanwhile makes an edge, too.
            self.socket.reregister(registry, *token, EDGES | Interest::WRITABLE)?;
            self.untold = None;
        }
        result
    }

    /// Takes it out of that poll, so that another thread can have it. What was not read stays in it.
    pub fn release(mut self, registry: &Registry) -> io::Result<TcpStream> {
        self.socket.deregister(registry)?;
        Ok(self.socket)
    }

    /// Remembers an edge.
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable() || event.is_write_closed();
        self.failed |= event.is_error();
        self.ending |= event.is_read_closed();
        if event.is_priority() {
            self.hurry();
        }
    }

    /// Urgent data has come. It is read in its place among the other bytes.
    fn hurry(&mut self) {
        if !self.urgent {
            // Best effort: where that cannot be, the urgent byte is left out and all others are read.
            let _ = SockRef::from(&self.socket).set_out_of_band_inline(true);
            self.urgent = true;
        }
    }

    /// Whether the other side has reset the connection, or the path has: nothing more can be sent.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The other side's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr().map(canonical)
    }

    /// Our own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr().map(canonical)
    }

    /// The first bytes that wait to be read, left where they are; `Ok(0)` at the end of the stream.
    pub fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = again(|| self.socket.peek(into));
        self.readable = !is_blocked(&result);
        result
    }

    /// Whether bytes wait: some number of them, 0 at the end of the stream, `WouldBlock` if none.
    pub fn waiting(&mut self) -> io::Result<usize> {
        self.peek(&mut [0])
    }

    /// For a connection that many share: lets few bytes wait in the kernel until the path takes them. The kernel's own queue of
    /// megabytes is seconds on a slow path, and what comes last, a signal of the tunnel perhaps, would wait behind all of it.
    /// Only Linux knows such a limit.
    pub fn keep_queue_short(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = SockRef::from(&self.socket).set_tcp_notsent_lowat(UNSENT);
    }

    /// How long the other side has not acknowledged what is on its way to it; `None` if nothing is.
    pub fn unacknowledged(&self) -> Option<Duration> {
        sys::unacknowledged(self.socket.as_fd())
    }

    /// How long ago the other side has acknowledged anything, if it has not acknowledged all that was written: also what is not on its
    /// way yet.
    pub fn undelivered(&self) -> Option<Duration> {
        sys::undelivered(self.socket.as_fd())
    }

    /// Makes the coming close a reset, so that the other side knows at once, unless bytes of ours are still on their way.
    pub fn abort(&mut self) {
        if sys::unsent(self.socket.as_fd()).is_ok_and(|count| count == 0) {
            self.cut();
        }
    }

    /// Makes the coming close a reset, whatever is still on its way.
    pub fn cut(&mut self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

impl Read for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = again(|| self.socket.read(into));
        self.readable = match result {
            // Less than there is room for is all there was, and what comes next makes an edge: a call less for each edge. An end
            // and urgent data cut a read short, too; their edge has been noted, or is still to come.
            Ok(count @ 1..) if SHORT_READS_TELL => count == into.len() || self.ending || self.urgent,
            _ => !is_blocked(&result),
        };
        result
    }
}

impl Write for Tcp {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(from)])
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = again(|| match self.last {
            // It waits for the end, and is one packet with that.
            true => SockRef::from(&self.socket).send_vectored_with_flags(from, MORE),
            false => self.socket.write_vectored(from),
        });
        let result = self.wrote(result);
        // What the other side said before it closed may wait, though no edge has told of it yet.
        self.readable |= result.is_err() && self.writable;
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Splice for Tcp {
    fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// The kernel says "not now" for a dry socket and for a full pipe alike: only an empty pipe makes the first certain.
    fn splice_into(&mut self, pipe: &mut Pipe, limit: usize) -> io::Result<usize> {
        if !self.readable {
            return would_block();
        }
        let result = pipe.take_from(self.socket.as_fd(), limit);
        self.readable = !(is_blocked(&result) && pipe.is_empty());
        // Nothing is the end, or urgent data before an end that no edge has told of yet.
        if matches!(result, Ok(0)) && !self.ending {
            self.hurry();
            return self.waiting().and_then(|waiting| if waiting == 0 { Ok(0) } else { would_block() });
        }
        result
    }

    fn splice_from(&mut self, pipe: &mut Pipe) -> io::Result<usize> {
        if !self.writable {
            return would_block();
        }
        let result = pipe.give_to(self.socket.as_fd());
        self.wrote(result)
    }
}

impl Stream for Tcp {
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize> {
        let count = self.read(into.room(1))?;
        into.advance(count);
        Ok(count)
    }

    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize> {
        match self.write(from.bytes())? {
            0 => would_block(),
            count => {
                from.consume(count);
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.socket.shutdown(Shutdown::Write) {
            // The other side has gone already; the reading direction will tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }

    fn is_ending(&self) -> bool {
        self.ending
    }

    fn ends_with(&mut self) {
        self.last = MORE != 0;
    }

    fn source(&mut self) -> Option<&mut dyn Splice> {
        Some(self)
    }

    fn sink(&mut self) -> Option<&mut dyn Splice> {
        Some(self)
    }
}

/// Listens on `at`, with the socket that is `inherited` if there is one. Accepted sockets inherit no-delay and keep-alive, so accepting
/// costs one system call.
pub fn listen(at: ListenAddr, keepalive: SocketKeepalive, inherited: &Inherited) -> io::Result<TcpListener> {
    let ListenAddr { address, dual } = at;
    if let Some(socket) = inherited.take(at, Type::STREAM) {
        keepalive.set(&socket)?;
        socket.set_nonblocking(true)?;
        return Ok(TcpListener::from_std(socket.into()));
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    keepalive.set(&socket)?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// An IPv4 address that came in through an IPv6 socket, as the IPv4 address that it is.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        // A link-local IPv6 address means nothing without its interface: it stays as it is.
        IpAddr::V6(_) => address,
        v4 => SocketAddr::new(v4, address.port()),
    }
}

/// When a silent connection is asked whether the other side still lives, and when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketKeepalive {
    /// Silence before the first question, time between two, and how many; `None` leaves it to the system.
    questions: Option<(Duration, Duration, u32)>,
    /// How many the system would ask: not worth a call for each socket.
    usual: u32,
}

impl SocketKeepalive {
    /// The first question after so much silence, the others in as long again; zero leaves it to the system.
    pub fn after(silence: Duration) -> SocketKeepalive {
        SocketKeepalive::beside(silence, usual_questions().unwrap_or(0))
    }

    /// As many questions as are `usual` on this system, where they are at least [`MIN_INTERVAL`] apart.
    fn beside(silence: Duration, usual: u32) -> SocketKeepalive {
        let after = silence.max(MIN_INTERVAL);
        let most = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
        let count = if usual == 0 { QUESTIONS } else { usual }.min(most);
        let interval = Duration::from_secs(after.as_secs() / u64::from(count));
        SocketKeepalive { questions: (!silence.is_zero()).then_some((after, interval, count)), usual }
    }

    /// The same, whose first question comes after half of the silence: so that a NAT does not forget the connection. It is given up no
    /// sooner for that, as a path may be gone for a while.
    pub fn early(self) -> SocketKeepalive {
        let early = |(after, interval, count): (Duration, Duration, u32)| {
            let first = (after / 2).max(MIN_INTERVAL);
            let rest = (after + interval * count).saturating_sub(first);
            (first, Duration::from_secs(rest.as_secs() / u64::from(count)), count)
        };
        SocketKeepalive { questions: self.questions.map(early), ..self }
    }

    /// After how long of no answer a connection is given up.
    pub fn timeout(self) -> Option<Duration> {
        self.questions.map(|(after, interval, count)| after + interval * count)
    }

    fn set(self, socket: &Socket) -> io::Result<()> {
        let Some((after, interval, count)) = self.questions else { return Ok(()) };
        let ask = TcpKeepalive::new().with_time(after);
        #[cfg(not(target_os = "openbsd"))]
        let ask = ask.with_interval(interval);
        #[cfg(not(target_os = "openbsd"))]
        let ask = if count == self.usual { ask } else { ask.with_retries(count) };
        socket.set_tcp_keepalive(&ask)
    }
}

/// How many questions this system asks by itself.
fn usual_questions() -> io::Result<u32> {
    #[cfg(target_os = "openbsd")]
    return Ok(0);
    #[cfg(not(target_os = "openbsd"))]
    Socket::new(Domain::IPV4, Type::STREAM, None)?.tcp_keepalive_retries()
}

/// Whether a call has found that its socket can do nothing more now.
pub fn is_blocked(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Makes a system call, again when a signal has cut it short.
pub fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;
/// Bytes of a shared connection that wait in the kernel for the path to take them.
const UNSENT: u32 = 64 * 1024;
/// A silent connection is asked whether it still lives after this long.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// So many questions where the system does not say how many it asks.
const QUESTIONS: u32 = 3;
/// The system counts in seconds.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Whether a read that leaves room has emptied the socket. On Linux urgent data, which cuts a read short, is known by an edge.
const SHORT_READS_TELL: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// Says that more follows at once.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MORE: libc::c_int = libc::MSG_MORE;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MORE: libc::c_int = 0;
/// What is always watched: what comes, and urgent data where the system tells of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const EDGES: Interest = Interest::READABLE.add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const EDGES: Interest = Interest::READABLE;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener as PlainListener, TcpStream as Plain};

    use mio::{Events, Poll};

    use super::*;
    use crate::testing::{registry, skip};

    #[test]
    fn accepted_sockets_inherit_no_delay_and_keep_alive() {
        let listener =
            listen(at("127.0.0.1:0"), SocketKeepalive::after(KEEPALIVE_AFTER), &Inherited::default()).unwrap();
        let _user = Plain::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        let (interval, count) = (socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap());
        assert_eq!(SocketKeepalive::after(KEEPALIVE_AFTER).timeout(), Some(KEEPALIVE_AFTER + interval * count));
    }

    #[test]
    fn an_unanswered_connection_is_given_up_after_twice_the_silence() {
        for (silence, usual, timeout) in [(30, 9, 57), (30, 3, 60), (30, 0, 60), (30, 100, 60), (2, 9, 4), (1, 9, 2)] {
            let keepalive = SocketKeepalive::beside(Duration::from_secs(silence), usual);
            assert_eq!(keepalive.timeout(), Some(Duration::from_secs(timeout)), "{silence} s, {usual} usual");
        }
        assert_eq!(SocketKeepalive::after(Duration::from_millis(1)).timeout(), Some(Duration::from_secs(2)));
        assert_eq!(SocketKeepalive::after(Duration::ZERO).timeout(), None);
    }

    #[test]
    fn an_early_first_question_gives_a_path_that_is_gone_for_a_while_no_less_time() {
        for (silence, usual, first, timeout) in
            [(30, 9, 15, 51), (30, 3, 15, 60), (30, 0, 15, 60), (4, 9, 2, 6), (1, 9, 1, 2)]
        {
            let keepalive = SocketKeepalive::beside(Duration::from_secs(silence), usual).early();
            assert_eq!(keepalive.timeout(), Some(Duration::from_secs(timeout)), "{silence} s, {usual} usual");
            assert_eq!(keepalive.questions.unwrap().0, Duration::from_secs(first), "{silence} s");
        }
        assert_eq!(SocketKeepalive::after(Duration::ZERO).early().timeout(), None);
    }

    #[test]
    fn sockets_ask_as_often_as_they_are_told_whatever_is_usual() {
        let listener = PlainListener::bind("127.0.0.1:0").unwrap();
        for (usual, count) in [(usual_questions().unwrap(), 2), (0, 2)] {
            let keepalive = SocketKeepalive::beside(Duration::from_secs(2), usual);
            let tcp = Tcp::dial(listener.local_addr().unwrap(), None, keepalive).unwrap();
            assert_eq!(SockRef::from(&tcp.socket).tcp_keepalive_retries().unwrap(), count);
        }
        let left_alone = SocketKeepalive::after(Duration::ZERO);
        let tcp = Tcp::dial(listener.local_addr().unwrap(), None, left_alone).unwrap();
        assert!(!SockRef::from(&tcp.socket).keepalive().unwrap());
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_is_read_though_they_left_room() {
        let (mut tcp, mut peer) = pair();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        tcp.register(&registry(&poll), Token(0)).unwrap();
        peer.write_all(b"bye").unwrap();
        drop(peer);
        while !tcp.is_ending() {
            poll.poll(&mut events, Some(GRACE)).unwrap();
            assert!(!events.is_empty(), "no edge came");
            events.iter().for_each(|event| tcp.note(event));
        }
        let mut bytes = [0; 8];
        assert_eq!(tcp.read(&mut bytes).unwrap(), 3);
        assert_eq!(tcp.read(&mut bytes).unwrap(), 0);
    }

    #[test]
    fn bytes_on_their_way_are_acknowledged_and_an_idle_socket_waits_for_nothing() {
        let (mut tcp, mut peer) = pair();
        assert_eq!(tcp.unacknowledged(), None);
        tcp.write_all(b"all of it").unwrap();
        let mut bytes = [0; 9];
        peer.read_exact(&mut bytes).unwrap();
        while tcp.unacknowledged().is_some() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_peer_that_lets_nothing_in_has_acknowledged_all_there_is() {
        let (mut tcp, _peer) = pair();
        while let Ok(1..) = tcp.write(&[7; 64 * 1024]) {}
        assert!(sys::unsent(tcp.socket.as_fd()).unwrap() > 0);
        while tcp.unacknowledged().is_some() {
            std::thread::yield_now();
        }
        assert!(tcp.undelivered().is_some(), "what is held back is acknowledged by nobody");
    }

    #[test]
    fn dialled_sockets_send_at_once_and_are_kept_alive() {
        let (tcp, _peer) = pair();
        let socket = SockRef::from(&tcp.socket);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    }

    #[test]
    fn a_listener_of_both_families_names_ipv4_users_as_such() {
        let Ok(listener) = listen(
            ListenAddr { dual: true, ..at("[::]:0") },
            SocketKeepalive::after(KEEPALIVE_AFTER),
            &Inherited::default(),
        ) else {
            return skip("IPv6");
        };
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().unwrap();
            let user = Plain::connect((host, port)).unwrap();
            let tcp = Tcp::new(listener.accept().unwrap().0);
            assert_eq!(tcp.peer().unwrap(), user.local_addr().unwrap());
            assert_eq!(tcp.local().unwrap(), SocketAddr::new(host, port));
        }
    }

    #[test]
    fn an_ipv6_listener_leaves_the_port_to_an_ipv4_one() {
        let keepalive = SocketKeepalive::after(KEEPALIVE_AFTER);
        if listen(at("[::]:0"), keepalive, &Inherited::default()).is_err() {
            return skip("IPv6");
        }
        // A port that is free for the one may be another's for the other.
        let both = || {
            let six = listen(at("[::]:0"), keepalive, &Inherited::default()).ok()?;
            let port = six.local_addr().unwrap().port();
            Some((six, listen(at(&format!("0.0.0.0:{port}")), keepalive, &Inherited::default()).ok()?, port))
        };
        let (six, four, port) = (0..10).find_map(|_| both()).expect("a port for both");
        let user = Plain::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(four.accept().unwrap().1, user.local_addr().unwrap());
        let user = Plain::connect(("::1", port)).unwrap();
        assert_eq!(six.accept().unwrap().1, user.local_addr().unwrap());
    }

    fn at(text: &str) -> ListenAddr {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn an_abort_resets_when_nothing_is_unsent() {
        let (mut tcp, mut peer) = pair();
        tcp.write_all(b"all of it").unwrap();
        let mut bytes = [0; 9];
        peer.read_exact(&mut bytes).unwrap();
        while sys::unsent(tcp.socket.as_fd()).unwrap() > 0 {
            std::thread::yield_now();
        }
        tcp.abort();
        drop(tcp);
        assert_eq!(peer.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_abort_lets_bytes_arrive_that_are_still_on_their_way() {
        let (mut tcp, mut peer) = pair();
        SockRef::from(&tcp.socket).set_send_buffer_size(64 * 1024).unwrap();
        let mut sent = 0;
        while let Ok(count) = tcp.write(&[7; 16 * 1024]) {
            sent += count;
        }
        assert!(sys::unsent(tcp.socket.as_fd()).unwrap() > 0);
        tcp.abort();
        drop(tcp);
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).expect("an end and no reset");
        assert_eq!(heard.len(), sent);
    }

    #[test]
    fn after_would_block_nothing_is_tried_until_an_edge_is_noted() {
        let (mut tcp, mut peer) = pair();
        let mut poll = Poll::new().unwrap();
        tcp.register(&registry(&poll), Token(0)).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(tcp.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        peer.write_all(b"knock").unwrap();
        let mut events = Events::with_capacity(8);
        while !events.iter().any(Event::is_readable) {
            poll.poll(&mut events, Some(GRACE)).unwrap();
            assert!(!events.is_empty(), "no edge came");
        }
        assert_eq!(tcp.read(&mut bytes).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(tcp.waiting().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        events.iter().for_each(|event| tcp.note(event));
        assert_eq!(tcp.waiting().unwrap(), 1);
        assert_eq!(tcp.read(&mut bytes).unwrap(), 5);
    }

    #[test]
    fn a_socket_is_told_of_room_only_after_it_lacked_some() {
        let listener = PlainListener::bind("127.0.0.1:0").unwrap();
        let dialled = Tcp::dial(listener.local_addr().unwrap(), None, SocketKeepalive::after(KEEPALIVE_AFTER)).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = Tcp::new(TcpStream::from_std(accepted));
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        let mut both = [dialled, accepted];
        for (at, tcp) in both.iter_mut().enumerate() {
            tcp.connected().unwrap();
            tcp.register(&registry(&poll), Token(at)).unwrap();
        }
        poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
        assert!(events.is_empty(), "an edge for nothing");

        // It is told of room each time that it lacks some.
        for at in [0, 1, 0, 1] {
            let [one, other] = &mut both;
            let (full, reader) = if at == 0 { (one, other) } else { (other, one) };
            while full.write(&[7; 16 * 1024]).is_ok() {}
            while !full.writable {
                reader.readable = true;
                while reader.read(&mut [0; 16 * 1024]).is_ok() {}
                poll.poll(&mut events, Some(GRACE)).unwrap();
                assert!(!events.is_empty(), "no edge came");
                events.iter().filter(|event| event.token() == Token(at)).for_each(|event| full.note(event));
            }
            assert!(full.write(b"more").is_ok());
            while reader.read(&mut [0; 16 * 1024]).is_ok() {}
        }
    }

    #[test]
    fn a_peek_leaves_the_bytes_where_they_are() {
        let (mut tcp, mut peer) = pair();
        peer.write_all(b"abc").unwrap();
        let mut bytes = [0; 8];
        while tcp.peek(&mut bytes).is_err() {
            tcp.readable = true;
        }
        assert_eq!(&bytes[..3], b"abc");
        assert_eq!(tcp.read(&mut bytes).unwrap(), 3);
    }

    #[test]
    fn a_dial_goes_out_from_the_address_that_is_asked_for_or_not_at_all() {
        let listener = PlainListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let _tcp =
            Tcp::dial(to, Some(&LocalEnd::Address([127, 0, 0, 5].into())), SocketKeepalive::after(KEEPALIVE_AFTER))
                .unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::from([127, 0, 0, 5]));
        // None of this machine's, one of the wrong family, and a device that is not there.
        for from in ["203.0.113.77", "::1", "no-such-device"] {
            let from = LocalEnd::parse(from).unwrap();
            assert!(Tcp::dial(to, Some(&from), SocketKeepalive::after(KEEPALIVE_AFTER)).is_err(), "{from}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_dial_goes_out_by_the_device_that_is_asked_for() {
        let listener = PlainListener::bind("127.0.0.1:0").unwrap();
        let device = LocalEnd::Device("lo".into());
        let to = listener.local_addr().unwrap();
        let _tcp = Tcp::dial(to, Some(&device), SocketKeepalive::after(KEEPALIVE_AFTER)).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn mapped_addresses_become_ipv4_and_others_stay_whole() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(canonical(parse("[::ffff:203.0.113.9]:80")), parse("203.0.113.9:80"));
        assert_eq!(canonical(parse("[2001:db8::1]:80")), parse("[2001:db8::1]:80"));
        assert_eq!(canonical(parse("[fe80::1%7]:80")), parse("[fe80::1%7]:80"));
    }

    /// A dialled socket of ours and a plain one at its other end.
    fn pair() -> (Tcp, Plain) {
        let listener = PlainListener::bind("127.0.0.1:0").unwrap();
        let mut tcp = Tcp::dial(listener.local_addr().unwrap(), None, SocketKeepalive::after(KEEPALIVE_AFTER)).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(GRACE)).unwrap();
        tcp.connected().unwrap();
        (tcp, peer)
    }

    /// Far longer than anything here takes.
    const GRACE: Duration = Duration::from_secs(20);
}

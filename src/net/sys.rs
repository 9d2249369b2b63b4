//! The system calls that no library here offers in safe form: splice, and datagrams that say at which address they arrived.
//!
//! All of the crate's `unsafe` for sockets is in this file, and in `batch.rs` for many datagrams at once. Each block passes only pointers to live local values whose
//! lengths are given beside them, and every result is checked.

use std::io;
use std::mem::{size_of, zeroed, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Whether bytes may go from socket to socket inside the kernel here.
pub const SPLICE: bool = cfg!(target_os = "linux");

/// A pipe that never waits: (reading end, writing end).
#[cfg(target_os = "linux")]
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0 as RawFd; 2];
    // SAFETY: `ends` has room for the two descriptors; on success both are new and ours.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) as isize)?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

/// A pipe that keeps packets of up to 4096 bytes apart and never waits: (reading end, writing end). It holds as many as an unprivileged
/// process may have in it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn packet_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0 as RawFd; 2];
    // SAFETY: `ends` has room for the two descriptors; on success both are new and ours. The size takes a number, and may stay as it is.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_DIRECT) as isize)?;
        let (reader, writer) = (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]));
        libc::fcntl(ends[1], libc::F_SETPIPE_SZ, PACKET_PIPE);
        Ok((reader, writer))
    }
}

/// A pipe that keeps packets apart: there is none here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn packet_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes of a pipe for packets, each of which takes a page of it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PACKET_PIPE: libc::c_int = 1024 * 1024;

/// Moves up to `limit` bytes between a pipe and a socket without a copy. `Ok(0)` only at the end of the stream.
#[cfg(target_os = "linux")]
pub fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are open for the length of the call; null offsets are what pipes and sockets want.
    retry(|| unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, limit, flags) })
}

/// No pipes of that kind outside Linux: the relay copies.
#[cfg(not(target_os = "linux"))]
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Never called where there is no [`pipe`].
#[cfg(not(target_os = "linux"))]
pub fn splice(_: BorrowedFd<'_>, _: BorrowedFd<'_>, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes that the other side's kernel has not yet acknowledged.
pub fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int, and `count` is one.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &mut count) } as isize)?;
    Ok(count.max(0) as usize)
}

/// Asks the kernel to say, for each datagram, which local address it was sent to.
pub fn report_destination(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    match v6 {
        true => switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
    }
}

/// Leaves the choice of a port to the coming connect, so that each target has all ports for itself. Where the system does
/// not know that, a port is taken for all targets at bind.
pub fn choose_port_late(socket: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    let _ = switch_on(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

pub(super) fn switch_on(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    set_option(socket, level, name, 1)
}

/// Sets a socket option that is one int.
pub(super) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, and its size is given.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    check(result as isize).map(drop)
}

/// Reads a socket option that is one int.
#[cfg(any(feature = "quic", feature = "check"))]
pub(super) fn option(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is one int, and the room for it is given.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut size) };
    check(result as isize).map(|_| value)
}

/// A receive buffer of so many bytes, beyond the system's limit for unprivileged programs: whether that is permitted.
pub fn force_receive_buffer(socket: BorrowedFd<'_>, size: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, size).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, size);
        false
    }
}

/// Asks the kernel to say, with a datagram, how many were lost since the receive buffer was full. Where it does not know that, it says
/// nothing.
pub fn report_lost(socket: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    let _ = switch_on(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL);
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// The number of the interface that has this address.
pub fn interface_of(ip: IpAddr) -> Option<u32> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: on success the list is ours until it is freed below; each entry's name is a C string, and its address is null or of the
    // shape that its family says.
    unsafe {
        if libc::getifaddrs(&mut list) != 0 {
            return None;
        }
        let mut found = None;
        let mut entry = list;
        while !entry.is_null() && found.is_none() {
            found = (interface_ip((*entry).ifa_addr) == Some(ip)).then(|| libc::if_nametoindex((*entry).ifa_name));
            entry = (*entry).ifa_next;
        }
        libc::freeifaddrs(list);
        found.filter(|index| *index != 0)
    }
}

/// The number of the interface with this name.
pub fn interface_named(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: a C string that lives until the call is over, and is only read.
    let number = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (number != 0).then_some(number)
}

/// The internet address at a pointer of `getifaddrs`.
///
/// # Safety
/// `at` is null or points to an address of the shape that its family says.
unsafe fn interface_ip(at: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    unsafe {
        match libc::c_int::from(at.as_ref()?.sa_family) {
            libc::AF_INET => {
                Some(Ipv4Addr::from((*at.cast::<libc::sockaddr_in>()).sin_addr.s_addr.to_ne_bytes()).into())
            }
            libc::AF_INET6 => Some(Ipv6Addr::from((*at.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr).into()),
            _ => None,
        }
    }
}

/// How long ago the other side acknowledged anything, if something of ours is on its way and not acknowledged. A side that lets nothing
/// in at present is no such case: it answers. `None` where the system does not tell.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Option<Duration> {
    let progress = progress(socket)?;
    (progress.on_their_way > 0).then_some(progress.acknowledged)
}

/// The same where something of ours is not even on its way: the window is closed, or the system cannot send.
pub fn undelivered(socket: BorrowedFd<'_>) -> Option<Duration> {
    let progress = progress(socket)?;
    (progress.on_their_way > 0 || progress.held_back > 0).then_some(progress.acknowledged)
}

/// How far a TCP connection has come with what we have sent.
struct Progress {
    /// Packets that are not acknowledged.
    on_their_way: u32,
    /// Bytes that have not been sent yet; 0 where the system does not tell.
    held_back: u32,
    /// How long ago the other side acknowledged anything.
    acknowledged: Duration,
}

#[cfg(target_os = "linux")]
fn progress(socket: BorrowedFd<'_>) -> Option<Progress> {
    // The beginning of `tcp_info`: eight bytes of small fields, then numbers, some of them of 64 bits.
    let mut info = [0_u32; 37];
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which `info` has.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut size)
    };
    let told = size as usize / size_of::<u32>();
    (result == 0 && told > LAST_ACK).then(|| Progress {
        on_their_way: info[UNACKED],
        held_back: info[NOT_SENT],
        acknowledged: Duration::from_millis(info[LAST_ACK].into()),
    })
}

/// Unknown outside Linux.
#[cfg(not(target_os = "linux"))]
fn progress(_: BorrowedFd<'_>) -> Option<Progress> {
    None
}

/// Places of numbers in `tcp_info`: `tcpi_unacked`, `tcpi_last_ack_recv`, and `tcpi_notsent_bytes`, which Linux 4.6 added.
#[cfg(target_os = "linux")]
const UNACKED: usize = 6;
#[cfg(target_os = "linux")]
const LAST_ACK: usize = 14;
#[cfg(target_os = "linux")]
const NOT_SENT: usize = 36;

/// A datagram as it came: how long, from whom, and the local address it was sent to.
#[cfg(not(target_os = "linux"))]
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Bytes of payload; more than the buffer's length if it was cut.
    pub len: usize,
    /// The sender.
    pub from: SocketAddr,
    /// The local address it was sent to, when the kernel said so.
    pub to: Option<IpAddr>,
}

/// Receives one datagram with its destination (after [`report_destination`]).
#[cfg(not(target_os = "linux"))]
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Arrived> {
    // SAFETY: zero is a valid value of these plain C structs; every pointer is to a local with its length beside it, and
    // the control messages are walked by the C library's own macros within the length that the kernel gave back.
    unsafe {
        let mut name: libc::sockaddr_storage = zeroed();
        let mut control = MaybeUninit::<CmsgBuffer>::zeroed();
        let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let mut header: libc::msghdr = zeroed();
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<CmsgBuffer>() as _;
        let len = retry(|| libc::recvmsg(socket.as_raw_fd(), &mut header, libc::MSG_TRUNC))?;
        let from = address(&name).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Arrived { len, from, to: destination(&header) })
    }
}

/// Sends one datagram to `to`, from the local address `from` when one is given.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
    let to = socket2::SockAddr::from(to);
    // SAFETY: as in `receive`; the one control message is written inside a buffer made large enough for it.
    unsafe {
        let mut control = MaybeUninit::<CmsgBuffer>::zeroed();
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut header: libc::msghdr = zeroed();
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if let Some(from) = from {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<CmsgBuffer>() as _;
            match from {
                IpAddr::V4(ip) => {
                    let mut info: libc::in_pktinfo = zeroed();
                    info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                    put(&mut header, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                }
                IpAddr::V6(ip) => {
                    let mut info: libc::in6_pktinfo = zeroed();
                    info.ipi6_addr.s6_addr = ip.octets();
                    put(&mut header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                }
            }
        }
        retry(|| libc::sendmsg(socket.as_raw_fd(), &header, 0))
    }
}

/// Writes the one control message of a header whose control buffer is a zeroed [`CmsgBuffer`].
///
/// # Safety
/// `header.msg_control` points to at least `CMSG_SPACE(size_of::<T>())` writable bytes, aligned as `cmsghdr`.
unsafe fn put<T>(header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    // SAFETY: the caller's promise: there is room for the message, so the first header is inside the buffer.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<T>() as u32) as _;
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
    }
}

/// The destination among the control messages.
///
/// # Safety
/// `header` was filled in by a successful `recvmsg` and its control buffer still lives.
#[cfg(not(target_os = "linux"))]
unsafe fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    let mut to = None;
    // SAFETY: the caller's promise: the kernel wrote these messages, and the macros stay within what it wrote.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    to
}

/// An internet address out of the kernel's storage.
///
/// # Safety
/// `name` was filled in by the kernel (or is zero).
pub(super) unsafe fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which of the two shapes the storage has, and it is larger than either.
            let v4 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            Some((Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
            Some(std::net::SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Allows as many descriptors as the system lets us have without asking. A low limit is reported by the listeners when it hurts.
pub fn raise_descriptor_limit() {
    // SAFETY: both calls read or write one rlimit, and `limit` is one.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Whether this process may write to a file, or make one in a folder, by its rights. Unlike trying, asking leaves nothing there.
#[cfg(feature = "check")]
pub fn may_write(path: &std::path::Path) -> io::Result<()> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: the path is a C string that lives until the call is over.
    let result = unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    check(result as isize).map(drop)
}

/// How many descriptors this process may have.
pub fn descriptor_limit() -> usize {
    limit(libc::RLIMIT_NOFILE as _)
}

/// Whether this process may open so many more descriptors. Unlike trying, asking takes none from the other threads.
pub fn has_descriptors_left(count: usize) -> bool {
    let mut left = 0;
    // From the top, where the free ones are: the system gives the lowest number that is free.
    let mut end = descriptor_limit().min(MAX_NUMBERS);
    while end > 0 && left < count {
        let begin = end.saturating_sub(ASKED_AT_ONCE);
        let asked = |n| libc::pollfd { fd: (begin + n) as libc::c_int, events: 0, revents: 0 };
        let mut numbers: [libc::pollfd; ASKED_AT_ONCE] = std::array::from_fn(asked);
        let numbers = &mut numbers[..end - begin];
        // SAFETY: the pointer and the count are those of one live array.
        retry(|| unsafe { libc::poll(numbers.as_mut_ptr(), numbers.len() as libc::nfds_t, 0) } as isize).ok();
        left += numbers.iter().filter(|number| number.revents & libc::POLLNVAL != 0).count();
        end = begin;
    }
    left >= count
}

/// Bytes of data that this process may have: its limit of data, or what its limit of address space leaves beside the
/// program itself.
pub fn memory_limit() -> usize {
    let space = limit(libc::RLIMIT_AS as _);
    let space = if space == usize::MAX { space } else { space.saturating_sub(mapped()) };
    space.min(limit(libc::RLIMIT_DATA as _))
}

/// Whether address space is limited, which heaps of their own would take without using it.
pub fn is_space_limited() -> bool {
    limit(libc::RLIMIT_AS as _) != usize::MAX
}

/// Bytes of address space that are no data: the program and its libraries. Nothing where `/proc` does not say.
fn mapped() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split(' ').map(|field| field.parse::<usize>().unwrap_or(0));
    let (all, data) = (pages.next().unwrap_or(0), pages.nth(4).unwrap_or(0));
    // SAFETY: reads a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as usize;
    all.saturating_sub(data).saturating_mul(page)
}

/// Bytes of memory in this machine; where that is not known, no limit.
pub fn memory_of_machine() -> usize {
    #[cfg(target_os = "linux")]
    // SAFETY: sysinfo writes one structure of plain numbers, and `info` is one.
    unsafe {
        let mut info: libc::sysinfo = zeroed();
        if libc::sysinfo(&mut info) == 0 {
            return (info.totalram as usize).saturating_mul(info.mem_unit as usize);
        }
    }
    usize::MAX
}

/// A limit of this process; none is the largest number.
fn limit(of: libc::c_int) -> usize {
    // SAFETY: the call writes one rlimit, and `limit` is one.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        match libc::getrlimit(of as _, &mut limit) {
            0 if limit.rlim_cur != libc::RLIM_INFINITY => usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }
}

/// Numbers that are asked about in one call.
const ASKED_AT_ONCE: usize = 64;

/// No process has a descriptor with a higher number: Linux's default bound for all limits.
const MAX_NUMBERS: usize = 1 << 20;

/// Room for one control message of either family and one number, aligned as the C library wants it.
#[repr(C, align(8))]
struct CmsgBuffer([u8; 96]);

pub(super) fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

pub(super) fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_are_open_are_not_left() {
        assert!(has_descriptors_left(0) && has_descriptors_left(1));
        assert!(!has_descriptors_left(descriptor_limit().min(MAX_NUMBERS)), "some are always open");
    }
}

//! Many datagrams in one system call: sendmmsg with segmentation offload, recvmmsg with receive offload. QUIC's sockets, users'
//! and targets' use it.
//!
//! ```text
//!   packets of one size to one peer  ->  one message (GSO)  \
//!   packets of one size to one peer  ->  one message (GSO)   }  one sendmmsg
//!   a packet                         ->  one message        /
//! ```
//!
//! The rest of the crate's `unsafe` for sockets: `net/sys.rs` has the other half. Each block passes only pointers to live
//! local values or to borrowed slices whose lengths are given beside them, and every result is checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

/// Packets for one peer in one piece: all of `segment` bytes but the last, which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The packets, one after the other.
    pub bytes: &'a [u8],
    /// How long each is.
    pub segment: usize,
    /// To whom; `None` on a connected socket.
    pub to: Option<SocketAddr>,
    /// From which local address; `None` leaves it to the kernel.
    pub from: Option<IpAddr>,
}

/// One message in a [`PacketQueue`]: packets of one size, the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Incoming {
    /// Bytes received in this slot.
    pub len: usize,
    /// Bytes of the whole message: more than `len` if the kernel had to cut it.
    pub whole: usize,
    /// How long each packet is; `len` when there is but one.
    pub segment: usize,
    /// The sender.
    pub from: SocketAddr,
    /// The local address it was sent to, when the kernel said so.
    pub to: Option<IpAddr>,
    /// Datagrams lost before it, of all that came to this socket, since the receive buffer was full; none where the kernel was not asked.
    pub lost: u32,
}

/// Packets that were received by one call.
#[derive(Default)]
pub struct PacketQueue {
    bytes: Vec<u8>,
    slot: usize,
    messages: [Option<Incoming>; MAX_BATCH],
    took_all: bool,
}

impl PacketQueue {
    /// Receives up to `slots` messages of at most `slot` bytes; how many came. Nothing is `WouldBlock`.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, slots: usize, slot: usize) -> io::Result<usize> {
        let room = slots * slot;
        if self.bytes.len() < room {
            // Its pages are taken when something is written to them.
            self.bytes = vec![0; room];
        }
        self.slot = slot;
        let came = receive_many(socket, &mut self.bytes[..room], slot, &mut self.messages)?;
        self.took_all = takes_all(came, slots);
        Ok(came)
    }

    /// Whether the last call left nothing behind: an edge tells of what comes later.
    pub fn took_all(&self) -> bool {
        self.took_all
    }

    /// The first `count` messages.
    pub fn messages(&self, count: usize) -> impl Iterator<Item = &Incoming> {
        self.messages.iter().take(count).flatten()
    }

    /// The packets of the first `count` messages, each with its sender and the address it was sent to. One that was cut has
    /// none.
    pub fn packets(&mut self, count: usize) -> impl Iterator<Item = (Incoming, &mut [u8])> {
        let slots = self.bytes.chunks_exact_mut(self.slot.max(1)).zip(self.messages.iter()).take(count);
        slots.filter_map(|(slot, message)| Some((*message)?).map(|message| (message, slot))).flat_map(
            |(message, slot)| {
                let usable = if message.whole > message.len { 0 } else { message.len };
                let empty: Option<&mut [u8]> = (message.whole == 0).then(Default::default);
                slot[..usable].chunks_mut(message.segment.max(1)).chain(empty).map(move |packet| (message, packet))
            },
        )
    }

    /// Gives its memory back.
    #[cfg(feature = "quic")]
    pub fn shrink(&mut self) {
        self.bytes = Vec::new();
    }
}

/// Where the datagrams of [`receive_slots`] go: each into a slot of its own, what is longer goes on in its overflow.
pub struct Slots<'a> {
    /// The slots.
    pub bytes: &'a mut [u8],
    /// How far it is from one to the next.
    pub stride: usize,
    /// Bytes before each datagram that are left free.
    pub head: usize,
    /// The overflows, one for each slot.
    pub overflow: &'a mut [u8],
    /// How long each is.
    pub longest: usize,
}

impl Slots<'_> {
    fn count(&self) -> usize {
        (self.bytes.len() / self.stride.max(1)).min(self.overflow.len() / self.longest.max(1)).min(MAX_BATCH)
    }
}

/// Whether a call that had room for `asked` messages and brought `came` has emptied the socket: it takes messages until there are none.
pub fn takes_all(came: usize, asked: usize) -> bool {
    cfg!(target_os = "linux") && came < asked.min(MAX_BATCH)
}

/// Whether a kernel that answers this to a message of several packets cannot make packets of it.
pub fn cannot_segment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

/// Most messages of one call.
pub const MAX_BATCH: usize = 32;
/// Most bytes of one message: the largest UDP datagram over IPv4, and over IPv6 too.
pub const MAX_MESSAGE: usize = 65507;
/// Most packets of one message: what kernels before 6.9 allow.
pub const MAX_SEGMENTS: usize = 64;

#[cfg(target_os = "linux")]
#[cfg(feature = "quic")]
pub use linux::offload_receiving;
#[cfg(target_os = "linux")]
use linux::receive_many;
#[cfg(target_os = "linux")]
pub use linux::{receive_slots, send_many};
#[cfg(not(target_os = "linux"))]
#[cfg(feature = "quic")]
pub use plain::offload_receiving;
#[cfg(not(target_os = "linux"))]
use plain::receive_many;
#[cfg(not(target_os = "linux"))]
pub use plain::{receive_slots, send_many};

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::{size_of, zeroed};
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::net::sys::{address, retry};

    /// Sends up to [`MAX_BATCH`] messages and says how many went. The error is that of the first message.
    ///
    /// A kernel that cannot segment answers `EIO` or `EINVAL` to a message of several packets.
    pub fn send_many(socket: BorrowedFd<'_>, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        let count = messages.len().min(MAX_BATCH);
        // SAFETY: zero is a valid value of these plain C structs. Each header points into the arrays of this frame and
        // into the borrowed packets, with their lengths; control messages are written where `Control` has room for both.
        unsafe {
            let mut names: [libc::sockaddr_storage; MAX_BATCH] = zeroed();
            let mut parts: [libc::iovec; MAX_BATCH] = zeroed();
            let mut controls: [CmsgSpace; MAX_BATCH] = zeroed();
            let mut headers: [libc::mmsghdr; MAX_BATCH] = zeroed();
            for (at, message) in messages.iter().take(count).enumerate() {
                let header = &mut headers[at].msg_hdr;
                if let Some(to) = message.to {
                    let to = socket2::SockAddr::from(to);
                    std::ptr::copy_nonoverlapping(
                        to.as_ptr().cast::<u8>(),
                        (&raw mut names[at]).cast::<u8>(),
                        to.len() as usize,
                    );
                    header.msg_name = (&raw mut names[at]).cast();
                    header.msg_namelen = to.len();
                }
                parts[at].iov_base = message.bytes.as_ptr().cast_mut().cast();
                parts[at].iov_len = message.bytes.len();
                header.msg_iov = &raw mut parts[at];
                header.msg_iovlen = 1;
                header.msg_control = controls[at].0.as_mut_ptr().cast();
                header.msg_controllen = size_of::<CmsgSpace>() as _;
                let used = fill_control(header, message);
                header.msg_controllen = used as _;
                if used == 0 {
                    header.msg_control = std::ptr::null_mut();
                }
            }
            retry(|| libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as _, 0 as _) as isize)
        }
    }

    /// Writes what is asked of the kernel for one message; the bytes used.
    ///
    /// # Safety
    /// The header's control buffer is a zeroed [`CmsgSpace`].
    unsafe fn fill_control(header: &mut libc::msghdr, message: &Outgoing<'_>) -> usize {
        let mut used = 0;
        // SAFETY: the caller's promise. `Control` has room for one address and one segment size, and the first message
        // is complete, so that CMSG_NXTHDR finds the place behind it.
        unsafe {
            let mut place = libc::CMSG_FIRSTHDR(header);
            match message.from {
                Some(IpAddr::V4(ip)) => {
                    let mut info: libc::in_pktinfo = zeroed();
                    info.ipi_spec_dst.s_addr = u32::from_ne_bytes(ip.octets());
                    used += put(place, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
                }
                Some(IpAddr::V6(ip)) => {
                    let mut info: libc::in6_pktinfo = zeroed();
                    info.ipi6_addr.s6_addr = ip.octets();
                    used += put(place, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
                }
                None => {}
            }
            if message.bytes.len() > message.segment {
                if used > 0 {
                    place = libc::CMSG_NXTHDR(header, place);
                }
                if !place.is_null() {
                    used += put(place, libc::SOL_UDP, UDP_SEGMENT, message.segment as u16);
                }
            }
        }
        used
    }

    /// Writes one control message; the room it takes.
    ///
    /// # Safety
    /// `place` is aligned and has `CMSG_SPACE(size_of::<T>())` writable bytes.
    unsafe fn put<T>(place: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            (*place).cmsg_level = level;
            (*place).cmsg_type = kind;
            (*place).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            libc::CMSG_DATA(place).cast::<T>().write_unaligned(value);
            libc::CMSG_SPACE(size_of::<T>() as u32) as usize
        }
    }

    /// Receives into slots of `slot` bytes and tells of each message that came. `Ok(0)` never: nothing is `WouldBlock`.
    pub fn receive_many(
        socket: BorrowedFd<'_>,
        bytes: &mut [u8],
        slot: usize,
        into: &mut [Option<Incoming>; MAX_BATCH],
    ) -> io::Result<usize> {
        let count = (bytes.len() / slot.max(1)).min(MAX_BATCH);
        // SAFETY: zero is a valid value of these plain C structs. Each header points into the arrays of this frame and
        // into its own slot of `bytes`, with its length; what the kernel wrote is read within the lengths it gave back.
        unsafe {
            let mut names: [libc::sockaddr_storage; MAX_BATCH] = zeroed();
            let mut parts: [libc::iovec; MAX_BATCH] = zeroed();
            let mut controls: [CmsgSpace; MAX_BATCH] = zeroed();
            let mut headers: [libc::mmsghdr; MAX_BATCH] = zeroed();
            for (at, place) in bytes.chunks_exact_mut(slot).take(count).enumerate() {
                let header = &mut headers[at].msg_hdr;
                header.msg_name = (&raw mut names[at]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
                parts[at].iov_base = place.as_mut_ptr().cast();
                parts[at].iov_len = place.len();
                header.msg_iov = &raw mut parts[at];
                header.msg_iovlen = 1;
                header.msg_control = controls[at].0.as_mut_ptr().cast();
                header.msg_controllen = size_of::<CmsgSpace>() as _;
            }
            let none = std::ptr::null_mut();
            let came = retry(|| {
                libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as _, libc::MSG_TRUNC as _, none)
                    as isize
            })?;
            for (at, entry) in headers.iter().take(came.min(count)).enumerate() {
                into[at] = address(&names[at]).map(|from| {
                    let whole = entry.msg_len as usize;
                    let len = whole.min(slot);
                    let one = Incoming { len, whole, segment: len.max(1), from, to: None, lost: 0 };
                    read_control(&entry.msg_hdr, one)
                });
            }
            Ok(came)
        }
    }

    /// Receives from a connected socket; how long each datagram was, in the order of their slots. `Ok(0)` never.
    pub fn receive_slots(socket: BorrowedFd<'_>, slots: Slots<'_>, lens: &mut [usize; MAX_BATCH]) -> io::Result<usize> {
        let Slots { stride, head, longest, .. } = slots;
        let count = slots.count();
        // SAFETY: zero is a valid value of these plain C structs. Each header points into its own pair of parts, each part
        // into its own piece of the borrowed bytes, with its length.
        unsafe {
            let mut parts: [[libc::iovec; 2]; MAX_BATCH] = zeroed();
            let mut headers: [libc::mmsghdr; MAX_BATCH] = zeroed();
            let places = slots.bytes.chunks_exact_mut(stride).zip(slots.overflow.chunks_exact_mut(longest));
            for (at, (slot, more)) in places.take(count).enumerate() {
                let slot = &mut slot[head..];
                parts[at][0] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
                parts[at][1] = libc::iovec { iov_base: more.as_mut_ptr().cast(), iov_len: more.len() };
                headers[at].msg_hdr.msg_iov = parts[at].as_mut_ptr();
                headers[at].msg_hdr.msg_iovlen = 2;
            }
            let none = std::ptr::null_mut();
            let came =
                retry(|| libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as _, 0 as _, none) as isize)?;
            for (len, header) in lens.iter_mut().zip(&headers).take(came.min(count)) {
                *len = header.msg_len as usize;
            }
            Ok(came)
        }
    }

    /// The message with what the control messages say of it: the destination, the packet size, and how many were lost before it.
    ///
    /// # Safety
    /// `header` was filled in by a successful `recvmmsg` and its control buffer still lives.
    unsafe fn read_control(header: &libc::msghdr, mut one: Incoming) -> Incoming {
        // SAFETY: the caller's promise: the kernel wrote these messages, and the macros stay within what it wrote.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                let data = libc::CMSG_DATA(message);
                match ((*message).cmsg_level, (*message).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                        one.to = Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        one.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    (libc::SOL_UDP, UDP_GRO) => {
                        let size = data.cast::<libc::c_int>().read_unaligned();
                        one.segment = usize::try_from(size).ok().filter(|&size| size > 0).unwrap_or(one.segment);
                    }
                    (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => one.lost = data.cast::<u32>().read_unaligned(),
                    _ => {}
                }
                message = libc::CMSG_NXTHDR(header, message);
            }
        }
        one
    }

    /// Asks the kernel to hand packets of one size over in one piece. `false` if it cannot.
    #[cfg(feature = "quic")]
    pub fn offload_receiving(socket: BorrowedFd<'_>) -> bool {
        crate::net::sys::switch_on(socket, libc::SOL_UDP, UDP_GRO).is_ok()
    }

    /// Room for an address, a segment size and a number, aligned as the C library wants it.
    #[repr(C, align(8))]
    #[derive(Clone, Copy)]
    struct CmsgSpace([u8; 96]);

    /// The C library's headers know these names, its binding here does not for every target.
    const UDP_SEGMENT: libc::c_int = 103;
    const UDP_GRO: libc::c_int = 104;
}

/// One datagram a call, where the system has no better.
#[cfg(not(target_os = "linux"))]
mod plain {
    use super::*;
    use crate::net::sys;

    /// Sends the packets of the first message one by one.
    pub fn send_many(socket: BorrowedFd<'_>, messages: &[Outgoing<'_>]) -> io::Result<usize> {
        let Some(first) = messages.first() else { return Ok(0) };
        if first.bytes.len() > first.segment {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        match first.to {
            Some(to) => sys::send(socket, first.bytes, to, first.from).map(|_| 1),
            None => socket2::SockRef::from(&socket).send(first.bytes).map(|_| 1),
        }
    }

    /// Receives one datagram.
    pub fn receive_many(
        socket: BorrowedFd<'_>,
        bytes: &mut [u8],
        slot: usize,
        into: &mut [Option<Incoming>; MAX_BATCH],
    ) -> io::Result<usize> {
        let size = slot.min(bytes.len());
        let arrived = sys::receive(socket, &mut bytes[..size])?;
        let len = arrived.len.min(size);
        let (from, to) = (arrived.from, arrived.to);
        into[0] = Some(Incoming { len, whole: arrived.len, segment: len.max(1), from, to, lost: 0 });
        Ok(1)
    }

    /// Receives one datagram.
    pub fn receive_slots(socket: BorrowedFd<'_>, slots: Slots<'_>, lens: &mut [usize; MAX_BATCH]) -> io::Result<usize> {
        let Slots { bytes, stride, head, overflow, longest } = slots;
        // Received behind the slot and laid out as if it had not fitted.
        let (slot, mut all) = (stride - head, vec![0; stride - head + longest]);
        let len = sys::receive(socket, &mut all)?.len.min(all.len());
        let first = len.min(slot);
        bytes[head..head + first].copy_from_slice(&all[..first]);
        overflow[..len - first].copy_from_slice(&all[first..len]);
        lens[0] = len;
        Ok(1)
    }

    /// Not here.
    #[cfg(feature = "quic")]
    pub fn offload_receiving(_: BorrowedFd<'_>) -> bool {
        false
    }
}

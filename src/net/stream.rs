//! What everything that carries bytes looks like, and what bytes wait in on their way.
//!
//! ```text
//!   from -- fill --> [ Conduit: Buffer or Pipe ] -- drain --> to
//! ```

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use super::pipe::{Pipe, Splice};

/// A two-way flow of bytes that never waits.
///
/// 1. `fill` answers `Ok(0)` only at the end of the stream; nothing *now* is `WouldBlock`. The buffer has room.
/// 2. `drain` of a non-empty buffer never answers `Ok(0)`; no room is `WouldBlock`.
/// 3. Filling may make output (a TLS reply). It is sent, or kept for `flush`, before returning.
/// 4. `flush` is `Ok` only when nothing is held back.
/// 5. `finish` comes after the last byte; filling goes on after it. It may answer `WouldBlock` and is then called again.
/// 6. After `WouldBlock` an edge is owed; before it, none is. So: fill and drain until it comes.
/// 7. `fill` may answer `Interrupted`: much came without a byte in it, and no edge is owed. It is called again after the
///    others had their turn.
pub trait Stream {
    /// Takes bytes in.
    fn fill(&mut self, into: &mut Buffer) -> io::Result<usize>;
    /// Sends bytes out.
    fn drain(&mut self, from: &mut Buffer) -> io::Result<usize>;
    /// Sends what is held back.
    fn flush(&mut self) -> io::Result<()>;
    /// Ends our direction.
    fn finish(&mut self) -> io::Result<()>;
    /// Whether the other side is known to have ended its direction, so that the end comes right behind what can still be filled.
    fn is_ending(&self) -> bool {
        false
    }
    /// `finish` follows the bytes that are drained next: both may go together.
    fn ends_with(&mut self) {}
    /// The bare socket from which it takes bytes in, if those need not pass through our memory.
    fn source(&mut self) -> Option<&mut dyn Splice> {
        None
    }
    /// The bare socket to which it sends bytes out, if those need not pass through our memory.
    fn sink(&mut self) -> Option<&mut dyn Splice> {
        None
    }
}

/// Nothing now; an edge will tell.
pub fn would_block<T>() -> io::Result<T> {
    Err(ErrorKind::WouldBlock.into())
}

/// Drains until nothing is left; `WouldBlock` while something is.
pub fn drain_all(stream: &mut (impl Stream + ?Sized), from: &mut Buffer) -> io::Result<()> {
    while !from.is_empty() {
        stream.drain(from)?;
    }
    Ok(())
}

/// `None` for `WouldBlock`, so that the caller can go on with what is possible.
pub fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes on their way: a fixed block of memory with a filled part.
pub struct Buffer {
    /// As long as it can hold, and what records around that many bytes take besides.
    block: Box<[u8]>,
    size: usize,
    filled: Range<usize>,
    /// Says to the stores that lent it, where those have a limit, that it is not back yet.
    lent: Option<Arc<()>>,
}

impl Buffer {
    /// An empty buffer of `size` bytes.
    pub fn new(size: usize) -> Buffer {
        Buffer { block: vec![0; size + around(size)].into_boxed_slice(), size, filled: 0..0, lent: None }
    }

    /// A buffer that holds just these bytes.
    pub fn holding(bytes: Vec<u8>) -> Buffer {
        Buffer { filled: 0..bytes.len(), size: bytes.len(), block: bytes.into_boxed_slice(), lent: None }
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> &[u8] {
        &self.block[self.filled.clone()]
    }

    /// The same, to be changed in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.block[self.filled.clone()]
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.filled.is_empty()
    }

    /// Free space at the end; bytes that wait are moved to the front first if there would be less than `want`.
    pub fn room(&mut self, want: usize) -> &mut [u8] {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.size - self.filled.end < want && self.filled.start > 0 {
            self.block.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        &mut self.block[self.filled.end..self.size]
    }

    /// [`Buffer::room`] with so much behind it that records which fill it may be opened there, and how much it has without that.
    pub fn room_for_records(&mut self) -> (&mut [u8], usize) {
        let room = self.room(1).len();
        let begin = self.filled.end;
        let end = (begin + room + around(room)).min(self.block.len());
        (&mut self.block[begin..end], room)
    }

    /// Notes that `count` bytes were written into [`Buffer::room`].
    pub fn advance(&mut self, count: usize) {
        self.filled.end = (self.filled.end + count).min(self.size);
    }

    /// Notes that the first `count` bytes have gone.
    pub fn consume(&mut self, count: usize) {
        self.filled.start = (self.filled.start + count).min(self.filled.end);
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let room = self.room(bytes.len());
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.advance(count);
        count
    }

    /// How many bytes it can hold.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.filled.len() == self.size()
    }
}

/// Where bytes wait between two streams. An idle relay holds nothing.
pub enum Conduit {
    /// No bytes wait and no memory is held.
    Empty,
    /// In our memory.
    Memory(Buffer),
    /// In a kernel pipe, between two bare sockets through which much comes.
    Kernel(Pipe),
}

impl Conduit {
    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        match self {
            Conduit::Empty => true,
            Conduit::Memory(buffer) => buffer.is_empty(),
            Conduit::Kernel(pipe) => pipe.is_empty(),
        }
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        match self {
            Conduit::Empty => 0,
            Conduit::Memory(buffer) => buffer.bytes().len(),
            Conduit::Kernel(pipe) => pipe.waiting(),
        }
    }

    /// Takes up to about `limit` bytes out of `from`. A full conduit is `WouldBlock`, and `from` is not asked. `bulk` says that much
    /// comes at a time. What does not is copied: to read and write a little takes fewer system calls than to splice it.
    pub fn fill(
        &mut self,
        from: &mut dyn Stream,
        to: &mut dyn Stream,
        limit: usize,
        bulk: bool,
        stores: &mut Stores,
    ) -> io::Result<usize> {
        let splices = from.source().is_some_and(|tcp| !tcp.is_urgent());
        let pipes = splices && bulk && to.sink().is_some();
        let ill_suited = match self {
            Conduit::Memory(buffer) => buffer.is_empty() && !stores.suits(buffer, bulk, pipes),
            Conduit::Kernel(pipe) => pipe.is_empty() && !splices,
            Conduit::Empty => false,
        };
        if ill_suited {
            self.release(stores);
        }
        if let Conduit::Empty = self {
            *self = stores.conduit(pipes, bulk);
        }
        match self {
            Conduit::Kernel(pipe) => match from.source().filter(|tcp| !tcp.is_urgent()) {
                Some(tcp) => tcp.splice_into(pipe, limit),
                None => would_block(),
            },
            Conduit::Memory(buffer) if !buffer.is_full() => from.fill(buffer),
            _ => would_block(),
        }
    }

    /// Sends what waits to `to`.
    pub fn drain(&mut self, to: &mut dyn Stream) -> io::Result<usize> {
        match self {
            Conduit::Kernel(pipe) => match to.sink() {
                Some(tcp) => tcp.splice_from(pipe),
                None => would_block(),
            },
            Conduit::Memory(buffer) => to.drain(buffer),
            Conduit::Empty => would_block(),
        }
    }

    /// Gives memory or pipe back if no bytes wait in it.
    pub fn release(&mut self, stores: &mut Stores) {
        if self.is_empty() {
            match std::mem::replace(self, Conduit::Empty) {
                Conduit::Memory(buffer) => stores.keep_buffer(buffer),
                Conduit::Kernel(pipe) => stores.keep_pipe(pipe),
                Conduit::Empty => {}
            }
        }
    }
}

/// One worker's spare buffers and pipes, so that steady traffic allocates nothing.
pub struct Stores {
    usual: Shelf,
    large: Shelf,
    pipes: Vec<Pipe>,
    splice: bool,
    refused: bool,
}

impl Stores {
    /// Stores whose buffers have `size` bytes (`NP_TCP_DATA_BUF_SIZE`); `splice` allows kernel pipes.
    pub fn new(size: usize, splice: bool) -> Stores {
        Stores::limited(size, splice, usize::MAX)
    }

    /// Stores that lend at most so many buffers at a time.
    pub fn limited(size: usize, splice: bool, most: usize) -> Stores {
        let (usual, large) = (Shelf::new(size, most), Shelf::new(LARGE, 0));
        Stores { usual, large, pipes: Vec::new(), splice, refused: false }
    }

    /// The same, which lend up to `most` large buffers at a time where much comes at a time.
    pub fn with_large(self, most: usize) -> Stores {
        let most = if self.usual.size < LARGE { most } else { 0 };
        Stores { large: Shelf::new(LARGE, most), ..self }
    }

    /// Whether a relay had to go without a buffer since the last call: it should ask again soon.
    pub fn refused(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    /// Keeps nothing spare: after a crowd, whose memory goes back to the system.
    pub fn shrink(&mut self) {
        self.usual.spares = Vec::new();
        self.large.spares = Vec::new();
        self.pipes = Vec::new();
    }

    /// The size of a buffer, in bytes, where little comes at a time.
    pub fn usual_size(&self) -> usize {
        self.usual.size
    }

    /// A spare buffer or a new one.
    pub fn buffer(&mut self) -> Buffer {
        self.usual.spare()
    }

    /// An empty conduit; `bulk` as in [`Conduit::fill`]. `pipes` is whether it may be a pipe.
    pub fn conduit(&mut self, pipes: bool, bulk: bool) -> Conduit {
        if pipes && self.splice {
            if let Some(pipe) = self.pipes.pop().or_else(|| Pipe::new().ok()) {
                return Conduit::Kernel(pipe);
            }
        }
        let large = if bulk { self.large.lend() } else { None };
        match large.or_else(|| self.usual.lend()) {
            Some(buffer) => Conduit::Memory(buffer),
            None => {
                self.refused = true;
                Conduit::Empty
            }
        }
    }

    /// Whether that empty buffer is the one to go on with.
    fn suits(&self, buffer: &Buffer, bulk: bool, pipes: bool) -> bool {
        let (pipe, large) = (pipes && self.splice, bulk && self.large.has_more());
        !pipe && (self.large.is_ours(buffer) || self.usual.is_ours(buffer) && !large)
    }

    fn keep_buffer(&mut self, buffer: Buffer) {
        match self.usual.is_ours(&buffer) {
            true => self.usual.keep(buffer),
            false => self.large.keep(buffer),
        }
    }

    fn keep_pipe(&mut self, pipe: Pipe) {
        if self.pipes.len() < MAX_SPARES {
            self.pipes.push(pipe);
        }
    }
}

/// Buffers of one size, of which so many are lent at a time.
struct Shelf {
    size: usize,
    spares: Vec<Buffer>,
    most: usize,
    /// Has as many owners as buffers are lent, and itself.
    lent: Arc<()>,
}

impl Shelf {
    fn new(size: usize, most: usize) -> Shelf {
        Shelf { size, spares: Vec::new(), most, lent: Arc::new(()) }
    }

    fn spare(&mut self) -> Buffer {
        self.spares.pop().unwrap_or_else(|| Buffer::new(self.size))
    }

    fn has_more(&self) -> bool {
        // One of the owners is the shelf.
        self.most == usize::MAX || Arc::strong_count(&self.lent) <= self.most
    }

    fn lend(&mut self) -> Option<Buffer> {
        if !self.has_more() {
            return None;
        }
        let lent = (self.most < usize::MAX).then(|| self.lent.clone());
        Some(Buffer { lent, ..self.spare() })
    }

    fn is_ours(&self, buffer: &Buffer) -> bool {
        buffer.size() == self.size
    }

    fn keep(&mut self, mut buffer: Buffer) {
        buffer.lent = None;
        if self.spares.len() < MAX_SPARES && self.is_ours(&buffer) {
            self.spares.push(buffer);
        }
    }
}

/// How much longer than so many bytes the TLS records around them are.
const fn around(size: usize) -> usize {
    size.div_ceil(RECORD) * SEAL
}

/// The most plaintext of a TLS record, in bytes (RFC 8446, 5.1).
pub const RECORD: usize = 16 * 1024;
/// What is around it: type, version and length before, the inner type and the tag behind.
pub const SEAL: usize = 5 + 1 + 16;
/// Bytes of a large buffer: as many as a TLS session takes at once.
pub const LARGE: usize = 64 * 1024;
/// Most spare buffers, and most spare pipes (two descriptors each), that one worker keeps.
const MAX_SPARES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_back_what_was_put_in_and_reuses_its_room() {
        let mut buffer = Buffer::new(8);
        assert_eq!(buffer.append(b"abcdefghij"), 8);
        assert!(buffer.is_full());
        buffer.consume(6);
        assert_eq!(buffer.bytes(), b"gh");
        assert_eq!(buffer.room(4).len(), 6);
        assert_eq!(buffer.append(b"ij"), 2);
        assert_eq!(buffer.bytes(), b"ghij");
        buffer.consume(99);
        assert!(buffer.is_empty());
        assert_eq!(buffer.room(0).len(), 8);
    }

    #[test]
    fn limited_stores_lend_no_more_than_they_may_and_know_what_was_lost() {
        let mut stores = Stores::limited(16, false, 2);
        let (first, second) = (stores.conduit(false, false), stores.conduit(false, false));
        assert!(matches!((&first, &second), (Conduit::Memory(_), Conduit::Memory(_))) && !stores.refused());
        assert!(matches!(stores.conduit(false, false), Conduit::Empty) && stores.refused() && !stores.refused());
        // One whose relay has ended, and one that comes back.
        drop(first);
        if let Conduit::Memory(buffer) = second {
            stores.keep_buffer(buffer);
        }
        let again = [stores.conduit(false, false), stores.conduit(false, false), stores.conduit(false, false)];
        assert_eq!(again.iter().filter(|one| matches!(one, Conduit::Memory(_))).count(), 2);
    }

    #[test]
    fn a_buffer_that_comes_back_is_lent_again_whatever_its_size() {
        for size in [16, LARGE, 2 * LARGE] {
            let mut stores = Stores::new(size, false).with_large(1);
            let mut conduit = stores.conduit(false, false);
            conduit.release(&mut stores);
            assert_eq!(stores.usual.spares.len(), 1, "of {size} bytes");
            let again = stores.conduit(false, false);
            assert!(matches!(again, Conduit::Memory(_)) && stores.usual.spares.is_empty());
        }
    }

    #[test]
    fn stores_keep_few_spares_and_only_of_their_own_size() {
        let mut stores = Stores::new(16, false);
        for _ in 0..100 {
            stores.keep_buffer(Buffer::new(16));
            stores.keep_buffer(Buffer::new(5));
        }
        assert_eq!(stores.usual.spares.len(), MAX_SPARES);
        assert!(stores.usual.spares.iter().all(|buffer| stores.usual.is_ours(buffer)));
    }
}

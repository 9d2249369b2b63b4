//! Bytes of a connection that are unfinished, or came too early.

/// Bytes that wait; where there are none, no memory.
#[derive(Default)]
pub(super) struct Rest {
    bytes: Vec<u8>,
    gone: usize,
}

impl Rest {
    /// What waits.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.gone..]
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds bytes at the end.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// So many bytes at the end, to be written.
    pub(super) fn room(&mut self, count: usize) -> &mut [u8] {
        let end = self.bytes.len();
        self.bytes.resize(end + count, 0);
        &mut self.bytes[end..]
    }

    /// Notes that the first `count` bytes have gone.
    pub(super) fn consume(&mut self, count: usize) {
        self.gone += count;
        if self.gone == self.bytes.len() {
            *self = Rest::default();
        }
    }
}

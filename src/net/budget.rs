//! What each kind of thing may take of the memory: one set of numbers for a whole instance, as its memory is one.
//!
//! The usual numbers are for speed. Where a process may have little, `run/resources.rs` lowers them before the first connection,
//! so that all users may be stuck at once and still fit.

use super::stream::LARGE;

/// The numbers. All are bytes but those that say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Plaintext or records that one TLS session holds back when the socket takes no more.
    pub held_back: usize,
    /// Datagrams that wait for one session's relay; one may wait in any case.
    pub inbox: usize,
    /// Datagrams that wait for one worker, beyond which it gets no more. At least what is taken from a listener at a time.
    pub mail: usize,
    /// Datagrams taken from one listener before others have their turn.
    pub gulp: usize,
    /// Buffers for datagrams that one worker lends at a time (a count).
    pub datagram_buffers: usize,
    /// Large buffers that one worker lends at a time to relays through which much comes (a count).
    pub large_buffers: usize,
    /// Connections at the tunnel port of one worker whose purpose is not known yet (a count).
    pub strangers: usize,
    /// As many more from the addresses of living tunnels (a count).
    pub kept: usize,
    /// Connections that were taken from the tunnel port and that no worker has begun with (a count).
    pub accepts: usize,
    /// The window of a new QUIC stream.
    pub quic_start: u64,
    /// The largest window of a QUIC stream.
    pub quic_stream: u64,
    /// The largest window of a QUIC connection.
    pub quic_connection: u64,
    /// The window of a new HTTP/2 stream.
    pub h2_start: u32,
    /// The largest window of an HTTP/2 stream.
    pub h2_stream: u32,
    /// What the windows of an HTTP/2 connection's streams may have beyond their first ones.
    pub h2_spare: usize,
    /// Bytes that wait in one HTTP/2 stream to be sent.
    pub h2_outbox: usize,
    /// HTTP/2 connections that carry one pool over a long path (a count).
    pub h2_carriers: usize,
}

impl Budget {
    /// Where memory is no concern.
    pub const PLENTY: Budget = Budget {
        held_back: 64 * KIB,
        inbox: MIB,
        // As many datagrams of any size as one system call takes.
        gulp: 2 * MIB,
        mail: 4 * MIB,
        datagram_buffers: usize::MAX,
        large_buffers: 128,
        strangers: 1024,
        kept: 1024,
        accepts: 256,
        quic_start: 64 * KIB as u64,
        // 1 Gbit/s x 50 ms is 6.25 MB.
        quic_stream: 8 * MIB as u64,
        // Users that do not read may hold as much, and only when they do are all others held up: so it is many times a stream's.
        quic_connection: 256 * MIB as u64,
        h2_start: 64 * KIB as u32,
        // Credit comes back by halves, so twice what is on its way at 1 Gbit/s and 50 ms.
        h2_stream: 16 * MIB as u32,
        // Two of the largest, as no stream gets more than half of what is left.
        h2_spare: 32 * MIB,
        // Twice what is sent at once: half of it may go while the other half comes.
        h2_outbox: 128 * KIB,
        // One of them carries 64 MB/s at 50 ms with the buffers that Linux gives it.
        h2_carriers: 4,
    };

    /// The same where there are `share` descriptors for connections whose purpose is not known: some of them are for those that were
    /// taken and that no worker knows yet.
    pub fn with_descriptors(self, share: usize, kept: usize, workers: usize) -> Budget {
        let each = |count: usize, least: usize| (count / workers.max(1)).max(least);
        Budget {
            strangers: self.strangers.min(each(share / 4 * 3, MIN_STRANGERS)),
            kept: self.kept.min(each(kept, MIN_STRANGERS)),
            accepts: self.accepts.min((share / 4).max(1)),
            ..self
        }
    }

    /// For so many users and pool connections on `workers` threads, who have `spare` bytes together. What waits for one of them is at most
    /// [`STUCK`], however it travels.
    pub fn scarce(spare: usize, users: usize, pool: usize, workers: usize, datagram_buffer: usize) -> Budget {
        let each = |part: usize, cost: usize, least: usize| (part / cost.max(1) / workers.max(1)).max(least);
        // A QUIC connection keeps what it has sent, too, and each packet's bytes by themselves.
        let connection = users.saturating_mul(STUCK / 2).max(MIN_CONNECTION);
        Budget {
            held_back: STUCK / 2,
            inbox: STUCK / 2,
            gulp: 2 * STUCK,
            mail: each(spare / 24, 1, 2 * STUCK),
            datagram_buffers: each(spare / 12, datagram_buffer, MIN_BUFFERS),
            large_buffers: each(spare / 24, LARGE, 0),
            strangers: each(spare / 12, STRANGER, MIN_STRANGERS).min(Budget::PLENTY.strangers),
            // A pool that is being filled comes all at once.
            kept: pool.min(Budget::PLENTY.kept),
            accepts: Budget::PLENTY.accepts,
            quic_start: STUCK as u64 / 4,
            quic_stream: ((connection / STREAMS) as u64).clamp(STUCK as u64, Budget::PLENTY.quic_stream),
            quic_connection: (connection as u64).min(Budget::PLENTY.quic_connection),
            h2_start: STUCK as u32 / 2,
            h2_stream: ((spare / STREAMS) as u32).clamp(STUCK as u32, Budget::PLENTY.h2_stream),
            h2_spare: (spare / 16).min(Budget::PLENTY.h2_spare),
            h2_outbox: STUCK / 2,
            // Each has windows of its own.
            h2_carriers: 1,
        }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Bytes that wait for one user where memory is scarce: two TLS records.
pub const STUCK: usize = 32 * KIB;
/// Bytes of a connection in its TLS handshake, or that speaks HTTP/2 and has opened no stream.
const STRANGER: usize = 64 * KIB;
/// So many may be in a handshake at a time, or no pool could be filled.
const MIN_STRANGERS: usize = 3;
/// A buffer for each direction of one user.
const MIN_BUFFERS: usize = 2;
/// Streams that may have the largest window before the connection's is used up.
const STREAMS: usize = 32;
/// A QUIC connection's window is at least this.
const MIN_CONNECTION: usize = 256 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_who_do_not_read_never_fill_the_window_of_all() {
        for users in [1, 10, 100, 1000] {
            let budget = Budget::scarce(12 * MIB, users, 10, 1, 131_076);
            assert!(users as u64 * budget.quic_start < budget.quic_connection, "{budget:?}");
            assert!(budget.quic_stream <= budget.quic_connection);
        }
    }

    #[test]
    fn with_little_everything_is_less_and_with_nothing_something_is_left() {
        let (little, nothing) = (Budget::scarce(12 * MIB, 80, 30, 1, 131_076), Budget::scarce(0, 1, 1, 64, 131_076));
        for budget in [little, nothing] {
            assert!(budget.strangers + budget.kept < 100 && budget.datagram_buffers < 20, "{budget:?}");
            assert!(budget.quic_connection <= 3 * MIB as u64 && budget.h2_spare <= MIB, "{budget:?}");
        }
        assert!(
            nothing.strangers > 0 && nothing.kept > 0 && nothing.datagram_buffers > 0 && nothing.h2_stream > 0,
            "{nothing:?}"
        );
    }
}

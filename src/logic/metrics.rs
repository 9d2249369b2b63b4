//! The figures of an instance by name: one table for all who show them, and the line in which an instance tells them to its master.
//!
//! ```text
//! FIGURES|1.14.0|3,2,1024,...      every number in the order of the table, bare at the beginning of a line
//! ```
//!
//! Names and units follow the conventions of Prometheus; [`exposition`] is its text format.

pub mod exposition;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number that an instance counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Live TCP users.
    TcpUsers,
    /// Live UDP sessions.
    UdpUsers,
    /// TCP users that got a slot.
    TcpAccepted,
    /// UDP sessions that got a slot.
    UdpAccepted,
    /// Bytes of TCP received from users (ingress) or targets (egress).
    TcpReceived,
    /// Bytes of TCP sent to them.
    TcpSent,
    /// Bytes of UDP payload received from them.
    UdpReceived,
    /// Bytes of UDP payload sent to them.
    UdpSent,
    /// Idle pool connections.
    PoolIdle,
    /// Pool connections that are being opened (client).
    PoolOpening,
    /// Pool connections opened (client).
    PoolOpened,
    /// Pool connections that could not be opened (client).
    PoolFailed,
    /// Tunnels that are up.
    Tunnels,
    /// The longest round trip of them, in microseconds.
    RoundTrip,
    /// Whether users can be served now.
    Ready,
    /// Handshakes with a peer that has features of its own beyond 1.14.
    HandshakesOwn,
    /// Handshakes with an original.
    HandshakesOriginal,
    /// Handshakes refused for their key or form.
    HandshakesRefused,
    /// Handshakes that failed otherwise (client).
    HandshakesFailed,
    /// Tunnels whose control connection was lost.
    EndedLost,
    /// Tunnels whose peer fell silent.
    EndedSilent,
    /// Tunnels whose peer said goodbye.
    EndedGoodbye,
    /// Tunnels that another client took over.
    EndedTakenOver,
    /// Tunnels for which no pool connection came.
    EndedUnused,
    /// Tunnels that ended since the peer's certificate or signals were wrong.
    EndedWrong,
    /// Targets reached.
    DialsReached,
    /// Targets not reached.
    DialsMissed,
    /// Users refused since all slots were taken.
    RefusedSlots,
    /// Users refused for their address (`allow`, `deny`, bans).
    RefusedAddress,
    /// Users of a source that has as many connections as it may (`perip`).
    RefusedSource,
    /// Users refused by `block`.
    RefusedBlock,
    /// Users who waited for a pool connection in vain.
    RefusedPool,
    /// Users refused since their protocol is switched off, or the peer did not say who they are.
    RefusedProtocol,
    /// Users for whom there was no target.
    RefusedTarget,
    /// Datagrams dropped in a session: too large, no room, or refused by the kernel.
    DroppedSession,
    /// Datagrams of users larger than `NP_UDP_DATA_BUF_SIZE`.
    DroppedLarge,
    /// Datagrams that the kernel dropped since the listener's receive buffer was full, as far as it told.
    DroppedBuffer,
    /// Sources that are banned.
    Bans,
    /// Lines of the log that were lost.
    LogLinesLost,
    /// When the certificate in use ends, in seconds since 1970; 0 without one.
    CertificateEnd,
}

/// A duration of which the distribution is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// How long users waited for a pool connection.
    PoolWait,
    /// How long dialling a target took.
    Dial,
}

/// What kind of number a family has, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A gauge that is kept in microseconds and shown in seconds.
    Duration,
    /// A gauge that is left out where it is zero.
    Moment,
}

/// Figures that are shown under one name.
pub struct Family {
    /// The name.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// The figures, each with its labels.
    pub series: &'static [(Figure, &'static str)],
}

/// A distribution of durations that is shown under one name.
pub struct Distribution {
    /// The name.
    pub name: &'static str,
    /// What it is, for people.
    pub help: &'static str,
    /// The durations.
    pub timing: Timing,
}

/// The numbers of an instance at one moment, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures(Vec<u64>);

impl Figures {
    /// From all cells in their order.
    pub fn new(cells: [u64; CELLS]) -> Figures {
        Figures(cells.to_vec())
    }

    /// One number.
    pub fn get(&self, figure: Figure) -> u64 {
        self.0[figure as usize]
    }

    /// How many durations were at most each of [`BOUNDS`] and above the one before, then how many were longer.
    fn buckets(&self, timing: Timing) -> &[u64] {
        &self.0[first_cell(timing)..][..=BOUNDS.len()]
    }

    /// The sum of the durations, in microseconds.
    fn sum(&self, timing: Timing) -> u64 {
        self.0[sum_cell(timing)]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(START)?;
        for (at, number) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{number}")?;
        }
        Ok(())
    }
}

impl FromStr for Figures {
    type Err = NotFigures;

    /// Reads a line of this version: all numbers, and nothing after them.
    fn from_str(line: &str) -> Result<Figures, NotFigures> {
        let numbers = line.strip_prefix(START).ok_or(NotFigures)?.split(',').map(str::parse);
        let cells: Vec<u64> = numbers.take(CELLS + 1).collect::<Result<_, _>>().map_err(|_| NotFigures)?;
        (cells.len() == CELLS).then_some(Figures(cells)).ok_or(NotFigures)
    }
}

/// The line does not hold the figures of an instance of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFigures;

/// The cell of a duration, and that of the sum of its kind.
pub fn cells(timing: Timing, took: Duration) -> (usize, usize) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let bucket = BOUNDS.iter().position(|(bound, _)| micros <= *bound).unwrap_or(BOUNDS.len());
    (first_cell(timing) + bucket, sum_cell(timing))
}

const fn first_cell(timing: Timing) -> usize {
    FIGURES + timing as usize * (BOUNDS.len() + 2)
}

const fn sum_cell(timing: Timing) -> usize {
    first_cell(timing) + BOUNDS.len() + 1
}

/// Every family, in the order in which it is shown.
pub const FAMILIES: [Family; 16] = [
    Family {
        name: "nodepass_users",
        help: "Live user connections and UDP sessions.",
        kind: Kind::Gauge,
        series: &[(Figure::TcpUsers, "protocol=\"tcp\""), (Figure::UdpUsers, "protocol=\"udp\"")],
    },
    Family {
        name: "nodepass_users_accepted_total",
        help: "User connections and UDP sessions that got a slot.",
        kind: Kind::Counter,
        series: &[(Figure::TcpAccepted, "protocol=\"tcp\""), (Figure::UdpAccepted, "protocol=\"udp\"")],
    },
    Family {
        name: "nodepass_traffic_bytes_total",
        help: "Bytes received from and sent to users (where they come in) or targets (where they are dialled).",
        kind: Kind::Counter,
        series: &[
            (Figure::TcpReceived, "protocol=\"tcp\",direction=\"received\""),
            (Figure::TcpSent, "protocol=\"tcp\",direction=\"sent\""),
            (Figure::UdpReceived, "protocol=\"udp\",direction=\"received\""),
            (Figure::UdpSent, "protocol=\"udp\",direction=\"sent\""),
        ],
    },
    Family {
        name: "nodepass_ready",
        help: "Whether users can be served now: a tunnel is up, or without a server the port is open.",
        kind: Kind::Gauge,
        series: &[(Figure::Ready, "")],
    },
    Family {
        name: "nodepass_tunnels",
        help: "Tunnels that are up.",
        kind: Kind::Gauge,
        series: &[(Figure::Tunnels, "")],
    },
    Family {
        name: "nodepass_tunnel_rtt_seconds",
        help: "Longest of the last round trips on the control connections.",
        kind: Kind::Duration,
        series: &[(Figure::RoundTrip, "")],
    },
    Family {
        name: "nodepass_handshakes_total",
        help: "Handshakes by result, and for those accepted by what the peer is.",
        kind: Kind::Counter,
        series: &[
            (Figure::HandshakesOwn, "result=\"accepted\",generation=\"own\""),
            (Figure::HandshakesOriginal, "result=\"accepted\",generation=\"original\""),
            (Figure::HandshakesRefused, "result=\"refused\",generation=\"unknown\""),
            (Figure::HandshakesFailed, "result=\"failed\",generation=\"unknown\""),
        ],
    },
    Family {
        name: "nodepass_tunnels_ended_total",
        help: "Tunnels that ended, by reason.",
        kind: Kind::Counter,
        series: &[
            (Figure::EndedLost, "reason=\"lost\""),
            (Figure::EndedSilent, "reason=\"silent\""),
            (Figure::EndedGoodbye, "reason=\"goodbye\""),
            (Figure::EndedTakenOver, "reason=\"taken_over\""),
            (Figure::EndedUnused, "reason=\"no_connection\""),
            (Figure::EndedWrong, "reason=\"wrong_peer\""),
        ],
    },
    Family {
        name: "nodepass_pool_connections",
        help: "Pool connections that are idle, and those that a client is opening.",
        kind: Kind::Gauge,
        series: &[(Figure::PoolIdle, "state=\"idle\""), (Figure::PoolOpening, "state=\"opening\"")],
    },
    Family {
        name: "nodepass_pool_opens_total",
        help: "Pool connections that a client opened or tried to open.",
        kind: Kind::Counter,
        series: &[(Figure::PoolOpened, "result=\"opened\""), (Figure::PoolFailed, "result=\"failed\"")],
    },
    Family {
        name: "nodepass_dials_total",
        help: "Targets dialled, by result; one user may need several.",
        kind: Kind::Counter,
        series: &[(Figure::DialsReached, "result=\"reached\""), (Figure::DialsMissed, "result=\"failed\"")],
    },
    Family {
        name: "nodepass_refusals_total",
        help: "Users that were refused, by reason.",
        kind: Kind::Counter,
        series: &[
            (Figure::RefusedSlots, "reason=\"slots\""),
            (Figure::RefusedAddress, "reason=\"address\""),
            (Figure::RefusedSource, "reason=\"source\""),
            (Figure::RefusedBlock, "reason=\"block\""),
            (Figure::RefusedPool, "reason=\"no_pool_connection\""),
            (Figure::RefusedProtocol, "reason=\"protocol\""),
            (Figure::RefusedTarget, "reason=\"no_target\""),
        ],
    },
    Family {
        name: "nodepass_datagrams_dropped_total",
        help: "Datagrams dropped, by reason.",
        kind: Kind::Counter,
        series: &[
            (Figure::DroppedSession, "reason=\"session\""),
            (Figure::DroppedLarge, "reason=\"too_large\""),
            (Figure::DroppedBuffer, "reason=\"receive_buffer\""),
        ],
    },
    Family {
        name: "nodepass_banned_sources",
        help: "Sources that are banned from the tunnel port for wrong keys.",
        kind: Kind::Gauge,
        series: &[(Figure::Bans, "")],
    },
    Family {
        name: "nodepass_log_lines_lost_total",
        help: "Lines of the log that were lost since it was not read, or the disk was full.",
        kind: Kind::Counter,
        series: &[(Figure::LogLinesLost, "")],
    },
    Family {
        name: "nodepass_certificate_expiry_timestamp_seconds",
        help: "When the certificate in use ends, in seconds since 1970.",
        kind: Kind::Moment,
        series: &[(Figure::CertificateEnd, "")],
    },
];

/// Every distribution, in the order in which it is shown.
pub const DISTRIBUTIONS: [Distribution; 2] = [
    Distribution {
        name: "nodepass_pool_wait_seconds",
        help: "How long users waited for a pool connection.",
        timing: Timing::PoolWait,
    },
    Distribution {
        name: "nodepass_dial_seconds",
        help: "How long dialling a target took, of those that were reached.",
        timing: Timing::Dial,
    },
];

/// Upper bounds of the buckets of a distribution: microseconds, and the same as Prometheus writes seconds.
const BOUNDS: [(u64, &str); 12] = [
    (1_000, "0.001"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// Figures that are one number.
const FIGURES: usize = Figure::CertificateEnd as usize + 1;

/// All numbers of an instance.
pub const CELLS: usize = first_cell(Timing::Dial) + BOUNDS.len() + 2;

/// How the line begins. Another version may have another table.
const START: &str = concat!("FIGURES|", env!("CARGO_PKG_VERSION"), "|");

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut cells = [0; CELLS];
        cells.iter_mut().enumerate().for_each(|(at, cell)| *cell = at as u64);
        Figures::new(cells)
    }

    #[test]
    fn every_figure_is_shown_once_and_no_name_twice() {
        let mut seen: Vec<_> = FAMILIES.iter().flat_map(|family| family.series).map(|(at, _)| *at as usize).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..FIGURES).collect::<Vec<_>>());
        let names = FAMILIES.iter().map(|family| family.name).chain(DISTRIBUTIONS.iter().map(|row| row.name));
        let mut names: Vec<_> = names.collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_fits_what_a_master_reads() {
        let line = figures().to_string();
        assert!(line.starts_with(&format!("FIGURES|{}|0,1,2,", env!("CARGO_PKG_VERSION"))), "{line}");
        assert_eq!(line.parse(), Ok(figures()));
        assert_eq!(figures().get(Figure::CertificateEnd), FIGURES as u64 - 1);
        assert!(Figures::new([u64::MAX; CELLS]).to_string().len() < 4096);
    }

    #[test]
    fn a_line_of_another_version_or_form_is_none() {
        let line = figures().to_string();
        for other in [
            format!("{line},1"),
            format!("{line} "),
            format!(" {line}"),
            line.replace(",1,", ",-1,"),
            line.replace(",1,", ",,"),
            line.replacen(env!("CARGO_PKG_VERSION"), "0.0.1", 1),
            line.rsplit_once(',').unwrap().0.into(),
            "FIGURES|".into(),
            String::new(),
        ] {
            assert_eq!(other.parse::<Figures>(), Err(NotFigures), "{other}");
        }
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_has_room_for_it() {
        let bucket = |micros| cells(Timing::Dial, Duration::from_micros(micros)).0 - first_cell(Timing::Dial);
        assert_eq!([0, 1_000, 1_001, 10_000_000, 10_000_001].map(bucket), [0, 0, 1, 11, 12]);
        assert_eq!(cells(Timing::PoolWait, Duration::MAX), (FIGURES + 12, FIGURES + 13));
        assert_eq!(sum_cell(Timing::Dial), CELLS - 1);
    }
}

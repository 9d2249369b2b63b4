//! The text of a check point: the figures of an instance in one log line, written by the instance and read by its master.
//!
//! ```text
//! CHECK_POINT|MODE=1|PING=12ms|POOL=64|TCPS=3|UDPS=2|TCPRX=1024|TCPTX=2048|UDPRX=5|UDPTX=6
//! ```

use std::fmt;
use std::str::FromStr;

/// The figures of an instance at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckPoint {
    /// The run mode in force: 1 or 2.
    pub mode: u64,
    /// The round trip to the peer, ms.
    pub ping: u64,
    /// Idle pool connections.
    pub pool: u64,
    /// Live TCP connections.
    pub tcps: u64,
    /// Live UDP sessions.
    pub udps: u64,
    /// Bytes of TCP received since the process began.
    pub tcprx: u64,
    /// Bytes of TCP sent since the process began.
    pub tcptx: u64,
    /// Bytes of UDP payload received since the process began.
    pub udprx: u64,
    /// Bytes of UDP payload sent since the process began.
    pub udptx: u64,
}

impl CheckPoint {
    /// Bytes: TCP received and sent, UDP received and sent.
    pub fn bytes(&self) -> [u64; 4] {
        [self.tcprx, self.tcptx, self.udprx, self.udptx]
    }
}

impl fmt::Display for CheckPoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let CheckPoint { mode, ping, pool, tcps, udps, tcprx, tcptx, udprx, udptx } = self;
        write!(f, "{START}MODE={mode}|PING={ping}ms|POOL={pool}|TCPS={tcps}|UDPS={udps}")?;
        write!(f, "|TCPRX={tcprx}|TCPTX={tcptx}|UDPRX={udprx}|UDPTX={udptx}")
    }
}

impl FromStr for CheckPoint {
    type Err = NotACheckPoint;

    /// Reads all nine figures in their order, and nothing after them.
    fn from_str(text: &str) -> Result<CheckPoint, NotACheckPoint> {
        parse(text).ok_or(NotACheckPoint)
    }
}

/// The text is not that of a check point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACheckPoint;

fn parse(text: &str) -> Option<CheckPoint> {
    let mut fields = text.strip_prefix(START)?.split('|');
    let mut next = |name: &str, unit: &str| -> Option<u64> {
        let value = fields.next()?.strip_prefix(name)?.strip_prefix('=')?;
        value.strip_suffix(unit)?.parse().ok()
    };
    let point = CheckPoint {
        mode: next("MODE", "")?,
        ping: next("PING", "ms")?,
        pool: next("POOL", "")?,
        tcps: next("TCPS", "")?,
        udps: next("UDPS", "")?,
        tcprx: next("TCPRX", "")?,
        tcptx: next("TCPTX", "")?,
        udprx: next("UDPRX", "")?,
        udptx: next("UDPTX", "")?,
    };
    fields.next().is_none().then_some(point)
}

/// How a check point begins.
const START: &str = "CHECK_POINT|";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "CHECK_POINT|MODE=1|PING=12ms|POOL=64|TCPS=3|UDPS=2|TCPRX=1024|TCPTX=2048|UDPRX=5|UDPTX=18446744073709551615";

    const POINT: CheckPoint = CheckPoint {
        mode: 1,
        ping: 12,
        pool: 64,
        tcps: 3,
        udps: 2,
        tcprx: 1024,
        tcptx: 2048,
        udprx: 5,
        udptx: u64::MAX,
    };

    #[test]
    fn a_check_point_is_written_as_dashboards_read_it() {
        assert_eq!(POINT.to_string(), TEXT);
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(TEXT.parse(), Ok(POINT));
    }

    #[test]
    fn a_text_of_another_form_is_no_check_point() {
        for text in [
            format!("{TEXT}|MORE=1"),
            format!(" {TEXT}"),
            format!("{TEXT} "),
            TEXT.replace("12ms", "12"),
            TEXT.replace("TCPS=3", "TCPS=-3"),
            TEXT.replace("TCPS=3|UDPS=2", "UDPS=2|TCPS=3"),
            TEXT.replace("|UDPTX", "|UDPTY"),
            TEXT.replace("18446744073709551615", "18446744073709551616"),
            "CHECK_POINT|".into(),
            String::new(),
        ] {
            assert_eq!(text.parse::<CheckPoint>(), Err(NotACheckPoint), "{text:?}");
        }
    }
}

//! What the processes of an instance tell their master of one that comes after another: lines of their own, as with bans.
//!
//! ```text
//!  NEXT|can                 another process can come after this one
//!  NEXT|done|4711           process 4711 has the ports of this one
//!  NEXT|failed              there is none, and this one goes on
//!  NEXT|rest|1,2,3,4        bytes that were counted in this one after its last check point; it ends
//! ```

use std::fmt;
use std::str::FromStr;

/// A line about the next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextNotice {
    /// There can be one.
    Can,
    /// It has the ports.
    Done {
        /// Its number.
        process: u32,
    },
    /// There is none.
    Failed,
    /// Bytes that no check point tells of: TCP received and sent, UDP received and sent.
    Rest([u64; 4]),
}

impl fmt::Display for NextNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextNotice::Can => write!(f, "{PREFIX}{CAN}"),
            NextNotice::Done { process } => write!(f, "{PREFIX}{DONE}{process}"),
            NextNotice::Failed => write!(f, "{PREFIX}{FAILED}"),
            NextNotice::Rest([a, b, c, d]) => write!(f, "{PREFIX}{REST}{a},{b},{c},{d}"),
        }
    }
}

impl FromStr for NextNotice {
    type Err = NoNotice;

    fn from_str(line: &str) -> Result<NextNotice, NoNotice> {
        parse(line).ok_or(NoNotice)
    }
}

/// The line is about no next process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNotice;

fn parse(line: &str) -> Option<NextNotice> {
    let text = line.strip_prefix(PREFIX)?;
    match text {
        CAN => return Some(NextNotice::Can),
        FAILED => return Some(NextNotice::Failed),
        _ => {}
    }
    if let Some(process) = text.strip_prefix(DONE) {
        return Some(NextNotice::Done { process: process.parse().ok()? });
    }
    let counts: Result<Vec<u64>, _> = text.strip_prefix(REST)?.split(',').map(str::parse).collect();
    Some(NextNotice::Rest(counts.ok()?.try_into().ok()?))
}

const PREFIX: &str = "NEXT|";
const CAN: &str = "can";
const DONE: &str = "done|";
const FAILED: &str = "failed";
const REST: &str = "rest|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_and_nothing_else_is() {
        let notices = [
            NextNotice::Can,
            NextNotice::Done { process: 4711 },
            NextNotice::Failed,
            NextNotice::Rest([1, 2, 3, u64::MAX]),
        ];
        for notice in notices {
            assert_eq!(notice.to_string().parse(), Ok(notice));
        }
        for line in [
            "",
            "NEXT|",
            "NEXT|cannot",
            "NEXT|done|",
            "NEXT|done|-1",
            "NEXT|rest|1,2,3",
            "NEXT|rest|1,2,3,4,5",
            " NEXT|can",
        ] {
            assert_eq!(line.parse::<NextNotice>(), Err(NoNotice), "{line}");
        }
    }
}

//! Questions to DNS servers and what is answered, as bytes (RFC 1035): addresses, how long they hold, or why there are none.

mod lookup;

use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::dep::octseq::array::Array;
use domain::rdata::{Aaaa, Cname, A};

pub use self::lookup::{Exchange, Lookup, Step, MAX_EXCHANGES};

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv6: AAAA.
    V6,
    /// IPv4: A.
    V4,
}

impl Family {
    const ALL: [Family; 2] = [Family::V6, Family::V4];

    fn record(self) -> Rtype {
        match self {
            Family::V6 => Rtype::AAAA,
            Family::V4 => Rtype::A,
        }
    }
}

/// One question, as it goes over the wire.
#[derive(Debug)]
pub struct Question {
    family: Family,
    message: Array<MAX_QUESTION>,
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The name is known. It may have no address of this family.
    Addresses {
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// How long they hold.
        ttl: Duration,
    },
    /// There is no such name.
    NoName,
    /// The answer is longer than a datagram: to be asked for over TCP.
    Truncated,
    /// This server cannot tell.
    Failed(String),
}

impl Question {
    /// A question with a number that cannot be guessed; `None` for what cannot be a name there.
    pub fn new(name: &str, family: Family, id: u16) -> Option<Question> {
        let name: Name<Array<MAX_NAME>> = name.parse().ok()?;
        let mut message = MessageBuilder::from_target(Array::new()).ok()?;
        message.header_mut().set_id(id);
        message.header_mut().set_rd(true);
        let mut message = message.question();
        message.push((&name, family.record())).ok()?;
        Some(Question { family, message: message.finish() })
    }

    /// The message.
    pub fn bytes(&self) -> &[u8] {
        self.message.as_ref()
    }

    /// What a message says; `None` if it is no answer to this question: another number, another question.
    pub fn read(&self, bytes: &[u8]) -> Option<Reply> {
        let (asked, message) = (Message::from_slice(self.bytes()).ok()?, Message::from_slice(bytes).ok()?);
        if !message.is_answer(asked) {
            return None;
        }
        let header = message.header();
        Some(match header.rcode() {
            Rcode::NXDOMAIN => Reply::NoName,
            Rcode::NOERROR if header.tc() => Reply::Truncated,
            Rcode::NOERROR => addresses(message, self.family)
                .unwrap_or_else(|_| Reply::Failed("an answer that cannot be read".into())),
            code => Reply::Failed(code.to_string()),
        })
    }
}

/// The addresses of the name that was asked for, or of the one that it stands for.
fn addresses(message: &Message<[u8]>, family: Family) -> Result<Reply, ParseError> {
    let mut name = message.sole_question()?.into_qname();
    let mut ttl = MAX_TTL;
    for _ in 0..MAX_ALIASES {
        let mut aliases = message.answer()?.limit_to_in::<Cname<_>>();
        let alias = aliases.find(|alias| alias.as_ref().map_or(true, |alias| *alias.owner() == name));
        let Some(alias) = alias.transpose()? else { break };
        ttl = ttl.min(u64::from(alias.ttl().as_secs()));
        name = alias.into_data().into_cname();
    }
    let mut addresses = Vec::new();
    let mut add = |owned: bool, hold: u32, address: IpAddr| {
        if owned && addresses.len() < MAX_ADDRESSES {
            addresses.push(address);
            ttl = ttl.min(u64::from(hold));
        }
    };
    match family {
        Family::V6 => {
            for record in message.answer()?.limit_to_in::<Aaaa>() {
                let record = record?;
                add(*record.owner() == name, record.ttl().as_secs(), record.data().addr().into());
            }
        }
        Family::V4 => {
            for record in message.answer()?.limit_to_in::<A>() {
                let record = record?;
                add(*record.owner() == name, record.ttl().as_secs(), record.data().addr().into());
            }
        }
    }
    Ok(Reply::Addresses { addresses, ttl: Duration::from_secs(ttl) })
}

/// The addresses that a file of hosts (`/etc/hosts`) has for a name, in its order.
pub fn hosts(file: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(name)).then_some(address)
    };
    file.lines().filter_map(line).take(MAX_ADDRESSES).collect()
}

/// Bytes of the longest question: a header, the longest name, type and class.
const MAX_QUESTION: usize = 12 + MAX_NAME + 4;
/// Bytes of the longest name.
const MAX_NAME: usize = 255;
/// A name stands for another one, which stands for another one: so many times.
const MAX_ALIASES: usize = 8;
/// Most addresses that are read of an answer.
const MAX_ADDRESSES: usize = 32;
/// Seconds that an answer holds at most, whatever it says.
const MAX_TTL: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    type Label = &'static str;

    fn put_name(name: &str, out: &mut Vec<u8>) {
        for label in name.split('.').filter(|label| !label.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
    }

    /// An answer to that question, with these records: owner, type, seconds, data.
    fn answer(question: &Question, flags: [u8; 2], records: &[(Label, u16, u32, Vec<u8>)]) -> Vec<u8> {
        let mut message = question.bytes().to_vec();
        message[2..4].copy_from_slice(&flags);
        message[7] = records.len() as u8;
        for (owner, kind, seconds, data) in records {
            put_name(owner, &mut message);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(seconds.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(data);
        }
        message
    }

    fn alias(owner: Label, other: Label, seconds: u32) -> (Label, u16, u32, Vec<u8>) {
        let mut data = Vec::new();
        put_name(other, &mut data);
        (owner, 5, seconds, data)
    }

    fn v4(owner: Label, last: u8, seconds: u32) -> (Label, u16, u32, Vec<u8>) {
        (owner, 1, seconds, vec![192, 0, 2, last])
    }

    fn question(family: Family) -> Question {
        Question::new("www.Example.com", family, 0x1234).unwrap()
    }

    fn addresses_of(records: &[(Label, u16, u32, Vec<u8>)]) -> (Vec<IpAddr>, u64) {
        let question = question(Family::V4);
        match question.read(&answer(&question, GOOD, records)) {
            Some(Reply::Addresses { addresses, ttl }) => (addresses, ttl.as_secs()),
            other => panic!("{other:?}"),
        }
    }

    fn ip(last: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    /// A response, recursion desired and available.
    const GOOD: [u8; 2] = [0x81, 0x80];

    #[test]
    fn a_question_is_one_as_the_protocol_has_it() {
        let mut wanted = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        put_name("www.Example.com", &mut wanted);
        wanted.extend([0, 28, 0, 1]);
        assert_eq!(question(Family::V6).bytes(), wanted);
        assert_eq!(Question::new("www.Example.com.", Family::V6, 0x1234).unwrap().bytes(), wanted);
        assert!(Question::new(&"a".repeat(64), Family::V4, 1).is_none());
        assert!(Question::new(&"a.".repeat(128), Family::V4, 1).is_none());
    }

    #[test]
    fn addresses_are_those_of_the_name_or_of_what_it_stands_for_and_hold_as_long_as_the_shortest() {
        assert_eq!(
            addresses_of(&[v4("WWW.example.com", 1, 60), v4("www.example.com", 2, 30)]),
            (vec![ip(1), ip(2)], 30)
        );
        assert_eq!(addresses_of(&[v4("other.example.com", 1, 60)]), (vec![], MAX_TTL), "not what was asked for");
        let chain =
            [alias("b.example", "c.example", 7), v4("c.example", 3, 60), alias("www.example.com", "b.example", 90)];
        assert_eq!(addresses_of(&chain), (vec![ip(3)], 7));
        assert_eq!(addresses_of(&[v4("www.example.com", 1, u32::MAX)]).1, MAX_TTL);
        let many: Vec<_> = (0..100).map(|n| v4("www.example.com", n, 60)).collect();
        assert_eq!(addresses_of(&many).0.len(), MAX_ADDRESSES);
    }

    #[test]
    fn aliases_in_a_circle_or_without_end_have_no_address() {
        let circle = [alias("www.example.com", "b", 9), alias("b", "www.example.com", 9), v4("c", 1, 9)];
        assert_eq!(addresses_of(&circle), (vec![], 9));
        const NAMES: [Label; 11] = ["www.example.com", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let mut long: Vec<_> = NAMES.windows(2).map(|pair| alias(pair[0], pair[1], 9)).collect();
        long.push(v4("j", 1, 9));
        assert_eq!(addresses_of(&long), (vec![], 9));
        assert_eq!(addresses_of(&[&long[..MAX_ALIASES], &[v4("h", 1, 9)]].concat()), (vec![ip(1)], 9));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let question = question(Family::V4);
        let good = answer(&question, GOOD, &[v4("www.example.com", 1, 60)]);
        assert!(question.read(&good).is_some());
        let changed = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            question.read(&message)
        };
        assert_eq!(changed(1, 0x35), None, "another number");
        assert_eq!(changed(2, 0x01), None, "a question");
        assert_eq!(changed(5, 0), None, "no question");
        assert_eq!(changed(14, b'x'), None, "another name");
        assert_eq!(changed(question.bytes().len() - 3, 28), None, "another family");
        assert_eq!(question.read(&good[..11]), None);
    }

    #[test]
    fn a_server_that_cannot_tell_says_why() {
        let question = question(Family::V4);
        let read = |flags| question.read(&answer(&question, flags, &[]));
        assert_eq!(read([0x81, 0x82]), Some(Reply::Failed("SERVFAIL".into())));
        assert_eq!(read([0x81, 0x85]), Some(Reply::Failed("REFUSED".into())));
        assert_eq!(read([0x81, 0x83]), Some(Reply::NoName));
        assert_eq!(read([0x83, 0x80]), Some(Reply::Truncated));
        assert_eq!(read(GOOD), Some(Reply::Addresses { addresses: vec![], ttl: Duration::from_secs(MAX_TTL) }));
        let mut cut = answer(&question, GOOD, &[v4("www.example.com", 1, 60)]);
        cut.pop();
        assert_eq!(question.read(&cut), Some(Reply::Failed("an answer that cannot be read".into())));
    }

    #[test]
    fn a_file_of_hosts_is_read_as_the_system_reads_it() {
        let file =
            "127.0.0.1 localhost\n# 192.0.2.9 web\n192.0.2.1\tWeb.example web # mail\n2001:db8::1 web\nrubbish web\n";
        assert_eq!(hosts(file, "WEB"), ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!(hosts(file, "web.example."), [ip(1)]);
        assert_eq!(hosts(file, "mail"), Vec::<IpAddr>::new());
    }
}

//! What a certificate says of itself (RFC 5280): names, dates, purpose. Whether that is true is for TLS to find out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// Who signed it, as bytes to compare.
    pub issuer: &'a [u8],
    /// Whose it is, as bytes to compare.
    pub subject: &'a [u8],
    /// First and last second, since 1970.
    pub valid: (i64, i64),
    /// The names and addresses that it is for (`subjectAltName`).
    pub names: Vec<String>,
    /// Whether it is an authority's (`CA:TRUE`).
    pub is_authority: bool,
    /// Whether a server may use it (`extendedKeyUsage`); yes if it does not say.
    pub is_for_servers: bool,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate in DER. `None` if it is none, or of a form that is not known.
    pub fn parse(der: &'a [u8]) -> Option<Certificate<'a>> {
        let whole = Der(der).expect(SEQUENCE)?;
        let mut fields = Der(Der(whole).expect(SEQUENCE)?);
        fields.skip_if(VERSION);
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        let issuer = fields.expect(SEQUENCE)?;
        let mut dates = Der(fields.expect(SEQUENCE)?);
        let valid = (time(dates.next()?)?, time(dates.next()?)?);
        let subject = fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut read =
            Certificate { issuer, subject, valid, names: Vec::new(), is_authority: false, is_for_servers: true };
        while let Some((tag, content)) = fields.next() {
            if tag == EXTENSIONS {
                read.adopt(Der(Der(content).expect(SEQUENCE)?))?;
            }
        }
        Some(read)
    }

    /// Whether its issuer is itself, by name.
    pub fn is_self_signed(&self) -> bool {
        self.issuer == self.subject
    }

    /// The issuer's common name, or else its organisation.
    pub fn issuer_name(&self) -> String {
        let mut parts = Der(self.issuer);
        let mut found = Vec::new();
        while let Some((_, set)) = parts.next() {
            let mut pair = Der(Der(set).expect(SEQUENCE).unwrap_or_default());
            if let (Some(kind), Some((_, text))) = (pair.expect(OBJECT), pair.next()) {
                found.push((kind, String::from_utf8_lossy(text).into_owned()));
            }
        }
        let of = |wanted: &[u8]| found.iter().find(|(kind, _)| *kind == wanted).map(|(_, text)| text.clone());
        of(COMMON_NAME).or_else(|| of(ORGANISATION)).unwrap_or_default()
    }

    fn adopt(&mut self, mut extensions: Der<'a>) -> Option<()> {
        while let Some((_, extension)) = extensions.next() {
            let mut parts = Der(extension);
            let kind = parts.expect(OBJECT)?;
            parts.skip_if(BOOLEAN);
            let mut value = Der(parts.expect(OCTETS)?);
            match kind {
                NAMES => self.names = names(Der(value.expect(SEQUENCE)?)),
                CONSTRAINTS => {
                    let first = Der(value.expect(SEQUENCE)?).next();
                    self.is_authority = matches!(first, Some((BOOLEAN, [byte])) if *byte != 0);
                }
                USAGE => {
                    let mut usages = Der(value.expect(SEQUENCE)?);
                    let mut is_for_servers = false;
                    while let Some((_, usage)) = usages.next() {
                        is_for_servers |= usage == SERVERS || usage == ANY_USAGE;
                    }
                    self.is_for_servers = is_for_servers;
                }
                _ => {}
            }
        }
        Some(())
    }
}

fn names(mut list: Der<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((tag, name)) = list.next() {
        let shown = match (tag, name.len()) {
            (DNS_NAME, _) => Some(String::from_utf8_lossy(name).into_owned()),
            (ADDRESS, 4) => <[u8; 4]>::try_from(name).ok().map(|ip| IpAddr::from(Ipv4Addr::from(ip)).to_string()),
            (ADDRESS, 16) => <[u8; 16]>::try_from(name).ok().map(|ip| IpAddr::from(Ipv6Addr::from(ip)).to_string()),
            _ => None,
        };
        names.extend(shown.filter(|_| names.len() < MAX_NAMES));
    }
    names
}

/// `YYMMDDHHMMSSZ`, or with four digits for the year: seconds since 1970.
fn time((tag, text): (u8, &[u8])) -> Option<i64> {
    let digits = |from: usize, count: usize| -> Option<i64> {
        let part = std::str::from_utf8(text.get(from..from + count)?).ok()?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, at) = match tag {
        // RFC 5280, 4.1.2.5.1.
        UTC_TIME => (digits(0, 2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        FULL_TIME => (digits(0, 4)?, 4),
        _ => return None,
    };
    let part = |n: usize| digits(at + 2 * n, 2);
    let days = days(year, part(0)?, part(1)?)?;
    Some(((days * 24 + part(2)?) * 60 + part(3)?) * 60 + part(4)?)
}

/// `YYYYMMDDHHMMSSZ`: seconds since 1970.
pub fn full_time(text: &[u8]) -> Option<i64> {
    time((FULL_TIME, text))
}

/// Days from the first of January 1970 to a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March: the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - DAYS_TO_1970)
}

/// Values of DER, one after the other.
#[derive(Clone, Copy, Default)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value: its tag and its content. `None` at the end, or where it is not DER.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (
                    bytes
                        .iter()
                        .try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)))?,
                    rest,
                )
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, which must have this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, content) = self.next()?;
        (found == tag).then_some(content)
    }

    /// Leaves out the next value if it has this tag.
    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const FULL_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const ADDRESS: u8 = 0x87;
/// Object identifiers: 2.5.29.17, 2.5.29.19, 2.5.29.37 and, in that, 1.3.6.1.5.5.7.3.1 and 2.5.29.37.0.
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVERS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
/// Days from the first of March of the year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;
/// Names of a certificate that are kept.
const MAX_NAMES: usize = 64;

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

    use super::*;
    use crate::testing::Dice;

    fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".into(), "127.0.0.1".into(), "::1".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 2, 28);
        params.not_after = rcgen::date_time_ymd(2051, 3, 1);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_dates_and_purpose_are_read() {
        let der = der(|params| params.distinguished_name.push(DnType::CommonName, "a test"));
        let read = Certificate::parse(&der).unwrap();
        assert_eq!(read.names, ["a.example", "127.0.0.1", "::1"]);
        // date -ud 2026-02-28 +%s; date -ud 2051-03-01 +%s
        assert_eq!(read.valid, (1_772_236_800, 2_561_241_600));
        assert!(read.is_self_signed() && !read.is_authority && read.is_for_servers);
        assert!(read.issuer_name().contains("test"), "{}", read.issuer_name());
    }

    #[test]
    fn an_authority_and_a_clients_certificate_are_told() {
        let authority = der(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(Certificate::parse(&authority).unwrap().is_authority);
        let clients = der(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(!Certificate::parse(&clients).unwrap().is_for_servers);
        let servers = der(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        assert!(Certificate::parse(&servers).unwrap().is_for_servers);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |text: &str| time((FULL_TIME, text.as_bytes()));
        assert_eq!(at("19700101000000Z"), Some(0));
        assert_eq!(at("20000229235959Z"), Some(951_868_799));
        assert_eq!(
            (time((UTC_TIME, b"500101000000Z")), at("19500101000000Z")),
            (at("19500101000000Z"), Some(-631_152_000))
        );
        for bad in ["", "2000", "20001301000000Z", "20000100000000Z", "2000010100000", "+0000101000000Z"] {
            assert!(bad.len() == 13 || at(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let (whole, mut dice) = (der(|_| {}), Dice(7));
        for end in 0..whole.len() {
            assert_eq!(Certificate::parse(&whole[..end]), None);
        }
        for _ in 0..20_000 {
            let mut changed = whole.clone();
            for _ in 0..=dice.below(3_usize) {
                let at = dice.below(changed.len());
                changed[at] = dice.next() as u8;
            }
            let _ = Certificate::parse(&changed).map(|read| read.issuer_name());
        }
    }
}

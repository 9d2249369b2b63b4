//! Where on this machine a connection begins: at one of its addresses, or at a network device (`bind`, `dial`).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The local end of connections that are made from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalEnd {
    /// An address of this machine. The routes choose the device.
    Address(IpAddr),
    /// A network device, whatever the routes say. The system chooses the address.
    Device(Arc<str>),
}

impl LocalEnd {
    /// An IP address, with or without the brackets of a URL, or a device's name. What is only digits and dots is a broken address, not
    /// a name.
    pub fn parse(text: &str) -> Option<LocalEnd> {
        let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Some(LocalEnd::Address(ip));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_name = text.len() <= MAX_NAME && text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let is_name = is_name && text.bytes().all(allowed) && !is_number;
        is_name.then(|| LocalEnd::Device(text.into()))
    }
}

/// As it is parsed, without brackets.
impl fmt::Display for LocalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalEnd::Address(ip) => ip.fmt(f),
            LocalEnd::Device(name) => f.write_str(name),
        }
    }
}

/// Bytes in a device's name (Linux's IFNAMSIZ, less the zero at its end).
const MAX_NAME: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_address_or_a_device_and_shown_as_it_is_read() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(LocalEnd::parse(text), Some(LocalEnd::Address(text.parse().unwrap())));
            assert_eq!(LocalEnd::parse(&format!("[{text}]")), LocalEnd::parse(text));
        }
        for text in ["eth1", "br-lan", "eth0.2", "pppoe-wan", "wlan0_1", "veth@x+15bytes"] {
            assert_eq!(LocalEnd::parse(text), Some(LocalEnd::Device(text.into())));
            assert_eq!(LocalEnd::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in
            ["", "1.2.3", "256.1.1.1", "..", "0", "a/b", "a b", "fe80::1%eth0", "-1", "[eth0]", "ü", "sixteen-bytes-ab"]
        {
            assert_eq!(LocalEnd::parse(text), None, "{text}");
        }
    }
}

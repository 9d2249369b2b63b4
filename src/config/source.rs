//! A URL in a text of its own (a file, standard input, a variable), and arguments without what must not be seen in them.

use super::url::pieces;
use crate::error::Error;

/// The one URL in a text. Blank lines and lines that begin with `#` are left out. The error says what is wrong with the text, and shows
/// nothing of it: it may hold the key.
pub fn url_in(text: &[u8]) -> Result<String, Error> {
    if text.len() > MAX_TEXT {
        return Err(Error::input(format!("larger than {MAX_TEXT} bytes"), "one line, a URL"));
    }
    let text = std::str::from_utf8(text).map_err(|_| Error::input("not UTF-8 text", "one line, a URL"))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let mut urls = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let none = || Error::input("no URL", "one line, as in server://host:port/target:port");
    let (at, url) = urls.next().ok_or_else(none)?;
    if url.chars().any(char::is_control) {
        return Err(Error::input(format!("control character in line {at}"), "a URL"));
    }
    match urls.next() {
        Some((at, _)) => {
            Err(Error::input(format!("more than a URL in line {at}"), "one line alone, comments begin with #"))
        }
        None => Ok(url.to_owned()),
    }
}

/// Arguments as every user of the machine may see them: `***` instead of the key. The same arguments if there is no key in them.
pub fn masked(args: &[String]) -> Vec<String> {
    let mut follows = false;
    let shown = args.iter().enumerate().map(|(at, arg)| {
        let is_value = std::mem::replace(&mut follows, at > 0 && arg == PASSWORD);
        match arg.split_once('=') {
            _ if is_value => MASK.into(),
            Some((PASSWORD, _)) => format!("{PASSWORD}={MASK}"),
            // A URL is the first word, or one after a verb and its options.
            _ => masked_url(arg),
        }
    });
    shown.collect()
}

/// The URL with `***` for its key. What stands before the key begins nothing else, so the first such place is its own.
fn masked_url(url: &str) -> String {
    match pieces(url).user {
        Some(user) if !user.is_empty() => url.replacen(&format!("://{user}@"), &format!("://{MASK}@"), 1),
        _ => url.to_owned(),
    }
}

/// The flag whose value is the key.
const PASSWORD: &str = "--password";

/// What is shown instead of a key.
const MASK: &str = "***";

/// Bytes of a text with a URL. 64 targets with names of full length are 16 KiB.
pub const MAX_TEXT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_holds_one_url_between_comments_and_blank_lines() {
        for text in ["server://k@h:1/t:2", "# a comment\r\n\r\n  server://k@h:1/t:2 \r\n  # another\n\n"] {
            assert_eq!(url_in(text.as_bytes()), Ok("server://k@h:1/t:2".into()), "{text:?}");
        }
        assert_eq!(url_in(b"server://a#b@h:1"), Ok("server://a#b@h:1".into()), "a # further on is no comment");
    }

    #[test]
    fn what_is_wrong_with_a_text_is_told_without_showing_it() {
        let large = vec![b'x'; MAX_TEXT + 1];
        for (text, told) in [
            (&b""[..], "no URL"),
            (b"# only\n\n", "no URL"),
            (b"server://secret@h:1/t:2\n\nserver://secret@h:3/t:4", "more than a URL in line 3"),
            (b"\nserver://secret@h:1/t:2\x1b[31m", "control character in line 2"),
            (b"server://secret\0@h:1/t:2", "control character in line 1"),
            (b"server://secret\xff@h:1/t:2", "not UTF-8"),
            (&large, "larger than 65536 bytes"),
        ] {
            let error = url_in(text).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("expected") && !error.contains("secret"), "{error}");
        }
        assert!(url_in(&large[1..]).is_ok());
    }

    #[test]
    fn keys_are_masked_and_nothing_else_is() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (args, shown) in [
            ("server://secret@h:1/t:2?tls=1", "server://***@h:1/t:2?tls=1"),
            ("client://a@b:c@[::1]:1/t:2", "client://***@[::1]:1/t:2"),
            ("server://h:1/t:2?x=a@b", "server://h:1/t:2?x=a@b"),
            ("server://@h:1", "server://@h:1"),
            ("server --password secret --tls 1", "server --password *** --tls 1"),
            ("server --tls 1 --password=se=cret", "server --tls 1 --password=***"),
            ("server --password", "server --password"),
            ("check --json server://secret@h:1/t:2", "check --json server://***@h:1/t:2"),
            ("check server --password secret", "check server --password ***"),
            ("status --master http://secret@h:1/api", "status --master http://***@h:1/api"),
            ("status --master=http://secret@h:1/api", "status --master=http://***@h:1/api"),
            ("@/etc/web.url", "@/etc/web.url"),
            ("-", "-"),
        ] {
            assert_eq!(masked(&words(args)), words(shown));
        }
        assert!(masked(&[]).is_empty());
    }
}

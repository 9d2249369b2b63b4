//! What the master's front reads: requests of strangers, and the answers of the server behind.

use nodepass::master::front::answer::Answered;
use nodepass::master::front::request::{decoded, path_of, Progress, Reader, Request, MAX_HEAD};

/// Requests on one connection, one after the other.
pub fn front(data: &[u8]) {
    let whole = requests(data, data.len().max(1));
    for size in super::piece_sizes(data) {
        assert_eq!(requests(data, size), whole, "pieces of {size}");
    }
    whole.0.iter().for_each(handed_on);
    if let Some(answered) = Answered::parse(data) {
        assert!(answered.status < 1000 && !answered.head.windows(4).any(|four| four == b"\r\n\r\n"));
    }
}

/// The requests that come in pieces of `size` bytes, and the status of the refusal that ends them.
fn requests(data: &[u8], size: usize) -> (Vec<Request>, Option<u16>) {
    let (mut reader, mut came) = (Reader::default(), Vec::new());
    for piece in data.chunks(size) {
        reader.feed(piece);
        loop {
            match reader.take_request() {
                Ok(Progress::Whole(request)) => came.push(*request),
                // The go-ahead is said once, and nothing is known of the body then.
                Ok(Progress::Expected) => {}
                Ok(Progress::More) => break,
                Err(refusal) => {
                    assert!((400..600).contains(&refusal.0));
                    return (came, Some(refusal.0));
                }
            }
        }
        assert!(reader.held() <= MAX_HELD + size, "{} bytes are held", reader.held());
    }
    (came, None)
}

/// A request is handed on as one that cannot be read in another manner: it is the same again, with one length and nothing after it.
fn handed_on(request: &Request) {
    assert!(decoded(path_of(&request.head.target)).is_some_and(|path| !path.contains('\0')));
    assert!(request.head.target.bytes().all(|byte| byte.is_ascii_graphic()));
    let bytes = request.to_bytes();
    let grown = bytes.len() - request.body.len() > MAX_HEAD || request.head.headers.len() + ADDED > MAX_HEADERS;
    if grown {
        return;
    }
    let (again, refused) = requests(&bytes, bytes.len());
    let [again] = &again[..] else { panic!("{} requests, {refused:?}: {}", again.len(), bytes.escape_ascii()) };
    let told = |request: &Request| {
        let Request { head, body } = request.clone();
        (head.method, head.target, head.modern, head.headers, body)
    };
    assert_eq!(told(again), told(request));
    assert!(refused.is_none() && !again.head.keep);
}

/// Most bytes of a request that are kept: the largest body, and what came before the last look.
const MAX_HELD: usize = 1024 * 1024 + MAX_HEAD;
/// Most headers of a request, and those that are added when it is handed on.
const MAX_HEADERS: usize = 64;
const ADDED: usize = 2;

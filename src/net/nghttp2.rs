//! nghttp2, wrapped: HTTP/2 frames in and out of memory, by the rules of RFC 9113.
//!
//! ```text
//!   bytes that came --> receive --> Handler: data, ended, closed, ...
//!   bytes to send   <-- send    <-- Handler: ready, take
//! ```
//!
//! All of the crate's `unsafe` for nghttp2 is in this file and its callbacks. The library keeps no pointer of ours between
//! calls: the [`Handler`] is lent for the length of [`H2Session::receive`] and [`H2Session::send`], and the library calls it
//! back only from there. It is handed everything else (names, values, settings) by copy.

mod callbacks;

use std::ffi::{c_int, c_void, CStr};
use std::io;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use libnghttp2_sys as sys;

use self::callbacks::{body, set_callbacks};

/// What a session tells, and asks for. Nothing here may panic on what a peer sends.
pub trait Handler {
    /// A head begins to come in; that of a request begins a new stream.
    fn begun(&mut self, id: i32, request: bool);
    /// A header field of a stream. [`Refused`] ends the whole session.
    fn header(&mut self, id: i32, name: &[u8], value: &[u8]) -> Result<(), Refused>;
    /// The head of a request is complete.
    fn requested(&mut self, id: i32);
    /// Bytes of a stream. Their credit is given back by [`H2Session::consumed`].
    fn data(&mut self, id: i32, bytes: &[u8]);
    /// The other side ends its direction of a stream.
    fn ended(&mut self, id: i32);
    /// A stream is over in both directions; `code` is 0 or that of the RST_STREAM, from either side.
    fn closed(&mut self, id: i32, code: u32);
    /// The other side takes no more streams.
    fn goodbye(&mut self, code: u32);
    /// What the library has to complain about, in words, for the log.
    fn complaint(&mut self, text: &str);
    /// How much of a stream could be sent now, at most `most` bytes.
    fn ready(&mut self, id: i32, most: usize) -> Ready;
    /// Takes `count` bytes of a stream, as promised by [`Handler::ready`], for the output, after the frame's `head`.
    fn take(&mut self, id: i32, head: &[u8], count: usize);
}

/// The peer goes too far.
#[derive(Debug)]
pub struct Refused;

/// What a stream has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Nothing until [`H2Session::resume`].
    Nothing,
    /// Something, but the output is full: [`H2Session::send`] stops.
    Full,
    /// So many bytes, and more may follow.
    Bytes(usize),
    /// So many bytes, and then the end of the stream.
    Last(usize),
}

/// What one side of a connection allows the other.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// Streams that the other side may have open at a time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// Bytes of a new stream that may be on their way (SETTINGS_INITIAL_WINDOW_SIZE).
    pub stream_window: u32,
    /// Bytes of all streams together that may be on their way.
    pub window: u32,
    /// Bytes of a head, as RFC 9113 counts them (SETTINGS_MAX_HEADER_LIST_SIZE).
    pub head: u32,
}

/// One side of an HTTP/2 connection.
pub struct H2Session<H> {
    raw: NonNull<sys::nghttp2_session>,
    handler: PhantomData<fn(&mut H)>,
}

// SAFETY: a session has no ties to a thread: nghttp2 keeps no thread-local state and the session is owned by this value.
unsafe impl<H> Send for H2Session<H> {}

impl<H: Handler> H2Session<H> {
    /// The side that dials. It allows no pushes.
    pub fn client(terms: SessionSettings) -> io::Result<H2Session<H>> {
        let session = H2Session::new(sys::nghttp2_session_client_new2)?;
        session.offer(terms, &[(sys::NGHTTP2_SETTINGS_ENABLE_PUSH, 0)])?;
        Ok(session)
    }

    /// The side that was dialled.
    pub fn server(terms: SessionSettings) -> io::Result<H2Session<H>> {
        let session = H2Session::new(sys::nghttp2_session_server_new2)?;
        session.offer(terms, &[(sys::NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, terms.streams)])?;
        Ok(session)
    }

    fn new(make: Make) -> io::Result<H2Session<H>> {
        let (mut callbacks, mut options, mut raw) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: the three pointers are live locals for the library to fill; what was made is used only if that
        // succeeded, and is freed here (the library copies both, and both `del` take null). No user data is set yet.
        unsafe {
            let mut result = sys::nghttp2_session_callbacks_new(&mut callbacks);
            if result == 0 {
                result = sys::nghttp2_option_new(&mut options);
            }
            if result == 0 {
                set_callbacks::<H>(callbacks);
                set_options(options);
                result = make(&mut raw, callbacks, ptr::null_mut(), options);
            }
            sys::nghttp2_session_callbacks_del(callbacks);
            sys::nghttp2_option_del(options);
            check(result)?;
        }
        let raw = NonNull::new(raw).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(H2Session { raw, handler: PhantomData })
    }

    /// Queues SETTINGS, and makes the connection's window as large as agreed.
    fn offer(&self, terms: SessionSettings, more: &[(sys::nghttp2_settings_id, u32)]) -> io::Result<()> {
        let entry = |&(id, value): &(sys::nghttp2_settings_id, u32)| sys::nghttp2_settings_entry {
            settings_id: id as i32,
            value,
        };
        let ours = [
            (sys::NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, terms.stream_window),
            (sys::NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, terms.head),
        ];
        let entries: Vec<_> = ours.iter().chain(more).map(entry).collect();
        // SAFETY: the session lives, and the entries are read before the call returns.
        check(unsafe { sys::nghttp2_submit_settings(self.raw.as_ptr(), 0, entries.as_ptr(), entries.len()) })?;
        self.widen(0, terms.window)
    }

    /// Takes in what came. An error is the end of the session; [`H2Session::end`] may still say why to the other side.
    pub fn receive(&mut self, handler: &mut H, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: the session lives, the bytes live through the call; see `lend` for the handler.
        let count =
            self.lend(handler, |raw| unsafe { sys::nghttp2_session_mem_recv2(raw, bytes.as_ptr(), bytes.len()) });
        check(count.min(0) as c_int)
    }

    /// The next frames to be sent but DATA, which goes through [`Handler::take`]. Empty: nothing now, or the output is full.
    pub fn send(&mut self, handler: &mut H) -> io::Result<&[u8]> {
        let mut data: *const u8 = ptr::null();
        // SAFETY: the session lives and `data` is a live local; see `lend` for the handler.
        let count = self.lend(handler, |raw| unsafe { sys::nghttp2_session_mem_send2(raw, &mut data) });
        match usize::try_from(count) {
            // SAFETY: the library promises `count` bytes at `data` until it is called again, which takes `&mut self`.
            Ok(count) if count > 0 => Ok(unsafe { slice::from_raw_parts(data, count) }),
            Ok(_) => Ok(&[]),
            Err(_) => Err(error(count as c_int)),
        }
    }

    /// Calls the library with the handler as its user data, and takes it back.
    fn lend<T>(&mut self, handler: &mut H, call: impl FnOnce(*mut sys::nghttp2_session) -> T) -> T {
        let raw = self.raw.as_ptr();
        // SAFETY: the pointer is of an exclusive borrow that outlives the call, nothing else uses that borrow meanwhile,
        // and it is taken back before the borrow ends. Callbacks of `H` cast it back to what it is.
        unsafe { sys::nghttp2_session_set_user_data(raw, ptr::from_mut(handler).cast()) };
        let result = call(raw);
        // SAFETY: as above.
        unsafe { sys::nghttp2_session_set_user_data(raw, ptr::null_mut()) };
        result
    }

    /// Queues a request whose body comes from [`Handler::ready`]; the number of its stream.
    pub fn request(&mut self, head: &[(&str, &str)]) -> io::Result<i32> {
        let (fields, body) = (fields(head), body::<H>());
        // SAFETY: the session lives; fields and provider are copied before the call returns; no priority, no user data.
        let id = unsafe {
            let raw = self.raw.as_ptr();
            sys::nghttp2_submit_request2(raw, ptr::null(), fields.as_ptr(), fields.len(), &body, ptr::null_mut())
        };
        check(id.min(0))?;
        Ok(id)
    }

    /// Queues a response; its body comes from [`Handler::ready`], or there is none and the stream ends.
    pub fn respond(&mut self, id: i32, head: &[(&str, &str)], with_body: bool) -> io::Result<()> {
        let (fields, body) = (fields(head), body::<H>());
        let body: *const _ = if with_body { &body } else { ptr::null() };
        // SAFETY: as for `request`; null stands for no body.
        check(unsafe { sys::nghttp2_submit_response2(self.raw.as_ptr(), id, fields.as_ptr(), fields.len(), body) })
    }

    /// A stream that had nothing to send has something now. One that is not known (yet, or any more) is let be.
    pub fn resume(&mut self, id: i32) {
        // SAFETY: the session lives; the number is only looked up.
        unsafe { sys::nghttp2_session_resume_data(self.raw.as_ptr(), id) };
    }

    /// Queues RST_STREAM.
    pub fn reset(&mut self, id: i32, code: u32) {
        // SAFETY: the session lives; the number is only looked up.
        unsafe { sys::nghttp2_submit_rst_stream(self.raw.as_ptr(), 0, id, code) };
    }

    /// Queues PING.
    pub fn ping(&mut self) -> io::Result<()> {
        // SAFETY: the session lives; null stands for eight zeros.
        check(unsafe { sys::nghttp2_submit_ping(self.raw.as_ptr(), 0, ptr::null()) })
    }

    /// Queues the last GOAWAY; nothing is sent or taken in after it.
    pub fn end(&mut self, code: u32) {
        // SAFETY: the session lives.
        unsafe { sys::nghttp2_session_terminate_session(self.raw.as_ptr(), code) };
    }

    /// Gives the stream credit for bytes that were used up. One that is gone needs none.
    pub fn consumed(&mut self, id: i32, count: usize) -> io::Result<()> {
        // SAFETY: the session lives; the number is only looked up.
        check(unsafe { sys::nghttp2_session_consume_stream(self.raw.as_ptr(), id, count) })
    }

    /// Gives the connection credit for bytes of any of its streams.
    pub fn consumed_by_all(&mut self, count: usize) -> io::Result<()> {
        // SAFETY: the session lives.
        check(unsafe { sys::nghttp2_session_consume_connection(self.raw.as_ptr(), count) })
    }

    /// Sets the window of a stream, or of the connection (0).
    pub fn widen(&self, id: i32, window: u32) -> io::Result<()> {
        // SAFETY: the session lives; the number is only looked up.
        check(unsafe {
            sys::nghttp2_session_set_local_window_size(self.raw.as_ptr(), 0, id, window.min(i32::MAX as u32) as i32)
        })
    }

    /// How many streams the other side allows us at a time.
    pub fn allowed(&self) -> u32 {
        let what = sys::NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS;
        // SAFETY: the session lives, and the setting is a known one.
        unsafe { sys::nghttp2_session_get_remote_settings(self.raw.as_ptr(), what) }
    }

    /// Whether there is something to be sent now.
    pub fn wants_to_send(&self) -> bool {
        // SAFETY: the session lives.
        unsafe { sys::nghttp2_session_want_write(self.raw.as_ptr()) != 0 }
    }

    /// Whether it has said its last word, and nothing that comes matters any more.
    pub fn is_over(&self) -> bool {
        // SAFETY: the session lives.
        !self.wants_to_send() && unsafe { sys::nghttp2_session_want_read(self.raw.as_ptr()) == 0 }
    }

    /// Frames that wait to be sent.
    pub fn queued(&self) -> usize {
        // SAFETY: the session lives.
        unsafe { sys::nghttp2_session_get_outbound_queue_size(self.raw.as_ptr()) }
    }
}

impl<H> Drop for H2Session<H> {
    fn drop(&mut self) {
        // SAFETY: the session was made by `new`, is owned by this value and never used again; no callback is called.
        unsafe { sys::nghttp2_session_del(self.raw.as_ptr()) }
    }
}

type Make = unsafe extern "C" fn(
    *mut *mut sys::nghttp2_session,
    *const sys::nghttp2_session_callbacks,
    *mut c_void,
    *const sys::nghttp2_option,
) -> c_int;

/// # Safety
///
/// `to` is a live set of options.
unsafe fn set_options(to: *mut sys::nghttp2_option) {
    // SAFETY: the caller's promise.
    unsafe {
        sys::nghttp2_option_set_no_auto_window_update(to, 1);
        sys::nghttp2_option_set_max_reserved_remote_streams(to, 0);
        sys::nghttp2_option_set_max_settings(to, MAX_SETTINGS);
        sys::nghttp2_option_set_max_outbound_ack(to, MAX_ACKS);
        sys::nghttp2_option_set_max_continuations(to, MAX_CONTINUATIONS);
        sys::nghttp2_option_set_stream_reset_rate_limit(to, RESET_BURST, RESETS_PER_SECOND);
        sys::nghttp2_option_set_glitch_rate_limit(to, GLITCH_BURST, GLITCHES_PER_SECOND);
    }
}

/// Header fields as the library wants them; it copies them.
fn fields(head: &[(&str, &str)]) -> Vec<sys::nghttp2_nv> {
    let field = |&(name, value): &(&str, &str)| sys::nghttp2_nv {
        name: name.as_ptr().cast_mut(),
        value: value.as_ptr().cast_mut(),
        namelen: name.len(),
        valuelen: value.len(),
        flags: 0,
    };
    head.iter().map(field).collect()
}

fn check(code: c_int) -> io::Result<()> {
    if code < 0 {
        Err(error(code))
    } else {
        Ok(())
    }
}

fn error(code: c_int) -> io::Error {
    // SAFETY: the library answers every code with a static text.
    let text = unsafe { CStr::from_ptr(sys::nghttp2_strerror(code)) };
    io::Error::new(io::ErrorKind::InvalidData, format!("HTTP/2: {}", text.to_string_lossy()))
}

/// Bytes of a frame's header.
pub const HEAD: usize = 9;
/// Most bytes of a frame's payload that either side sends: SETTINGS_MAX_FRAME_SIZE is left at its least.
pub const PAYLOAD: usize = 16 * 1024;
/// Entries of one SETTINGS frame.
const MAX_SETTINGS: usize = 32;
/// Acknowledgements of PING and SETTINGS that may wait for a peer who does not read.
const MAX_ACKS: usize = 500;
/// CONTINUATION frames after one HEADERS frame.
const MAX_CONTINUATIONS: usize = 8;
/// RST_STREAM frames that a server takes at once, and in a second from then on. An original resets every stream that it
/// is done with, so this is as many users as it can have in a second, several times over.
const RESET_BURST: u64 = 20_000;
const RESETS_PER_SECOND: u64 = 2_000;
/// Odd frames that cost nothing but time, at once and in a second. DATA still on its way for a stream that was reset is
/// one of them, and a whole window of it may come.
const GLITCH_BURST: u64 = 50_000;
const GLITCHES_PER_SECOND: u64 = 2_000;

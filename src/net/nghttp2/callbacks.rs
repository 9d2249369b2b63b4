//! What nghttp2 calls back, and how that becomes calls of a [`Handler`].
//!
//! The library calls these functions with the session that is being used, a frame or bytes that live through the call, and
//! the handler that `Session::lend` set. A panic would end the process here and not unwind into C.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use libnghttp2_sys as sys;

use super::{Handler, Ready, Refused, HEAD};

/// # Safety
///
/// `to` is a live set of callbacks.
pub(super) unsafe fn set_callbacks<H: Handler>(to: *mut sys::nghttp2_session_callbacks) {
    // SAFETY: the caller's promise; every callback has the type that the library calls it with.
    unsafe {
        sys::nghttp2_session_callbacks_set_on_begin_headers_callback(to, Some(on_begin_headers::<H>));
        sys::nghttp2_session_callbacks_set_on_header_callback(to, Some(on_header::<H>));
        sys::nghttp2_session_callbacks_set_on_frame_recv_callback(to, Some(on_frame::<H>));
        sys::nghttp2_session_callbacks_set_on_data_chunk_recv_callback(to, Some(on_data::<H>));
        sys::nghttp2_session_callbacks_set_on_stream_close_callback(to, Some(on_close::<H>));
        sys::nghttp2_session_callbacks_set_error_callback2(to, Some(on_error::<H>));
        sys::nghttp2_session_callbacks_set_send_data_callback(to, Some(on_send_data::<H>));
    }
}

/// A body that comes from [`Handler::ready`].
pub(super) fn body<H: Handler>() -> sys::nghttp2_data_provider2 {
    let source = sys::nghttp2_data_source { ptr: ptr::null_mut() };
    sys::nghttp2_data_provider2 { source, read_callback: Some(on_read::<H>) }
}

/// # Safety
///
/// `user` is null or what `Session::<H>::lend` set, and the reference is used only within the callback.
unsafe fn handler<'a, H>(user: *mut c_void) -> Option<&'a mut H> {
    // SAFETY: the caller's promise.
    unsafe { user.cast::<H>().as_mut() }
}

/// # Safety
///
/// `len` bytes live at `data` through the callback, or `len` is 0.
unsafe fn bytes<'a>(data: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, len) }
}

unsafe extern "C" fn on_begin_headers<H: Handler>(
    _: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above; the frame is of the kind that its header says.
    let (Some(handler), head) = (unsafe { (handler::<H>(user), (*frame).hd) }) else { return FAILED };
    // SAFETY: as above.
    let category = (u32::from(head.type_) == sys::NGHTTP2_HEADERS).then(|| unsafe { (*frame).headers.cat });
    handler.begun(head.stream_id, category == Some(sys::NGHTTP2_HCAT_REQUEST));
    0
}

unsafe extern "C" fn on_header<H: Handler>(
    _: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    name: *const u8,
    name_len: usize,
    value: *const u8,
    value_len: usize,
    _: u8,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above.
    let (Some(handler), id) = (unsafe { (handler::<H>(user), (*frame).hd.stream_id) }) else { return FAILED };
    // SAFETY: the promises above.
    let (name, value) = unsafe { (bytes(name, name_len), bytes(value, value_len)) };
    match handler.header(id, name, value) {
        Ok(()) => 0,
        Err(Refused) => FAILED,
    }
}

unsafe extern "C" fn on_frame<H: Handler>(
    _: *mut sys::nghttp2_session,
    frame: *const sys::nghttp2_frame,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above; the frame is of the kind that its header says.
    let (Some(handler), head) = (unsafe { (handler::<H>(user), (*frame).hd) }) else { return FAILED };
    match u32::from(head.type_) {
        sys::NGHTTP2_HEADERS | sys::NGHTTP2_DATA => {
            // SAFETY: as above.
            let category = (u32::from(head.type_) == sys::NGHTTP2_HEADERS).then(|| unsafe { (*frame).headers.cat });
            if category == Some(sys::NGHTTP2_HCAT_REQUEST) {
                handler.requested(head.stream_id);
            }
            if u32::from(head.flags) & sys::NGHTTP2_FLAG_END_STREAM != 0 {
                handler.ended(head.stream_id);
            }
        }
        // SAFETY: as above.
        sys::NGHTTP2_GOAWAY => handler.goodbye(unsafe { (*frame).goaway.error_code }),
        _ => {}
    }
    0
}

unsafe extern "C" fn on_data<H: Handler>(
    _: *mut sys::nghttp2_session,
    _: u8,
    id: i32,
    data: *const u8,
    len: usize,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above.
    let (Some(handler), bytes) = (unsafe { (handler::<H>(user), bytes(data, len)) }) else { return FAILED };
    handler.data(id, bytes);
    0
}

unsafe extern "C" fn on_close<H: Handler>(
    _: *mut sys::nghttp2_session,
    id: i32,
    code: u32,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above.
    let Some(handler) = (unsafe { handler::<H>(user) }) else { return FAILED };
    handler.closed(id, code);
    0
}

unsafe extern "C" fn on_error<H: Handler>(
    _: *mut sys::nghttp2_session,
    _: c_int,
    text: *const std::ffi::c_char,
    len: usize,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above; outside `lend` there is no listener.
    if let (Some(handler), text) = unsafe { (handler::<H>(user), bytes(text.cast(), len)) } {
        handler.complaint(&String::from_utf8_lossy(text));
    }
    0
}

unsafe extern "C" fn on_read<H: Handler>(
    _: *mut sys::nghttp2_session,
    id: i32,
    _: *mut u8,
    most: usize,
    flags: *mut u32,
    _: *mut sys::nghttp2_data_source,
    user: *mut c_void,
) -> sys::nghttp2_ssize {
    // SAFETY: the promises above.
    let Some(handler) = (unsafe { handler::<H>(user) }) else { return FAILED as sys::nghttp2_ssize };
    let (count, last) = match handler.ready(id, most) {
        Ready::Nothing => return sys::NGHTTP2_ERR_DEFERRED as sys::nghttp2_ssize,
        Ready::Full => return sys::NGHTTP2_ERR_PAUSE as sys::nghttp2_ssize,
        Ready::Bytes(count) => (count, 0),
        Ready::Last(count) => (count, sys::NGHTTP2_DATA_FLAG_EOF),
    };
    // SAFETY: the library passes a live place for the flags.
    unsafe { *flags |= sys::NGHTTP2_DATA_FLAG_NO_COPY | last };
    count as sys::nghttp2_ssize
}

unsafe extern "C" fn on_send_data<H: Handler>(
    _: *mut sys::nghttp2_session,
    frame: *mut sys::nghttp2_frame,
    head: *const u8,
    count: usize,
    _: *mut sys::nghttp2_data_source,
    user: *mut c_void,
) -> c_int {
    // SAFETY: the promises above; a frame's header has nine bytes.
    let (Some(handler), id, head) = (unsafe { (handler::<H>(user), (*frame).hd.stream_id, bytes(head, HEAD)) }) else {
        return FAILED;
    };
    handler.take(id, head, count);
    0
}

/// What a callback answers to end the session.
const FAILED: c_int = sys::NGHTTP2_ERR_CALLBACK_FAILURE;

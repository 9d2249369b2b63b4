//! A WebSocket over a stream in memory, with a peer that says what it likes.

mod ends;
mod pings;
mod recv;
mod rig;
mod send;

use super::recv::EMPTY_FRAMES;
use super::*;
use crate::net::stream::LARGE;

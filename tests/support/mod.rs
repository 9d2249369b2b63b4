//! What the end-to-end tests share: real processes, real sockets, real programs.
//!
//! ```text
//!   Process   the binary (or any program) with its log at hand        process.rs
//!   Tunnel    server + client + target, up and carrying users         tunnel.rs
//!   Target    something to dial: TCP and UDP on one port              target.rs
//!   relay     a path to a server that is narrow, or closed    relay.rs
//!   net       free ports, users, waiting                              net.rs
//!   program   finding programs, folders, certificates                 program.rs
//!   load      users who come and go, and who stay               load.rs
//!   dice      chance that comes again with its seed                 dice.rs
//!   skip      tests that cannot run on this machine                   skip.rs
//! ```
//!
//! A test file says `use crate::support::*;`. No test sleeps for luck: it waits for an event with
//! [`GRACE`], which is far longer than anything should take, so a slow machine does not fail.
// Every test crate uses a part of this.
#![allow(dead_code, unused_imports)]

pub mod dice;
pub mod load;
pub mod net;
pub mod process;
pub mod program;
pub mod relay;
pub mod skip;
pub mod target;
pub mod tunnel;

pub use dice::*;
pub use load::*;
pub use net::*;
pub use process::*;
pub use program::*;
pub use relay::*;
pub use skip::*;
pub use target::*;
pub use tunnel::*;

use std::time::Duration;

/// How long a test waits for what must happen. Long, as it is only used up when something is broken.
pub const GRACE: Duration = Duration::from_secs(20);

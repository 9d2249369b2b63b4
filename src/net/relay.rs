//! Two streams joined: bytes both ways, each direction ending on its own.
//!
//! ```text
//!   a -- fill --> [ conduit ] -- drain --> b        forth: Half
//!   a <- drain -- [ conduit ] <-- fill --- b        back:  Half
//!
//!   Half:  Open --end read--> Draining --empty and flushed--> Closing --finished--> Closed
//! ```
//!
//! Backpressure is the conduit being full: `fill` is then not called, and the far sender's window closes by itself.

use std::io::{self, ErrorKind};

use super::stream::{ready, Buffer, Conduit, Stores, Stream};

/// One direction of a relay.
pub struct Half {
    state: State,
    conduit: Conduit,
    /// Much came the last time: a large buffer, or a pipe, is worth it.
    bulk: bool,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes may still come.
    Open,
    /// The end was read; bytes still wait to be sent.
    Draining,
    /// All was sent; the end has still to be passed on.
    Closing,
    /// The end was passed on.
    Closed,
}

/// What one pump did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pumped {
    /// Bytes taken in.
    pub moved: usize,
    /// Whether a bound was reached before the bytes ran out: pump again, after the others had their turn.
    pub again: bool,
}

impl Default for Half {
    fn default() -> Half {
        Half { state: State::Open, conduit: Conduit::Empty, bulk: false }
    }
}

impl Half {
    /// A direction whose first bytes are known already: they go out before any that are read.
    pub fn starting_with(bytes: Vec<u8>) -> Half {
        match bytes.is_empty() {
            true => Half::default(),
            false => Half { state: State::Open, conduit: Conduit::Memory(Buffer::holding(bytes)), bulk: false },
        }
    }

    /// Whether the end has been passed on.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Bytes that were taken in and have not gone on.
    pub fn waiting(&self) -> usize {
        self.conduit.waiting()
    }

    /// Whether the end has been read.
    pub fn has_ended(&self) -> bool {
        self.state != State::Open
    }

    /// Moves bytes from `from` to `to`, taking in at most about `budget`, until both would have to wait. What comes in small
    /// pieces costs more than its bytes: there is a bound for the pieces too.
    ///
    /// This is the only copy loop of the program. An error ends the relay as a whole.
    pub fn pump(
        &mut self,
        from: &mut dyn Stream,
        to: &mut dyn Stream,
        budget: usize,
        stores: &mut Stores,
    ) -> io::Result<Pumped> {
        let (mut moved, mut fills, mut interrupted) = (0, 0, false);
        loop {
            let mut went = false;
            if self.state == State::Open && moved < budget && fills < MAX_FILLS && !interrupted {
                fills += 1;
                let bulk = self.bulk || moved >= stores.usual_size();
                match self.conduit.fill(from, to, budget - moved, bulk, stores) {
                    Ok(0) => {
                        self.state = State::Draining;
                        to.ends_with();
                    }
                    Ok(count) => {
                        moved += count;
                        went = true;
                        // An end that is there already goes with the last bytes.
                        if from.is_ending() {
                            continue;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => interrupted = true,
                    Err(error) => return Err(error),
                }
            }
            if !self.conduit.is_empty() {
                went |= ready(self.conduit.drain(to))?.is_some();
            }
            if !went {
                break;
            }
        }
        self.close(to)?;
        self.conduit.release(stores);
        if moved > 0 {
            // A stream that is held up for a moment goes on as it was.
            let least = if self.bulk { stores.usual_size() / 4 } else { stores.usual_size() };
            self.bulk = moved >= least;
        }
        let bounded = moved >= budget || fills == MAX_FILLS || interrupted;
        Ok(Pumped { moved, again: bounded && self.state == State::Open })
    }

    /// Sends what `to` holds back and passes the end on when nothing is left before it.
    fn close(&mut self, to: &mut dyn Stream) -> io::Result<()> {
        // Also after the end: what the other direction's filling makes (a TLS reply, a credit) has to go out.
        if ready(to.flush())?.is_none() {
            return Ok(());
        }
        if self.state == State::Draining && self.conduit.is_empty() {
            self.state = State::Closing;
        }
        if self.state == State::Closing && ready(to.finish())?.is_some() {
            self.state = State::Closed;
        }
        Ok(())
    }
}

/// Most times that one pump takes bytes in: datagrams, or segments of a single byte.
const MAX_FILLS: usize = 1024;

#[cfg(test)]
mod tests;

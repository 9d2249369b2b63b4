//! How a client asks a server that may or may not know this handshake (the parameter `auth`).
//!
//! ```text
//!  auth=1   Unknown --asks authenticated--+--answer-------------> Ours       from then on never any other
//!              ^                          +--knows it not-------> Original   asked its own handshake, at once
//!              +--------- any failure -------------------------------+
//! ```

/// The parameter `auth`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// `0`: the original's handshake only.
    Off,
    /// `1`: this handshake, and the original's with those that do not know this one.
    #[default]
    Preferred,
    /// `2`: this handshake only.
    Required,
}

impl AuthMode {
    /// In the order of their digits.
    pub const ALL: [AuthMode; 3] = [AuthMode::Off, AuthMode::Preferred, AuthMode::Required];

    /// The digit in the URL.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// How the next handshake is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// With Noise, inside TLS.
    Authenticated,
    /// The original's.
    Original {
        /// Inside TLS too, as the server speaks it: a reverse proxy before an original, or an original from 1.15 on.
        tls: bool,
    },
}

/// What a handshake came to, as far as it says what the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A tunnel.
    Agreed,
    /// The server does not know the authenticated handshake. `tls`: it speaks TLS all the same.
    UnknownThere {
        /// Whether it was said inside TLS.
        tls: bool,
    },
    /// It answered the original's handshake, and says that it knows the authenticated one as well.
    KnowsBoth,
    /// It wants the original's handshake inside TLS.
    WantsTls,
    /// It said nothing at all, not even that it speaks no TLS.
    Silent,
    /// Anything else.
    Failed,
}

/// What a client knows of its server, for as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub struct Approach {
    mode: AuthMode,
    next: Asked,
    /// The original's handshake comes inside TLS at this port, whatever the server is.
    tls: bool,
    /// It was authenticated once: it is never asked any other handshake.
    proven: bool,
}

impl Approach {
    /// Nothing is known yet. `tls`: the original's handshake comes inside TLS at this port (443).
    pub fn new(mode: AuthMode, tls: bool) -> Approach {
        let next = if mode == AuthMode::Off { Asked::Original { tls } } else { Asked::Authenticated };
        Approach { mode, next, tls, proven: false }
    }

    /// How to ask now.
    pub fn next(&self) -> Asked {
        self.next
    }

    /// What came of it. Whether to ask again at once, in another form.
    pub fn learn(&mut self, outcome: Outcome) -> bool {
        match (self.mode, self.next, outcome) {
            (_, Asked::Authenticated, Outcome::Agreed) => self.proven = true,
            (AuthMode::Preferred, Asked::Authenticated, Outcome::UnknownThere { tls }) if !self.proven => {
                self.next = Asked::Original { tls };
                return true;
            }
            // The next time in the other form: originals of 1.10 and older wait for a line.
            (AuthMode::Preferred, Asked::Authenticated, Outcome::Silent) if !self.proven => {
                self.next = Asked::Original { tls: self.tls };
            }
            (AuthMode::Preferred, Asked::Original { .. }, Outcome::KnowsBoth) => {
                self.next = Asked::Authenticated;
                return true;
            }
            (AuthMode::Off, Asked::Original { tls: false }, Outcome::WantsTls) => {
                self.next = Asked::Original { tls: true };
                return true;
            }
            // It may have been replaced by another program: it is met anew.
            (_, _, Outcome::Agreed) => {}
            (AuthMode::Preferred, Asked::Original { .. }, _) => self.next = Asked::Authenticated,
            (AuthMode::Off, ..) => self.next = Asked::Original { tls: self.tls },
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Asked = Asked::Original { tls: false };

    #[test]
    fn a_server_that_does_not_know_the_handshake_is_asked_its_own_at_once_and_first_from_then_on() {
        let mut approach = Approach::new(AuthMode::Preferred, false);
        assert_eq!(approach.next(), Asked::Authenticated);
        assert!(approach.learn(Outcome::UnknownThere { tls: false }));
        assert_eq!(approach.next(), PLAIN);
        assert!(!approach.learn(Outcome::Agreed));
        assert_eq!(approach.next(), PLAIN);
        assert!(!approach.learn(Outcome::Failed), "a pause comes first");
        assert_eq!(approach.next(), Asked::Authenticated, "it is met anew");
    }

    #[test]
    fn a_server_that_was_authenticated_once_is_never_asked_any_other_handshake() {
        let mut approach = Approach::new(AuthMode::Preferred, false);
        approach.learn(Outcome::Agreed);
        for outcome in [Outcome::UnknownThere { tls: false }, Outcome::UnknownThere { tls: true }, Outcome::Failed] {
            assert!(!approach.learn(outcome));
            assert_eq!(approach.next(), Asked::Authenticated, "{outcome:?}");
        }
    }

    #[test]
    fn an_original_that_became_one_of_ours_is_asked_the_authenticated_handshake() {
        let mut approach = Approach::new(AuthMode::Preferred, true);
        assert!(approach.learn(Outcome::UnknownThere { tls: true }));
        assert_eq!(approach.next(), Asked::Original { tls: true });
        assert!(approach.learn(Outcome::KnowsBoth));
        assert_eq!(approach.next(), Asked::Authenticated);
    }

    #[test]
    fn a_server_that_is_silent_is_asked_in_turn_after_a_pause_each() {
        let mut approach = Approach::new(AuthMode::Preferred, false);
        for _ in 0..3 {
            assert!(!approach.learn(Outcome::Silent));
            assert_eq!(approach.next(), PLAIN);
            assert!(!approach.learn(Outcome::Silent));
            assert_eq!(approach.next(), Asked::Authenticated);
        }
        approach.learn(Outcome::Agreed);
        approach.learn(Outcome::Silent);
        assert_eq!(approach.next(), Asked::Authenticated);
    }

    #[test]
    fn a_server_that_wants_tls_is_asked_inside_it_at_once_and_anew_after_a_failure() {
        let mut approach = Approach::new(AuthMode::Off, false);
        assert!(approach.learn(Outcome::WantsTls));
        assert_eq!(approach.next(), Asked::Original { tls: true });
        assert!(!approach.learn(Outcome::Agreed));
        assert_eq!(approach.next(), Asked::Original { tls: true });
        assert!(!approach.learn(Outcome::Failed));
        assert_eq!(approach.next(), PLAIN);
        let mut preferred = Approach::new(AuthMode::Preferred, false);
        preferred.learn(Outcome::UnknownThere { tls: false });
        assert!(!preferred.learn(Outcome::WantsTls), "a pause comes first");
        assert_eq!(preferred.next(), Asked::Authenticated);
    }

    #[test]
    fn the_two_other_modes_know_one_handshake_each() {
        let (mut off, mut required) = (Approach::new(AuthMode::Off, false), Approach::new(AuthMode::Required, false));
        for outcome in [Outcome::UnknownThere { tls: false }, Outcome::KnowsBoth, Outcome::Failed, Outcome::Agreed] {
            assert!(!off.learn(outcome) && !required.learn(outcome));
            assert_eq!((off.next(), required.next()), (PLAIN, Asked::Authenticated), "{outcome:?}");
        }
    }
}

//! What a task answers when it has gone on.

/// When a task that stays what it is goes on again.
pub enum Schedule {
    /// After an edge, a job or its deadline.
    Wait,
    /// In the next turn, after the others had theirs.
    Again,
    /// Never: it is dropped, with its sockets.
    End,
    /// As the pool connection that it leaves: see [`Idle::after_user`](super::idle::Idle::after_user).
    Spent,
    /// As the user whose pool connection has failed: see [`Doubt`](super::unheard::Doubt).
    Doubt,
}

/// What a stage has become. It goes on by value, so nothing of it is left behind. A stage that becomes another is moved
/// once; boxing it would cost an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Next<Stage, Successor> {
    /// Itself, until an edge, a job or its deadline.
    Wait(Stage),
    /// Itself, until the next turn.
    Again(Stage),
    /// What comes after it, which goes on at once.
    Become(Successor),
    /// Nothing.
    End,
}

impl<Stage, Successor> Next<Stage, Successor> {
    /// The same, of wider types.
    pub fn widen<S: From<Stage>, T: From<Successor>>(self) -> Next<S, T> {
        match self {
            Next::Wait(stage) => Next::Wait(stage.into()),
            Next::Again(stage) => Next::Again(stage.into()),
            Next::Become(successor) => Next::Become(successor.into()),
            Next::End => Next::End,
        }
    }
}

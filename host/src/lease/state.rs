//! What becomes of a lease.

/// The state of a lease, or of memory that is not leased. The table of what leads where is in the [module](super)'s
/// documentation, and in [`State::after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not leased: the component cannot use it.
    Free,
    /// The component's, and no request has held it yet: what is in it is the component's or its lender's.
    Filled,
    /// A request holds some of it, for the device; all else of it is still the component's.
    InFlight,
    /// The component's again: what a request held is as the device left it.
    Returned,
    /// Taken from the component while a request holds some of it: the device's alone.
    Revoked,
}

/// What happens to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is allocated or lent.
    Lease,
    /// A request takes some of it that no other holds.
    Begin,
    /// The last request that held some of it has ended.
    End,
    /// Its lender takes it back.
    Revoke,
    /// The component gives its allocation back.
    Release,
}

impl State {
    /// What the event leads to; `None` where it is refused.
    pub fn after(self, event: Event) -> Option<Self> {
        Some(match (self, event) {
            (Self::Free, Event::Lease) => Self::Filled,
            (Self::Free, Event::Revoke) => Self::Free,
            (Self::Filled | Self::Returned, Event::Begin) => Self::InFlight,
            (Self::Filled | Self::Returned, Event::Revoke | Event::Release) => Self::Free,
            (Self::InFlight, Event::Begin) => Self::InFlight,
            (Self::InFlight, Event::End) => Self::Returned,
            (Self::InFlight | Self::Revoked, Event::Revoke) => Self::Revoked,
            (Self::Revoked, Event::End) => Self::Free,
            _ => return None,
        })
    }
}

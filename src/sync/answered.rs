//! A fetched and settled order on its way from the API into the database.

use crate::connect::Reservation;
use crate::domain::{ClaimedOrder, IdSpace, Settlement, Suspicion};

/// It is moved often, so it is small.
pub(super) struct Answered {
    pub(super) order: Box<ClaimedOrder>,
    pub(super) settlement: Box<Settlement>,
    /// The memory that its conversation occupies.
    pub(super) reservation: Reservation,
}

impl Answered {
    /// Holds the result back: the order stays live and is fetched again.
    pub(super) fn hold(mut self, suspicion: Suspicion, id_space: &IdSpace) -> Self {
        self.settlement = Box::new(self.settlement.hold(&self.order, suspicion, id_space));
        self
    }
}

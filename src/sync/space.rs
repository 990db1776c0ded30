//! What a run knows about an id space, and about users: shares of bad replies.

use std::collections::VecDeque;

/// Readable orders fetched for evidence, per run and id space.
pub const PROBES: u32 = 3;

/// What this run knows about an id space.
pub(super) struct Space {
    /// Number of the latest good reply of this run.
    pub(super) last_good: Option<u64>,
    /// Whether another run had a good reply within 24 hours, if looked up.
    pub(super) was_good: bool,
    /// Whether a readable order was unknown after the latest good reply.
    pub(super) is_refuted: bool,
    /// Whether so few orders are unknown that they are believed without evidence.
    pub(super) are_few: bool,
    pub(super) probes_left: u32,
    /// Orders that were read before, and the unknown ones among them.
    pub(super) known: Stretches,
    /// All orders, and the refused ones among them.
    pub(super) all: Stretches,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) orders: u32,
    pub(super) bad: u32,
}

/// Orders in reply order, cut into stretches of `guard.min_orders`, so that a storm is visible however many good
/// replies surround it.
#[derive(Debug)]
pub(super) struct Stretches {
    length: u32,
    /// Number of the first stretch that is kept.
    first: usize,
    kept: VecDeque<Tally>,
}

impl Space {
    /// `length`: orders in a stretch.
    pub(super) fn new(length: u32) -> Self {
        Self {
            last_good: None,
            was_good: false,
            is_refuted: false,
            are_few: false,
            probes_left: PROBES,
            known: Stretches::of(length),
            all: Stretches::of(length),
        }
    }

    pub(super) fn note_good(&mut self, number: u64) {
        self.last_good = Some(number);
        self.is_refuted = false;
    }

    /// Forgets what no waiting reply needs. Keeps the latest stretch, which shows how the next one began.
    pub(super) fn forget_old(&mut self) {
        self.known.forget_old();
        self.all.forget_old();
    }
}

impl Tally {
    pub(super) fn count(&mut self, is_bad: bool) {
        self.orders += 1;
        self.bad += u32::from(is_bad);
    }

    pub(super) fn is_above(self, most: f64) -> bool {
        f64::from(self.bad) > most * f64::from(self.orders)
    }
}

impl Stretches {
    pub(super) fn of(length: u32) -> Self {
        Self { length, first: 0, kept: VecDeque::new() }
    }

    /// Counts an order. Returns the number of its stretch.
    pub(super) fn count(&mut self, is_bad: bool) -> usize {
        if self.kept.back().is_none_or(|last| last.orders >= self.length) {
            self.kept.push_back(Tally::default());
        }
        if let Some(last) = self.kept.back_mut() {
            last.count(is_bad);
        }
        self.first + self.kept.len() - 1
    }

    /// Whether neither the stretch nor its neighbours have too large a share: a storm may begin and end within one.
    pub(super) fn is_calm(&self, stretch: usize, most: f64) -> bool {
        (stretch.saturating_sub(1)..=stretch + 1)
            .filter_map(|number| self.filled(number))
            .all(|share| !share.is_above(most))
    }

    /// Returns a stretch. An incomplete one is filled up with orders of the previous one, in proportion.
    fn filled(&self, number: usize) -> Option<Tally> {
        let share = self.get(number)?;
        let missing = self.length.saturating_sub(share.orders);
        let before = number.checked_sub(1).and_then(|number| self.get(number));
        Some(before.map_or(share, |before| Tally {
            orders: share.orders + missing,
            bad: share.bad + (before.bad * missing).div_ceil(before.orders.max(1)),
        }))
    }

    fn get(&self, number: usize) -> Option<Tally> {
        self.kept.get(number.checked_sub(self.first)?).copied()
    }

    pub(super) fn forget_old(&mut self) {
        while self.kept.len() > 2 {
            self.kept.pop_front();
            self.first += 1;
        }
    }
}

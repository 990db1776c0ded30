//! The storm guard: accepts ends of orders that a wrong server, banner, id space or account would cause for *every*
//! order only with evidence, and holds them back otherwise. The run goes on.
//!
//! Only suspicious replies wait here ([`Suspicion`]); all others are counted and pass. They are judged at the end of a
//! pass, or when many wait, by the other replies of the run in the same [`IdSpace`]:
//!
//! - An order that was read before and is unknown now needs a later good reply of this run, and calm: of the orders
//!   around it that were read before, at most `guard.max_suspicious_share` are unknown.
//! - An order that was never read needs a good reply of this run or of the last 24 hours. If five or more wait after
//!   the latest good reply, no readable order may be unknown meanwhile. An order that is refused for good needs a good
//!   reply of this run, and calm. Without evidence, fewer than `guard.min_orders` of both are believed in a day.
//! - A user with five or more orders in the run is judged by them as well. If a user has as many in the queue, an order
//!   that was read before needs a good reply of the same user in this run.
//! - What has been held for a week is believed with any evidence.
//!
//! This file decides. `evidence` asks the database and the API for what is missing, and writes the result.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use chrono::TimeDelta;
use lru::LruCache;

use super::answered::Answered;
use super::opening::Opening;
use super::space::{Space, Tally};
use crate::config;
use crate::domain::{ClaimedOrder, IdSpace, Suspicion, Verdict};

/// When this many replies wait, the pass ends and they are judged. Each takes about a kilobyte.
const MOST_WAITING: usize = 5_000;
/// Or when replies with content occupy this many bytes.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// A user with at least this many orders is judged by them.
pub(super) const ORDERS_OF_A_USER: u32 = 5;

/// Fewer unknown orders after the latest good reply are no storm.
const STORM: usize = 5;

/// A result first seen this long ago is believed with any evidence.
const BELIEVED_AFTER: TimeDelta = TimeDelta::days(7);

/// Bounds of what is remembered. A forgotten user or space has no evidence, so more is held rather than less.
const USERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
const SPACES: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

pub(super) struct Guard {
    settings: config::GuardSettings,
    opening: Opening,
    waiting: Vec<Suspect>,
    waiting_bytes: usize,
    spaces: LruCache<IdSpace, Space>,
    users: LruCache<String, Tally>,
    /// Users known to have [`ORDERS_OF_A_USER`] live orders or more.
    large_users: HashSet<String>,
    /// Counts replies, to know which came later.
    latest: u64,
}

struct Suspect {
    answered: Answered,
    suspicion: Suspicion,
    id_space: IdSpace,
    number: u64,
    /// Its stretch in [`Space::known`], or in [`Space::all`] if it is refused.
    stretch: usize,
}

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Good,
    /// The order is unknown although it was read recently.
    Unknown,
    /// No usable reply about the order.
    Nothing,
}

/// The verdicts on the replies that waited.
pub(super) struct Judged {
    pub(super) believed: Vec<Answered>,
    pub(super) held: Vec<(Answered, Suspicion, IdSpace)>,
}

impl Guard {
    pub(super) fn new(settings: config::GuardSettings) -> Self {
        Self {
            settings,
            opening: Opening::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            spaces: LruCache::new(SPACES),
            users: LruCache::new(USERS),
            large_users: HashSet::new(),
            latest: 0,
        }
    }

    /// Takes replies. Returns those that may be written; the others wait.
    pub(super) fn admit(
        &mut self,
        replies: impl IntoIterator<Item = Answered>,
        id_space: impl Fn(&ClaimedOrder) -> IdSpace,
    ) -> Vec<Answered> {
        let mut admitted = Vec::new();
        for reply in replies {
            for answered in self.opening.receive(reply) {
                let id_space = id_space(&answered.order);
                admitted.extend(self.weigh(answered, id_space));
            }
        }
        admitted
    }

    /// The first replies of the run, while all are refused alike.
    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Ends the opening and weighs its replies like all others. Returns those that may be written.
    pub(super) fn end_opening(&mut self, id_space: impl Fn(&ClaimedOrder) -> IdSpace) -> Vec<Answered> {
        let replies = self.opening.end();
        self.admit(replies, id_space)
    }

    /// Drops the replies of the opening: their orders stay unchanged.
    pub(super) fn forget_opening(&mut self) {
        self.opening.end();
    }

    /// Counts a reply. Returns it unless it is suspicious.
    fn weigh(&mut self, mut answered: Answered, id_space: IdSpace) -> Option<Answered> {
        let suspicion = answered.settlement.suspicion;
        let number = self.next_number();
        let is_good = matches!(answered.settlement.verdict, Verdict::Changed | Verdict::Unchanged);
        let is_bad = suspicion.is_some_and(Suspicion::is_weighed);
        if !is_good && suspicion.is_none() {
            return Some(answered);
        }
        if let Some(user) = answered.order.connect_user_id.as_deref()
            && (is_good || is_bad)
        {
            self.users.get_or_insert_mut_ref(user, Tally::default).count(is_bad);
        }
        let is_idle = self.waiting.is_empty();
        let space = self.space(&id_space);
        if is_idle {
            space.forget_old();
        }
        let of_all = space.all.count(suspicion == Some(Suspicion::Refused));
        let is_vanished = suspicion == Some(Suspicion::Vanished);
        let of_known =
            if is_vanished || (is_good && answered.order.was_read()) { space.known.count(is_vanished) } else { 0 };
        let Some(suspicion) = suspicion else {
            space.note_good(number);
            return Some(answered);
        };
        // Waiting replies must not block memory for new ones. Most contain nothing but the held result.
        let reservation = std::mem::take(&mut answered.reservation);
        if answered.settlement.chat.conversation.is_some() || !answered.settlement.rejects.is_empty() {
            self.waiting_bytes += reservation.bytes();
        }
        let stretch = if is_vanished { of_known } else { of_all };
        self.waiting.push(Suspect { answered, suspicion, id_space, number, stretch });
        None
    }

    /// Whether the waiting replies must be judged before more is fetched.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_WAITING || self.waiting_bytes >= MOST_BYTES || self.opening.suspicion().is_some()
    }

    /// Below this many orders in a day no evidence is needed.
    pub(super) fn few(&self) -> u64 {
        self.settings.min_orders
    }

    pub(super) fn suspected(&self) -> Vec<IdSpace> {
        let mut spaces: Vec<IdSpace> = Vec::new();
        for suspect in &self.waiting {
            if !spaces.contains(&suspect.id_space) {
                spaces.push(suspect.id_space.clone());
            }
        }
        spaces
    }

    pub(super) fn good_spaces(&self) -> Vec<IdSpace> {
        self.spaces
            .iter()
            .filter(|(_, space)| space.last_good.is_some())
            .map(|(id_space, _)| id_space.clone())
            .collect()
    }

    /// Records that another run had a good reply there within 24 hours.
    pub(super) fn was_good(&mut self, id_space: &IdSpace) {
        self.space(id_space).was_good = true;
    }

    /// Whether the reply of a readable order could change the verdict on something that waits.
    pub(super) fn wants_probe(&mut self, id_space: &IdSpace) -> bool {
        if self.space(id_space).probes_left == 0 {
            return false;
        }
        let is_open = |suspect: &Suspect| {
            suspect.id_space == *id_space
                && suspect.suspicion.is_weighed()
                && !self.is_user_bad(suspect)
                && !self.is_believed(suspect)
        };
        self.waiting.iter().any(is_open) || self.is_storm(id_space)
    }

    /// Whether many orders that were never read are unknown since the last good reply. Older evidence may be outdated.
    fn is_storm(&self, id_space: &IdSpace) -> bool {
        let Some(space) = self.spaces.peek(id_space) else { return false };
        let is_late = |suspect: &&Suspect| {
            suspect.id_space == *id_space
                && suspect.suspicion == Suspicion::Unknown
                && space.last_good < Some(suspect.number)
        };
        !space.is_refuted
            && self.settings.max_suspicious_share < 1.0
            && self.waiting.iter().filter(is_late).count() >= STORM
    }

    /// Users of whom an order vanished and none was read well in this run.
    pub(super) fn doubtful_users(&self, id_space: &IdSpace) -> Vec<String> {
        let is_doubtful = |suspect: &&Suspect| {
            suspect.id_space == *id_space && suspect.suspicion == Suspicion::Vanished && self.has_no_good(suspect)
        };
        let users: HashSet<&String> = self
            .waiting
            .iter()
            .filter(is_doubtful)
            .filter_map(|suspect| suspect.answered.order.connect_user_id.as_ref())
            .collect();
        users.into_iter().cloned().collect()
    }

    /// Records users with many live orders.
    pub(super) fn are_large(&mut self, users: Vec<String>) {
        self.large_users.extend(users);
    }

    /// Records the result of a probe of an order of this user, or that there is no order to probe (`None`).
    pub(super) fn probed(&mut self, id_space: &IdSpace, probe: Option<Probe>, user: Option<&str>) {
        if let (Some(Probe::Good | Probe::Unknown), Some(user)) = (probe, user) {
            self.users.get_or_insert_mut_ref(user, Tally::default).count(probe == Some(Probe::Unknown));
        }
        let number = self.next_number();
        let space = self.space(id_space);
        space.probes_left = if probe.is_some() { space.probes_left.saturating_sub(1) } else { 0 };
        match probe {
            Some(Probe::Good) => {
                space.note_good(number);
                space.known.count(false);
            }
            Some(Probe::Unknown) => {
                space.is_refuted = true;
                space.known.count(true);
            }
            Some(Probe::Nothing) | None => {}
        }
    }

    /// Records a good reply of an order that is not settled.
    pub(super) fn note_good_reply(&mut self, id_space: &IdSpace) {
        let number = self.next_number();
        self.space(id_space).note_good(number);
    }

    /// Counts the waiting orders without evidence. One that was held before counts again, so that a flood is not
    /// believed the next day.
    pub(super) fn without_evidence(&self, id_space: &IdSpace) -> u64 {
        let lacks = |suspect: &&Suspect| {
            suspect.id_space == *id_space
                && matches!(suspect.suspicion, Suspicion::Unknown | Suspicion::Refused)
                && !self.is_believed(suspect)
        };
        self.waiting.iter().filter(lacks).count() as u64
    }

    /// Records that so few are unknown that they are believed without evidence.
    pub(super) fn are_few(&mut self, id_space: &IdSpace) {
        self.space(id_space).are_few = true;
    }

    /// Judges and takes all waiting replies.
    pub(super) fn judge(&mut self) -> Judged {
        let mut judged = Judged { believed: Vec::new(), held: Vec::new() };
        let verdicts: Vec<bool> = self.waiting.iter().map(|suspect| self.is_believed(suspect)).collect();
        for (suspect, is_believed) in std::mem::take(&mut self.waiting).into_iter().zip(verdicts) {
            let Suspect { answered, suspicion, id_space, .. } = suspect;
            if is_believed {
                judged.believed.push(answered);
            } else {
                judged.held.push((answered, suspicion, id_space));
            }
        }
        self.waiting_bytes = 0;
        self.large_users.clear();
        // The next pass counts anew how many it may believe.
        for (_, space) in &mut self.spaces {
            space.are_few = false;
        }
        judged
    }

    fn is_believed(&self, suspect: &Suspect) -> bool {
        if self.settings.max_suspicious_share >= 1.0 {
            return true;
        }
        let Some(space) = self.spaces.peek(&suspect.id_space) else { return false };
        let is_good = space.last_good.is_some();
        let held = suspect.answered.order.held.as_ref();
        if held.is_some_and(|held| {
            held.kind == suspect.suspicion.held_kind()
                && suspect.answered.settlement.attempt.answered_at - held.since >= BELIEVED_AFTER
        }) {
            return is_good || space.was_good;
        }
        let most = self.settings.max_suspicious_share;
        match suspect.suspicion {
            Suspicion::Uncoded | Suspicion::ExpiredEarly { .. } => false,
            Suspicion::Vanished => {
                space.last_good > Some(suspect.number)
                    && space.known.is_calm(suspect.stretch, most)
                    && !self.is_user_bad(suspect)
                    && !self.is_user_doubtful(suspect)
            }
            Suspicion::Unknown if space.is_refuted && space.last_good < Some(suspect.number) => false,
            Suspicion::Unknown if is_good || space.was_good => !self.is_user_bad(suspect),
            Suspicion::Refused if is_good && space.all.is_calm(suspect.stretch, most) && !self.is_user_bad(suspect) => {
                true
            }
            Suspicion::Unknown | Suspicion::Refused => space.are_few && !space.is_refuted,
        }
    }

    /// Whether too many of the user's orders in this run are unknown or refused.
    fn is_user_bad(&self, suspect: &Suspect) -> bool {
        self.share_of_user(suspect)
            .is_some_and(|share| share.orders >= ORDERS_OF_A_USER && share.is_above(self.settings.max_suspicious_share))
    }

    /// Whether a user with many orders has no good reply yet: each run may see only a few of them.
    fn is_user_doubtful(&self, suspect: &Suspect) -> bool {
        let user = suspect.answered.order.connect_user_id.as_ref();
        user.is_some_and(|user| self.large_users.contains(user)) && self.has_no_good(suspect)
    }

    fn has_no_good(&self, suspect: &Suspect) -> bool {
        self.share_of_user(suspect).is_none_or(|share| share.bad == share.orders)
    }

    fn share_of_user(&self, suspect: &Suspect) -> Option<Tally> {
        self.users.peek(suspect.answered.order.connect_user_id.as_deref()?).copied()
    }

    fn next_number(&mut self) -> u64 {
        self.latest += 1;
        self.latest
    }

    fn space(&mut self, id_space: &IdSpace) -> &mut Space {
        let length = u32::try_from(self.settings.min_orders).unwrap_or(u32::MAX).max(1);
        self.spaces.get_or_insert_mut_ref(id_space, || Space::new(length))
    }
}

//! The access tokens of the simulated API: random, kept in memory, invalid after their lifetime or when revoked.
//!
//! The token routes issue and revoke, the chat route checks. Times are passed in, so that tests need not wait.
//! Invariant: at most `MAX_TOKENS` are kept. All have the same lifetime, so the oldest always expires first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

/// Beyond this many the oldest token is dropped early; its holder gets a 401 and requests another, as after a
/// revocation.
const MAX_TOKENS: usize = 100_000;

/// Whose orders a token may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    All,
    User(Arc<str>),
}

pub(super) struct Tokens {
    lifetime: Duration,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    access: HashMap<Uuid, Access>,
    /// When each was issued, oldest first; a revoked one stays until its lifetime is over.
    issued: VecDeque<(Instant, Uuid)>,
}

impl Tokens {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, live: Mutex::default() }
    }

    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    pub(super) fn issue(&self, access: Access, now: Instant) -> String {
        let token = Uuid::new_v4();
        let mut live = self.live(now);
        if live.issued.len() >= MAX_TOKENS {
            live.forget_oldest();
        }
        live.access.insert(token, access);
        live.issued.push_back((now, token));
        token.simple().to_string()
    }

    /// Returns what `token` may read; `None` if it was never issued, has expired or was revoked.
    pub(super) fn access(&self, token: &str, now: Instant) -> Option<Access> {
        let token = Uuid::try_parse(token).ok()?;
        self.live(now).access.get(&token).cloned()
    }

    /// Revokes `token`, if it exists.
    pub(super) fn revoke(&self, token: &str, now: Instant) {
        if let Ok(token) = Uuid::try_parse(token) {
            self.live(now).access.remove(&token);
        }
    }

    pub(super) fn revoke_all(&self, now: Instant) {
        *self.live(now) = Live::default();
    }

    /// Returns the tokens valid at `now`, and removes the expired ones.
    fn live(&self, now: Instant) -> MutexGuard<'_, Live> {
        let mut live = self.live.lock();
        while let Some(&(issued, _)) = live.issued.front()
            && now.saturating_duration_since(issued) >= self.lifetime
        {
            live.forget_oldest();
        }
        live
    }
}

impl Live {
    fn forget_oldest(&mut self) {
        if let Some((_, token)) = self.issued.pop_front() {
            self.access.remove(&token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_token_lives_until_its_lifetime_is_over() {
        let (tokens, now) = (Tokens::new(HOUR), Instant::now());
        let token = tokens.issue(Access::User("ann".into()), now);
        let just_before = now + HOUR.saturating_sub(Duration::from_nanos(1));
        assert_eq!(tokens.access(&token, just_before), Some(Access::User("ann".into())));
        assert_eq!(tokens.access(&token, now + HOUR), None);
    }

    #[test]
    fn revoking_ends_one_token_or_all() {
        let (tokens, now) = (Tokens::new(HOUR), Instant::now());
        let [first, second, third] = [(); 3].map(|()| tokens.issue(Access::All, now));
        tokens.revoke(&first, now);
        tokens.revoke("nonsense", now);
        assert_eq!(tokens.access(&first, now), None);
        assert_eq!(tokens.access(&second, now), Some(Access::All));
        tokens.revoke_all(now);
        assert_eq!(tokens.access(&third, now), None);
    }

    #[test]
    fn memory_stays_bounded_by_expiry_and_by_number() {
        let (tokens, now) = (Tokens::new(HOUR), Instant::now());
        let first = tokens.issue(Access::All, now);
        for _ in 0..MAX_TOKENS {
            tokens.issue(Access::All, now);
        }
        assert_eq!(tokens.access(&first, now), None);
        assert_eq!(tokens.live(now).issued.len(), MAX_TOKENS);
        let live = tokens.live(now + HOUR);
        assert!(live.issued.is_empty() && live.access.is_empty());
    }
}

//! Describes an order in plain sentences: its state, coverage, token, deadline, and what comes next.
//!
//! Pure functions of the database row and the configuration. They describe the policy of `domain` and decide nothing.

use chrono::{DateTime, Utc};

use crate::cli::table::one_line;
use crate::cli::times::{distance, setting, time};
use crate::config::AuthMode;
use crate::db::report::why::{OrderReport, QueuedOrder};
use crate::domain::{Coverage, HeldKind, OrderState, QueuePolicy, Schedule, TokenKind};
use crate::visible::is_hidden;

pub(super) const fn state(state: OrderState) -> &'static str {
    match state {
        OrderState::Pending => "never fetched",
        OrderState::Open => "it was read, and is read again whenever it is due",
        OrderState::Closed => "the API answered that it does not know the order (404, code 4000)",
        OrderState::Expired => "the API said that the conversation is expired; it is not read any more",
        OrderState::Quiet => "the API never spoke of expiry and the chat was quiet for long; it is not read any more",
        OrderState::Dead => "it was given up and waits for a person",
    }
}

pub(super) const fn coverage(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Pending => "nothing is stored yet",
        Coverage::Captured => "the conversation is stored and proven complete",
        Coverage::CapturedOpen => "the conversation is stored as last read, and may still grow",
        Coverage::NoChat => "proven complete: no messages",
        Coverage::ExpiredPartial => {
            "what was read is stored, but the last good read was too early to prove that nothing came after"
        }
        Coverage::ExpiredUnread => "lost: the conversation had expired before the first good read",
        Coverage::NotFound => "nothing is stored: the API never knew the order",
        Coverage::Failed => "given up before completeness was proven; what had been read is stored",
    }
}

/// Describes the token that reads the order.
pub(super) fn token(order: &QueuedOrder, mode: AuthMode) -> String {
    let mode_is = mode.as_str();
    let why = |default| {
        if order.token_kind.is_some_and(|kind| kind != default) {
            format!("auth.mode = {mode_is} names the other kind, which this order refused with code 4001")
        } else {
            format!("auth.mode = {mode_is}")
        }
    };
    let user = order.connect_user_id.as_deref().map(one_line);
    match (mode, order.token_kind, user) {
        (AuthMode::UserAssertion, None | Some(TokenKind::User), Some(user)) => {
            format!("that of Connect user {user} ({})", why(TokenKind::User))
        }
        (AuthMode::ClientCredentials, Some(TokenKind::User), Some(user)) => {
            format!("that of Connect user {user} ({})", why(TokenKind::Client))
        }
        (AuthMode::UserAssertion, Some(TokenKind::Client), _) => {
            format!("the one for all orders ({})", why(TokenKind::User))
        }
        (AuthMode::UserAssertion, _, None) => format!(
            "none: auth.mode = {mode_is} needs a connect_user_id; `chatsync enqueue --user-id U --reopen` gives it one"
        ),
        (AuthMode::ClientCredentials | AuthMode::StaticToken, ..) => {
            format!("the one for all orders (auth.mode = {mode_is})")
        }
    }
}

/// Returns when the order must be read; `None` if it is not read any more.
pub(super) fn deadline(order: &QueuedOrder, policy: &QueuePolicy) -> Option<DateTime<Utc>> {
    let is_live = matches!(order.state, OrderState::Pending | OrderState::Open | OrderState::Dead);
    is_live.then(|| order.deadline_base + policy.readable_window)
}

/// Describes where the deadline comes from, and what is at stake.
pub(super) fn deadline_means(order: &QueuedOrder, policy: &QueuePolicy, now: DateTime<Utc>) -> String {
    let window = setting(policy.readable_window);
    let Some(at) = deadline(order, policy) else { return "none: it is not read any more".to_owned() };
    let (since, stake) = match (order.completed_at, order.last_fetched_at) {
        (Some(_), _) => ("it was completed", "the conversation is readable until then"),
        (None, Some(_)) => ("its last good read", "a read by then proves that nothing was missed"),
        (None, None) => ("it was enqueued", "not read by then, its conversation may be lost"),
    };
    let passed = if at < now { "passed " } else { "" };
    format!(
        "{} ({passed}{}): queue.readable_window = {window} after {since}; {stake}",
        time(Some(at)),
        distance(now, at)
    )
}

/// Describes the result that the storm guard holds back.
pub(super) fn held_back(order: &QueuedOrder) -> Option<String> {
    let what = match order.held_kind? {
        HeldKind::Closed => "the API answered that it does not know the order (404, code 4000)",
        HeldKind::NotFoundUncoded => "the API answered 404 without code 4000",
        HeldKind::Expired => "the API said that the conversation is expired, sooner than possible",
        HeldKind::Refused => "the API refused the request for good",
    };
    Some(format!(
        "{what}, first at {}, {} time(s) so far; it is not believed yet, and asked for again; `chatsync confirm --order {}` believes it",
        time(order.held_since),
        order.held_times.unwrap_or(1),
        quoted(&order.order_id)
    ))
}

/// The next step of an order.
pub(super) struct Next {
    /// When it is due, if it is live and not leased.
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) text: String,
}

pub(super) fn next(report: &OrderReport, policy: &QueuePolicy, schedule: &Schedule) -> Next {
    let order = &report.order;
    let nothing = |why: &str, then: &str| Next {
        at: None,
        text: format!("nothing: {why}; `chatsync retry --order {}` {then}", quoted(&order.order_id)),
    };
    match order.state {
        OrderState::Pending | OrderState::Open => next_read(report, policy, schedule),
        OrderState::Closed => nothing("closed", "puts it back"),
        OrderState::Expired => nothing("expired", "asks once more, though the API will hardly show it again"),
        OrderState::Quiet => {
            nothing(&format!("quiet for queue.quiet_after = {}", setting(policy.quiet_after)), "puts it back")
        }
        OrderState::Dead => nothing("given up", "puts it back once the cause is fixed"),
    }
}

fn next_read(report: &OrderReport, policy: &QueuePolicy, schedule: &Schedule) -> Next {
    let (order, now) = (&report.order, report.now);
    if let Some(until) = order.leased_until.filter(|until| *until > now) {
        let text = format!(
            "the worker that holds it settles it; if that died, another takes it over from {} on",
            time(Some(until))
        );
        return Next { at: None, text };
    }
    let tick = schedule.next_after(order.due_at.max(now));
    let taken = format!("the first run from then on takes it, by schedule.cron at {}", time(tick));
    let due = format!("due {} ({})", time(Some(order.due_at)), distance(now, order.due_at));
    let text = if order.due_at <= now {
        format!("{due}: the next run takes it, by schedule.cron at {}", time(tick))
    } else {
        format!("{due}, {}; {taken}", reason_for_waiting(report, policy))
    };
    Next { at: Some(order.due_at), text }
}

/// Returns the reason why an order is not due yet.
fn reason_for_waiting(report: &OrderReport, policy: &QueuePolicy) -> String {
    let order = &report.order;
    if order.held_kind.is_some() {
        return "because its last result is held back: it is asked for after 1h, 6h, then every 24h".to_owned();
    }
    if order.failures > 0 {
        return format!(
            "because it failed {} time(s) in a row: queue.retry_backoff = {}, doubled each time up to queue.retry_backoff_max = {}",
            order.failures,
            setting(policy.retry_backoff),
            setting(policy.retry_backoff_max),
        );
    }
    let settled_at = report.attempts.last().and_then(|attempt| attempt.settled_at);
    if settled_at.is_some_and(|settled| settled + policy.refresh_after == order.due_at) {
        return format!("because queue.refresh_after = {}", setting(policy.refresh_after));
    }
    if order.state == OrderState::Pending {
        return "as its feeder asked".to_owned();
    }
    format!("as it was set when queue.refresh_after was another than the present {}", setting(policy.refresh_after))
}

/// Quotes an id as an argument of a shell command.
fn quoted(id: &str) -> String {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/@%+".contains(&byte));
    if is_plain && !id.starts_with('-') {
        return id.to_owned();
    }
    if !id.contains(is_hidden) {
        return format!("'{}'", id.replace('\'', r"'\''"));
    }
    // The syntax of bash, zsh and ksh.
    let character = |c| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if is_hidden(c) => format!("\\U{:08x}", u32::from(c)),
        c => c.to_string(),
    };
    format!("$'{}'", id.chars().map(character).collect::<String>())
}

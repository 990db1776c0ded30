//! Which faults exist, and how they are written.
//!
//! `TABLE` is the single list of them: `--fault`, the control endpoint and the help are derived from it.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use crate::config::parse_duration;

/// A fault and how often it occurs, written `NAME=CHANCE:VALUE`: `errors=0.3`, `latency-spike=0.05:2s`.
///
/// Without `=CHANCE` every request is hit, without `:VALUE` the default value applies. `chat.` before the name limits
/// the fault to requests for conversations, `token.` to requests for a token.
#[derive(Clone, Debug, PartialEq)]
pub struct InjectedFault {
    text: String,
    pub(super) target: Target,
    /// From 0 to 1.
    pub(super) chance: f64,
    pub(super) effect: Effect,
}

/// Why a text is not a valid fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFault(String);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Latency(Duration),
    LatencySpike(Duration),
    Errors,
    Burst,
    Status(StatusCode),
    Unavailable(Option<HeaderValue>),
    Throttle(Option<HeaderValue>),
    Unauthorized,
    PageNotFound,
    Redirect(HeaderValue),
    Cut,
    CutBody,
    Stall,
    StallBody,
    Garbled,
    NotUtf8,
    OtherShape,
    Page,
    WrongType,
    Huge(u32),
    Bomb(u32),
    Expired,
}

/// Which requests a fault may hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Target {
    Any,
    Chat,
    Token,
}

struct FaultRow {
    name: &'static str,
    /// Used unless the fault names one.
    target: Target,
    /// Name and default of the value; both empty if there is none.
    value: (&'static str, &'static str),
    about: &'static str,
    make: fn(&str) -> Result<Effect, String>,
}

#[rustfmt::skip] // one row, one fault
const TABLE: [FaultRow; 22] = [
    row("latency", Target::Any, ("DURATION", "100ms"), "delays the reply by that much, plus or minus half of it", |v| parse_duration(v).map(Effect::Latency)),
    row("latency-spike", Target::Any, ("DURATION", "2s"), "delays the reply by exactly that much", |v| parse_duration(v).map(Effect::LatencySpike)),
    row("errors", Target::Any, ("", ""), "500, 408, or 503 with a Retry-After that is missing, valid or invalid", |_| Ok(Effect::Errors)),
    row("burst", Target::Any, ("", ""), "the same for 50 requests in a row", |_| Ok(Effect::Burst)),
    row("status", Target::Any, ("CODE", "500"), "that status with the API's error body; 404: code 4000", |v| status(v).map(Effect::Status)),
    row("unavailable", Target::Any, ("TEXT", ""), "503, with this Retry-After if there is one", |v| header(v).map(Effect::Unavailable)),
    row("throttle", Target::Any, ("TEXT", ""), "429, with this Retry-After if there is one", |v| header(v).map(Effect::Throttle)),
    row("unauthorized", Target::Chat, ("", ""), "401, and the token is revoked before its time", |_| Ok(Effect::Unauthorized)),
    row("page-not-found", Target::Any, ("", ""), "404 with an HTML page", |_| Ok(Effect::PageNotFound)),
    row("redirect", Target::Any, ("URL", "https://elsewhere.invalid/"), "307 to another host", |v| url(v).map(Effect::Redirect)),
    row("cut", Target::Any, ("", ""), "cuts the connection before the reply", |_| Ok(Effect::Cut)),
    row("cut-body", Target::Any, ("", ""), "cuts the connection in the middle of the reply's body", |_| Ok(Effect::CutBody)),
    row("stall", Target::Any, ("", ""), "never answers", |_| Ok(Effect::Stall)),
    row("stall-body", Target::Any, ("", ""), "falls silent in the middle of the reply's body", |_| Ok(Effect::StallBody)),
    row("garbled", Target::Chat, ("", ""), "200 with random bytes", |_| Ok(Effect::Garbled)),
    row("not-utf8", Target::Chat, ("", ""), "the reply with a byte in it that is not UTF-8", |_| Ok(Effect::NotUtf8)),
    row("other-shape", Target::Chat, ("", ""), "200 with JSON of another shape", |_| Ok(Effect::OtherShape)),
    row("page", Target::Chat, ("", ""), "200 with an HTML page", |_| Ok(Effect::Page)),
    row("wrong-type", Target::Chat, ("", ""), "the reply, called text/html", |_| Ok(Effect::WrongType)),
    row("huge", Target::Chat, ("MIB", "16"), "a valid conversation of that size", |v| mebibytes(v).map(Effect::Huge)),
    row("bomb", Target::Chat, ("MIB", "1024"), "a valid reply of that size once decompressed (gzip), tiny on the wire", |v| mebibytes(v).map(Effect::Bomb)),
    row("expired", Target::Chat, ("", ""), "the conversation is empty, and expired if the replies say so", |_| Ok(Effect::Expired)),
];

const fn row(
    name: &'static str,
    target: Target,
    value: (&'static str, &'static str),
    about: &'static str,
    make: fn(&str) -> Result<Effect, String>,
) -> FaultRow {
    FaultRow { name, target, value, about, make }
}

/// Lists all faults for the help, one line each.
pub(in crate::simulator) fn help() -> String {
    let mut help = String::from(
        "Faults (--fault), written NAME, NAME=CHANCE or NAME=CHANCE:VALUE. \"chat.\" or \"token.\" before a name limits it to \
         requests for conversations or for tokens; without it, those marked * hit requests for conversations only, the others any request:\n",
    );
    for row in &TABLE {
        let star = if row.target == Target::Chat { "*" } else { "" };
        let name = format!("{}{star}", row.name);
        let value = match row.value {
            ("", _) => String::new(),
            (value, "") => format!(" (:{value})"),
            (value, usual) => format!(" (:{value}, else {usual})"),
        };
        writeln!(help, "  {name:<15} {}{value}", row.about).expect("writing to a String does not fail");
    }
    help
}

impl FromStr for InjectedFault {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        parse(text).map_err(|reason| InvalidFault(format!("{text:?}: {reason}")))
    }
}

impl fmt::Display for InjectedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<InjectedFault, String> {
    let (head, value) = text.split_once(':').map_or((text, None), |(head, value)| (head, Some(value)));
    let (name, chance) = match head.split_once('=') {
        None => (head, 1.0),
        Some((name, chance)) => {
            let chance = chance.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
            (name, chance.ok_or("write the chance as a number from 0 to 1")?)
        }
    };
    let (target, name) = match name.split_once('.') {
        None => (None, name),
        Some(("chat", name)) => (Some(Target::Chat), name),
        Some(("token", name)) => (Some(Target::Token), name),
        Some(_) => return Err("before a dot only chat and token may stand".to_owned()),
    };
    let row = TABLE.iter().find(|row| row.name == name).ok_or_else(|| {
        let names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        format!("there is no such fault; there are {}", names.join(", "))
    })?;
    if row.value.0.is_empty() && value.is_some() {
        return Err("this fault takes no value".to_owned());
    }
    let effect = (row.make)(value.unwrap_or(row.value.1))?;
    Ok(InjectedFault { text: text.to_owned(), target: target.unwrap_or(row.target), chance, effect })
}

fn status(text: &str) -> Result<StatusCode, String> {
    let known = text.parse().ok().filter(|status: &StatusCode| status.is_client_error() || status.is_server_error());
    known.ok_or_else(|| "write a status from 400 to 599".to_owned())
}

fn header(text: &str) -> Result<Option<HeaderValue>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(text).map(Some).map_err(|_| "this cannot stand in a header".to_owned())
}

fn url(text: &str) -> Result<HeaderValue, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    HeaderValue::from_str(url.as_str()).map_err(|error| error.to_string())
}

fn mebibytes(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|size| *size > 0).ok_or_else(|| "write a whole number of MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Result<InjectedFault, InvalidFault> {
        text.parse()
    }

    #[test]
    fn every_fault_can_be_written_with_what_the_table_says_of_it() {
        for row in &TABLE {
            let bare = fault(row.name).unwrap();
            assert_eq!((bare.target, bare.chance), (row.target, 1.0), "{}", row.name);
            let (kind, usual) = row.value;
            let full = if kind.is_empty() { format!("{}=1", row.name) } else { format!("{}=1:{usual}", row.name) };
            assert_eq!(fault(&full).unwrap().effect, bare.effect, "{full}");
            assert_eq!(fault(&full).unwrap().to_string(), full);
            assert!(help().contains(row.about));
        }
    }

    #[test]
    fn chance_value_and_place_are_read() {
        let spike = fault("chat.latency-spike=0.05:2s").unwrap();
        assert_eq!((spike.target, spike.chance), (Target::Chat, 0.05));
        assert_eq!(spike.effect, Effect::LatencySpike(Duration::from_secs(2)));
        assert_eq!(fault("token.status:403").unwrap().effect, Effect::Status(StatusCode::FORBIDDEN));
        let elsewhere = HeaderValue::from_static("http://elsewhere.invalid:81/a");
        assert_eq!(fault("redirect=1:http://elsewhere.invalid:81/a").unwrap().effect, Effect::Redirect(elsewhere));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        for (text, reason) in [
            ("typo=0.5", "there is no such fault"),
            ("errors=1.5", "from 0 to 1"),
            ("errors=NaN", "from 0 to 1"),
            ("errors=0.5:7", "takes no value"),
            ("status=1:200", "from 400 to 599"),
            ("latency=1:soon", "duration"),
            ("huge=1:0", "MiB"),
            ("db.errors", "chat and token"),
            ("", "there is no such fault"),
        ] {
            let error = fault(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

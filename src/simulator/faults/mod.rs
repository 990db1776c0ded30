//! Faults that the simulated API is asked for: which there are, how they are written, and which requests they strike.
//!
//! `TABLE` is the one place that knows them: `--fault`, the control endpoint and the help are all made from it. `schedule`
//! decides by repeatable chance which request is struck, `effect` does it, `bodies` makes the replies that no API should send.

mod bodies;
mod effect;
mod schedule;

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};

use crate::config::parse_duration;
pub(super) use effect::{Forgotten, strike};
pub(super) use schedule::Schedule;

/// A fault and how often it occurs, written `NAME=CHANCE:VALUE`: `errors=0.3`, `latency-spike=0.05:2s`.
///
/// Without `=CHANCE` every request is struck, without `:VALUE` the usual value holds. `chat.` before the name keeps the
/// fault to requests for conversations, `token.` to requests for a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    text: String,
    place: Place,
    chance: f64,
    effect: Effect,
}

/// Why a text is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFault(String);

/// What a fault does.
#[derive(Clone, Debug, PartialEq)]
enum Effect {
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

/// Which requests may be struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Any,
    Chat,
    Token,
}

struct Row {
    name: &'static str,
    /// Where it occurs unless the fault says otherwise.
    place: Place,
    /// What the value is, and the usual one; both empty where there is none.
    value: (&'static str, &'static str),
    about: &'static str,
    make: fn(&str) -> Result<Effect, String>,
}

#[rustfmt::skip] // one row, one fault
const TABLE: [Row; 22] = [
    row("latency", Place::Any, ("DURATION", "100ms"), "answers later by that much, give or take a half", |v| parse_duration(v).map(Effect::Latency)),
    row("latency-spike", Place::Any, ("DURATION", "2s"), "answers later by exactly that much", |v| parse_duration(v).map(Effect::LatencySpike)),
    row("errors", Place::Any, ("", ""), "500, 408, or 503 with a Retry-After that is missing, sensible or nonsense", |_| Ok(Effect::Errors)),
    row("burst", Place::Any, ("", ""), "the same for 50 requests in a row", |_| Ok(Effect::Burst)),
    row("status", Place::Any, ("CODE", "500"), "that status with the API's error body; 404: code 4000", |v| status(v).map(Effect::Status)),
    row("unavailable", Place::Any, ("TEXT", ""), "503, with this Retry-After if there is one", |v| header(v).map(Effect::Unavailable)),
    row("throttle", Place::Any, ("TEXT", ""), "429, with this Retry-After if there is one", |v| header(v).map(Effect::Throttle)),
    row("unauthorized", Place::Chat, ("", ""), "401, and the token is revoked before its time", |_| Ok(Effect::Unauthorized)),
    row("page-not-found", Place::Any, ("", ""), "404 with an HTML page", |_| Ok(Effect::PageNotFound)),
    row("redirect", Place::Any, ("URL", "https://elsewhere.invalid/"), "307 to another host", |v| url(v).map(Effect::Redirect)),
    row("cut", Place::Any, ("", ""), "cuts the connection before the reply", |_| Ok(Effect::Cut)),
    row("cut-body", Place::Any, ("", ""), "cuts the connection in the middle of the reply's body", |_| Ok(Effect::CutBody)),
    row("stall", Place::Any, ("", ""), "never answers", |_| Ok(Effect::Stall)),
    row("stall-body", Place::Any, ("", ""), "falls silent in the middle of the reply's body", |_| Ok(Effect::StallBody)),
    row("garbled", Place::Chat, ("", ""), "200 with random bytes", |_| Ok(Effect::Garbled)),
    row("not-utf8", Place::Chat, ("", ""), "the reply with a byte in it that is not UTF-8", |_| Ok(Effect::NotUtf8)),
    row("other-shape", Place::Chat, ("", ""), "200 with JSON of another shape", |_| Ok(Effect::OtherShape)),
    row("page", Place::Chat, ("", ""), "200 with an HTML page", |_| Ok(Effect::Page)),
    row("wrong-type", Place::Chat, ("", ""), "the reply, called text/html", |_| Ok(Effect::WrongType)),
    row("huge", Place::Chat, ("MIB", "16"), "a valid conversation of that size", |v| mebibytes(v).map(Effect::Huge)),
    row("bomb", Place::Chat, ("MIB", "1024"), "a valid reply of that size once decompressed (gzip), tiny on the wire", |v| mebibytes(v).map(Effect::Bomb)),
    row("expired", Place::Chat, ("", ""), "the conversation is empty, and expired where replies tell", |_| Ok(Effect::Expired)),
];

const fn row(
    name: &'static str,
    place: Place,
    value: (&'static str, &'static str),
    about: &'static str,
    make: fn(&str) -> Result<Effect, String>,
) -> Row {
    Row { name, place, value, about, make }
}

/// The faults there are, for the help: one line each.
pub(super) fn help() -> String {
    let mut help = String::from(
        "Faults (--fault), written NAME, NAME=CHANCE or NAME=CHANCE:VALUE. \"chat.\" or \"token.\" before a name keeps it to \
         requests for conversations or for tokens; without it, those marked * strike conversations only, the others any request:\n",
    );
    for row in &TABLE {
        let star = if row.place == Place::Chat { "*" } else { "" };
        let name = format!("{}{star}", row.name);
        let value = match row.value {
            ("", _) => String::new(),
            (value, "") => format!(" (:{value})"),
            (value, usual) => format!(" (:{value}, else {usual})"),
        };
        writeln!(help, "  {name:<15} {}{value}", row.about).expect("memory takes any text");
    }
    help
}

impl FromStr for Fault {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, InvalidFault> {
        parse(text).map_err(|reason| InvalidFault(format!("{text:?}: {reason}")))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn parse(text: &str) -> Result<Fault, String> {
    let (head, value) = text.split_once(':').map_or((text, None), |(head, value)| (head, Some(value)));
    let (name, chance) = match head.split_once('=') {
        None => (head, 1.0),
        Some((name, chance)) => {
            let chance = chance.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
            (name, chance.ok_or("write the chance as a number from 0 to 1")?)
        }
    };
    let (place, name) = match name.split_once('.') {
        None => (None, name),
        Some(("chat", name)) => (Some(Place::Chat), name),
        Some(("token", name)) => (Some(Place::Token), name),
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
    Ok(Fault { text: text.to_owned(), place: place.unwrap_or(row.place), chance, effect })
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

    fn fault(text: &str) -> Result<Fault, InvalidFault> {
        text.parse()
    }

    #[test]
    fn every_fault_can_be_written_with_what_the_table_says_of_it() {
        for row in &TABLE {
            let bare = fault(row.name).unwrap();
            assert_eq!((bare.place, bare.chance), (row.place, 1.0), "{}", row.name);
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
        assert_eq!((spike.place, spike.chance), (Place::Chat, 0.05));
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

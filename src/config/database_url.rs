//! Converts database URLs as psql accepts them to the one form that sqlx accepts: `postgres:///?host=…&user=…`.
//!
//! Follows libpq's `conninfo_uri_parse_options`. Refuses what would mean something else than to psql, or would be
//! misunderstood. No error shows any piece of the URL: each may belong to a password.

use std::fs;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::problem::InvalidValue;

const ENCODE: &str =
    "write the characters / ? # @ : % of a user name or password percent-encoded: %2F %3F %23 %40 %3A %25";
const FORM: &str = "write postgres://user:password@host:5432/name, or \"embedded\"";

/// All characters except those without a special meaning in URLs.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Parameters that sqlx interprets as psql does.
const PASSED_ON: [&str; 4] = ["application_name", "options", "sslcert", "sslkey"];

/// Parameters without which the connection would be another one, or less safe than requested.
const NOT_SUPPORTED: [&str; 7] =
    ["service", "servicefile", "passfile", "require_auth", "sslcrl", "sslcrldir", "sslnegotiation"];

/// The components of a URL. Other parameters, such as those of poolers and other drivers, are ignored.
#[derive(Default)]
struct Parts {
    host: Option<String>,
    address: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<String>,
    database: Option<String>,
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
    others: Vec<(String, String)>,
}

/// Checks a URL and converts it to the form for sqlx.
pub(super) fn normalise(text: &str) -> Result<String, InvalidValue> {
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| InvalidValue::new("is not a PostgreSQL URL", FORM))?;
    let mut parts = Parts::read(rest)?;
    parts.settle_tls()?;
    Ok(parts.write())
}

impl Parts {
    fn read(rest: &str) -> Result<Self, InvalidValue> {
        if rest.contains('#') {
            return Err(InvalidValue::new("contains the character #, which ends a URL", ENCODE));
        }
        let (front, query) = rest.split_once('?').map_or((rest, None), |(front, query)| (front, Some(query)));
        let (authority, path) = front.split_once('/').unwrap_or((front, ""));
        let names_user = authority.contains('@');
        // An @ after the authority belongs to a password that contains a slash or a question mark.
        if path.contains('@') || (!names_user && query.is_some_and(|query| query.contains('@'))) {
            return Err(InvalidValue::new("has a character / or ? before its @", ENCODE));
        }
        let mut parts = Self::default();
        let hosts = match authority.split_once('@') {
            Some((_, hosts)) if hosts.contains('@') => {
                return Err(InvalidValue::new("contains the character @ more than once", ENCODE));
            }
            Some((who, hosts)) => {
                let (user, password) = who.split_once(':').map_or((who, None), |(user, word)| (user, Some(word)));
                parts.user = filled(decode(user)?);
                parts.password = password.map(decode).transpose()?.and_then(filled);
                hosts
            }
            None => authority,
        };
        parts.read_host(hosts)?;
        parts.database = filled(decode(path)?);
        for (name, value) in query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('=')) {
            parts.set(&decode(name)?, decode(value)?)?;
        }
        let is_by_name = parts.ssl_mode.as_deref() == Some("verify-full") && parts.host.is_some();
        if is_by_name && parts.address.is_some() {
            let hint = "leave hostaddr out, so that the certificate is compared with the host's name";
            return Err(InvalidValue::new("has both host and hostaddr with sslmode=verify-full", hint));
        }
        if parts.port.as_ref().is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(InvalidValue::new("has a port that is no number from 0 to 65535", FORM));
        }
        Ok(parts)
    }

    /// Reads host and port, between `@` and `/`.
    fn read_host(&mut self, text: &str) -> Result<(), InvalidValue> {
        if text.contains(',') {
            return Err(several_hosts());
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) =
                    rest.split_once(']').ok_or_else(|| InvalidValue::new("has a [ that is not closed", FORM))?;
                (host, port.strip_prefix(':'))
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        self.host = filled(decode(host)?);
        self.port = port.map(str::to_owned).and_then(filled);
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), InvalidValue> {
        match name {
            "host" if value.contains(',') => return Err(several_hosts()),
            "host" => self.host = filled(value),
            "hostaddr" => self.address = filled(value),
            "port" => self.port = filled(value),
            "user" => self.user = filled(value),
            "password" => self.password = filled(value),
            "dbname" => self.database = filled(value),
            "sslmode" | "ssl-mode" => self.ssl_mode = filled(value),
            "sslrootcert" | "ssl-root-cert" => self.ssl_root_cert = filled(value),
            "statement-cache-capacity" if value.parse::<usize>().is_ok() => self.others.push((name.to_owned(), value)),
            "target_session_attrs" if ["standby", "read-only"].contains(&value.as_str()) => {
                return Err(InvalidValue::new(
                    "requires a server that accepts no writes",
                    "write target_session_attrs=read-write",
                ));
            }
            "gssencmode" if value == "require" => {
                return Err(InvalidValue::new(
                    "has gssencmode=require, which chatsync does not support",
                    "use TLS: sslmode",
                ));
            }
            _ if PASSED_ON.contains(&name) => self.others.push((name.to_owned(), value)),
            _ if NOT_SUPPORTED.contains(&name) => {
                let what = format!("has the parameter {name}, which chatsync does not support");
                return Err(InvalidValue::new(what, "leave it out if the connection is safe without it"));
            }
            _ => tracing::debug!("a parameter of database.url that chatsync does not know is ignored"),
        }
        Ok(())
    }

    /// Gives `sslmode` and `sslrootcert` the meaning they have in psql.
    fn settle_tls(&mut self) -> Result<(), InvalidValue> {
        // Without a value in the URL, libpq's variables count. Check these as well.
        self.ssl_mode = self.ssl_mode.take().or_else(|| variable("PGSSLMODE"));
        self.ssl_root_cert = self.ssl_root_cert.take().or_else(|| variable("PGSSLROOTCERT"));
        let mode = self.ssl_mode.as_deref();
        if mode == Some("allow") {
            let hint = "write sslmode=prefer, or require";
            return Err(InvalidValue::new("has sslmode=allow, which chatsync does not support", hint));
        }
        if mode.is_some_and(|mode| !["disable", "prefer", "require", "verify-ca", "verify-full"].contains(&mode)) {
            let hint = "write sslmode=disable, prefer, require, verify-ca or verify-full";
            return Err(InvalidValue::new("has an sslmode that does not exist", hint));
        }
        if self.ssl_root_cert.as_deref() == Some("system") {
            if mode.is_some_and(|mode| mode != "verify-full") {
                let hint = "write sslmode=verify-full, or leave sslmode out";
                return Err(InvalidValue::new("has sslrootcert=system with a weaker sslmode", hint));
            }
            // sqlx uses the system's certificates if no file is named.
            self.ssl_root_cert = None;
            self.ssl_mode = Some("verify-full".to_owned());
            return Ok(());
        }
        let is_checked = matches!(mode, Some("require" | "verify-ca" | "verify-full"));
        if is_checked && self.ssl_root_cert.is_none() {
            self.ssl_root_cert = default_root_cert();
        }
        if let Some(path) = self.ssl_root_cert.as_ref().filter(|_| is_checked) {
            check_root_cert(path)?;
            if mode == Some("require") {
                self.ssl_mode = Some("verify-ca".to_owned());
            }
        }
        Ok(())
    }

    fn write(self) -> String {
        // An address needs no lookup of the name, which is needed only to check a certificate.
        let host = self.address.map(|address| ("hostaddr", address)).or(self.host.map(|host| ("host", host)));
        let named = [
            ("port", self.port),
            ("user", self.user.or_else(system_user)),
            ("password", self.password),
            ("dbname", self.database),
            ("sslmode", self.ssl_mode),
            ("sslrootcert", self.ssl_root_cert),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let host = host.map(|(name, value)| (name.to_owned(), value));
        let pairs: Vec<String> = host
            .into_iter()
            .chain(named)
            .chain(self.others)
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, ENCODED)))
            .collect();
        format!("postgres:///?{}", pairs.join("&"))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().and_then(filled)
}

/// Returns the default user: as with psql, the user that runs the program.
fn system_user() -> Option<String> {
    if variable("PGUSER").is_some() {
        return None;
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok().flatten().map(|user| user.name)
}

fn several_hosts() -> InvalidValue {
    let hint = "name one host, or a name that always leads to the primary";
    InvalidValue::new("names several hosts, and chatsync connects to one", hint)
}

/// Returns psql's default certificate file, if it exists.
fn default_root_cert() -> Option<String> {
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let path = home.join(".postgresql/root.crt");
    path.is_file().then(|| path.to_string_lossy().into_owned())
}

/// Refuses a file without certificates: the connection would fail without explanation.
fn check_root_cert(path: &str) -> Result<(), InvalidValue> {
    let certificates = fs::read(path).map_err(|error| {
        let what = format!("names a file in sslrootcert that cannot be read: {error}");
        InvalidValue::new(what, "check path and permissions")
    })?;
    let mut certificates = CertificateDer::pem_slice_iter(&certificates).peekable();
    if certificates.peek().is_none() || certificates.any(|certificate| certificate.is_err()) {
        // The file exists, so its path does not belong to a password.
        let what = format!("names a file in sslrootcert that holds no certificates in PEM form: {path}");
        return Err(InvalidValue::new(what, "it begins with -----BEGIN CERTIFICATE----- and is not cut off"));
    }
    Ok(())
}

fn filled(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn decode(text: &str) -> Result<String, InvalidValue> {
    let is_encoded = |(at, _): (usize, &str)| {
        text.as_bytes().get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(is_encoded) {
        return Err(InvalidValue::new(
            "contains the character %, which is not followed by two hexadecimal digits",
            ENCODE,
        ));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| InvalidValue::new("is not UTF-8 once it is decoded", ENCODE))
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn good(url: &str) -> String {
        normalise(url).unwrap_or_else(|wrong| panic!("{url}: {}", wrong.what))
    }

    fn bad(url: &str) -> String {
        let wrong = normalise(url).expect_err(url);
        format!("{}: {}", wrong.what, wrong.hint)
    }

    #[test]
    fn the_forms_of_libpq_mean_the_same() {
        for (url, same) in [
            ("postgresql://u:p@h:1/db", "postgres:///?host=h&port=1&user=u&password=p&dbname=db"),
            ("postgres://u@/db?host=/dir", "postgres:///?host=%2Fdir&user=u&dbname=db"),
            ("postgres://u:p@/db?host=/dir&port=7", "postgres:///?host=%2Fdir&port=7&user=u&password=p&dbname=db"),
            ("postgres:///db?host=/dir&user=u", "postgres:///?host=%2Fdir&user=u&dbname=db"),
            ("postgres://u@localhost/db?host=/dir", "postgres:///?host=%2Fdir&user=u&dbname=db"),
            ("postgres://u@%2Fdir:7/db", "postgres:///?host=%2Fdir&port=7&user=u&dbname=db"),
            ("postgres://u@[::1]:7/db", "postgres:///?host=%3A%3A1&port=7&user=u&dbname=db"),
            ("postgres://h/db?hostaddr=10.0.0.1", "postgres:///?hostaddr=10.0.0.1&dbname=db"),
            ("postgres://u@h/db?options=-c%20a%3Db", "postgres:///?host=h&user=u&dbname=db&options=-c%20a%3Db"),
            ("postgres:///db?hostaddr=10.0.0.1", "postgres:///?hostaddr=10.0.0.1&dbname=db"),
            ("postgres://u:a:b c\\d@h", "postgres:///?host=h&user=u&password=a%3Ab+c%5Cd"),
            ("postgres://u:%2F%3f%23%40%25@h", "postgres:///?host=h&user=u&password=%2F%3F%23%40%25"),
            (
                "postgres://h/db?pgbouncer=true&schema=x&application_name=me",
                "postgres:///?host=h&dbname=db&application_name=me",
            ),
            ("postgres://h/db?user=a%40b", "postgres:///?host=h&dbname=db&user=a%40b"),
        ] {
            let pairs = |url: &str| {
                let mut pairs: Vec<_> = Url::parse(url)
                    .expect("a URL")
                    .query_pairs()
                    .map(|(name, value)| (name.into_owned(), value.into_owned()))
                    .collect();
                // The default user appears if the URL names none.
                pairs.retain(|(name, value)| name != "user" || value != &system_user().unwrap_or_default());
                pairs.sort();
                pairs
            };
            assert_eq!(pairs(&good(url)), pairs(same), "{url}");
            // psql gets the form for sqlx, so that must be stable.
            assert_eq!(good(&good(url)), good(url));
        }
    }

    #[test]
    fn passwords_that_are_not_encoded_are_refused_and_not_shown() {
        for word in [
            "Qzy#Xkv",
            "/7MXkv",
            "173/Xkv",
            "Qzy?Xkv",
            "Qzy@Xkv",
            "Qzy%zzXkv",
            "1738?Xkv",
            "1738#Xkv",
            "%",
            "%4",
            "%ff",
        ] {
            let problem = bad(&format!("postgres://field_pw:{word}@127.0.0.1:5432/db"));
            assert!(
                problem.contains("percent-encoded") && !problem.contains("Xkv") && !problem.contains("173"),
                "{problem}"
            );
        }
    }

    #[test]
    fn tls_means_what_it_means_to_psql() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().display();
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "AAAA", &certificate[..40], &certificate.replace("AAAA", "*")] {
            fs::write(file.path(), text).expect("written");
            let problem = bad(&format!("postgres://h/db?sslmode=verify-ca&sslrootcert={path}"));
            assert!(problem.contains(&format!("holds no certificates in PEM form: {path}")), "{text}: {problem}");
        }
        fs::write(file.path(), certificate).expect("written");
        let good = |query: &str| good(&format!("postgres://h/db?{query}"));
        assert!(good(&format!("sslmode=require&sslrootcert={path}")).contains("sslmode=verify-ca"));
        assert!(good(&format!("sslmode=verify-full&sslrootcert={path}")).contains("sslmode=verify-full"));
        let system = good("sslrootcert=system");
        assert!(system.contains("sslmode=verify-full") && !system.contains("sslrootcert"), "{system}");
        for query in [
            "sslmode=allow",
            "sslmode=on",
            "sslmode=require&sslrootcert=system",
            "sslmode=verify-ca&sslrootcert=/nowhere",
            "sslcrl=x",
            "require_auth=scram-sha-256",
            "service=x",
        ] {
            bad(&format!("postgres://h/db?{query}"));
        }
    }

    #[test]
    fn an_invalid_url_is_refused_with_an_example() {
        for text in ["host=localhost dbname=x", "mysql://h/db", "localhost:5432/db", "postgres:/h/db"] {
            assert!(bad(text).contains("postgres://user:password@host"), "{text}");
        }
        assert!(bad("postgres://a,b/db").contains("several hosts"));
        assert!(bad("postgres:///db?host=a,b").contains("several hosts"));
        assert!(bad("postgres://[::1/db").contains("not closed"));
        assert!(bad("postgres://h:port/db").contains("no number"));
    }
}

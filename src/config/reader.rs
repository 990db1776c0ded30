//! Reads single keys from the merged layers and collects the problems.

#![expect(clippy::option_option, reason = "outer: is it valid; inner: is it set")]

use std::collections::HashMap;

use config::{Config, File, FileFormat, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};

use super::problem::{InvalidValue, Problem, Problems};
use super::secret::Secret;
use super::sources::{ConfigFile, DEFAULTS, Sources};

const PREFIX: &str = "CHATSYNC__";

/// Prefix of variables meant for chatsync, or for a Kubernetes service named chatsync.
const LIKE_PREFIX: &str = "CHATSYNC_";

/// The merged layers, and the problems found so far.
pub(super) struct Reader {
    values: HashMap<String, Value>,
    /// The path as the user wrote it: the `config` crate rewrites paths.
    file: String,
    problems: Vec<Problem>,
}

impl Reader {
    /// Merges the layers and reports unknown keys.
    pub(super) fn open(sources: &Sources) -> Result<Self, Problems> {
        let file = match &sources.file {
            ConfigFile::Given(path) => path.display().to_string(),
            ConfigFile::None => String::new(),
        };
        let broken = |error| broken(&error, &file);
        let defaults = File::from_str(DEFAULTS, FileFormat::Toml);
        let known = flatten(&Config::builder().add_source(defaults.clone()).build().map_err(broken)?);
        let mut layers = Config::builder().add_source(defaults);
        layers = match &sources.file {
            ConfigFile::None => layers,
            ConfigFile::Given(path) => layers.add_source(File::from(path.as_path()).format(FileFormat::Toml)),
        };
        let merged = layers.add_source(EnvironmentLayer(sources.environment.clone())).build().map_err(broken)?;
        let mut reader = Self { values: flatten(&merged), file, problems: Vec::new() };
        let mut unknown: Vec<String> = reader.values.keys().filter(|key| !known.contains_key(*key)).cloned().collect();
        unknown.sort_unstable();
        for key in unknown {
            let hint = closest(&key, known.keys()).map_or_else(
                || "see config/default.toml for all keys".to_owned(),
                |known| format!("did you mean {known}?"),
            );
            reader.report(&key, "is not a setting of chatsync", &hint);
        }
        reader.report_misspelt_variables(&known, &sources.environment);
        reader.report_unreadable_variables(&sources.unreadable);
        Ok(reader)
    }

    /// Reports variables whose names differ from a setting's only in underscores or case: they would have no effect.
    /// Ignores the variables that Kubernetes sets for a service named chatsync (`CHATSYNC_PORT`): they match no key.
    fn report_misspelt_variables(&mut self, known: &HashMap<String, Value>, environment: &[(String, String)]) {
        for (name, value) in environment {
            if name.starts_with(PREFIX) || value.is_empty() {
                continue;
            }
            let upper = name.to_uppercase();
            let Some(rest) = upper.strip_prefix(PREFIX).or_else(|| upper.strip_prefix(LIKE_PREFIX)) else { continue };
            let key = rest.to_lowercase().replace("__", "_");
            if let Some(meant) = known.keys().find(|known| known.replace('.', "_") == key) {
                self.problems.push(Problem {
                    key: meant.clone(),
                    origin: name.clone(),
                    what: "is set under a name that is not read".to_owned(),
                    hint: format!("write {}", variable(meant)),
                });
            }
        }
    }

    /// Reports variables of chatsync, and those of PostgreSQL's clients that lead to a database, whose values are not
    /// UTF-8. Without them another database would be used.
    fn report_unreadable_variables(&mut self, unreadable: &[String]) {
        const OF_CLIENTS: [&str; 11] = [
            "DATABASE_URL",
            "PGHOST",
            "PGHOSTADDR",
            "PGPORT",
            "PGUSER",
            "PGPASSWORD",
            "PGDATABASE",
            "PGOPTIONS",
            "PGSSLMODE",
            "PGSSLROOTCERT",
            "PGPASSFILE",
        ];
        for name in unreadable {
            if name.starts_with(PREFIX) || OF_CLIENTS.contains(&name.as_str()) {
                self.problems.push(Problem {
                    key: name.clone(),
                    origin: "the environment".to_owned(),
                    what: "is not UTF-8".to_owned(),
                    hint: "write it in UTF-8; in a URL, percent-encode the bytes".to_owned(),
                });
            }
        }
    }

    /// Ends reading. Fails if there was any problem.
    pub(super) fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    /// Reads a required value. `parse` returns the problem and a hint if it is invalid.
    pub(super) fn get<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, InvalidValue>) -> Option<T> {
        let text = self.scalar(key)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.report(key, &wrong.what, &wrong.hint);
                None
            }
        }
    }

    /// Reads a value that may be empty. The outer `None` means that it was invalid.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Option<Option<T>> {
        self.get(key, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) })
    }

    /// Reads any text; empty means not set.
    pub(super) fn text(&mut self, key: &str) -> Option<Option<String>> {
        self.optional(key, |text| Ok(text.to_owned()))
    }

    pub(super) fn bool(&mut self, key: &str) -> Option<bool> {
        self.get(key, |text| {
            text.parse().map_err(|_| InvalidValue::new("is neither true nor false", "write true or false"))
        })
    }

    /// Reads a secret, given directly or as the name of a file: one setting in two forms, of which the later layer
    /// wins. Both forms in one layer are a problem.
    pub(super) fn secret(&mut self, key: &str, file_key: &str) -> Option<Option<Secret>> {
        let path = self.text(file_key)?;
        let value = self.scalar(key)?;
        let (of_value, of_file) = (self.layer(key), self.layer(file_key));
        if path.is_some() && !value.trim().is_empty() && of_value == of_file && of_value > Layer::Defaults {
            let what = format!("is set although {file_key} is, in the same place");
            self.report(key, &what, "leave out one of them");
            return None;
        }
        let Some(path) = path.filter(|_| of_file > of_value || value.trim().is_empty()) else {
            let value = value.trim().to_owned();
            let value = Some(value).filter(|value| !value.is_empty());
            return Some(value.map(|value| Secret::fixed(SecretString::from(value))));
        };
        match Secret::in_file(path.into()) {
            Ok(secret) if secret.get().expose_secret().is_empty() => {
                self.report(file_key, "names a file that is empty", "write the secret into it, on one line");
                None
            }
            Ok(secret) if secret.get().expose_secret().contains(['\n', '\r']) => {
                self.report(file_key, "names a file with several lines", "write only the secret into it, on one line");
                None
            }
            Ok(secret) => Some(Some(secret)),
            Err(error) => {
                self.report(
                    file_key,
                    &format!("names a file that cannot be read: {error}"),
                    "check path and permissions",
                );
                None
            }
        }
    }

    /// Reports a missing value that only this mode requires.
    pub(super) fn require<T>(&mut self, key: &str, value: Option<T>, hint: &str) -> Option<T> {
        if value.is_none() {
            self.report(key, "is missing", &format!("{}: {hint}", variable(key)));
        }
        value
    }

    /// Checks a value that was already read.
    pub(super) fn check<T, U>(
        &mut self,
        key: &str,
        value: T,
        parse: impl FnOnce(T) -> Result<U, InvalidValue>,
    ) -> Option<U> {
        parse(value).map_err(|wrong| self.report(key, &wrong.what, &wrong.hint)).ok()
    }

    pub(super) fn report(&mut self, key: &str, what: &str, hint: &str) {
        let origin = self.origin(key);
        self.problems.push(Problem { key: key.to_owned(), origin, what: what.to_owned(), hint: hint.to_owned() });
    }

    fn scalar(&mut self, key: &str) -> Option<String> {
        let kind = self.values.get(key).map(|value| value.kind.clone());
        match kind {
            Some(ValueKind::Table(_) | ValueKind::Array(_) | ValueKind::Nil) | None => {
                self.report(key, "is not a single value", "see config/default.toml for its form");
                None
            }
            Some(kind) => Some(kind.to_string()),
        }
    }

    /// Returns whether only the defaults set the key.
    pub(super) fn is_default(&self, key: &str) -> bool {
        self.values.get(key).is_none_or(|value| value.origin().is_none())
    }

    fn layer(&self, key: &str) -> Layer {
        match self.values.get(key).and_then(Value::origin) {
            None => Layer::Defaults,
            Some(origin) if origin.starts_with(ENVIRONMENT) => Layer::Environment,
            Some(_) => Layer::File,
        }
    }

    fn origin(&self, key: &str) -> String {
        match self.values.get(key).and_then(Value::origin) {
            None => "the defaults".to_owned(),
            Some(origin) if origin.starts_with(ENVIRONMENT) => origin.replacen(ENVIRONMENT, "", 1),
            Some(_) => self.file.clone(),
        }
    }
}

/// The layer of a value; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Defaults,
    File,
    Environment,
}

const ENVIRONMENT: &str = "environment variable ";

/// The environment as a layer. Each value remembers its variable. Empty variables count as unset.
#[derive(Debug, Clone)]
struct EnvironmentLayer(Vec<(String, String)>);

impl config::Source for EnvironmentLayer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, Value>, config::ConfigError> {
        let mut collected = config::Map::new();
        let is_set = |name: &str| self.0.iter().any(|(other, value)| other == name && !value.is_empty());
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            // `DATABASE_URL` is what PostgreSQL users and hosting platforms know. chatsync's own variable has
            // precedence.
            let own = if name == "DATABASE_URL" && !is_set("CHATSYNC__DATABASE__URL") {
                "CHATSYNC__DATABASE__URL"
            } else {
                name
            };
            if let Some(path) = own.strip_prefix(PREFIX) {
                let origin = format!("{ENVIRONMENT}{name}");
                collected.insert(path.to_lowercase().replace("__", "."), Value::new(Some(&origin), value.clone()));
            }
        }
        Ok(collected)
    }
}

/// Returns the name of the variable that sets a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

fn closest<'a>(key: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    known
        .map(|candidate| (strsim::jaro_winkler(key, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// Returns all leaves by their dotted keys. An empty table counts as a leaf, so that it is reported as well.
fn flatten(config: &Config) -> HashMap<String, Value> {
    let mut leaves = HashMap::new();
    let mut tables: Vec<(String, Value)> = vec![(String::new(), config.cache.clone())];
    while let Some((path, value)) = tables.pop() {
        match value.kind {
            ValueKind::Table(table) if !table.is_empty() || path.is_empty() => {
                tables.extend(
                    table
                        .into_iter()
                        .map(|(name, value)| (if path.is_empty() { name } else { format!("{path}.{name}") }, value)),
                );
            }
            _ => {
                leaves.insert(path, value);
            }
        }
    }
    leaves
}

/// Reports a file that is missing or is not TOML. Nothing else can be checked then.
fn broken(error: &config::ConfigError, file: &str) -> Problems {
    let what = match error {
        config::ConfigError::FileParse { cause, .. } => {
            // Only the first line: the parser's full text quotes the file, which may hold a secret.
            let is_utf16 = std::fs::read(file).is_ok_and(|text| text.contains(&0));
            let hint = if is_utf16 { "; it is UTF-16: save it as UTF-8" } else { "" };
            format!("it is not TOML: {}{hint}", cause.to_string().lines().next().unwrap_or_default())
        }
        other => format!("it cannot be read: {other}"),
    };
    let origin = file.to_owned();
    let hint = "check the path given with --config, and the syntax".to_owned();
    Problems(vec![Problem { key: String::new(), origin, what, hint }])
}

//! Errors of the database, and which of them are temporary.

use std::io;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::limits::ACQUIRE_TIMEOUT;

/// SQLSTATE of a lock wait that timed out.
const LOCK_TIMEOUT: &str = "55P03";

/// SQLSTATE of a write on a standby: a connection that still leads to the former primary after a fail-over.
const READ_ONLY: &str = "25006";

/// A database error. Its text never contains a stored value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("database.url is not a PostgreSQL URL")]
    Url(#[source] sqlx::Error),
    /// No connection, or the log-in was refused.
    #[error("cannot connect to the database at {place}: {}", reason(source))]
    Connect { place: String, source: sqlx::Error },
    #[error(
        "cannot connect to the database at {place}: no answer within 10 s; if a pooler is in between, all its connections may be in use"
    )]
    ConnectTimeout { place: String },
    #[error("the database server is PostgreSQL {major}; chatsync needs 15 or newer")]
    OldServer { major: i32 },
    /// Other encodings cannot store every character.
    #[error(
        "the database has the encoding {encoding}; chatsync needs UTF8, because chats hold characters of every script; hint: createdb -E UTF8 -T template0 NAME"
    )]
    Encoding { encoding: String },
    /// A schema is missing and the role may not create it.
    #[error(
        "schema {schema} is missing, and the role may not create it; hint: CREATE SCHEMA {schema} AUTHORIZATION this role, or GRANT CREATE ON DATABASE: docs/postgresql.md"
    )]
    NoSchema {
        /// `sync` or `chat`.
        schema: &'static str,
    },
    /// The tables are not those of any released version.
    #[error("the database was made by an unreleased version of chatsync; hint: start with a new database")]
    Unreleased,
    /// `database.auto_migrate` is off, and `chatsync migrate` was not run.
    #[error("the database lacks {missing} migration(s): run `chatsync migrate`")]
    NotMigrated { missing: usize },
    /// A migration failed, or the database has migrations that this program does not know.
    #[error("migrating the database failed: {}", migration(.0))]
    Migrate(#[source] MigrateError),
    /// Another session uses a table that a migration changes.
    #[error(
        "the database is not migrated yet: another session uses one of its tables; wait for its query, or end it, and try again"
    )]
    InUse,
    /// A row contains a value that chatsync never writes.
    #[error("the database holds an unexpected value in {column}")]
    Decode { column: &'static str },
    /// A statement or transaction took too long.
    #[error("the database did not answer within {} s{}", timeout.as_secs_f32(), by(holder.as_deref()))]
    Stuck {
        /// `database.timeout`, or less after a stop signal.
        timeout: Duration,
        /// What held it up, if it could be found out.
        holder: Option<String>,
    },
    /// A lock wait timed out.
    #[error("another session holds a lock that is needed{}", by(holder.as_deref()))]
    Locked {
        /// The sessions that hold it, if known.
        holder: Option<String>,
    },
    /// The database stayed unavailable or locked.
    #[error("{}", gave_up(*lasted, last))]
    GaveUp {
        lasted: Duration,
        #[source]
        last: Box<Self>,
    },
    /// Rows were not written although nothing failed.
    #[error("a trigger or rule of the database drops rows of {table}")]
    RowsDropped { table: &'static str },
    #[error("a statement failed: {}", reason(.0))]
    Statement(#[source] sqlx::Error),
}

impl Error {
    /// Whether the error is a deadlock or a serialization failure: the transaction was rolled back and can be retried.
    #[must_use]
    pub fn is_passing_conflict(&self) -> bool {
        matches!(self.sql_state(), Some("40P01" | "40001"))
    }

    /// Whether another session held a lock for longer than a statement waits.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. }) || (self.sql_state() == Some(LOCK_TIMEOUT) && !self.is_raised())
    }

    /// Whether a prepared statement is outdated: a migration changed its columns, or a pooler has lost it. Preparing it
    /// again helps.
    #[must_use]
    pub fn is_outdated_statement(&self) -> bool {
        match (self.sql_state(), self.of_the_server()) {
            // The code only means "not supported", and the message is localized.
            (Some("0A000"), Some(error)) => error.routine() == Some("RevalidateCachedQuery"),
            (Some(code), Some(error)) => is_statement_of_others(code, error.severity()),
            _ => false,
        }
    }

    /// Whether the database is unavailable or out of a resource, and likely to recover. Decided by severity and place,
    /// not by a list of codes: servers and poolers end or refuse sessions for many reasons.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Stuck { .. } | Self::ConnectTimeout { .. } | Self::Locked { .. } => true,
            Self::Connect { place, source } => !is_wrong_setting(place, source),
            _ => self.cause().is_some_and(|error| match error {
                sqlx::Error::Database(_) => self.of_the_server().is_some_and(passes),
                error => is_broken_connection(error),
            }),
        }
    }

    /// Whether the connection is unusable: broken, out of step, or on a server that accepts no writes.
    #[must_use]
    pub fn spoils_the_connection(&self) -> bool {
        matches!(self, Self::Stuck { .. })
            || self.cause().is_some_and(is_broken_connection)
            || self.of_the_server().is_some_and(|error| is_fatal(error) || error.code() == READ_ONLY)
    }

    /// Whether PostgreSQL refuses the rows, not the statement: other rows may be accepted.
    #[must_use]
    pub fn is_about_the_rows(&self) -> bool {
        if matches!(self, Self::RowsDropped { .. }) {
            return true;
        }
        self.of_the_server().is_some_and(|error| {
            // Cardinality (a trigger made two ids equal), data exception, integrity constraint, program limit, WITH CHECK OPTION, a row level security policy (its
            // code is that of missing rights), and what a trigger raises.
            !passes(error)
                && (["21", "22", "23", "54", "44"].contains(&class(error.code()))
                    || error.routine() == Some("ExecWithCheckOptions")
                    || is_raised_by_code(error))
        })
    }

    /// Whether the log-in was refused: the password or the role may have changed.
    #[must_use]
    pub fn is_refused_log_in(&self) -> bool {
        matches!(self.sql_state(), Some("28P01" | "28000"))
    }

    /// Whether a trigger or function raised it, with a code of its choice.
    pub(super) fn is_raised(&self) -> bool {
        self.of_the_server().is_some_and(is_raised)
    }

    /// Whether a row with the same key exists.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.sql_state() == Some("23505")
    }

    /// Whether the role lacks a right.
    pub(super) fn lacks_rights(&self) -> bool {
        self.sql_state() == Some("42501")
    }

    fn sql_state(&self) -> Option<&str> {
        self.of_the_server().map(PgDatabaseError::code)
    }

    fn of_the_server(&self) -> Option<&PgDatabaseError> {
        match self.cause()? {
            sqlx::Error::Database(error) => error.try_downcast_ref(),
            _ => None,
        }
    }

    fn cause(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Statement(error)
            | Self::Connect { source: error, .. }
            | Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Some(error),
            _ => None,
        }
    }
}

/// FATAL and PANIC end the session, whatever the reason.
fn is_fatal(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Whether a RAISE of PL/pgSQL caused it.
fn is_raised(error: &PgDatabaseError) -> bool {
    error.routine() == Some("exec_stmt_raise")
}

/// Whether the statement works later or on another connection. An error raised by a trigger is about the rows, whatever
/// its code.
fn passes(error: &PgDatabaseError) -> bool {
    if pooler_setting(error).is_some() {
        return false;
    }
    is_fatal(error)
        || match class(error.code()) {
            _ if is_raised(error) => false,
            "08" => !is_statement_of_others(error.code(), error.severity()),
            // Out of disk, memory or connections; cancelled or shutting down; a system error.
            "53" | "57" | "58" => true,
            _ => [LOCK_TIMEOUT, READ_ONLY].contains(&error.code()),
        }
}

/// A pooler without support for prepared statements reuses sessions of other clients: the name is taken, unknown, or
/// belongs to another statement.
fn is_statement_of_others(code: &str, severity: PgSeverity) -> bool {
    matches!(code, "26000" | "42P05") || (code == "08P01" && severity == PgSeverity::Error)
}

/// The hint for an error of a pooler that lasts until its settings are fixed. All pooler errors share one code, so the
/// words decide; poolers write English only.
fn pooler_setting(error: &PgDatabaseError) -> Option<&'static str> {
    let settings = [
        ("statement pooling mode", POOL_MODE_HINT),
        ("unsupported startup parameter", STARTUP_PARAMETER_HINT),
        // RDS Proxy.
        ("support command-line options", STARTUP_PARAMETER_HINT),
        ("no such database", LOG_IN_HINT),
    ];
    let is_of_a_pooler = class(error.code()) == "08" || is_fatal(error);
    let is_refused = |words: &str| is_of_a_pooler && error.message().contains(words);
    settings.into_iter().find(|(words, _)| is_refused(words)).map(|(_, hint)| hint)
}

/// Whether it comes from a trigger or within a function: any code is possible, and the message may quote a row.
fn is_raised_by_code(error: &PgDatabaseError) -> bool {
    // The context of a COPY names the position in its input, not a function.
    class(error.code()) == "P0" || error.r#where().is_some_and(|context| !context.starts_with("COPY "))
}

fn is_broken_connection(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Io, PoolTimedOut, Protocol, Tls};
    matches!(error, Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | BeginFailed)
}

/// Whether a log-in fails until a setting is fixed: user, database, rights, parameters of the URL, or TLS. Everything
/// else is temporary, because poolers refuse in many ways.
fn is_wrong_setting(place: &str, error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "28", "3D", "3F", "42"].contains(&class(&code)))
                || error.try_downcast_ref().and_then(pooler_setting).is_some()
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Io(error) => match error.kind() {
            // A certificate is not trusted.
            io::ErrorKind::InvalidData => true,
            // A certificate file is missing. A missing socket is no setting: it appears when the server starts.
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => !place.starts_with('/'),
            _ => false,
        },
        _ => false,
    }
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or_default()
}

impl From<MigrateError> for Error {
    fn from(error: MigrateError) -> Self {
        match &error {
            MigrateError::Execute(sqlx::Error::Database(inner))
            | MigrateError::ExecuteMigration(sqlx::Error::Database(inner), _)
                if inner.code().as_deref() == Some(LOCK_TIMEOUT) =>
            {
                Self::InUse
            }
            _ => Self::Migrate(error),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(error)
    }
}

/// The server's message with SQLSTATE and hint. Leaves out DETAIL and messages of triggers, because they may quote a
/// row.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => {
                let is_silent = is_raised_by_code(error) && !passes(error);
                let said = if is_silent { "a trigger or function raised an error" } else { error.message() };
                format!("{said} (SQLSTATE {}){}", error.code(), hint(error))
            }
            None => error.message().to_owned(),
        },
        sqlx::Error::PoolTimedOut => format!(
            "no connection within {} s; if a pooler is in between, all its connections may be in use",
            ACQUIRE_TIMEOUT.as_secs()
        ),
        other => other.to_string(),
    }
}

fn migration(error: &MigrateError) -> String {
    let cause = match error {
        MigrateError::Execute(sqlx::Error::Database(cause))
        | MigrateError::ExecuteMigration(sqlx::Error::Database(cause), _) => cause.try_downcast_ref(),
        _ => None,
    };
    format!("{error}{}", cause.map_or("", hint))
}

fn hint(error: &PgDatabaseError) -> &'static str {
    if let Some(hint) = pooler_setting(error) {
        return hint;
    }
    match (class(error.code()), error.code()) {
        (_, code) if is_statement_of_others(code, error.severity()) => POOLER_HINT,
        (_, "42P01" | "3F000") => {
            "; hint: the tables are not there: run `chatsync migrate`, or database.url leads to another database than before"
        }
        (_, "42501") => "; hint: docs/postgresql.md lists the GRANTs that each role needs",
        (_, READ_ONLY) => {
            "; hint: database.url must lead to the primary server, and default_transaction_read_only must be off"
        }
        (_, "42P10") => "; hint: a table of schema sync or chat has lost its primary key: add it as in migrations/",
        ("28" | "3D", _) => LOG_IN_HINT,
        _ => "",
    }
}

const LOG_IN_HINT: &str = "; hint: check user, password and database in database.url";

const POOL_MODE_HINT: &str = "; hint: chatsync needs transactions: set pool_mode = transaction (PgBouncer 1.21 or newer, \
    with max_prepared_statements) or pool_mode = session, or let database.url lead to PostgreSQL itself";

const STARTUP_PARAMETER_HINT: &str = "; hint: chatsync sends options only if database.url or PGOPTIONS has them: leave them \
    out and use ALTER ROLE … SET, or let database.url lead to PostgreSQL itself; ignore_startup_parameters = options \
    makes PgBouncer accept the log-in, but without them";

const POOLER_HINT: &str = "; hint: a pooler between chatsync and PostgreSQL does not keep prepared statements: set \
    max_prepared_statements (PgBouncer 1.21 or newer), or pool_mode = session, or let database.url lead to PostgreSQL \
    itself";

fn gave_up(lasted: Duration, last: &Error) -> String {
    let seconds = lasted.as_secs();
    match last {
        last if last.is_outage() && !last.is_locked() && seconds > 0 => {
            format!("the database has been away for {seconds} s; last: {last}")
        }
        last if last.is_outage() && !last.is_locked() => format!("the database is away: {last}"),
        _ => format!("{last}; given up after {seconds} s"),
    }
}

fn by(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(": {holder}"))
}

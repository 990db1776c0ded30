//! What can go wrong with the database, and whether it passes.

use std::io;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use super::ACQUIRE_TIMEOUT;

/// The SQLSTATE of a lock that was waited for too long.
const LOCK_TIMEOUT: &str = "55P03";

/// The SQLSTATE of a write on a standby: after a fail-over, a connection to the former primary.
const READ_ONLY: &str = "25006";

/// A failure of the database, told without any value that was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL.
    #[error("database.url is not a PostgreSQL URL")]
    Url(#[source] sqlx::Error),
    /// No connection, or a refused log-in.
    #[error("cannot connect to the database at {place}: {}", reason(source))]
    Connect {
        /// Host and port, or socket.
        place: String,
        /// The cause.
        source: sqlx::Error,
    },
    /// Nothing answered.
    #[error("cannot connect to the database at {place}: no answer within 10 s")]
    ConnectTimeout {
        /// Host and port, or socket.
        place: String,
    },
    /// Too old a server.
    #[error("the database server is PostgreSQL {major}; chatsync needs 15 or newer")]
    OldServer {
        /// Its major version.
        major: i32,
    },
    /// Text of other scripts could not be stored.
    #[error(
        "the database has the encoding {encoding}; chatsync needs UTF8, because chats hold characters of every script; hint: createdb -E UTF8 -T template0 NAME"
    )]
    Encoding {
        /// Its encoding, as PostgreSQL names it.
        encoding: String,
    },
    /// A schema that is not there, and may not be created.
    #[error(
        "schema {schema} is missing, and the role may not create it; hint: CREATE SCHEMA {schema} AUTHORIZATION this role, or GRANT CREATE ON DATABASE: docs/postgresql.md"
    )]
    NoSchema {
        /// `sync` or `chat`.
        schema: &'static str,
    },
    /// Other tables than those of any released version.
    #[error("the database was made by an unreleased version of chatsync; hint: start with a new database")]
    Unreleased,
    /// `database.auto_migrate` is off, and `chatsync migrate` was not run.
    #[error("the database lacks {missing} migration(s): run `chatsync migrate`")]
    NotMigrated {
        /// How many.
        missing: usize,
    },
    /// A migration failed, or the database holds other migrations than this program.
    #[error("migrating the database failed: {}", migration(.0))]
    Migrate(#[source] MigrateError),
    /// Somebody uses a table that a migration changes.
    #[error(
        "the database is not migrated yet: another session uses one of its tables; wait for its query, or end it, and try again"
    )]
    InUse,
    /// A row holds what chatsync never writes.
    #[error("the database holds an unexpected value in {column}")]
    Decode {
        /// Table and column.
        column: &'static str,
    },
    /// No answer to a statement or transaction.
    #[error("the database did not answer within {} s{}", timeout.as_secs_f32(), by(holder.as_deref()))]
    Stuck {
        /// `database.timeout`, or less once the run is to stop.
        timeout: Duration,
        /// What held it up, if it could be found out.
        holder: Option<String>,
    },
    /// A lock was not had in time.
    #[error("another session holds a lock that is needed{}", by(holder.as_deref()))]
    Locked {
        /// Who, if it could be found out.
        holder: Option<String>,
    },
    /// It stayed away, or locked.
    #[error("{}", gave_up(*lasted, last))]
    GaveUp {
        /// For how long.
        lasted: Duration,
        /// The last failure.
        #[source]
        last: Box<Self>,
    },
    /// A statement failed.
    #[error("a statement failed: {}", reason(.0))]
    Statement(#[source] sqlx::Error),
}

impl Error {
    /// A deadlock or a failed serialization: the transaction was rolled back and can be tried again.
    #[must_use]
    pub fn is_passing_conflict(&self) -> bool {
        matches!(self.sql_state(), Some("40P01" | "40001"))
    }

    /// Another session held a lock for longer than a statement waits.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Locked { .. }) || (self.sql_state() == Some(LOCK_TIMEOUT) && !self.is_raised())
    }

    /// A statement was prepared before a migration changed its columns, or a pooler has forgotten it. Prepared anew, it
    /// works.
    #[must_use]
    pub fn is_outdated_statement(&self) -> bool {
        match (self.sql_state(), self.of_the_server()) {
            // The code says no more than "not supported", and the message says it in the server's language.
            (Some("0A000"), Some(error)) => error.routine() == Some("RevalidateCachedQuery"),
            (Some(code), Some(error)) => is_statement_of_others(code, error.severity()),
            _ => false,
        }
    }

    /// The database is away, or out of something it needs: it is likely to come back. Severity and place decide, not a
    /// list of codes: a server and a pooler have many reasons to end a session or to refuse one for a while.
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

    /// The connection is of no use any more: no one answers at its other end, it is out of step, or its server will
    /// never take a write.
    #[must_use]
    pub fn spoils_the_connection(&self) -> bool {
        matches!(self, Self::Stuck { .. })
            || self.cause().is_some_and(is_broken_connection)
            || self.of_the_server().is_some_and(|error| is_fatal(error) || error.code() == READ_ONLY)
    }

    /// PostgreSQL refuses what is to be written, not the statement as such: other rows may well be accepted.
    #[must_use]
    pub fn is_about_the_rows(&self) -> bool {
        self.of_the_server().is_some_and(|error| {
            // Data exception, integrity constraint, program limit, WITH CHECK OPTION, a policy of row level security (whose
            // code is that of missing rights), and whatever a trigger raises.
            !passes(error)
                && (["22", "23", "54", "44"].contains(&class(error.code()))
                    || error.routine() == Some("ExecWithCheckOptions")
                    || is_raised_by_code(error))
        })
    }

    /// The log-in was refused: the password or the role is another one by now.
    #[must_use]
    pub fn is_refused_log_in(&self) -> bool {
        matches!(self.sql_state(), Some("28P01" | "28000"))
    }

    /// A trigger or function raised it, under a code of its choice.
    pub(super) fn is_raised(&self) -> bool {
        self.of_the_server().is_some_and(is_raised)
    }

    /// A row with the same key is there already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.sql_state() == Some("23505")
    }

    /// The role may not do that.
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

/// A statement RAISE of PL/pgSQL.
fn is_raised(error: &PgDatabaseError) -> bool {
    error.routine() == Some("exec_stmt_raise")
}

/// Whether a statement that met this works later, or on another connection. What a trigger raises is meant for the rows,
/// whatever code it has chosen.
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

/// A pooler that knows nothing of prepared statements hands a session on with those of other clients: the name is
/// taken, or means nothing there, or another statement with other parameters.
fn is_statement_of_others(code: &str, severity: PgSeverity) -> bool {
    matches!(code, "26000" | "42P05") || (code == "08P01" && severity == PgSeverity::Error)
}

/// The hint for what a pooler refuses until someone changes a setting. Its code is that of all failures of a pooler, those
/// that pass included, so its words decide; they are in English everywhere.
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

/// Raised by a trigger, or within another function: its code may be any, and its message may quote a row.
fn is_raised_by_code(error: &PgDatabaseError) -> bool {
    // COPY has a context of its own, which says where in its input it was.
    class(error.code()) == "P0" || error.r#where().is_some_and(|context| !context.starts_with("COPY "))
}

fn is_broken_connection(error: &sqlx::Error) -> bool {
    use sqlx::Error::{BeginFailed, Io, PoolTimedOut, Protocol, Tls};
    matches!(error, Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | BeginFailed)
}

/// What refuses a log-in until someone changes a setting: who logs in and to which database, the rights to do so, the
/// parameters in the URL, and TLS. All else passes: a pooler refuses in many ways.
fn is_wrong_setting(place: &str, error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "28", "3D", "3F", "42"].contains(&class(&code)))
                || error.try_downcast_ref().and_then(pooler_setting).is_some()
        }
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => true,
        sqlx::Error::Io(error) => match error.kind() {
            // A certificate that is not trusted.
            io::ErrorKind::InvalidData => true,
            // The file of a certificate, unless it is the socket, which is there once the server is.
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

/// The server's message and SQLSTATE, and what helps. Its DETAIL line may quote a row, so it stays out, and so does the
/// message of a trigger.
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
        sqlx::Error::PoolTimedOut => format!("no connection within {} s", ACQUIRE_TIMEOUT.as_secs()),
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
        (_, "42501") => "; hint: docs/postgresql.md lists the GRANTs that each role needs",
        (_, READ_ONLY) => "; hint: database.url must lead to the primary server",
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

/// How long it took until patience was at its end.
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

/// Who holds a lock, if it is known.
fn by(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |holder| format!(": {holder}"))
}

//! What can go wrong with the database, and whether it passes.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

/// The SQLSTATE of a lock that was waited for too long.
const LOCK_TIMEOUT: &str = "55P03";

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
    /// `database.auto_migrate` is off, and `chatsync migrate` was not run.
    #[error("the database lacks {missing} migration(s): run `chatsync migrate`")]
    NotMigrated {
        /// How many.
        missing: usize,
    },
    /// A migration failed, or the database holds other migrations than this program.
    #[error("migrating the database failed: {0}")]
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
    #[error("the database did not answer within {} s", timeout.as_secs_f32())]
    Stuck {
        /// `database.timeout`, or less once the run is to stop.
        timeout: Duration,
    },
    /// It stayed away.
    #[error("the database has been away for {} s; last: {last}", lasted.as_secs())]
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
        matches!(self.sql_state().as_deref(), Some("40P01" | "40001"))
    }

    /// A statement was prepared before a migration changed its columns, or a pooler has forgotten it. Prepared anew, it
    /// works.
    #[must_use]
    pub fn is_outdated_statement(&self) -> bool {
        match self.sql_state().as_deref() {
            // The code says no more than "not supported", and the message says it in the server's language.
            Some("0A000") => {
                let error = self.of_the_server().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
                error.and_then(PgDatabaseError::routine) == Some("RevalidateCachedQuery")
            }
            Some("26000") => true,
            _ => false,
        }
    }

    /// The database is away, or out of something it needs: it is likely to come back.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Stuck { .. } | Self::ConnectTimeout { .. } => true,
            Self::Statement(error) | Self::Connect { source: error, .. } => match error {
                sqlx::Error::Database(_) => self.sql_state().is_some_and(|code| is_outage(&code)),
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// PostgreSQL refuses what is to be written, not the statement as such: other rows may well be accepted.
    #[must_use]
    pub fn is_about_the_rows(&self) -> bool {
        // Data exception, integrity constraint, program limit, WITH CHECK OPTION, and what triggers raise.
        self.sql_state().is_some_and(|code| ["22", "23", "54", "44", "P0"].contains(&&code[..2]))
    }

    /// A row with the same key is there already.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.sql_state().as_deref() == Some("23505")
    }

    fn sql_state(&self) -> Option<std::borrow::Cow<'_, str>> {
        self.of_the_server()?.code().filter(|code| code.len() == 5)
    }

    fn of_the_server(&self) -> Option<&(dyn DatabaseError + 'static)> {
        match self {
            Self::Statement(sqlx::Error::Database(error))
            | Self::Connect { source: sqlx::Error::Database(error), .. } => Some(&**error),
            _ => None,
        }
    }
}

/// The SQLSTATEs of a server that is away, starting, stopping, on the wrong side of a fail-over, or out of disk,
/// memory, connections or patience.
fn is_outage(code: &str) -> bool {
    match &code[..2] {
        // Connection exception; insufficient resources; system error.
        "08" | "53" | "58" => true,
        // Shutdown, crash, starting up, idle time-out; a statement or lock time-out; read-only after a fail-over.
        _ => matches!(code, "57P01" | "57P02" | "57P03" | "57P05" | "57014" | LOCK_TIMEOUT | "25006"),
    }
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

/// The server's message and SQLSTATE. Its DETAIL line may quote a row, so it stays out.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (SQLSTATE {code})", error.message()),
            None => error.message().to_owned(),
        },
        other => other.to_string(),
    }
}

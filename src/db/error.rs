//! What can go wrong with the database.

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
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what chatsync never writes.
    #[error("the database holds an unexpected value in {column}")]
    Decode {
        /// Table and column.
        column: &'static str,
    },
    /// A statement failed.
    #[error("a statement failed: {}", reason(.0))]
    Statement(#[source] sqlx::Error),
}

impl Error {
    /// A deadlock or a failed serialization: the transaction was rolled back and can be tried again.
    #[must_use]
    pub fn is_passing_conflict(&self) -> bool {
        let Self::Statement(sqlx::Error::Database(error)) = self else { return false };
        matches!(error.code().as_deref(), Some("40P01" | "40001"))
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

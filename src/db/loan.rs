//! A connection that is lent to an operation, and comes back whatever happens.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgTransactionManager;
use sqlx::{PgConnection, Postgres};
use sqlx_core::transaction::TransactionManager as _;

/// A connection with an open transaction, lent to an operation. Dropping it returns it to the [`Store`](super::Store),
/// which commits or rolls back.
pub struct Transaction {
    connection: Option<PoolConnection<Postgres>>,
    lender: Lender,
}

type Lender = Arc<Mutex<Option<PoolConnection<Postgres>>>>;

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("only drop takes it")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("only drop takes it")
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        *self.lender.lock() = self.connection.take();
    }
}

/// Keeps the connection that is lent to an operation. Dropping the loan rolls back and returns the connection to the
/// pool, or closes it if it is spoilt.
#[derive(Default)]
pub(super) struct Loan {
    lender: Lender,
    pub(super) is_spoilt: bool,
}

impl Loan {
    pub(super) fn lend(&self, connection: PoolConnection<Postgres>) -> Transaction {
        Transaction { connection: Some(connection), lender: Arc::clone(&self.lender) }
    }

    /// Takes back the transaction that an operation has dropped.
    pub(super) fn returned(&self) -> Option<Transaction> {
        let connection = self.lender.lock().take()?;
        Some(self.lend(connection))
    }

    /// Returns the connection now. The drop would do it in the background, and the next operation would open another
    /// one.
    pub(super) async fn give_back(self, within: Duration) {
        if self.is_spoilt {
            return;
        }
        let Some(mut connection) = self.lender.lock().take() else { return };
        PgTransactionManager::start_rollback(&mut connection);
        // A connection that does not answer is closed.
        let _ = tokio::time::timeout(within, connection.return_to_pool()).await;
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut connection) = self.lender.lock().take() else { return };
        if self.is_spoilt {
            // The pool would reuse it, or wait for it as well.
            connection.close_on_drop();
        } else {
            PgTransactionManager::start_rollback(&mut connection);
        }
    }
}

//! Why a run could not proceed.

use super::opening::AllRefused;
use crate::{connect, db};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Database(#[from] db::Error),
    /// A reply of the API that would stop every order.
    #[error(transparent)]
    Api(Box<connect::Error>),
    /// The account or the configuration makes the API refuse every order.
    #[error(transparent)]
    AllRefused(#[from] AllRefused),
    /// A bug: a task of the run panicked.
    #[error("a task of the run ended abnormally")]
    Task(#[from] tokio::task::JoinError),
}

impl From<connect::Error> for Error {
    fn from(error: connect::Error) -> Self {
        Self::Api(Box::new(error))
    }
}

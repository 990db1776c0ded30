//! `COPY … FROM STDIN` in PostgreSQL's binary format: the cheapest way to add many rows.
//!
//! Several rows share one record of the write-ahead log, nothing is looked up before, and no text is parsed. Unlike
//! text, the binary format keeps values out of the server's log should it refuse a row. The values of a row must have
//! the types and the order of the columns that the statement names; nothing checks that at compile time.

use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::PgArgumentBuffer;
use sqlx::{PgConnection, Postgres};

use super::Error;

/// Signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Bytes handed to the connection at once.
const PIECE: usize = 64 * 1024;

/// Rows on their way into a table.
pub(super) struct Rows {
    columns: u16,
    count: u64,
    bytes: PgArgumentBuffer,
}

impl Rows {
    /// No rows yet, of so many columns.
    pub(super) fn new(columns: u16) -> Self {
        let mut bytes = PgArgumentBuffer::default();
        bytes.extend_from_slice(HEADER);
        Self { columns, count: 0, bytes }
    }

    /// Begins a row: so many calls of [`put`](Self::put) must follow as there are columns.
    pub(super) fn begin(&mut self) -> &mut Self {
        self.bytes.extend_from_slice(&self.columns.to_be_bytes());
        self.count += 1;
        self
    }

    /// Adds the row's next value. Fails if it cannot be encoded.
    pub(super) fn put<'q, T: Encode<'q, Postgres>>(&mut self, value: T) -> Result<&mut Self, Error> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        let is_null = value.encode(&mut self.bytes).map_err(sqlx::Error::Encode)?;
        if matches!(is_null, IsNull::No) {
            let length = self.bytes.len() - start - size_of::<i32>();
            let length = i32::try_from(length).map_err(|error| sqlx::Error::Encode(error.into()))?;
            self.bytes[start..start + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
        }
        Ok(self)
    }

    /// Adds the rows with a `COPY … FROM STDIN (FORMAT binary)`; returns how many. None need no statement.
    pub(super) async fn copy(mut self, connection: &mut PgConnection, statement: &str) -> Result<u64, Error> {
        if self.count == 0 {
            return Ok(0);
        }
        self.bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        let mut copy = connection.copy_in_raw(statement).await?;
        // The connection keeps a buffer as large as the largest piece.
        for piece in self.bytes.chunks(PIECE) {
            copy.send(piece).await?;
        }
        Ok(copy.finish().await?)
    }
}

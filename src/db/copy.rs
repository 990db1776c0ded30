//! `COPY … FROM STDIN` in PostgreSQL's binary format: the cheapest way to add many rows.
//!
//! Several rows share one record of the write-ahead log, nothing is looked up before, and no text is parsed. Unlike
//! text, the binary format keeps values out of the server's log should it refuse a row. The values of a row must have
//! the types and the order of the columns that the statement names; nothing checks that at compile time.

use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::{PgArgumentBuffer, PgCopyIn};
use sqlx::{PgConnection, Postgres};

use super::Error;

/// Signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Rows are sent in pieces of about this many bytes. The server works on one while the next is encoded, and neither
/// this side nor the connection holds more of a batch than that.
const PIECE: usize = 64 * 1024;

/// Adds rows with a `COPY … FROM STDIN (FORMAT binary)`; `encode` puts the values of each. Returns how many rows there
/// were. None need no statement.
pub(super) async fn copy<T>(
    connection: &mut PgConnection,
    statement: &str,
    rows: &[T],
    encode: fn(&mut Row, &T) -> Result<(), Error>,
) -> Result<u64, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let mut copy = connection.copy_in_raw(statement).await?;
    let columns = u16::try_from(copy.num_columns()).unwrap_or(u16::MAX).to_be_bytes();
    let mut row = Row(PgArgumentBuffer::default());
    row.0.extend_from_slice(HEADER);
    for values in rows {
        row.0.extend_from_slice(&columns);
        if let Err(error) = encode(&mut row, values) {
            // Otherwise the connection would wait for the rest.
            copy.abort("a value cannot be encoded").await?;
            return Err(error);
        }
        if row.0.len() >= PIECE {
            send(&mut copy, &mut row).await?;
        }
    }
    row.0.extend_from_slice(&TRAILER);
    send(&mut copy, &mut row).await?;
    Ok(copy.finish().await?)
}

async fn send(copy: &mut PgCopyIn<&mut PgConnection>, row: &mut Row) -> Result<(), Error> {
    // A single row may be long, and the connection keeps a buffer as large as the largest piece.
    for piece in row.0.chunks(PIECE) {
        copy.send(piece).await?;
    }
    row.0.clear();
    Ok(())
}

/// The row that is being encoded, after others that are not sent yet.
pub(super) struct Row(PgArgumentBuffer);

impl Row {
    /// Adds the row's next value. Fails if it cannot be encoded.
    pub(super) fn put<'q, T: Encode<'q, Postgres>>(&mut self, value: T) -> Result<&mut Self, Error> {
        let start = self.0.len();
        self.0.extend_from_slice(&(-1_i32).to_be_bytes());
        let is_null = value.encode(&mut self.0).map_err(sqlx::Error::Encode)?;
        if matches!(is_null, IsNull::No) {
            let length = self.0.len() - start - size_of::<i32>();
            let length = i32::try_from(length).map_err(|error| sqlx::Error::Encode(error.into()))?;
            self.0[start..start + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
        }
        Ok(self)
    }
}

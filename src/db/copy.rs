//! `COPY … FROM STDIN` in binary format: the cheapest way to add many rows.
//!
//! Several rows share one WAL record, nothing is looked up first, and no text is parsed. A text COPY would quote
//! refused values in the server log; the binary format does not. The values must have the types of their columns: the
//! compiler does not check that.

use sqlx::encode::{Encode, IsNull};
use sqlx::postgres::{PgArgumentBuffer, PgCopyIn};
use sqlx::{PgConnection, Postgres};

use super::Error;

/// Signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Size of a chunk in bytes. The server works on one while the next is encoded, and a batch is never in memory twice.
const PIECE: usize = 64 * 1024;

/// Adds rows to a table; the list names each column with its value of a row. Fails if a trigger drops some of them. Sends
/// nothing if there are none.
macro_rules! copy_rows {
    ($connection:expr, $table:literal, $rows:expr, |$row:pat_param| { $($column:ident = $value:expr),+ $(,)? }) => {
        $crate::db::copy::copy($connection, $table, &[$(stringify!($column)),+], $rows, |copied, $row| {
            copied$(.put($value)?)+;
            Ok(())
        })
    };
}
pub(super) use copy_rows;

/// As [`copy_rows`]: `encode` appends the values of one row in the order of `columns`.
pub(super) async fn copy<T>(
    connection: &mut PgConnection,
    table: &'static str,
    columns: &[&str],
    rows: &[T],
    encode: fn(&mut CopyRow, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", columns.join(", "));
    let mut copy = connection.copy_in_raw(&statement).await?;
    let columns = u16::try_from(copy.num_columns()).unwrap_or(u16::MAX).to_be_bytes();
    let mut row = CopyRow(PgArgumentBuffer::default());
    row.0.extend_from_slice(HEADER);
    for values in rows {
        row.0.extend_from_slice(&columns);
        if let Err(error) = encode(&mut row, values) {
            // Otherwise the server would wait for the rest.
            copy.abort("a value cannot be encoded").await?;
            return Err(error);
        }
        if row.0.len() >= PIECE {
            send(&mut copy, &mut row).await?;
        }
    }
    row.0.extend_from_slice(&TRAILER);
    send(&mut copy, &mut row).await?;
    if copy.finish().await? < rows.len() as u64 {
        return Err(Error::RowsDropped { table });
    }
    Ok(())
}

async fn send(copy: &mut PgCopyIn<&mut PgConnection>, row: &mut CopyRow) -> Result<(), Error> {
    // Split long rows: the connection keeps a buffer as large as the largest chunk.
    for piece in row.0.chunks(PIECE) {
        copy.send(piece).await?;
    }
    row.0.clear();
    Ok(())
}

/// Encodes rows, and buffers them until they are sent.
pub(super) struct CopyRow(PgArgumentBuffer);

impl CopyRow {
    /// Appends the next value of the row. Fails if it cannot be encoded.
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

//! `sync.rejects`: what could not be understood, kept so that nothing the API said is lost.

use sqlx::PgConnection;
use uuid::Uuid;

use super::Error;
use crate::domain::Settlement;

/// Keeps the rejected parts of a batch.
pub async fn insert(connection: &mut PgConnection, run_id: Uuid, settlements: &[&Settlement]) -> Result<(), Error> {
    let parts: Vec<_> = settlements
        .iter()
        .flat_map(|settled| settled.rejects.iter().map(move |(status, kind, fault)| (settled, status, *kind, fault)))
        .collect();
    if parts.is_empty() {
        return Ok(());
    }
    let statuses: Vec<Option<i16>> =
        parts.iter().map(|(_, status, _, _)| status.and_then(|status| i16::try_from(status).ok())).collect();
    sqlx::query!(
        "INSERT INTO sync.rejects (order_id, run_id, received_at, http_status, kind, json_path, reason, body, body_bytes)
         SELECT order_id, $1, received_at, http_status, kind, json_path, reason, body, body_bytes
         FROM unnest($2::text[], $3::timestamptz[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[])
              AS t (order_id, received_at, http_status, kind, json_path, reason, body, body_bytes)",
        run_id,
        &parts.iter().map(|(settled, ..)| settled.order_id.as_str()).collect::<Vec<_>>() as &[&str],
        &parts.iter().map(|(settled, ..)| settled.answered_at).collect::<Vec<_>>(),
        &statuses as &[Option<i16>],
        &parts.iter().map(|(_, _, kind, _)| *kind).collect::<Vec<_>>() as &[&str],
        &parts.iter().map(|(.., fault)| fault.path.as_str()).collect::<Vec<_>>() as &[&str],
        &parts.iter().map(|(.., fault)| fault.reason.as_str()).collect::<Vec<_>>() as &[&str],
        &parts.iter().map(|(.., fault)| fault.body()).collect::<Vec<_>>() as &[&str],
        &parts.iter().map(|(.., fault)| i64::try_from(fault.body_bytes()).unwrap_or(i64::MAX)).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

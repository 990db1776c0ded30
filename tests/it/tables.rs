//! Placeholder until its tests are written.
use crate::support::{Lab, tests};
use std::sync::Arc;

tests!(works);

async fn works(lab: Arc<Lab>) -> anyhow::Result<()> {
    assert_eq!(lab.leases_left().await?, 0);
    Ok(())
}

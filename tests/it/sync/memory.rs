//! Memory is bounded by configuration, not by the number of orders or by what the API sends.

use std::fs::read_to_string;
use std::sync::Arc;

use anyhow::Context as _;
use chatsync::simulator::{self, Options};

use super::{Process, feed};
use crate::support::{Lab, tests};

tests!(many_large_replies_at_once_do_not_fill_the_memory);

const ORDERS: i32 = 48;
const LIMIT_KIB: u64 = 128 * 1024;

async fn many_large_replies_at_once_do_not_fill_the_memory(lab: Arc<Lab>) -> anyhow::Result<()> {
    feed(&lab, ORDERS).await?;
    let options = Options { faults: vec!["huge:2".parse()?], not_found_share: 0.0, ..Options::default() };
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options).await?;
    let more = [("pace.max_in_flight", "48")];
    let mut sync = Process::start(&lab, lab.configured(&["sync"], &api.base_url(), &more))?;
    let mut peak = 0;
    while !sync.has_ended()? {
        // The process may have ended just before this look.
        peak = sync.peak_memory_kib().unwrap_or(peak);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    sync.ends_with(0).await?;
    // All replies at once would take several times as much: 96 MiB of bytes, then decoded, then as columns.
    assert!((1..LIMIT_KIB).contains(&peak), "{peak} KiB");
    assert_eq!(lab.count("SELECT count(*) FROM chat.orders").await?, i64::from(ORDERS));
    assert!(lab.count("SELECT sum(body_length)::bigint FROM chat.messages").await? > 48 * 1024 * 1024);
    api.stop().await;
    Ok(())
}

impl Process {
    /// The peak memory so far.
    fn peak_memory_kib(&self) -> anyhow::Result<u64> {
        let status = read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak in its status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

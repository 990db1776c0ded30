//! `chatsync run`: the real binary on its own schedule, with signals and outages.
//!
//! Schedules tick every second or almost never. The tests observe the daemon in the database and in its log.

mod failures;
mod rotation;
mod schedule;
mod signals;

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::{Lab, Labs};
use crate::sync::Process;

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let tests = [failures::tests, rotation::tests, schedule::tests, signals::tests];
    tests.iter().flat_map(|tests| tests(labs)).collect()
}

const EVERY_SECOND: (&str, &str) = ("schedule.cron", "* * * * * *");
/// On 29 February.
const HARDLY_EVER: (&str, &str) = ("schedule.cron", "0 0 0 29 2 *");
const AT_ONCE: (&str, &str) = ("schedule.run_on_start", "true");

fn start(lab: &Lab, base_url: &str, more: &[(&str, &str)]) -> anyhow::Result<Process> {
    Process::start(lab, lab.configured(&["run"], base_url, more))
}

//! Processor time and memory of processes, as counted by the kernel.
//!
//! Children of this process are measured everywhere, PostgreSQL and memory peaks only with `/proc`.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Ticks of `/proc/PID/stat` per second: the same on every common Linux.
const TICKS_PER_SECOND: u64 = 100;

/// Returns the processor time of this process.
pub(crate) fn own() -> anyhow::Result<Duration> {
    Ok(both_modes(&getrusage(UsageWho::RUSAGE_SELF)?))
}

/// Returns the processor time of children that have ended and were waited for.
pub(crate) fn ended_children() -> anyhow::Result<Duration> {
    Ok(both_modes(&getrusage(UsageWho::RUSAGE_CHILDREN)?))
}

fn both_modes(usage: &Usage) -> Duration {
    let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    micros(usage.user_time()) + micros(usage.system_time())
}

/// Returns the processor time of a PostgreSQL server: its postmaster, its current processes, and those that have
/// ended.
pub(crate) fn of_postgres(postmaster: u32) -> Option<Duration> {
    loop {
        let before = Stat::of(postmaster)?;
        let children: u64 = fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Stat::of)
            .filter(|stat| stat.parent == postmaster)
            .map(|stat| stat.own_ticks)
            .sum();
        // A process that ends in between is counted in neither, or in both.
        let after = Stat::of(postmaster)?;
        if before.waited_for_ticks == after.waited_for_ticks {
            let ticks = after.own_ticks + after.waited_for_ticks + children;
            return Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND));
        }
    }
}

/// Returns the peak of a process's resident memory, in bytes.
pub(crate) fn peak_resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// The values of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    own_ticks: u64,
    waited_for_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may contain anything, also spaces and brackets.
        let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            waited_for_ticks: number(13)? + number(14)?,
        })
    }
}

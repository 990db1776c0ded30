//! Processor time and memory of processes, as the kernel counts them.
//!
//! This process's children are measured everywhere, PostgreSQL and peaks of memory only where there is `/proc`.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Ticks of `/proc/PID/stat` per second: the same on every Linux that people use.
const TICKS_PER_SECOND: u64 = 100;

/// Of this process, so far.
pub(crate) fn own() -> anyhow::Result<Duration> {
    Ok(both_modes(&getrusage(UsageWho::RUSAGE_SELF)?))
}

/// Of the children of this process that have ended and were waited for.
pub(crate) fn ended_children() -> anyhow::Result<Duration> {
    Ok(both_modes(&getrusage(UsageWho::RUSAGE_CHILDREN)?))
}

fn both_modes(usage: &Usage) -> Duration {
    let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    micros(usage.user_time()) + micros(usage.system_time())
}

/// Of a PostgreSQL server: its postmaster, the processes it has now, and those that it has waited for.
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
        // One that was waited for meanwhile is among neither, or both.
        let after = Stat::of(postmaster)?;
        if before.waited_for_ticks == after.waited_for_ticks {
            let ticks = after.own_ticks + after.waited_for_ticks + children;
            return Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND));
        }
    }
}

/// The most memory that a process has had resident so far, in bytes.
pub(crate) fn peak_resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// A line of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    own_ticks: u64,
    waited_for_ticks: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before may hold anything, spaces and brackets too.
        let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            waited_for_ticks: number(13)? + number(14)?,
        })
    }
}

//! The machine on which the numbers were measured.

use std::fs;

use serde::Serialize;

use crate::postgres::Postgres;

/// The machine and its PostgreSQL.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    processor: Option<String>,
    kernel: Option<String>,
    memory: Option<String>,
    /// Load of the last minute before the first measurement: other processes spoil it.
    load_average: Option<String>,
    postgres: String,
    settings: Vec<(String, String)>,
}

impl Machine {
    pub(crate) async fn look(postgres: &Postgres) -> anyhow::Result<Self> {
        let first_word = |text: String| text.split_whitespace().next().map(str::to_owned);
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: line_of("/proc/cpuinfo", "model name"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(first_word),
            memory: line_of("/proc/meminfo", "MemTotal"),
            load_average: fs::read_to_string("/proc/loadavg").ok().and_then(first_word),
            postgres: postgres.description.clone(),
            settings: postgres.settings().await?,
        })
    }

    /// Describes the machine for people.
    pub(crate) fn lines(&self) -> String {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!(
            "machine     {} cores of {}, memory {}, Linux {}, load average {}\n\
             PostgreSQL  {}\n\x20           {}",
            self.cores,
            known(&self.processor),
            known(&self.memory),
            known(&self.kernel),
            known(&self.load_average),
            self.postgres,
            settings.join(", "),
        )
    }
}

/// Returns the value in the first line `name: value` of a file.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name))?;
    Some(value.trim().to_owned())
}

//! `cargo bench` (`just bench`): measures chatsync against the limits of this machine, in one run.
//!
//! The program starts its own PostgreSQL (`postgres`), and itself again as a mock API (`api`) and as a load generator
//! (`load`). `series` defines what is measured and in which order; `lab::Lab::measure` makes each measurement.
//! `limits` is what PostgreSQL does with the same rows and no worker, `acceptance` holds the project's promises.
//! Nothing is left behind, also after an error or Ctrl-C.

mod acceptance;
mod api;
mod arguments;
mod lab;
mod limits;
mod load;
mod machine;
mod orders;
mod postgres;
mod processor;
mod queue;
mod report;
mod sample;
mod series;
mod server;
mod worker;

use arguments::{Arguments, Plan, Role, SeriesName};
use lab::Lab;
use machine::Machine;
use sample::Results;
use series::{growth, latency, sizes, two_workers};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read();
    match arguments.role {
        Some(Role::Serve) => api::serve(),
        Some(Role::Load(load)) => load::generate(load),
        None => tokio::runtime::Runtime::new()?.block_on(until_signal(bench(&arguments))),
    }
}

/// Drops the work on a signal, and with it everything that it started.
async fn until_signal(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}

async fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    let lab = Lab::open().await?;
    let machine = Machine::look(&lab.postgres).await?;
    let mut results = Results::default();
    measure(&lab, &arguments.plan, &mut results).await?;
    let criteria = acceptance::criteria(&results);
    report::print(&machine, &results, &criteria);
    report::write(&arguments.json, &machine, &arguments.plan, &results, &criteria)?;
    println!("\neverything, with each repetition: {}", arguments.json.display());
    lab.postgres.stop().await
}

async fn measure(lab: &Lab, plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    if plan.includes(SeriesName::Sizes) {
        sizes::measure(lab, plan, results).await?;
    }
    if plan.includes(SeriesName::Latency) {
        latency::measure(lab, plan, results).await?;
    }
    if plan.includes(SeriesName::TwoWorkers) {
        two_workers::measure(lab, plan, results).await?;
    }
    if plan.includes(SeriesName::Growth) {
        growth::measure(lab, plan, results).await?;
    }
    Ok(())
}

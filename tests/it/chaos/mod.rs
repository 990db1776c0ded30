//! Chaos: after any failures, the tables end as after a calm run.
//!
//! Two workers, each with a separate connection to the database, read a simulated shop. A plan drawn from a seed makes
//! the API fail and lie, kills and pauses workers, breaks and stalls connections, ends sessions and locks tables. Then
//! a last calm run is made, and schema `chat` must be the same as after one undisturbed run.
//!
//! `cargo test` runs one short trial with a random seed, which it prints. `CHATSYNC_CHAOS_SEED=n` repeats one;
//! `CHATSYNC_CHAOS_SEEDS=30` runs that many long trials, from seed 1 or that one on.

mod crew;
mod journal;
mod plan;

use std::collections::BTreeSet;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use chatsync::db::queue::{self, Feeding};
use chatsync::domain::{NewOrder, OrderId};
use chatsync::simulator::{self, Options, Running};
use chrono::Utc;
use libtest_mimic::Trial;
use tokio::time::Instant;

use crate::support::{Finished, Lab, Labs};
use crate::sync::until;
use crew::Crew;
use plan::{Event, Plan, Weather};

/// Amount of work and duration of the failures.
#[derive(Clone, Copy)]
struct Form {
    orders: u64,
    lasts: Duration,
    /// Requests in flight per worker: with the latency of the API the work lasts about as long as the failures.
    in_flight: u64,
}

const SHORT: Form = Form { orders: 400, lasts: Duration::from_secs(12), in_flight: 4 };
const WHOLE: Form = Form { orders: 3_000, lasts: Duration::from_secs(45), in_flight: 8 };
const LATENCY: Duration = Duration::from_millis(50);

/// Columns of schema `chat` with the time of writing, or that the API fills in later.
const TIMES: [&str; 5] = ["first_synced_at", "updated_at", "first_seen_at", "observed_at", "closed_at"];
const RECEIPTS: [&str; 2] = ["is_read", "read_at"];

pub(crate) fn tests(labs: &Arc<Labs>) -> Vec<Trial> {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let first = number("CHATSYNC_CHAOS_SEED");
    let name = "it::chaos::whatever_fails_the_tables_end_as_after_a_calm_run";
    let trial = |name: &str, form, seed| labs.trial(name, move |lab| chaos(lab, form, Plan::of(seed, form.lasts)));
    let mut trials = vec![labs.trial("it::chaos::a_seed_means_the_same_plan_each_time", the_same_plan_each_time)];
    match number("CHATSYNC_CHAOS_SEEDS") {
        None => trials.push(trial(name, SHORT, first.unwrap_or_else(|| fastrand::u64(..1_000_000)))),
        Some(seeds) => {
            let first = first.unwrap_or(1);
            trials.extend((first..first + seeds).map(|seed| trial(&format!("{name}_seed_{seed}"), WHOLE, seed)));
        }
    }
    trials
}

async fn the_same_plan_each_time(_: Arc<Lab>) -> anyhow::Result<()> {
    let plan = |seed| Plan::of(seed, WHOLE.lasts);
    for seed in 0..30 {
        ensure!(plan(seed) == plan(seed) && plan(seed) != plan(seed + 3), "seed {seed}");
        for (_, event) in plan(seed).events {
            if let Event::Faults(faults) = event {
                faults.iter().try_for_each(|fault| fault.parse::<simulator::InjectedFault>().map(drop))?;
            }
        }
    }
    Ok(())
}

async fn chaos(lab: Arc<Lab>, form: Form, plan: Plan) -> anyhow::Result<()> {
    let (seed, weather) = (plan.seed, plan.weather);
    eprintln!("chaos: seed {seed}, {weather:?}, {} orders", form.orders);
    let again = if form.orders == WHOLE.orders { "CHATSYNC_CHAOS_SEEDS=1 " } else { "" };
    let again = format!("{again}CHATSYNC_CHAOS_SEED={seed} cargo test --test it -- chaos");
    let result = survive(&lab, form, &plan).await;
    let summary = journal::summary(&lab).await?;
    if form.orders == WHOLE.orders {
        eprintln!("chaos: seed {seed}, {weather:?}: {summary}");
    }
    result.with_context(|| format!("{weather:?}; {summary}; again: {again}"))
}

async fn survive(lab: &Arc<Lab>, form: Form, plan: &Plan) -> anyhow::Result<()> {
    let options = shop(form, plan);
    let calm = calm(lab, &options).await?;
    journal::keep(lab).await?;
    // An order that was just completed cannot have expired: this shows the guard a lie.
    enqueue(lab, &options, plan.weather == Weather::Lies).await?;
    let api = simulator::start(([127, 0, 0, 1], 0).into(), Options { latency: LATENCY, ..options }).await?;
    let settings = settings(form, plan);
    if plan.weather == Weather::Lies {
        // Orders that were read before: of new ones the guard would have to believe a lie beside good replies.
        let run = lab.sync(&api.base_url(), &CREDENTIALS).await?.run;
        ensure!(run.status.as_str() == "succeeded", "{run:?}");
        lab.make_all_due().await?;
    }
    let mut crew = Crew::hire(lab, &api.base_url(), &settings)?;
    endure(lab, &api, &mut crew, plan).await?;

    api.set_faults([]);
    api.set_max_requests_per_second(None);
    crew.dismiss().await?;
    // The pace found during the failures would take time to grow.
    sqlx::query("DELETE FROM sync.pace").execute(&lab.pool).await?;
    last_run(lab, &api, &settings).await?;
    ensure!(lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'pending'").await? == 0, "orders left over");
    // Orders read only before the receipts appeared lack only these.
    agree(&dump(lab, &RECEIPTS).await?, &calm.without_receipts)?;

    api.show_read_receipts();
    lab.make_all_due().await?;
    let open = lab.count("SELECT count(*) FROM sync.order_queue WHERE state = 'open'").await?;
    let before = api.stats();
    last_run(lab, &api, &settings).await?;
    let after = api.stats();
    // A token that lives for seconds may expire on the way to the API: that request is repeated.
    let again = after.unauthorized - before.unauthorized;
    let asked = i64::try_from(after.chat_requests - before.chat_requests - again)?;
    ensure!(asked == open, "{asked} requests for {open} open orders: others are not asked for any more");
    agree(&dump(lab, &[]).await?, &calm.whole)?;
    journal::check(lab).await?;
    if plan.weather == Weather::Outages {
        ensure!(lab.count("SELECT count(*) FROM sync.rejects").await? == 0, "something was not understood");
    }
    nothing_private_was_logged(lab).await?;
    api.stop().await;
    Ok(())
}

/// The shop without failures.
fn shop(form: Form, plan: &Plan) -> Options {
    let usual = Options::default();
    let has_ends = plan.weather != Weather::Lies;
    Options {
        seed: plan.seed,
        orders: form.orders,
        // Fewer orders per user than the guard judges a user by.
        users: form.orders / 4,
        not_found_share: if has_ends { usual.not_found_share } else { 0.0 },
        expired_share: if has_ends { usual.expired_share } else { 0.0 },
        token_lifetime: plan.token_lifetime,
        ..usual
    }
}

/// Schema `chat` after one undisturbed run.
struct Calm {
    whole: BTreeSet<String>,
    without_receipts: BTreeSet<String>,
}

async fn calm(lab: &Lab, options: &Options) -> anyhow::Result<Calm> {
    let other = Lab::open(lab.url()).await?;
    let api = simulator::start(([127, 0, 0, 1], 0).into(), options.clone()).await?;
    api.show_read_receipts();
    enqueue(&other, options, false).await?;
    let run = other.sync(&api.base_url(), &CREDENTIALS).await?.run;
    let calm = Calm { whole: dump(&other, &[]).await?, without_receipts: dump(&other, &RECEIPTS).await? };
    other.close(lab.url()).await?;
    api.stop().await;
    // Partial if some orders had expired before they were enqueued.
    ensure!(
        run.counters.failed + run.counters.dead + run.counters.held == 0 && run.counters.claimed == options.orders,
        "{run:?}"
    );
    Ok(calm)
}

const CREDENTIALS: [(&str, &str); 3] = [
    ("auth.mode", "user_assertion"),
    ("auth.client_id", simulator::CLIENT_ID),
    ("auth.client_secret", simulator::CLIENT_SECRET),
];

fn settings(form: Form, plan: &Plan) -> Vec<(&'static str, String)> {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let (max_failures, share, block) = match plan.weather {
        Weather::Outages => ("1", "0.5", "100"),
        // No order meets garbage in that many runs.
        Weather::Garbage => ("1000", "0.5", "100"),
        Weather::Lies => ("1000", "0", "1"),
    };
    let mut settings: Vec<_> = CREDENTIALS.map(|(key, value)| (key, value.to_owned())).into();
    settings.extend([
        ("api.connect_timeout", "1s".to_owned()),
        ("api.timeout", "2s".to_owned()),
        // Below the size that the simulator calls huge.
        ("api.max_response_bytes", (256 * 1024).to_string()),
        ("pace.max_in_flight", form.in_flight.to_string()),
        ("queue.lease", seconds(plan.lease)),
        ("queue.max_failures", max_failures.to_owned()),
        ("queue.retry_backoff", "1s".to_owned()),
        ("queue.retry_backoff_max", "2s".to_owned()),
        ("queue.refresh_after", seconds(plan.refresh_after)),
        ("database.timeout", seconds(plan.database_timeout)),
        ("database.give_up_after", seconds(plan.database_gives_up_after)),
        ("breaker.give_up_after", seconds(plan.api_gives_up_after)),
        ("guard.max_suspicious_share", share.to_owned()),
        ("guard.min_orders", block.to_owned()),
    ]);
    settings
}

async fn enqueue(lab: &Lab, options: &Options, are_completed: bool) -> anyhow::Result<()> {
    let completed_at = are_completed.then(Utc::now);
    let orders = simulator::orders(options).map(|order| {
        let connect_user_id = Some(order.connect_user_id);
        Ok(NewOrder { connect_user_id, completed_at, ..NewOrder::new(OrderId::new(order.order_id)?) })
    });
    queue::enqueue(&lab.store, &orders.collect::<anyhow::Result<Vec<_>>>()?, &Feeding::of("chaos")).await?;
    Ok(())
}

/// Executes the plan while the workers run.
async fn endure(lab: &Arc<Lab>, api: &Running, crew: &mut Crew, plan: &Plan) -> anyhow::Result<()> {
    let start = Instant::now();
    for (at, event) in &plan.events {
        crew.work_until(start + *at).await?;
        match event {
            Event::Faults(faults) => {
                api.set_faults(faults.iter().map(|fault| fault.parse()).collect::<Result<Vec<_>, _>>()?);
            }
            Event::Limit(limit) => api.set_max_requests_per_second(*limit),
            Event::RevokeTokens => api.revoke_all_tokens(),
            Event::ShowReceipts => api.show_read_receipts(),
            Event::Kill(worker) => crew.kill(*worker).await?,
            Event::Pause(worker, time) => crew.pause(*worker, *time)?,
            Event::Interrupt(worker, times) => (0..*times).try_for_each(|_| crew.interrupt(*worker))?,
            Event::Way(worker, change) => crew.change_way(*worker, change).await?,
            Event::EndSessions => {
                let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND application_name LIKE 'chatsync/%'";
                sqlx::query(end).execute(&lab.pool).await?;
            }
            Event::Lock(time) => {
                let (pool, seconds) = (lab.pool.clone(), time.as_secs_f64());
                tokio::spawn(async move {
                    let mut lock = pool.begin().await?;
                    sqlx::raw_sql("LOCK TABLE chat.messages IN SHARE MODE").execute(&mut *lock).await?;
                    sqlx::query("SELECT pg_sleep($1)").bind(seconds).execute(&mut *lock).await?;
                    lock.rollback().await
                });
            }
        }
    }
    crew.work_until(start + plan.lasts).await
}

/// One calm run, after all failed orders are due again and all runs of dead workers are over.
async fn last_run(lab: &Lab, api: &Running, settings: &[(&'static str, String)]) -> anyhow::Result<()> {
    until(
        lab,
        "SELECT NOT EXISTS (SELECT FROM sync.order_queue
                            WHERE state IN ('pending', 'open') AND failures > 0 AND held_kind IS NULL AND due_at > now())
                AND NOT EXISTS (SELECT FROM sync.runs WHERE status = 'running' AND alive_until >= now())",
    )
    .await?;
    sqlx::query("UPDATE sync.order_queue SET due_at = now() WHERE held_kind IS NOT NULL").execute(&lab.pool).await?;
    let patient = [
        ("database.timeout", "30s"),
        ("database.give_up_after", "60s"),
        ("api.timeout", "30s"),
        ("pace.max_in_flight", "32"),
    ];
    let mut more: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
    more.extend(patient);
    let run = Finished::of(lab.configured(&["sync"], &api.base_url(), &more)).await?;
    // Some orders had expired before they were enqueued, so the run may be partial, but every order is settled.
    let is_well = "SELECT status = 'succeeded' OR (status = 'partial' AND lost > 0 AND failed + dead + held = 0)
                   FROM sync.runs ORDER BY started_at DESC LIMIT 1";
    let is_well: bool = sqlx::query_scalar(is_well).fetch_one(&lab.pool).await?;
    ensure!(is_well, "the last run ended with {:?}:\n{}{}", run.code, run.stderr, run.stdout);
    Ok(())
}

async fn dump(lab: &Lab, without: &[&str]) -> anyhow::Result<BTreeSet<String>> {
    Ok(lab.dump_without("chat", &[&TIMES, without].concat()).await?.into_iter().collect())
}

fn agree(is: &BTreeSet<String>, should_be: &BTreeSet<String>) -> anyhow::Result<()> {
    let (missing, unexpected): (Vec<_>, Vec<_>) =
        (should_be.difference(is).collect(), is.difference(should_be).collect());
    ensure!(
        missing.is_empty() && unexpected.is_empty(),
        "{} row(s) missing, {} unexpected; the first:\n{:#?}\n{:#?}",
        missing.len(),
        unexpected.len(),
        missing.iter().take(3).collect::<Vec<_>>(),
        unexpected.iter().take(3).collect::<Vec<_>>(),
    );
    Ok(())
}

/// After garbage and errors of all kinds no secret, chat text or name may be in a log.
async fn nothing_private_was_logged(lab: &Lab) -> anyhow::Result<()> {
    let mut private: Vec<String> = sqlx::query_scalar(
        "(SELECT DISTINCT body FROM chat.messages WHERE body_length > 15 LIMIT 300)
         UNION ALL (SELECT DISTINCT display_name FROM chat.users WHERE length(display_name) > 8 LIMIT 300)",
    )
    .fetch_all(&lab.pool)
    .await?;
    ensure!(private.len() > 100, "{} texts and names", private.len());
    private.push(simulator::CLIENT_SECRET.to_owned());
    for file in std::fs::read_dir(lab.home.path())? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(&path)?;
            let leak = private.iter().find(|text| log.contains(text.as_str()));
            ensure!(leak.is_none() && !log.contains("panicked"), "{leak:?} in {log}");
        }
    }
    Ok(())
}

//! Databases in practice: not up yet, in another encoding, behind a pooler, or managed by a DBA.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use nix::sys::signal::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};

use super::{migrate, with_database, with_empty_database};
use crate::support::http::Recorder;
use crate::support::pooler::{Mode, Pooler};
use crate::support::proxy::Proxy;
use crate::support::{Finished, Lab, tests};
use crate::sync::{Process, simulated};

tests!(
    the_daemon_waits_until_the_database_is_there,
    a_signal_ends_the_daemon_while_it_waits_for_the_database,
    other_commands_wait_for_a_while,
    log_ins_refused_for_a_while_are_waited_for_at_the_start,
    wrong_settings_are_reported_at_once,
    an_encoding_other_than_utf8_is_refused_before_anything_is_written,
    a_pooler_without_prepared_statements_is_named,
    what_a_pooler_refuses_by_its_settings_is_not_waited_for,
    the_documented_grants_are_enough,
    the_owner_of_the_schemas_may_be_someone_else,
    a_schema_that_may_not_be_created_is_named,
    row_level_security_works,
);

const NOWHERE: &str = "http://127.0.0.1:9";

async fn the_daemon_waits_until_the_database_is_there(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    proxy.refuse().await;
    let run = Process::start(&lab, lab.configured(&["run"], NOWHERE, &[("database.url", proxy.url())]))?;
    run.logs("waiting for the database: cannot connect to the database at 127.0.0.1:").await?;
    proxy.resume()?;
    run.logs("next run").await?;
    run.send(Signal::SIGTERM)?;
    run.ends_with(0).await?;
    Ok(())
}

async fn a_signal_ends_the_daemon_while_it_waits_for_the_database(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    proxy.refuse().await;
    let run = Process::start(&lab, lab.configured(&["run"], NOWHERE, &[("database.url", proxy.url())]))?;
    run.logs("waiting for the database").await?;
    run.send(Signal::SIGTERM)?;
    let log = run.ends_with(0).await?;
    assert_eq!(log.matches("waiting for the database").count(), 1, "once a minute: {log}");
    Ok(())
}

async fn other_commands_wait_for_a_while(lab: Arc<Lab>) -> anyhow::Result<()> {
    let mut proxy = Proxy::start(lab.url())?;
    proxy.refuse().await;
    let url = proxy.url().to_owned();
    let short = [("database.url", &*url), ("database.wait_at_start", "1s")];
    let status = Finished::of(lab.configured(&["status"], NOWHERE, &short)).await?.expect_code(1);
    assert!(status.stderr.contains("error: cannot connect to the database at 127.0.0.1:"), "{}", status.stderr);
    let patient = [("database.url", &*url), ("database.wait_at_start", "1h")];
    let status = Process::start(&lab, lab.configured(&["status"], NOWHERE, &patient))?;
    status.logs("waiting for the database").await?;
    proxy.resume()?;
    status.ends_with(0).await?;
    proxy.refuse().await;
    let status = Process::start(&lab, lab.configured(&["status"], NOWHERE, &patient))?;
    status.logs("waiting for the database").await?;
    status.send(Signal::SIGTERM)?;
    let log = status.ends_with(1).await?;
    assert!(log.contains("error: stopped by a signal before the database was there"), "{log}");
    Ok(())
}

async fn log_ins_refused_for_a_while_are_waited_for_at_the_start(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    for code in ["57P03", "53300", "XX000", "08P01", "58000"] {
        proxy.refuse_log_ins(&[code, code]);
        Finished::of(lab.configured(&["status"], NOWHERE, &[("database.url", proxy.url())])).await?.expect_code(0);
    }
    Ok(())
}

async fn wrong_settings_are_reported_at_once(lab: Arc<Lab>) -> anyhow::Result<()> {
    let proxy = Proxy::start(lab.url())?;
    let patient = [("database.url", proxy.url()), ("database.wait_at_start", "1d")];
    for command in ["status", "run"] {
        for code in ["28P01", "28000", "3D000", "42501", "22023"] {
            proxy.refuse_log_ins(&[code]);
            let shown = Finished::of(lab.configured(&[command], NOWHERE, &patient)).await?.expect_code(1).stderr;
            assert!(shown.contains(&format!("(SQLSTATE {code})")) && !shown.contains("waiting for"), "{shown}");
        }
    }
    // No server speaks TLS here.
    let url = format!("{}{}sslmode=require", proxy.url(), if proxy.url().contains('?') { '&' } else { '?' });
    proxy.refuse_log_ins(&["28000"]);
    let tls = [("database.url", &*url), ("database.wait_at_start", "1d")];
    let shown = Finished::of(lab.configured(&["status"], NOWHERE, &tls)).await?.expect_code(1).stderr;
    assert!(shown.contains("server does not support TLS"), "{shown}");
    Ok(())
}

async fn an_encoding_other_than_utf8_is_refused_before_anything_is_written(lab: Arc<Lab>) -> anyhow::Result<()> {
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII"] {
        let options = format!("TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'");
        with_database(&lab, &options, async |url| {
            let refused = migrate(&lab, url).await?.expect_code(1).stderr;
            assert!(refused.contains(&format!("error: the database has the encoding {encoding}; ")), "{refused}");
            assert!(refused.contains("hint: createdb -E UTF8 -T template0"), "{refused}");
            let mut connection = connect(url).await?;
            let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('sync', 'chat')";
            let schemas: i64 = sqlx::query_scalar(schemas).fetch_one(&mut connection).await?;
            assert_eq!(schemas, 0);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn a_pooler_without_prepared_statements_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    let pooler = Pooler::start(lab.url(), Mode::Transaction).await?;
    let mut shown = Vec::new();
    for _ in 0..3 {
        let mut status = lab.command(&["status"]);
        status.env("DATABASE_URL", pooler.url());
        let finished = Finished::of(status).await?;
        assert!(!finished.stdout.contains("not counted"), "not what keeps them from being counted: {finished:?}");
        if finished.code == Some(1) {
            shown.push(finished.stderr);
        }
    }
    let shown = shown.first().context("it worked?")?;
    assert!(shown.contains("max_prepared_statements (PgBouncer 1.21 or newer), or pool_mode = session"), "{shown}");
    Ok(())
}

async fn what_a_pooler_refuses_by_its_settings_is_not_waited_for(lab: Arc<Lab>) -> anyhow::Result<()> {
    for (parameter, hint) in [
        ("jit=off", "(SQLSTATE 08P01); hint: chatsync needs transactions: set pool_mode = transaction"),
        (
            "options=-c%20jit%3Doff",
            "(SQLSTATE 08P01); hint: chatsync sends options only if database.url or PGOPTIONS has",
        ),
    ] {
        for command in ["status", "run"] {
            let pooler = Pooler::start(lab.url(), Mode::Statement).await?;
            let url = format!("{}{}{parameter}", pooler.url(), if pooler.url().contains('?') { '&' } else { '?' });
            let patient = [("database.url", &*url), ("database.wait_at_start", "1d")];
            let shown = Finished::of(lab.configured(&[command], NOWHERE, &patient)).await?.expect_code(1).stderr;
            assert!(shown.contains(hint) && !shown.contains("waiting for"), "{shown}");
        }
    }
    Ok(())
}

async fn the_documented_grants_are_enough(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_roles(&lab, async |url, roles| {
        let mut dba = connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(roles.named(&block("dba")?))).execute(&mut dba).await?;
        migrate(&lab, &roles.url("chatsync_owner")?).await?.expect_code(0);
        let mut owner = connect(&roles.url("chatsync_owner")?).await?;
        sqlx::raw_sql(AssertSqlSafe(roles.named(&block("owner")?))).execute(&mut owner).await?;
        works(&lab, &roles.url("chatsync_worker")?).await?;

        let mut reader = connect(&roles.url("chat_reader")?).await?;
        let read = "SELECT count(*) FROM chat.orders JOIN chat.messages USING (order_id)";
        sqlx::query(read).execute(&mut reader).await?;
        assert!(sqlx::query("SELECT FROM sync.order_queue").execute(&mut reader).await.is_err());
        assert!(sqlx::query("DELETE FROM chat.orders").execute(&mut reader).await.is_err());
        // Fewer rights are not enough, and the error names the page.
        let less = roles.named("REVOKE INSERT ON sync.runs FROM chatsync_worker");
        sqlx::raw_sql(AssertSqlSafe(less)).execute(&mut owner).await?;
        let worker = roles.url("chatsync_worker")?;
        let sync = lab.configured(&["sync"], NOWHERE, &[("database.url", &worker)]);
        let refused = Finished::of(sync).await?.expect_code(1).stderr;
        assert!(refused.contains("hint: docs/postgresql.md lists the GRANTs"), "{refused}");
        Ok(())
    })
    .await
}

async fn the_owner_of_the_schemas_may_be_someone_else(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_roles(&lab, async |url, roles| {
        let schemas = roles.named(
            "CREATE SCHEMA sync; CREATE SCHEMA chat; GRANT CREATE, USAGE ON SCHEMA sync, chat TO chatsync_owner",
        );
        sqlx::raw_sql(AssertSqlSafe(schemas)).execute(&mut connect(url).await?).await?;
        let owner = roles.url("chatsync_owner")?;
        migrate(&lab, &owner).await?.expect_code(0);
        migrate(&lab, &owner).await?.expect_code(0);
        works(&lab, &owner).await?;
        Ok(())
    })
    .await
}

async fn a_schema_that_may_not_be_created_is_named(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_roles(&lab, async |_, roles| {
        let refused = migrate(&lab, &roles.url("chatsync_owner")?).await?.expect_code(1).stderr;
        assert!(refused.contains("schema sync is missing"), "{refused}");
        assert!(refused.contains("hint: CREATE SCHEMA sync AUTHORIZATION"), "{refused}");
        Ok(())
    })
    .await
}

async fn row_level_security_works(lab: Arc<Lab>) -> anyhow::Result<()> {
    with_roles(&lab, async |url, roles| {
        migrate(&lab, url).await?.expect_code(0);
        let mut dba = connect(url).await?;
        sqlx::raw_sql(AssertSqlSafe(roles.named(&block("owner")?))).execute(&mut dba).await?;
        sqlx::raw_sql(
            "DO $$ DECLARE t regclass; BEGIN
                     FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relname <> 'migrations'
                              AND relnamespace IN ('sync'::regnamespace, 'chat'::regnamespace) LOOP
                         EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
                         EXECUTE format('CREATE POLICY all_rows ON %s USING (true)', t);
                     END LOOP;
                 END $$",
        )
        .execute(&mut dba)
        .await?;
        let log = works(&lab, &roles.url("chatsync_worker")?).await?;
        assert!(log.contains("row level security is in force"), "{log}");

        // A policy that refuses a row fails only its order.
        let policy = "CREATE POLICY none_of_it ON chat.messages AS RESTRICTIVE USING (true)
                      WITH CHECK (order_id <> 'order-5')";
        sqlx::raw_sql(policy).execute(&mut dba).await?;
        let api = Recorder::start(simulated).await;
        let (worker, more) = (roles.url("chatsync_worker")?, b"order-4\norder-5\norder-6\n");
        let database = [("database.url", worker.as_str())];
        Finished::of_input(lab.configured(&["enqueue"], api.url(), &database), more).await?.expect_code(0);
        Finished::of(lab.configured(&["sync"], api.url(), &database)).await?.expect_code(3);
        let failed = "SELECT string_agg(order_id || ' ' || last_error_kind, ',') FROM sync.order_queue
                      WHERE last_error IS NOT NULL";
        let failed: Option<String> = sqlx::query_scalar(failed).fetch_one(&mut dba).await?;
        assert_eq!(failed.as_deref(), Some("order-5 not_storable"));
        Ok(())
    })
    .await
}

/// Enqueues and fetches three orders, and runs status. Returns the log of the run.
async fn works(lab: &Lab, url: &str) -> anyhow::Result<String> {
    let api = Recorder::start(simulated).await;
    let database = [("database.url", url)];
    let enqueue = lab.configured(&["enqueue"], api.url(), &database);
    Finished::of_input(enqueue, b"order-1\norder-2\norder-3\n").await?.expect_code(0);
    let sync = Finished::of(lab.configured(&["sync"], api.url(), &database)).await?.expect_code(0);
    for arguments in [
        &["retry", "--order", "order-1"][..],
        &["sync"],
        &["confirm", "--dry-run"],
        &["status"],
        &["status", "--failing"],
        &["plan"],
        &["why", "order-1"],
    ] {
        Finished::of(lab.configured(arguments, api.url(), &database)).await?.expect_code(0);
    }
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM chat.orders").fetch_one(&mut connect(url).await?).await?;
    assert_eq!(stored, 3);
    Ok(sync.stderr)
}

/// The roles of docs/postgresql.md under unique names, because roles belong to the whole server.
struct Roles {
    url: String,
    suffix: String,
}

const ROLES: [&str; 3] = ["chatsync_owner", "chatsync_worker", "chat_reader"];

impl Roles {
    /// SQL with the names of these roles.
    fn named(&self, sql: &str) -> String {
        ROLES.iter().fold(sql.to_owned(), |sql, role| sql.replace(role, &format!("{role}_{}", self.suffix)))
    }

    fn url(&self, role: &str) -> anyhow::Result<String> {
        let mut url = url::Url::parse(&self.url)?;
        let user = self.named(role);
        url.set_username(&user).and_then(|()| url.set_password(Some("secret"))).ok().context("a URL with a host")?;
        Ok(url.into())
    }
}

/// Creates an empty database and the roles, and drops both after `test` in any case.
async fn with_roles(lab: &Lab, test: impl AsyncFnOnce(&str, &Roles) -> anyhow::Result<()>) -> anyhow::Result<()> {
    with_empty_database(lab, async |url| {
        let suffix = uuid::Uuid::new_v4().simple().to_string()[..12].to_owned();
        let roles = Roles { url: url.to_owned(), suffix };
        let mut connection = connect(url).await?;
        for role in ROLES {
            let create = roles.named(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"));
            sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        }
        let result = AssertUnwindSafe(test(url, &roles)).catch_unwind().await;
        for role in ROLES {
            let drop = roles.named(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
        }
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
    .await
}

/// A block of SQL of docs/postgresql.md.
fn block(name: &str) -> anyhow::Result<String> {
    let page = include_str!("../../../docs/postgresql.md");
    let start = format!("```sql {name}\n");
    let (_, block) = page.split_once(&start).with_context(|| start.clone())?;
    Ok(block.split_once("```").context("an end")?.0.to_owned())
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    Ok(url.parse::<PgConnectOptions>()?.connect().await?)
}

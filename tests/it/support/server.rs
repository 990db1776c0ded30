//! The real PostgreSQL that all integration tests share; every test creates a database in it.
//!
//! Chosen in this order, reported with the reason on stderr: `TEST_DATABASE_URL` (a role that may create databases), a
//! container of `TEST_POSTGRES_IMAGE` (default [`DEFAULT_IMAGE`]) if a Docker engine answers, the PostgreSQL binaries
//! of this machine. An explicitly chosen server is used or refused, never replaced silently.
//!
//! `main` starts it before the first test and stops it after the last. Dropping a [`Server`] cleans up as well, but
//! does not report errors.
//!
//! Errors of sqlx and testcontainers contain their sources in the text, so they are quoted, not chained.

use std::{env, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use chatsync::embedded::{DataDir, Embedded};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _,
    bollard::{Docker, errors::Error as DockerError, query_parameters::RemoveContainerOptionsBuilder},
    core::{IntoContainerPort as _, Mount, WaitFor, client::docker_client_instance, wait::LogWaitStrategy},
    runners::AsyncRunner as _,
};
use tokio::time::timeout;
use uuid::Uuid;

const DEFAULT_IMAGE: &str = "postgres:17-alpine";
const PORT: u16 = 5432;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const PULL_TIMEOUT: Duration = Duration::from_mins(2);

/// Test data need not survive a crash.
const SETTINGS: [&str; 4] = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200"];

/// A running PostgreSQL, and what keeps it running.
pub(crate) struct Server {
    admin_url: String,
    keeper: Keeper,
}

enum Keeper {
    /// A given server: never stopped.
    External,
    Container(Box<ContainerAsync<GenericImage>>),
    Embedded(Embedded),
}

impl Server {
    /// Starts or finds the server. Fails if the chosen one cannot be used, or if there is none.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        if let Some(url) = variable("TEST_DATABASE_URL") {
            return Self::given(url).await.context("TEST_DATABASE_URL cannot be used");
        }
        let asked_for = variable("TEST_POSTGRES_IMAGE");
        let why_no_container = match engine().await {
            Err(reason) => {
                let ignored = asked_for.map_or("", |_| ", so TEST_POSTGRES_IMAGE is not used");
                format!("no engine answers{ignored}: {reason:#}")
            }
            Ok(docker) => match Self::container(&docker, asked_for.as_deref().unwrap_or(DEFAULT_IMAGE)).await {
                Ok(server) => return Ok(server),
                Err(error) if asked_for.is_some() => {
                    return Err(error.context("TEST_POSTGRES_IMAGE cannot be used"));
                }
                Err(error) => format!("{error:#}"),
            },
        };
        Self::embedded(&why_no_container).await
    }

    /// A database that always exists, with a role that may create others. Contains a password: not for logs.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Stops what was started. Fails if a container or process may be left.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self.keeper {
            Keeper::External => Ok(()),
            Keeper::Container(container) => container.rm().await.context("removing the container failed"),
            Keeper::Embedded(server) => server.stop().await.context("stopping PostgreSQL failed"),
        }
    }

    async fn given(url: String) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse().map_err(|error| anyhow!("it is no database URL: {error}"))?;
        let place = format!("{}:{}", options.get_host(), options.get_port());
        let may_create = async {
            let mut connection = options.connect().await?;
            sqlx::query_scalar::<_, bool>("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user")
                .fetch_one(&mut connection)
                .await
        };
        let may_create = timeout(ANSWER_TIMEOUT, may_create)
            .await
            .with_context(|| format!("{place} does not answer"))?
            .map_err(|error| anyhow!("connecting to {place} failed: {error}"))?;
        ensure!(may_create, "its role may not create databases: ALTER ROLE … CREATEDB");
        eprintln!("test database: TEST_DATABASE_URL, {place}");
        Ok(Self { admin_url: url, keeper: Keeper::External })
    }

    async fn container(docker: &Docker, image: &str) -> anyhow::Result<Self> {
        // Docker publishes the port on every address of this machine, so the password must be random.
        let password = Uuid::new_v4().simple().to_string();
        let name = format!("chatsync-test-{}", Uuid::new_v4().simple());
        let request = with_image(request(image, &name, &password), docker, image).await?;

        let container = match request.start().await {
            Ok(container) => container,
            Err(error) => {
                // testcontainers does not remove a container that was created but did not start.
                let anyway = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                docker.remove_container(&name, Some(anyway)).await.ok();
                return Err(anyhow!("starting a container of {image} failed: {error}"));
            }
        };
        let port = container.get_host_port_ipv4(PORT.tcp()).await?;
        // The port is for IPv4; `localhost` may mean ::1, where another server may use the same number.
        let host = match container.get_host().await?.to_string() {
            local if local == "localhost" => "127.0.0.1".to_owned(),
            host => host,
        };
        eprintln!("test database: testcontainers, image {image}");
        Ok(Self {
            admin_url: format!("postgres://postgres:{password}@{host}:{port}/postgres"),
            keeper: Keeper::Container(Box::new(container)),
        })
    }

    async fn embedded(why_no_container: &str) -> anyhow::Result<Self> {
        let server = Embedded::start(DataDir::ThrowAway).await.with_context(|| {
            format!("there is no PostgreSQL for the tests (Docker: {why_no_container}); set TEST_DATABASE_URL")
        })?;
        eprintln!("test database: embedded {} (Docker: {why_no_container})", server.description());
        Ok(Self { admin_url: server.url().to_owned(), keeper: Keeper::Embedded(server) })
    }
}

/// Reads an environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the Docker engine of testcontainers, if it answers.
async fn engine() -> anyhow::Result<Docker> {
    let docker = docker_client_instance().await?;
    timeout(ANSWER_TIMEOUT, docker.ping()).await.context("asking it took too long")??;
    Ok(docker)
}

fn request(image: &str, container: &str, password: &str) -> ContainerRequest<GenericImage> {
    // A colon before the last slash belongs to the port of the registry.
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    };
    // PostgreSQL prints it twice: for the server that initialises the data directory, and for the final one.
    let ready = LogWaitStrategy::stdout_or_stderr("database system is ready to accept connections").with_times(2);
    GenericImage::new(name, tag)
        .with_exposed_port(PORT.tcp())
        .with_wait_for(WaitFor::log(ready))
        .with_container_name(container)
        .with_env_var("POSTGRES_PASSWORD", password)
        .with_env_var("PGDATA", "/pgdata/data")
        .with_mount(Mount::tmpfs_mount("/pgdata"))
        .with_cmd(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
}

/// Returns the request once its image is here. Fails after [`PULL_TIMEOUT`].
async fn with_image(
    request: ContainerRequest<GenericImage>,
    docker: &Docker,
    image: &str,
) -> anyhow::Result<ContainerRequest<GenericImage>> {
    match docker.inspect_image(image).await {
        Ok(_) => return Ok(request),
        Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
        Err(error) => return Err(anyhow!("looking for image {image} failed: {error}")),
    }
    eprintln!("test database: pulling {image} …");
    timeout(PULL_TIMEOUT, request.pull_image())
        .await
        .with_context(|| format!("pulling image {image} took more than {PULL_TIMEOUT:?}"))?
        .map_err(|error| anyhow!("image {image} is not here: {error}"))
}

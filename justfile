# What people do with this project, by name. `just` lists them; .ci/run does the same things.

# list the recipes
default:
    @just --list

# everything at once, nothing to install: embedded PostgreSQL, simulated API, a sync, a look at the tables
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# all tests
test *ARGS:
    cargo test {{ ARGS }}

# all tests against a PostgreSQL in a container, made from this machine's own if none can be pulled
test-container:
    TEST_POSTGRES_IMAGE=$(script/postgres-image) cargo test

# spoilt replies and files for so many seconds each, two processors at work; on failure it prints the input
fuzz SECONDS="600":
    CHATSYNC_FUZZ_SECONDS={{ SECONDS }} cargo test --test fuzz -- --nocapture

# everything that can fail, at once and again and again: trials of a minute each; CHATSYNC_CHAOS_SEED names the first seed
chaos SEEDS="30":
    CHATSYNC_CHAOS_SEEDS={{ SEEDS }} cargo test --test it -- chaos

# chatsync measured against the limits of this machine; `just bench --quick` for a first look, `--help` for the choices
bench *ARGS:
    cargo bench --bench sync -- {{ ARGS }}

# format, lints, documentation, checked statements
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
    script/prepare --check

# refresh .sqlx after a change to a statement or a migration
prepare:
    script/prepare

# PostgreSQL, the simulated API and the worker in containers
up:
    docker compose up --build

# what runs before a change lands
ci:
    .ci/run

# Common tasks. `just` lists them; .ci/run runs the same commands.

# list the recipes
default:
    @just --list

# everything at once, nothing to install: embedded PostgreSQL, simulated API, a sync, a look at the tables
demo *ARGS:
    cargo run --release -- demo {{ ARGS }}

# all tests
test *ARGS:
    cargo test {{ ARGS }}

# all tests on a PostgreSQL in a container, built from that of this machine if none can be pulled
test-container:
    TEST_POSTGRES_IMAGE=$(script/postgres-image) cargo test

# malformed replies and files for so many seconds each, on two processors; prints the input on failure
fuzz SECONDS="600":
    CHATSYNC_FUZZ_SECONDS={{ SECONDS }} cargo test --test fuzz -- --nocapture

# all failures at once: trials of a minute each; CHATSYNC_CHAOS_SEED sets the first seed
chaos SEEDS="30":
    CHATSYNC_CHAOS_SEEDS={{ SEEDS }} cargo test --test it -- chaos

# chatsync against the limits of this machine; `just bench --quick` for a first look, `--help` for the options
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

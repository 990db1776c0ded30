# chatsync as a container: `docker build -t chatsync .`, then see docker-compose.yml for what it needs.

FROM rust:1.95-bookworm AS build
WORKDIR /chatsync

# The dependencies first: this layer stays cached until Cargo.toml or Cargo.lock changes. Afterwards everything of the
# empty package is cleaned away, or cargo would take it for the newer one (COPY keeps the times of the sources).
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY vendor vendor
RUN mkdir src && echo 'fn main() {}' >src/main.rs && touch src/lib.rs \
    && cargo build --locked --release \
    && cargo clean --release --package chatsync

COPY migrations migrations
COPY config config
COPY .sqlx .sqlx
COPY src src
RUN cargo build --locked --release

FROM debian:bookworm-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="chatsync" \
    org.opencontainers.image.description="Keeps Instacart Connect order conversations in PostgreSQL" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"

# The roots that TLS connections are checked against, without a package manager's run for one file.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /chatsync/target/release/chatsync /usr/local/bin/chatsync

# A number, so that Kubernetes can see that it is not root. The program writes no files.
USER 10001:10001
# The program is process 1 and takes SIGTERM itself: it finishes what is under way; a second signal stops it at once.
STOPSIGNAL SIGTERM
ENTRYPOINT ["chatsync"]
CMD ["run"]

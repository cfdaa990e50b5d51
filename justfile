# What is done often, by name. Each recipe is one cargo command that works without `just` too.

# `just SEED=42 sim` sets this; `just sim SEED=42` and `just sim 42` pass an argument.
SEED := ''

# What there is.
default:
    @just --list --unsorted

# Format everything.
fmt:
    cargo fmt --all

# What must be clean before a commit.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# All tests.
test *args:
    cargo test --workspace {{ args }}

# The documentation, warnings as errors.
doc *args:
    RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps {{ args }}

# One seeded run: `just sim SEED=42`, `just sim 42`; also `just sim SEEDS=0..200`, `just sim PLAN=plan.json`.
sim seed=SEED *args:
    cargo sim {{ if seed =~ '^[0-9]+$' { 'SEED=' + seed } else { seed } }} {{ args }}

# Many seeds at once: `just sweep SEEDS=0..10000 JOBS=2 PRESET=stormy BACKEND=memory SHARD=3/64`.
sweep *args:
    cargo run --quiet --release --package hpx-sim --bin sim -- sweep {{ args }}

# Every seed twice, in processes of their own: `just certify SEEDS=0..64`.
certify *args:
    cargo run --quiet --release --package hpx-sim --bin sim -- certify {{ args }}

# Both backends on the plans they have in common: `just differential SEEDS=0..500`.
differential *args:
    cargo run --quiet --release --package hpx-sim --bin sim -- differential {{ args }}

# How fast the simulation is, on one core.
bench-sim *args:
    cargo bench --package hpx-sim --bench speed {{ args }}

# What reads entropy or the wall clock inside a run (Linux): `just tripwire MODE=trip SEEDS=0..16`, or MODE=supply.
tripwire *args:
    cargo tripwire {{ args }}

# Write the snapshots anew; what changed is then read in the diff.
snap:
    INSTA_UPDATE=always cargo test --workspace
    git status --short snapshots

# Benchmarks over loopback sockets, each next to its floor.
bench *args:
    cargo bench --bench websocket -- {{ args }}

# Against a server that was not written here: Python's `websockets`, killed and restarted.
interop:
    bash interop/run.sh

# The bugs the simulation must find, in a build of their own: which oracle found each, after how many seeds.
planted *args:
    RUSTFLAGS='--cfg hpx_planted' CARGO_TARGET_DIR=target/planted cargo run --quiet --release --package hpx-sim --bin sim -- PLANTED {{ args }}

# All that is checked before a change is accepted.
ci:
    .ci/run

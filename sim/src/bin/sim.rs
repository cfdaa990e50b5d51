//! `cargo sim`: see `hpx_sim::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(hpx_sim::cli::run(std::env::args().skip(1)))
}

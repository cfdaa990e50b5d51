//! `cargo tripwire`: who reads entropy or wall time while a simulation runs, and whether the bytes are equal where both come
//! from the seed.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    hpx_tripwire::cli::run(std::env::args().skip(1)).into()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: the tripwire stands before the C library of Linux; there is none here");
    2.into()
}

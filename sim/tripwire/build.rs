//! Lets the dynamic loader find the symbols that this program puts in the place of its C library's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        for name in ["getrandom", "clock_gettime", "gettimeofday", "time", "syscall"] {
            println!("cargo:rustc-link-arg=-Wl,--export-dynamic-symbol={name}");
        }
    }
}

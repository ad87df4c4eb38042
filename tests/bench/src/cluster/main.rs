//! Clusters over real QUIC on loopback, with default settings: how fast they form, how fast they
//! notice a death, what they cost when nothing happens, and whom they wrongly hold dead.

#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

/// It takes signals, namespaces and `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: these measurements run on Linux only");
    std::process::ExitCode::FAILURE
}

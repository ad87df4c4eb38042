//! What one link does for membership while a program uses it, and what it costs when nobody does.
//! Both ends are in processes of their own.

#[cfg(target_os = "linux")]
mod heartbeat;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

/// It takes a clock that all processes share, and `/proc`.
#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("error: these measurements run on Linux only");
    std::process::ExitCode::FAILURE
}

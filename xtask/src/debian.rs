//! What tests use of Debian's packages: installed where that takes no password. Elsewhere whoever
//! needs them says what is missing, and what is skipped for it.

use std::process::{Command, Stdio};

use crate::cargo::works;

/// A program, how it is asked whether it is there, and the package that has it.
pub(crate) struct Wanted(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// C's tests look for memory errors with it.
pub(crate) const VALGRIND: Wanted = Wanted("valgrind", "--version", "valgrind");
/// The fault tests drop packets with it, ...
pub(crate) const NFT: Wanted = Wanted("nft", "--version", "nftables");
/// ... and make networks with it.
pub(crate) const IP: Wanted = Wanted("ip", "-Version", "iproute2");

/// Installs what is not there, where that can be done.
pub(crate) fn provide(wanted: &[Wanted]) {
    let missing: Vec<_> = wanted
        .iter()
        .filter(|Wanted(program, version, _)| !works(Command::new(program).arg(version)))
        .map(|Wanted(_, _, package)| *package)
        .collect();
    if !missing.is_empty() {
        install(&missing);
    }
}

/// Installs Debian packages, if we are root; says so, and what is wrong if that fails.
pub(crate) fn install(packages: &[&str]) {
    if !we_are_root() {
        return;
    }
    eprintln!("installing from Debian: {}", packages.join(" "));
    let run = |arguments: &[&str]| {
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .status()
    };
    // Lists that cannot be had anew may be good enough.
    let _ = run(&["update", "--quiet"]);
    match run(&[&["install", "--quiet", "--yes"], packages].concat()) {
        Ok(status) if status.success() => {}
        Ok(_) => eprintln!("{} could not be installed (see above)", packages.join(" and ")),
        Err(error) => eprintln!("not installed: cannot run apt-get: {error}"),
    }
}

fn we_are_root() -> bool {
    let user = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    user.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

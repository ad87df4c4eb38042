//! Networks that a run makes for itself: a namespace for each host, a bridge between them, and
//! rules on the bridge that drop packets.
//!
//! Nothing has a name outside of this process: a namespace is held by a descriptor, so the kernel
//! takes it down, with its interfaces and rules, when the process ends, however it ends; and two
//! runs cannot collide.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    net::Ipv4Addr,
    os::fd::AsRawFd,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, ensure};

use crate::process::tie;

/// A network namespace of our own, with its loopback up.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes an empty one.
    pub fn new() -> Result<Self> {
        // A thread of its own enters the new namespace and ends; the descriptor stays.
        let made = thread::spawn(|| {
            // SAFETY: plain call; it changes the calling thread only, which does nothing else.
            let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            if done != 0 {
                return Err(std::io::Error::last_os_error());
            }
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().ok().context("the thread that makes a namespace panicked")?;
        let namespace = Self { file: file.context("cannot make a network namespace")? };
        namespace.run("ip", &["link", "set", "lo", "up"], "")?;
        Ok(namespace)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Runs a program in it to its end.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        tie(&mut command, Some(self));
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input says why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().with_context(|| format!("cannot run {program}"))?;
        ensure!(
            output.status.success(),
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Drops packets that arrive here, from now on these only.
    pub fn drop_arriving(&self, drops: &[Drops]) -> Result<()> {
        self.rule("inet", "input", drops)
    }

    fn rule(&self, family: &str, hook: &str, drops: &[Drops]) -> Result<()> {
        self.run("nft", &["-f", "-"], &rules(family, hook, drops))
    }
}

/// Which packets are dropped.
#[derive(Clone, Debug)]
pub enum Drops {
    /// So many of a hundred, at random.
    Loss(u32),
    /// So many of a hundred of those that a host sends or gets.
    LossAt(Ipv4Addr, u32),
    /// All from any of these to any of those.
    From(Vec<Ipv4Addr>, Vec<Ipv4Addr>),
    /// All that a host sends.
    Sent(Ipv4Addr),
    /// All that a host gets.
    Received(Ipv4Addr),
}

impl Drops {
    /// All between any of these and any of those.
    pub fn between(these: &[Ipv4Addr], those: &[Ipv4Addr]) -> [Self; 2] {
        [Self::From(these.to_vec(), those.to_vec()), Self::From(those.to_vec(), these.to_vec())]
    }
}

/// The whole rule set, which takes the place of the one before in a single step.
fn rules(family: &str, hook: &str, drops: &[Drops]) -> String {
    let some = |percent: &u32| format!("numgen random mod 100 < {percent}");
    let set = |hosts: &[Ipv4Addr]| {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        format!("{{ {} }}", hosts.join(", "))
    };
    let mut text = format!(
        "flush ruleset\ntable {family} faults {{\n chain drops {{\n  \
         type filter hook {hook} priority 0; policy accept;\n"
    );
    let mut rule = |matching: String| {
        let _ = writeln!(text, "  meta l4proto udp {matching} drop"); // writing to a string
    };
    for drops in drops {
        match drops {
            Drops::Loss(percent) => rule(some(percent)),
            Drops::LossAt(host, percent) => {
                rule(format!("ip saddr {host} {}", some(percent)));
                rule(format!("ip daddr {host} {}", some(percent)));
            }
            Drops::From(these, those) => {
                rule(format!("ip saddr {} ip daddr {}", set(these), set(those)));
            }
            Drops::Sent(host) => rule(format!("ip saddr {host}")),
            Drops::Received(host) => rule(format!("ip daddr {host}")),
        }
    }
    text + " }\n}\n"
}

/// Hosts on one bridge, each in a namespace of its own.
pub struct Network {
    bridge: Namespace,
    hosts: Vec<Namespace>,
}

impl Network {
    /// So many hosts, at the addresses that [`Network::ip`] says.
    pub fn new(hosts: usize) -> Result<Self> {
        ensure!(hosts <= 250, "a network has at most 250 hosts, not {hosts}");
        let mut network = Self { bridge: Namespace::new()?, hosts: Vec::new() };
        network.bridge.run("ip", &["link", "add", "hub", "type", "bridge"], "")?;
        network.bridge.run("ip", &["link", "set", "hub", "up"], "")?;
        for _ in 0..hosts {
            network.add_host()?;
        }
        Ok(network)
    }

    /// Connects another host; returns its number.
    pub fn add_host(&mut self) -> Result<usize> {
        let number = self.hosts.len();
        let host = Namespace::new()?;
        let other_end = format!("/proc/{}/fd/{}", std::process::id(), host.file.as_raw_fd());
        self.bridge.run(
            "ip",
            &["-batch", "-"],
            &format!(
                "link add port{number} type veth peer name eth0 netns {other_end}\n\
                 link set port{number} master hub\n\
                 link set port{number} up\n"
            ),
        )?;
        let ip = Self::ip(number);
        host.run(
            "ip",
            &["-batch", "-"],
            &format!("addr add {ip}/24 dev eth0\nlink set eth0 up\n"),
        )?;
        self.hosts.push(host);
        Ok(number)
    }

    /// The address of a host.
    pub fn ip(host: usize) -> Ipv4Addr {
        // `new` and `add_host` see to it that it fits.
        Ipv4Addr::new(10, 77, 0, u8::try_from(host + 1).unwrap_or(u8::MAX))
    }

    /// Where a host's processes run.
    pub fn host(&self, host: usize) -> &Namespace {
        &self.hosts[host]
    }

    /// Drops packets between hosts, from now on these only.
    pub fn drop(&self, drops: &[Drops]) -> Result<()> {
        self.bridge.rule("bridge", "forward", drops)
    }
}

/// Why no networks can be made on this machine, if so.
pub fn obstacle() -> Option<String> {
    let tried = || -> Result<()> {
        let network = Network::new(1)?;
        network.drop(&[Drops::Loss(1)])?;
        network.host(0).run("ip", &["addr", "show", "dev", "eth0"], "")
    };
    tried().err().map(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_both_directions_of_a_split() {
        let (a, b) = (Network::ip(0), Network::ip(1));
        let text = rules("bridge", "forward", &Drops::between(&[a], &[b]));
        assert!(text.contains("ip saddr { 10.77.0.1 } ip daddr { 10.77.0.2 } drop"));
        assert!(text.contains("ip saddr { 10.77.0.2 } ip daddr { 10.77.0.1 } drop"));
        assert!(text.starts_with("flush ruleset"));
    }
}

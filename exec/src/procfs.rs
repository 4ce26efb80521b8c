//! What the kernel says of processes and connections, from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What matters of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The parent.
    pub parent: u32,
    /// The process group.
    pub group: u32,
    /// The session.
    pub session: u32,
    /// When it was started, in clock ticks since the boot: with the PID it names one process for good.
    pub started: u64,
    /// It has ended and waits for its parent to notice.
    pub zombie: bool,
}

/// The process, if there is one.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses too.
    let rest = &text[text.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let started = fields.nth(15)?.parse().ok()?;
    let id = |value: u64| u32::try_from(value).unwrap_or(0);
    Some(Stat {
        parent: id(parent),
        group: id(group),
        session: id(session),
        started,
        zombie: matches!(state, "Z" | "X"),
    })
}

/// Whether this very process is there and has not ended.
pub fn alive(pid: u32, started: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.started == started && !stat.zombie)
}

/// Every process.
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Its arguments; empty for one that is gone or belongs to the kernel.
pub fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut parts: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    parts.pop();
    parts
}

/// Whether `NAME=value` is in its environment. Not to be read for other users' processes: then it is not.
pub fn has_variable(pid: u32, variable: &str) -> bool {
    let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    bytes.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

/// The value of a variable in its environment.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let entry = |entry: &[u8]| {
        let text = String::from_utf8_lossy(entry).into_owned();
        text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
    };
    bytes.split(|byte| *byte == 0).find_map(entry)
}

/// This machine's name.
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// The process and its descendants, the process first.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut tree = vec![root];
    let mut at = 0;
    // Every process is in `parents` once, so this ends.
    while let Some(parent) = tree.get(at).copied() {
        let known: BTreeSet<u32> = tree.iter().copied().collect();
        tree.extend(
            parents.iter().filter(|(pid, of)| *of == parent && !known.contains(pid)).map(|(pid, _)| *pid),
        );
        at += 1;
    }
    tree
}

/// One TCP connection or listener of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local_port: u16,
    remote_port: u16,
    state: u8,
    inode: u64,
}

const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

fn sockets() -> Vec<Socket> {
    let mut all = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(socket));
    }
    all
}

fn socket(line: &str) -> Option<Socket> {
    let mut fields = line.split_ascii_whitespace();
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let local_port = port(fields.nth(1)?)?;
    let remote_port = port(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Socket { local_port, remote_port, state, inode })
}

/// The process that listens on this port, if there is one and it may be looked at.
pub fn listener(port: u16) -> Option<u32> {
    let inodes: BTreeSet<String> = sockets()
        .into_iter()
        .filter(|socket| socket.state == LISTEN && socket.local_port == port)
        .map(|socket| format!("socket:[{}]", socket.inode))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let holds = |pid: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        files.filter_map(Result::ok).any(|file| {
            let target = fs::read_link(file.path());
            target.is_ok_and(|target| target.to_str().is_some_and(|target| inodes.contains(target)))
        })
    };
    // A forked worker may hold it too: the oldest of them is the one to be asked to stop.
    pids().into_iter().filter(holds).min_by_key(|pid| stat(*pid).map_or(u64::MAX, |stat| stat.started))
}

/// Whether anything listens on this port.
pub fn is_listening(port: u16) -> bool {
    sockets().iter().any(|socket| socket.state == LISTEN && socket.local_port == port)
}

/// How many connections to this port are open whose other end is not one of `ours`. `None` without `/proc/net`.
///
/// On one machine both ends of a connection are listed; the server's is counted. With the server elsewhere only the client's is there.
pub fn established(port: u16, ours: &BTreeSet<u16>) -> Option<u32> {
    if !Path::new("/proc/net/tcp").exists() {
        return None;
    }
    let open: Vec<Socket> = sockets().into_iter().filter(|socket| socket.state == ESTABLISHED).collect();
    let server = open.iter().filter(|it| it.local_port == port && !ours.contains(&it.remote_port)).count();
    let client = open.iter().filter(|it| it.remote_port == port && !ours.contains(&it.local_port)).count();
    u32::try_from(server.max(client)).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        let stat = stat(pid).unwrap();
        assert!(alive(pid, stat.started));
        assert!(!alive(pid, stat.started + 1), "another process of the same number");
        assert!(pids().contains(&pid));
        assert!(!arguments(pid).is_empty());
        assert!(tree(stat.parent).contains(&pid));
        assert_eq!(variable(pid, "PATH"), std::env::var("PATH").ok());
    }

    #[test]
    fn connections_are_counted_but_our_own() {
        let listener_ = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener_.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        let none = BTreeSet::new();
        assert_eq!(established(port, &none), Some(0));
        let first = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let second = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(established(port, &none), Some(2));
        assert_eq!(established(port, &BTreeSet::from([second.local_addr().unwrap().port()])), Some(1));
        drop((first, second));
        assert_eq!(established(port, &none), Some(0));
    }

    #[test]
    fn a_name_with_a_parenthesis_confuses_nobody() {
        assert_eq!(stat(u32::MAX), None);
        assert!(arguments(u32::MAX).is_empty());
    }
}

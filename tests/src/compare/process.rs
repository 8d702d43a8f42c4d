//! Processor time of the servers: found by the port they listen at, read from `/proc`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

/// Ticks per second in `/proc/<pid>/stat`: 100 in every Linux ABI.
const TICKS_PER_SECOND: f64 = 100.0;
/// State `0A` of `/proc/net/tcp`: listening.
const LISTENING: &str = "0A";

/// The processes that listen at the ports of these endpoints.
pub(crate) fn servers(endpoints: &[String]) -> Result<BTreeSet<u32>> {
    endpoints
        .iter()
        .map(|endpoint| {
            let port = endpoint.trim_end_matches('/').rsplit_once(':');
            let port = port.and_then(|(_, port)| port.parse().ok());
            let port = port.with_context(|| format!("{endpoint} has no port"))?;
            listener(port).with_context(|| format!("no process of ours listens at port {port}"))
        })
        .collect()
}

/// User and system time of these processes so far, in seconds.
pub(crate) fn cpu_seconds(processes: &BTreeSet<u32>) -> Result<f64> {
    let mut ticks = 0;
    for process in processes {
        let path = format!("/proc/{process}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        ticks += ticks_of(&stat).with_context(|| format!("{path} is not understood: {stat}"))?;
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Fields 14 and 15. The second field is the name in parentheses and may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn listener(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let tables: String = tables.into_iter().flatten().collect();
    let inode = tables.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.split_once(':')?;
        let matches = local == format!("{port:04X}") && *fields.get(3)? == LISTENING;
        matches.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })?;
    owner(&format!("socket:[{inode}]"))
}

/// The process that has a file descriptor with this target.
fn owner(target: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut descriptors = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        let holds = descriptors
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == target));
        holds.then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Processor time per operation means nothing if it is another process's.
    #[test]
    fn finds_servers_by_port_and_reads_their_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let found = servers(&[endpoint.clone(), endpoint.clone()]).unwrap();
        assert_eq!(found, [std::process::id()].into());
        assert!(cpu_seconds(&found).unwrap() >= 0.0);
        drop(listener);
        assert!(servers(&[endpoint]).is_err());
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 3 4";
        assert_eq!(ticks_of(stat), Some(300));
    }
}

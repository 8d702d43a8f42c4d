//! Finds the process behind a local endpoint, to measure its processor time.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// State `0A` of `/proc/net/tcp`: listening.
const LISTENING: &str = "0A";

/// The process that listens at a loopback endpoint such as `http://127.0.0.1:7400`. `None` when
/// the endpoint is not on this machine or the process is not ours to see.
pub(crate) fn find(endpoint: &str) -> Option<u32> {
    let authority = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let authority = authority.split('/').next()?;
    let address = authority
        .to_socket_addrs()
        .ok()?
        .find(|address| address.ip().is_loopback())?;
    let inode = listening_inode(address)?;
    owner(&format!("socket:[{inode}]"))
}

/// The socket that listens at this address, or at its port on all addresses.
fn listening_inode(address: SocketAddr) -> Option<String> {
    let port = format!("{:04X}", address.port());
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let lines: Vec<String> = tables
        .into_iter()
        .flatten()
        .flat_map(|t| t.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.iter().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (host, local_port) = fields.get(1)?.split_once(':')?;
        let serves = host == hex_of(address) || host.bytes().all(|digit| digit == b'0');
        let matches = serves && local_port == port && *fields.get(3)? == LISTENING;
        matches
            .then(|| fields.get(9).map(|inode| (*inode).to_owned()))
            .flatten()
    })
}

/// An address as `/proc/net/tcp` writes it: groups of four bytes, each in the order of the machine.
fn hex_of(address: SocketAddr) -> String {
    let group = |bytes: &[u8]| -> String {
        let mut word = [0; 4];
        word.copy_from_slice(bytes);
        format!("{:08X}", u32::from_ne_bytes(word))
    };
    match address {
        SocketAddr::V4(v4) => group(&Ipv4Addr::octets(v4.ip())),
        SocketAddr::V6(v6) => Ipv6Addr::octets(v6.ip()).chunks(4).map(group).collect(),
    }
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
    use std::net::TcpListener;

    /// CPU per update is printed only if the right process is found.
    #[test]
    fn finds_the_process_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        assert_eq!(super::find(&url), Some(std::process::id()));
        drop(listener);
        assert_eq!(super::find(&url), None);
    }
}

//! How sessions are spread over processes and source addresses.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::time::Duration;

use crate::access::token::Token;
use crate::cli::mqtt::Endpoint;
use crate::cli::problem::{Exit, Problem};

use super::Args;
use super::job::{Job, Link};

/// Most connections of one process, and from one source address to one server: beyond it a free
/// port takes long to find.
const CONNECTIONS_MAX: u64 = 14_000;
/// Files of a process that are no connections.
const FILES_SPARE: u64 = 64;
/// Signs of life must not be what is measured.
const KEEP_ALIVE: Duration = Duration::from_secs(1200);
/// Processes with a loopback network of their own.
const NETWORKS: u32 = 250;
/// Sessions from one loopback address: the kernel looks for a free port at each, and long where many
/// are taken.
const SESSIONS_PER_ADDRESS: u64 = 1_000;

/// The job of each process. Sessions show the token when the user names nobody.
pub(super) fn jobs(args: &Args, token: Option<&str>) -> Result<Vec<Job>, Problem> {
    let mut settings = args.link.settings(&args.endpoints, None, KEEP_ALIVE)?;
    if let Some(token) = token.filter(|_| settings.username.is_none()) {
        let token = token.trim();
        settings.username = Some(user_of(token));
        settings.password = Some(token.to_owned());
    }
    if !args.clean {
        let expiry = args.session_expiry.as_secs();
        settings.clean_start = false;
        settings.session_expiry_s = u32::try_from(expiry).unwrap_or(u32::MAX);
    }
    let per_process = CONNECTIONS_MAX.min(files_max().saturating_sub(FILES_SPARE).max(1));
    let wanted = u64::from(args.processes.unwrap_or(1)).min(args.devices);
    let processes = args.devices.div_ceil(per_process).max(wanted).max(1);
    let sources = Sources::new(args)?;
    sources.check(args, processes)?;
    // The first ones have one more when it does not come out even.
    let count = |nth: u64| (args.devices - nth).div_ceil(processes);
    let jobs = (0..processes).map(|nth| Job {
        endpoints: args.endpoints.iter().map(Endpoint::to_string).collect(),
        prefix: args.prefix.clone(),
        shadow: args.shadow.clone(),
        first: nth + 1,
        step: processes,
        count: count(nth),
        rate: f64::from(args.connect_rate) / processes as f64,
        source: sources.of(nth as usize),
        link: Link::new(&settings, args.link.tls()),
    });
    Ok(jobs.collect())
}

/// The user name that goes with a token: its credential. One that somebody else signed says itself whom
/// it is for, whatever the name is.
fn user_of(token: &str) -> String {
    let record = Token::parse(token.as_bytes()).map(|token| token.record.as_str().to_owned());
    record.unwrap_or_else(|_| "token".to_owned())
}

/// Where connections come from.
enum Sources {
    /// Loopback addresses, one for each process.
    Loopback,
    /// What the user says, in turn.
    Given(Vec<IpAddr>),
    /// What the system chooses.
    System,
}

impl Sources {
    fn new(args: &Args) -> Result<Self, Problem> {
        if !args.bind.is_empty() {
            return Ok(Self::Given(args.bind.clone()));
        }
        let mut is_loopback = true;
        for endpoint in &args.endpoints {
            let addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs();
            let addresses = addresses.map_err(|error| {
                Problem::new(Exit::Usage, format!("cannot find {endpoint}")).why(error)
            })?;
            let mut ips = addresses.map(|address| address.ip());
            is_loopback &= ips.all(|ip| ip.is_loopback() && ip.is_ipv4());
        }
        Ok(match is_loopback {
            true => Self::Loopback,
            false => Self::System,
        })
    }

    /// The address for the process with this number.
    fn of(&self, nth: usize) -> Option<IpAddr> {
        match self {
            Self::Loopback => Some(loopback(nth)),
            Self::Given(addresses) => addresses.get(nth % addresses.len()).copied(),
            Self::System => None,
        }
    }

    /// Refuses when one source address would need too many ports towards one server.
    fn check(&self, args: &Args, processes: u64) -> Result<(), Problem> {
        let sources = match self {
            Self::Loopback => processes,
            Self::Given(addresses) => addresses.len() as u64,
            Self::System => 1,
        };
        let most = sources * args.endpoints.len() as u64 * CONNECTIONS_MAX;
        if args.devices <= most {
            return Ok(());
        }
        let what = format!("cannot open {} sessions from here", args.devices);
        Err(Problem::new(Exit::Usage, what)
            .why(format!(
                "one local address can hold {CONNECTIONS_MAX} connections to each endpoint, \
                 so {most} in all"
            ))
            .try_this("more --endpoints, or more local addresses with --bind"))
    }
}

/// The first address of a process: 127.1.0.2, 127.2.0.2 and so on.
fn loopback(nth: usize) -> IpAddr {
    let nth = u32::try_from(nth).unwrap_or_default();
    let (network, block) = (nth % NETWORKS + 1, nth / NETWORKS);
    IpAddr::from(Ipv4Addr::from(0x7F00_0002 | network << 16 | block << 8))
}

/// The address for one session of a process that begins with this one. Only a loopback network has all
/// addresses.
pub(super) fn address_of(first: IpAddr, nth: u64) -> IpAddr {
    match first {
        IpAddr::V4(first) if first.is_loopback() => {
            let further = u32::try_from(nth / SESSIONS_PER_ADDRESS).unwrap_or_default();
            IpAddr::from(Ipv4Addr::from(first.to_bits().wrapping_add(further)))
        }
        first => first,
    }
}

/// Files that a process of this program may open.
fn files_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    // `unlimited`, or a system that does not say.
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_loopback_addresses_of_their_own() {
        assert_eq!(loopback(0).to_string(), "127.1.0.2");
        assert_eq!(loopback(249).to_string(), "127.250.0.2");
        assert_eq!(loopback(250).to_string(), "127.1.1.2");
        let of =
            |process: usize| [0, 999, 1_000, 13_999].map(|nth| address_of(loopback(process), nth));
        let all: std::collections::BTreeSet<IpAddr> = (0..1_000).flat_map(of).collect();
        assert_eq!(all.len(), 3_000, "no two processes share one");
        let other = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(address_of(other, 5_000), other);
    }

    #[test]
    fn limit_of_open_files_is_known() {
        assert!(files_max() >= 64);
    }
}

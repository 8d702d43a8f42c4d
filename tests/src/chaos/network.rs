//! A network of its own for every node: a namespace per node, joined by a bridge that the clients
//! of this process reach too. Cuts are rules of the packet filter inside the namespaces.
//!
//! Everything carries the id of this process in its name, so that runs side by side do not meet, and
//! what a killed run left behind is found by the next one. Needs root.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context, Result, ensure};

use super::command::{run, run_with};

const BRIDGE: &str = "anbr";
const NAMESPACE: &str = "antumbra-chaos-";
const TABLE: &str = "inet chaos";
/// The host part of the address of this process.
const CLIENT: u8 = 254;

/// A bridge and its namespaces. Removed when dropped.
pub struct Network {
    bridge: String,
    subnet: [u8; 3],
    namespaces: BTreeMap<usize, String>,
    /// The number of the next node that comes.
    next: usize,
}

/// Packets that do not arrive: what `at` receives from `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// The node that does not hear.
    pub at: usize,
    /// The node that is not heard.
    pub from: usize,
}

impl Network {
    /// Makes a network of `nodes` nodes, counted from 0.
    pub fn create(nodes: usize) -> Result<Network> {
        let id = process::id();
        let mut network = Network {
            bridge: format!("{BRIDGE}{id}"),
            subnet: free_subnet(id)?,
            namespaces: BTreeMap::new(),
            next: 0,
        };
        let bridge = network.bridge.clone();
        run("ip", &["link", "add", &bridge, "type", "bridge"])?;
        let address = format!("{}/24", network.address_of(CLIENT));
        run("ip", &["addr", "add", &address, "dev", &bridge])?;
        run("ip", &["link", "set", &bridge, "up"])?;
        for _ in 0..nodes {
            network.add()?;
        }
        Ok(network)
    }

    /// Adds a node, and gives its number. Numbers and addresses are never used again.
    pub fn add(&mut self) -> Result<usize> {
        let node = self.next;
        ensure!(
            node + 1 < usize::from(CLIENT),
            "this network has had all the nodes that it has addresses for"
        );
        self.next += 1;
        self.join(node)?;
        Ok(node)
    }

    /// Takes a node away. Processes in its namespace are cut off, and its address is gone.
    pub fn remove(&mut self, node: usize) -> Result<()> {
        let namespace = self.namespaces.remove(&node);
        let namespace = namespace.with_context(|| format!("there is no node {node}"))?;
        run("ip", &["netns", "del", &namespace])?;
        Ok(())
    }

    /// The address of this process, which every node reaches.
    pub fn client(&self) -> Ipv4Addr {
        self.address_of(CLIENT)
    }

    fn join(&mut self, node: usize) -> Result<()> {
        let id = process::id();
        let namespace = format!("{NAMESPACE}{id}-{}", node + 1);
        let outside = format!("anv{id}n{}", node + 1);
        run("ip", &["netns", "add", &namespace])?;
        self.namespaces.insert(node, namespace.clone());
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &namespace];
        run("ip", &[&["link", "add", &outside][..], &peer].concat())?;
        run(
            "ip",
            &["link", "set", &outside, "master", &self.bridge, "up"],
        )?;
        let address = format!("{}/24", self.address(node));
        run(
            "ip",
            &["-n", &namespace, "addr", "add", &address, "dev", "eth0"],
        )?;
        run("ip", &["-n", &namespace, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
        Ok(())
    }

    /// The address of a node.
    pub fn address(&self, node: usize) -> Ipv4Addr {
        self.address_of(node as u8 + 1)
    }

    /// The address of this process, where nodes reach what it serves.
    pub fn client_address(&self) -> Ipv4Addr {
        self.address_of(CLIENT)
    }

    fn address_of(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, host)
    }

    /// The file that stands for the namespace of a node. Entering it changes nothing but the
    /// network: the mounts stay those of the whole system, which a disk that is unmounted needs.
    pub fn namespace(&self, node: usize) -> PathBuf {
        Path::new("/run/netns").join(&self.namespaces[&node])
    }

    /// Drops packets as the cuts say, instead of whatever was cut before.
    pub fn cut(&self, cuts: &[Cut]) -> Result<()> {
        self.heal()?;
        for &node in self.namespaces.keys() {
            let own: Vec<String> = cuts
                .iter()
                .filter(|cut| cut.at == node)
                .map(|cut| format!("ip saddr {} counter drop", self.address(cut.from)))
                .collect();
            if !own.is_empty() {
                self.rules(node, "input", &own.join("\n"))?;
            }
        }
        Ok(())
    }

    /// Nothing leaves a node any more, not even to clients, until [`Network::heal`]: what it says
    /// from now on is said by a machine without power.
    pub fn silence(&self, node: usize) -> Result<()> {
        self.rules(node, "output", "oifname \"eth0\" counter drop")
    }

    fn rules(&self, node: usize, hook: &str, rules: &str) -> Result<()> {
        let table = format!(
            "table {TABLE} {{\nchain {hook} {{\ntype filter hook {hook} priority 0;\n{rules}\n}}\n}}\n"
        );
        self.nft(node, &["-f", "-"], &table).map(drop)
    }

    /// Packets that the rules of a node dropped, per rule.
    pub fn dropped(&self, node: usize) -> Result<Vec<u64>> {
        let listed = self.nft(node, &["list", "ruleset"], "")?;
        let counted = listed.lines().filter_map(|line| {
            let count = line.split_once("counter packets ")?.1;
            count.split_whitespace().next()?.parse().ok()
        });
        Ok(counted.collect())
    }

    /// Takes all rules away.
    pub fn heal(&self) -> Result<()> {
        for &node in self.namespaces.keys() {
            self.nft(node, &["flush", "ruleset"], "")?;
        }
        Ok(())
    }

    fn nft(&self, node: usize, arguments: &[&str], input: &str) -> Result<String> {
        let namespace = format!("--net={}", self.namespace(node).display());
        run_with(
            "nsenter",
            &[&[&namespace, "nft"][..], arguments].concat(),
            input,
        )
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace takes its end of the cable with it, and that the other end.
        for namespace in self.namespaces.values() {
            run("ip", &["netns", "del", namespace]).ok();
        }
        run("ip", &["link", "del", &self.bridge]).ok();
    }
}

/// Three bytes of an address range that nothing on this machine uses.
fn free_subnet(id: u32) -> Result<[u8; 3]> {
    let used = run("ip", &["-4", "-o", "addr", "show"])? + &run("ip", &["-4", "route", "show"])?;
    let candidates = (0..64u32).map(|try_| {
        let number = id.wrapping_add(try_.wrapping_mul(257)) % (1 << 14);
        [10, 64 + (number >> 8) as u8, number as u8]
    });
    candidates
        .into_iter()
        .find(|[a, b, c]| !used.contains(&format!("{a}.{b}.{c}.")))
        .context("no free range of addresses")
}

/// Removes what killed runs left behind: processes, namespaces, bridges.
pub fn remove_leftovers() -> Result<()> {
    for line in run("ip", &["netns", "list"])?.lines() {
        let namespace = line.split_whitespace().next().unwrap_or_default();
        let owner = namespace
            .strip_prefix(NAMESPACE)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(is_gone) {
            let pids = run("ip", &["netns", "pids", namespace]).unwrap_or_default();
            for pid in pids.split_whitespace() {
                run("kill", &["-s", "KILL", pid]).ok();
            }
            run("ip", &["netns", "del", namespace]).ok();
        }
    }
    for line in run("ip", &["-o", "link", "show", "type", "bridge"])?.lines() {
        let name = line.split(':').nth(1).unwrap_or_default().trim();
        if name.strip_prefix(BRIDGE).is_some_and(is_gone) {
            run("ip", &["link", "del", name]).ok();
        }
    }
    Ok(())
}

/// Whether no process has this id.
pub(crate) fn is_gone(id: &str) -> bool {
    id.parse::<u32>().is_ok() && fs::metadata(format!("/proc/{id}")).is_err()
}

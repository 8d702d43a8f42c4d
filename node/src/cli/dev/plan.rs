//! Where the nodes of a development cluster are: ports, directories, files. Arithmetic, and the files
//! that follow from it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::config::environment::variable_of;
use crate::config::{self, Config, Sources};

use crate::cli::problem::{Exit, Problem};

use super::DEFAULT_PORT;

/// Offset of the link to other nodes from the gRPC door.
const PEER_OFFSET: u16 = 1;
/// Offset of the HTTP door from the gRPC door.
const HTTP_OFFSET: u16 = 80;
/// Offset of the MQTT door from the gRPC door, unless that is at its usual port.
const MQTT_OFFSET: u16 = 83;
/// The usual port of MQTT.
const MQTT_PORT: u16 = 1883;
/// Offset of the MQTT door with TLS from the gRPC door, unless that is at its usual port.
const MQTTS_OFFSET: u16 = 84;
/// The usual port of MQTT with TLS.
const MQTTS_PORT: u16 = 8883;
/// Offset of a node from the one before.
const NODE_OFFSET: u16 = 100;

/// Where all nodes have their data; the user may set it.
pub(super) const DATA_DIR: &str = "node.data_dir";

/// What the file of a node sets. Nothing else may: neither the environment nor `--set`.
const PER_NODE: &[(&str, &str)] = &[
    ("node", "name"),
    ("node", "data_dir"),
    ("node", "storage"),
    ("cluster", "seeds"),
    ("cluster", "expect"),
    ("peer", "listen"),
    ("peer", "advertise"),
    ("api", "listen"),
    ("http", "listen"),
    ("mqtt", "listen"),
    ("mqtt", "tls_listen"),
];

/// The nodes of a cluster on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Directory of everything; absolute.
    pub(super) directory: PathBuf,
    /// The nodes in order, those that keep data first.
    pub(super) members: Vec<Member>,
    /// Whether they have an MQTT door with TLS, too.
    pub(super) is_secure: bool,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// Whether it keeps data.
    pub(super) storage: bool,
    pub(super) ports: Ports,
    pub(super) data_dir: PathBuf,
    pub(super) config_file: PathBuf,
    pub(super) log_file: PathBuf,
}

/// Where one node listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) grpc: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) mqtt: SocketAddr,
    /// MQTT with TLS, where there is a certificate for it.
    pub(super) mqtts: SocketAddr,
}

impl Plan {
    /// So many nodes and gateways over a directory, the first at `base_port`.
    pub(super) fn new(
        directory: &Path,
        base_port: u16,
        nodes: u16,
        gateways: u16,
    ) -> Result<Plan, Problem> {
        let directory = std::path::absolute(directory).map_err(|error| {
            Problem::new(Exit::Usage, format!("cannot use {}", directory.display())).why(error)
        })?;
        let members = (1..=nodes + gateways).map(|number| {
            let storage = number <= nodes;
            let name = match storage {
                true => format!("node-{number}"),
                false => format!("gateway-{}", number - nodes),
            };
            Ok(Member {
                storage,
                ports: ports(base_port, number)?,
                data_dir: directory.join(&name),
                config_file: directory.join(format!("{name}.toml")),
                log_file: directory.join(format!("{name}.log")),
                name,
            })
        });
        Ok(Plan {
            members: members.collect::<Result<_, Problem>>()?,
            directory,
            is_secure: false,
        })
    }

    /// With an MQTT door with TLS at each of them, or without.
    pub(super) fn secure(self, is_secure: bool) -> Plan {
        Plan { is_secure, ..self }
    }

    /// Writes the files of the nodes.
    pub(super) fn write(&self) -> Result<(), Problem> {
        for member in &self.members {
            fs::write(&member.config_file, self.config_text(member)).map_err(|error| {
                let what = format!("cannot write {}", member.config_file.display());
                Problem::new(Exit::Failure, what).why(error)
            })?;
        }
        Ok(())
    }

    /// The configuration file of one node.
    fn config_text(&self, member: &Member) -> String {
        let mut config = Config::default();
        config.node.name.clone_from(&member.name);
        config.node.data_dir.clone_from(&member.data_dir);
        config.node.storage = member.storage;
        let seeds = self.members.iter().filter(|member| member.storage);
        config.cluster.seeds.0 = seeds
            .map(|seed| (seed.name.clone(), seed.ports.peer.to_string()))
            .collect();
        config.peer.listen = member.ports.peer;
        config.api.listen = member.ports.grpc;
        config.http.listen = member.ports.http;
        config.mqtt.listen = member.ports.mqtt;
        if self.is_secure {
            config.mqtt.tls_listen = member.ports.mqtts.to_string();
        }
        let mut text =
            "# Written by every start of `antumbra dev` with several nodes.\n".to_owned();
        let mut section = "";
        for (next, option) in PER_NODE {
            if section != *next {
                text.push_str(&format!("\n[{next}]\n"));
                section = next;
            }
            let value = config.show(next, option).unwrap_or_default();
            text.push_str(&format!("{option} = {value}\n"));
        }
        text
    }
}

/// Whether `section.option` is another one for each node.
pub(super) fn differs_per_node(key: &str) -> bool {
    let mut keys = PER_NODE.iter();
    keys.any(|(section, option)| key == format!("{section}.{option}"))
}

/// Environment variables that would override the file of a node.
pub(super) fn overriding_variables() -> impl Iterator<Item = String> {
    let keys = PER_NODE.iter();
    keys.map(|(section, option)| variable_of(section, option))
}

/// Where the node with this number, counted from 1, listens. Base port 0 leaves it to the system.
pub(super) fn ports(base_port: u16, number: u16) -> Result<Ports, Problem> {
    let offset = NODE_OFFSET * (number - 1);
    let port = |further: u16| match base_port {
        0 => Ok(0),
        base => base.checked_add(offset + further).ok_or_else(|| {
            let (number, last) = (number.into(), u32::from(base) + u32::from(offset + further));
            too_high(base, number, last)
        }),
    };
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Ports {
        grpc: address(port(0)?),
        peer: address(port(PEER_OFFSET)?),
        http: address(port(HTTP_OFFSET)?),
        mqtt: address(match base_port {
            DEFAULT_PORT => MQTT_PORT + offset,
            _ => port(MQTT_OFFSET)?,
        }),
        mqtts: address(match base_port {
            DEFAULT_PORT => MQTTS_PORT + offset,
            _ => port(MQTTS_OFFSET)?,
        }),
    })
}

fn too_high(base: u16, number: u32, last: u32) -> Problem {
    Problem::new(Exit::Usage, format!("cannot use base port {base}"))
        .why(format!(
            "node-{number} would need port {last}, and ports end at 65535"
        ))
        .try_this("--base-port 7400")
}

/// How many nodes were started over this directory before; 0 when none.
pub(super) fn nodes_found(directory: &Path) -> io::Result<u16> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut last = 0;
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let name = name.strip_suffix(".toml").unwrap_or(name);
            name.strip_prefix("node-")?.parse().ok()
        });
        // A node whose data were deleted still has its file.
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// The base port of the nodes that were started over this directory before, if it can be read.
pub(super) fn former_base_port(directory: &Path) -> Option<u16> {
    let path = directory.join("node-1.toml");
    let text = fs::read_to_string(&path).ok()?;
    let loaded = config::load(&Sources {
        file: Some((&path, &text)),
        ..Sources::default()
    });
    Some(loaded.ok()?.config.api.listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn nodes_are_a_hundred_ports_apart() {
        let plan = Plan::new(Path::new("/d"), 7400, 3, 0).unwrap();
        let seen: Vec<_> = plan
            .members
            .iter()
            .map(|m| {
                (
                    m.name.as_str(),
                    m.ports.grpc.port(),
                    m.ports.peer.port(),
                    m.ports.http.port(),
                    m.ports.mqtt.port(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("node-1", 7400, 7401, 7480, 1883),
                ("node-2", 7500, 7501, 7580, 1983),
                ("node-3", 7600, 7601, 7680, 2083),
            ]
        );
        assert_eq!(ports(8400, 2).unwrap().mqtt.port(), 8583);
        assert_eq!(plan.members[1].data_dir, Path::new("/d/node-2"));
        assert_eq!(plan.members[2].log_file, Path::new("/d/node-3.log"));
    }

    #[test]
    fn ports_end_at_65535() {
        assert!(Plan::new(Path::new("/d"), 65_251, 3, 0).is_ok());
        let problem = Plan::new(Path::new("/d"), 65_252, 3, 0).unwrap_err();
        let text = problem.render(false);
        assert!(text.contains("node-3 would need port 65536"), "{text}");
        assert!(ports(65_452, 1).is_err());
        assert_eq!(ports(0, 1).unwrap().http.port(), 0);
    }

    /// The file must read back as what was meant, and be complete: a value that is missing there
    /// would come from the environment.
    #[test]
    fn file_of_a_node_is_a_valid_configuration() {
        let plan = Plan::new(Path::new("/d \"quoted\""), 7400, 3, 0).unwrap();
        let text = plan.config_text(&plan.members[1]);
        let loaded = config::load(&Sources {
            file: Some((Path::new("node-2.toml"), &text)),
            ..Sources::default()
        });
        let config = loaded
            .unwrap_or_else(|problems| panic!("{problems} in\n{text}"))
            .config;
        assert_eq!(config.node.name, "node-2");
        assert_eq!(config.node.data_dir, plan.members[1].data_dir);
        assert_eq!(config.api.listen.port(), 7500);
        assert_eq!(config.peer.listen.port(), 7501);
        assert_eq!(config.http.listen.port(), 7580);
        assert_eq!(config.mqtt.listen.port(), 1983);
        let seeds: Vec<_> = config.cluster.seeds.0.into_iter().collect();
        let expected = [("node-1", 7401), ("node-2", 7501), ("node-3", 7601)]
            .map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{port}")));
        assert_eq!(seeds, expected);
        for (section, option) in PER_NODE {
            assert!(
                text.contains(&format!("\n{option} = ")),
                "{section}.{option} in\n{text}"
            );
        }
        let mut variables = overriding_variables();
        assert!(variables.any(|name| name == "ANTUMBRA_NODE_DATA_DIR"));
    }

    /// Nobody founds a cluster with a gateway, or asks one to let it in.
    #[test]
    fn gateways_come_after_the_nodes_and_are_no_seeds() {
        let plan = Plan::new(Path::new("/d"), 7400, 1, 2).unwrap();
        let names: Vec<_> = plan.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["node-1", "gateway-1", "gateway-2"]);
        assert_eq!(plan.members[2].ports.mqtt.port(), 2083);
        let text = plan.config_text(&plan.members[1]);
        assert!(text.contains("\nstorage = false\n"), "{text}");
        assert!(text.contains("\ntls_listen = \"\"\n"), "{text}");
        let plan = plan.secure(true);
        let text = plan.config_text(&plan.members[1]);
        let door = "\ntls_listen = \"127.0.0.1:8983\"\n";
        assert!(text.contains(door), "{text}");
        let seeds = "\nseeds = \"node-1=127.0.0.1:7401\"\n";
        assert!(text.contains(seeds), "{text}");
        assert!(
            plan.config_text(&plan.members[0])
                .contains("\nstorage = true\n")
        );
    }

    #[test]
    fn former_base_port_is_read_from_the_file_of_the_first_node() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(former_base_port(directory.path()), None);
        Plan::new(directory.path(), 8400, 3, 0)
            .unwrap()
            .write()
            .unwrap();
        assert_eq!(former_base_port(directory.path()), Some(8400));
    }

    #[test]
    fn former_nodes_are_found_by_data_or_file() {
        let directory = tempfile::tempdir().unwrap();
        let found = || nodes_found(directory.path()).unwrap();
        assert_eq!(found(), 0);
        for name in ["node-x", "lock", "node-2.log.old", "nodes"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(found(), 0);
        fs::create_dir(directory.path().join("node-2")).unwrap();
        assert_eq!(found(), 2);
        fs::write(directory.path().join("node-3.toml"), "").unwrap();
        assert_eq!(found(), 3, "its data were deleted");
    }
}

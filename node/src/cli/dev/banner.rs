//! What `dev` prints before `ready`: the doors, the data, and commands to paste.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::boot::Node;

use super::DEFAULT_PORT;
use super::plan::Plan;

const OPEN: &str = "no authentication, no encryption";

/// For one node in this process.
pub(super) fn one(node: &Node, data_dir: &Path, program: &str) -> String {
    let (api, http) = (node.addresses().grpc, node.addresses().http);
    let mqtt = node.addresses().mqtt;
    let directory = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    format!(
        "\
antumbra {version}: one node for development

  gRPC   http://{api}   antumbra.v1.Shadows, antumbra.cluster.v1.Cluster, health, reflection
  HTTP   http://{http}   AWS iot-data, /livez /readyz /startupz, /metrics
  MQTT   mqtt://{mqtt}   3.1.1 and 5, topics of AWS IoT device shadows
  data   {directory}
         persistent: every change is on disk before it is acknowledged, and the next start finds it
  open   {OPEN}; it listens on the loopback interface only

{commands}
",
        version = env!("CARGO_PKG_VERSION"),
        directory = directory.display(),
        commands = commands(program, api, http, api),
    )
}

/// For several, with their process ids in the same order.
pub(super) fn several(plan: &Plan, pids: &[u32], program: &str) -> String {
    let nodes = plan.members.iter().filter(|member| member.storage).count();
    let gateways = match plan.members.len() - nodes {
        0 => String::new(),
        1 => " and 1 gateway".to_owned(),
        several => format!(" and {several} gateways"),
    };
    let plural = if nodes == 1 { "" } else { "s" };
    let mut text = format!(
        "antumbra {}: {nodes} node{plural}{gateways} for development\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for (nth, member) in plan.members.iter().enumerate() {
        let pid = pids.get(nth).copied().unwrap_or_default();
        let _ = writeln!(
            text,
            "  {}   gRPC http://{}   HTTP http://{}   MQTT mqtt://{}   pid {pid}",
            member.name, member.ports.grpc, member.ports.http, member.ports.mqtt,
        );
    }
    let last = plan.members.last().map(|member| member.ports);
    let first = plan.members.first().map(|member| member.ports);
    let second = plan.members.get(1).map(|member| member.ports);
    let directory = plan.directory.display();
    let (directories, logs) = match nodes {
        1 => ("node-1".to_owned(), "node-1.log".to_owned()),
        _ => (
            format!("node-1 … node-{nodes}"),
            format!("node-1.log … node-{nodes}.log"),
        ),
    };
    let _ = write!(
        text,
        "
  data   {directory}/{directories}, logs beside them in {logs}
         persistent: every change is on the disks of most nodes before it is acknowledged
  open   {OPEN}; they listen on the loopback interface only
"
    );
    if let (Some(first), Some(second), Some(last)) = (first, second, last) {
        let _ = write!(
            text,
            "\n{}\n",
            commands(program, first.grpc, second.http, last.grpc)
        );
    }
    text
}

/// Three commands that work as they are, each at the door it names.
fn commands(program: &str, write: SocketAddr, http: SocketAddr, watch: SocketAddr) -> String {
    let endpoint = |address: SocketAddr| match address.port() {
        DEFAULT_PORT => String::new(),
        _ => format!(" --endpoint http://{address}"),
    };
    format!(
        "\
Commands to paste:

  {program} shadow update{} lamp-1 --desired '{{\"on\":true}}'
  curl -s -d '{{\"state\":{{\"reported\":{{\"on\":false}}}}}}' http://{http}/things/lamp-1/shadow
  {program} shadow watch{} lamp-1
",
        endpoint(write),
        endpoint(watch),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A command without the port that it needs would reach another cluster or none.
    #[test]
    fn commands_name_the_doors_they_need() {
        let plan = Plan::new(Path::new("/d"), 7400, 3, 0).unwrap();
        let text = several(&plan, &[11, 12, 13], "./antumbra");
        for line in [
            "  node-2   gRPC http://127.0.0.1:7500   HTTP http://127.0.0.1:7580   MQTT mqtt://127.0.0.1:1983   pid 12\n",
            "  ./antumbra shadow update lamp-1 --desired '{\"on\":true}'\n",
            "http://127.0.0.1:7580/things/lamp-1/shadow\n",
            "  ./antumbra shadow watch --endpoint http://127.0.0.1:7600 lamp-1\n",
            "/d/node-1 … node-3",
        ] {
            assert!(text.contains(line), "no `{line}` in\n{text}");
        }
        let plan = Plan::new(Path::new("/d"), 8400, 3, 0).unwrap();
        let text = several(&plan, &[11, 12, 13], "antumbra");
        let line = "  antumbra shadow update --endpoint http://127.0.0.1:8400 lamp-1 ";
        assert!(text.contains(line), "{text}");
        assert_eq!(
            text.lines().filter(|line| line.contains("lamp-1")).count(),
            3
        );
    }
}

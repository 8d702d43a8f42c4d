//! Runs a Python client of `tests/clients/` against a node.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::environment;
use crate::node::{self, Node};

const LIMIT: Duration = Duration::from_secs(180);

/// Runs one script to its end; it must exit with 0. Its output is printed.
pub fn run_client(script: &str, node: &Node) -> Result<()> {
    run_client_with(script, node, &[])
}

/// As [`run_client`], with arguments beside the addresses of the gRPC and HTTP doors.
pub fn run_client_with(script: &str, node: &Node, arguments: &[String]) -> Result<()> {
    let python = environment::python();
    ensure!(
        python.exists(),
        "no Python environment: run tests/clients/setup.sh"
    );
    let clients = environment::repository().join("tests/clients");
    let mut command = Command::new(python);
    command.arg("-B").arg(clients.join(script));
    command.arg("--http").arg(format!("http://{}", node.http()));
    command.arg("--grpc").arg(node.grpc().to_string());
    command
        .arg("--proto")
        .arg(environment::repository().join("proto"))
        .args(arguments);
    let ended = node::run_command(command, LIMIT)?;
    println!("{}", ended.output);
    ensure!(
        ended.status.success(),
        "{script} ended with {}\n{}",
        ended.status,
        ended.output
    );
    Ok(())
}

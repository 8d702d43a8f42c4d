//! Renders the chart.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::chaos::command;
use crate::environment;

/// Installs tools the first time.
const SETUP_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(60);

/// The program, installed if it was not.
pub fn program() -> Result<PathBuf> {
    let setup = Command::new(environment::repository().join("deploy/ci/setup"));
    let printed = command::finish(setup, "", SETUP_LIMIT)?;
    ensure!(
        printed.status.success(),
        "deploy/ci/setup: {}",
        printed.error
    );
    Ok(environment::deploy_tools().join("bin/helm"))
}

/// What `helm template` prints for a release of this repository's chart, with values such as
/// `replicas=5`.
pub fn template(release: &str, namespace: &str, values: &[&str]) -> Result<String> {
    let mut helm = Command::new(program()?);
    helm.args(["template", release])
        .arg(environment::repository().join("deploy/helm/antumbra"))
        .args(["--namespace", namespace]);
    for value in values {
        helm.args(["--set", value]);
    }
    let printed = command::finish(helm, "", LIMIT)?;
    ensure!(
        printed.status.success(),
        "helm template {values:?}: {}",
        printed.error
    );
    Ok(printed.output)
}

//! Renders the chart.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::chaos::command;
use crate::environment;

/// Installs tools the first time.
const SETUP_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(60);

/// What `helm template` prints for a release of this repository's chart, with values such as
/// `replicas=5`.
pub fn template(release: &str, namespace: &str, values: &[&str]) -> Result<String> {
    let deploy = environment::repository().join("deploy");
    let setup = Command::new(deploy.join("ci/setup"));
    let printed = command::finish(setup, "", SETUP_LIMIT)?;
    ensure!(
        printed.status.success(),
        "deploy/ci/setup: {}",
        printed.error
    );
    let mut helm = Command::new(environment::deploy_tools().join("bin/helm"));
    helm.args(["template", release])
        .arg(deploy.join("helm/antumbra"))
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

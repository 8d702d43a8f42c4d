//! The API of Kubernetes for nodes that are plain processes: one StatefulSet, for whoever shows the token of the
//! service account.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::Result;
use serde_json::json;
use tempfile::TempDir;

use crate::kubesim::api::{Server, variables};
use crate::kubesim::manifest::Manifests;

const TOKEN: &str = "token-of-the-tests";
const NAMESPACE: &str = "tests";
const ACCOUNT: &str = "node";
/// What the account may do.
const RULES: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: node, namespace: tests}
rules:
  - {apiGroups: [apps], resources: [statefulsets], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: node, namespace: tests}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: node}
subjects: [{kind: ServiceAccount, name: node, namespace: tests}]
";

/// The server with the files of a service account. Stops when dropped.
pub struct Api {
    server: Server,
    account: TempDir,
    address: Ipv4Addr,
    set: String,
    start: u32,
}

impl Api {
    /// Serves a StatefulSet whose first pod has the ordinal `start`, at an address of this machine.
    pub fn start(address: Ipv4Addr, set: &str, start: u32, replicas: u32) -> Result<Api> {
        let account = tempfile::tempdir()?;
        let server = Server::start((address, 0).into())?;
        let files = [
            ("token", TOKEN),
            ("namespace", NAMESPACE),
            ("ca.crt", server.authority()),
        ];
        for (name, text) in files {
            fs::write(account.path().join(name), text)?;
        }
        let rules = Manifests::parse(RULES)?;
        server.change(|known| {
            let owner = (NAMESPACE.to_owned(), ACCOUNT.to_owned());
            known.tokens.insert(TOKEN.to_owned(), owner);
            known.roles = rules.roles;
            known.bindings = rules.role_bindings;
        });
        let api = Api {
            server,
            account,
            address,
            set: set.to_owned(),
            start,
        };
        api.scale(replicas);
        Ok(api)
    }

    /// What a node must have in its environment to find this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = variables(self.address, self.server.address().port());
        let account = self.account.path().display().to_string();
        variables.push(("ANTUMBRA_SERVICE_ACCOUNT".to_owned(), account));
        variables
    }

    /// From now on the StatefulSet should have so many pods.
    pub fn scale(&self, replicas: u32) {
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": self.set, "namespace": NAMESPACE, "uid": "uid-of-the-tests"},
            "spec": {
                "replicas": replicas,
                "ordinals": {"start": self.start},
                "serviceName": self.set,
            },
        });
        let key = (NAMESPACE.to_owned(), self.set.clone());
        self.server.change(|known| {
            known.stateful_sets.insert(key, set);
        });
    }

    /// How often the StatefulSet was given away.
    pub fn reads(&self) -> u64 {
        self.server.reads()
    }
}

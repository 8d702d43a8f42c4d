//! The objects that the chart renders, as Kubernetes would read them.
//!
//! Stricter than Kubernetes: a field that it does not know, a kind that is not modelled here and an
//! object that comes twice are errors that name what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// All objects of a release, each kind in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// What runs with volumes.
    pub stateful_sets: Vec<StatefulSet>,
    /// What runs without.
    pub deployments: Vec<Deployment>,
    /// Names of pods.
    pub services: Vec<Service>,
    /// Files without secrets.
    pub config_maps: Vec<ConfigMap>,
    /// Files with secrets.
    pub secrets: Vec<Secret>,
    /// Where objects are.
    pub namespaces: Vec<Namespace>,
    /// How many pods may be evicted.
    pub budgets: Vec<PodDisruptionBudget>,
    /// What is refused at the API.
    pub policies: Vec<ValidatingAdmissionPolicy>,
    /// Where it is refused.
    pub bindings: Vec<ValidatingAdmissionPolicyBinding>,
    /// Who a pod is at the API.
    pub accounts: Vec<ServiceAccount>,
    /// What may be done at the API.
    pub roles: Vec<Role>,
    /// Who may do it.
    pub role_bindings: Vec<RoleBinding>,
    /// Who may reach whom. Read, so that its fields are checked; nothing is cut off by it.
    pub network_policies: Vec<NetworkPolicy>,
}

impl Manifests {
    /// Reads what `helm template` prints: YAML, many documents.
    pub fn parse(text: &str) -> Result<Manifests> {
        // Kubernetes reads YAML 1.1: the mode of a file is `0440`, an octal number.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| anyhow!("the manifests are no YAML: {error}"))?;
        let mut manifests = Manifests::default();
        let mut seen = BTreeSet::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let named = identity(&document)?;
            let title = format!("{} {}", named.1, named.2);
            ensure!(seen.insert(named.clone()), "{title} comes twice");
            manifests
                .take(&named.0, &named.1, document)
                .with_context(|| title)?;
        }
        Ok(manifests)
    }

    fn take(&mut self, version: &str, kind: &str, document: Value) -> Result<()> {
        match (version, kind) {
            ("apps/v1", "StatefulSet") => self.stateful_sets.push(read(document)?),
            ("apps/v1", "Deployment") => self.deployments.push(read(document)?),
            ("v1", "Service") => self.services.push(read(document)?),
            ("v1", "ConfigMap") => self.config_maps.push(read(document)?),
            ("v1", "Secret") => self.secrets.push(read(document)?),
            ("v1", "Namespace") => self.namespaces.push(read(document)?),
            ("policy/v1", "PodDisruptionBudget") => self.budgets.push(read(document)?),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy") => {
                self.policies.push(read(document)?);
            }
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding") => {
                self.bindings.push(read(document)?);
            }
            ("v1", "ServiceAccount") => self.accounts.push(read(document)?),
            ("rbac.authorization.k8s.io/v1", "Role") => self.roles.push(read(document)?),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => {
                self.role_bindings.push(read(document)?);
            }
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                self.network_policies.push(read(document)?);
            }
            _ => bail!("{version} {kind} is not modelled"),
        }
        Ok(())
    }
}

/// Version, kind and name of an object.
fn identity(document: &Value) -> Result<(String, String, String)> {
    let text = |value: &Value, what: &str| {
        let text = value.as_str().map(str::to_owned);
        text.with_context(|| format!("an object without {what}: {document}"))
    };
    Ok((
        text(&document["apiVersion"], "apiVersion")?,
        text(&document["kind"], "kind")?,
        text(&document["metadata"]["name"], "name")?,
    ))
}

/// Reads one object, every field of which must be one that Kubernetes knows.
fn read<T: DeserializeOwned>(document: Value) -> Result<T> {
    let mut unknown = Vec::new();
    let object = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()))?;
    ensure!(
        unknown.is_empty(),
        "Kubernetes knows no field {}",
        unknown.join(", ")
    );
    Ok(object)
}

/// The name of an object, which every object has that was read by [`Manifests::parse`].
pub fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// Whether a selector takes an object with these labels.
pub fn selects(selector: &LabelSelector, labels: &Labels) -> Result<bool> {
    ensure!(
        selector.match_expressions.is_none(),
        "matchExpressions of a selector are not modelled"
    );
    let wanted = selector.match_labels.iter().flatten();
    Ok(has_all(wanted, labels))
}

/// Whether these labels are all there, with their values.
pub fn has_all<'a>(
    mut wanted: impl Iterator<Item = (&'a String, &'a String)>,
    labels: &Labels,
) -> bool {
    wanted.all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: files, namespace: fleet}
data:
  one.toml: |
    [node]
";

    const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: lamps, namespace: fleet}
spec:
  serviceName: lamps-headless
  replicas: 3
  selector: {matchLabels: {app: lamps}}
  template:
    metadata: {labels: {app: lamps}}
    spec:
      containers:
        - name: node
          image: node:1
      volumes:
        - name: keys
          secret: {secretName: keys, defaultMode: 0440}
";

    fn error(text: &str) -> String {
        format!("{:#}", Manifests::parse(text).unwrap_err())
    }

    #[test]
    fn reads_documents_of_several_kinds() {
        let found = Manifests::parse(&format!("---\n# nothing\n---{CONFIG}---{SET}")).unwrap();
        assert_eq!(name(&found.config_maps[0].metadata), "files");
        let data = found.config_maps[0].data.as_ref().unwrap();
        assert_eq!(data["one.toml"], "[node]\n");
        let spec = found.stateful_sets[0].spec.as_ref().unwrap();
        assert_eq!(spec.replicas, Some(3));
    }

    /// The mode of a file is written with a leading zero, as Kubernetes reads it.
    #[test]
    fn reads_octal_modes() {
        let found = Manifests::parse(SET).unwrap();
        let template = &found.stateful_sets[0].spec.as_ref().unwrap().template;
        let volumes = template.spec.as_ref().unwrap().volumes.as_ref().unwrap();
        let secret = volumes[0].secret.as_ref().unwrap();
        assert_eq!(secret.default_mode, Some(0o440));
    }

    /// A misspelt field is silently dropped by Kubernetes, which is how it would go unseen.
    #[test]
    fn unknown_fields_are_errors() {
        let nested = error(&SET.replace("image: node:1", "imagge: node:1"));
        assert!(nested.contains("imagge"), "{nested}");
        assert!(nested.contains("StatefulSet lamps"), "{nested}");
        let top = error(&SET.replace("  replicas: 3", "  replicaz: 3"));
        assert!(top.contains("replicaz"), "{top}");
    }

    #[test]
    fn kinds_that_are_not_modelled_are_errors_that_name_them() {
        let text = CONFIG.replace("kind: ConfigMap", "kind: Pod");
        assert!(error(&text).contains("v1 Pod is not modelled"));
        let text = CONFIG.replace("apiVersion: v1", "apiVersion: v2");
        assert!(error(&text).contains("v2 ConfigMap is not modelled"));
        assert!(error("kind: ConfigMap").contains("without apiVersion"));
    }

    #[test]
    fn objects_and_keys_that_come_twice_are_errors() {
        assert!(error(&format!("{CONFIG}---{CONFIG}")).contains("ConfigMap files comes twice"));
        let text = SET.replace("  replicas: 3", "  replicas: 3\n  replicas: 4");
        assert!(error(&text).contains("no YAML"));
    }

    #[test]
    fn selectors_need_every_label() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let owned = pairs.iter();
            owned
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let selector = LabelSelector {
            match_labels: Some(labels(&[("app", "lamps"), ("tier", "storage")])),
            ..LabelSelector::default()
        };
        let takes = |pairs| selects(&selector, &labels(pairs)).unwrap();
        assert!(takes(&[
            ("app", "lamps"),
            ("tier", "storage"),
            ("more", "1")
        ]));
        assert!(!takes(&[("app", "lamps")]));
        assert!(!takes(&[("app", "lamps"), ("tier", "gateway")]));
    }
}

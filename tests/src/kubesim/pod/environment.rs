//! The variables of a container.

use std::net::Ipv4Addr;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Container;

use crate::kubesim::manifest::Labels;

/// What the downward API says of a pod.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Unlike that of every other pod.
    pub uid: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The host that it runs on.
    pub host: String,
    /// Its service account.
    pub account: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
}

/// The variables of a container: those of Services, then its own.
pub fn read(
    container: &Container,
    identity: &Identity,
    services: &[(String, String)],
) -> Result<Vec<(String, String)>> {
    ensure!(
        container.env_from.is_none(),
        "envFrom of a container is not modelled"
    );
    let mut variables = services.to_vec();
    for variable in container.env.iter().flatten() {
        let field = match &variable.value_from {
            None => None,
            Some(from) => match &from.field_ref {
                Some(field) => Some(identity.field(&field.field_path)?),
                None => bail!("{}: only fieldRef is modelled", variable.name),
            },
        };
        let value = match field {
            Some(field) => field,
            None => expand(variable.value.as_deref().unwrap_or_default(), &variables),
        };
        // The later one of two with a name counts.
        variables.retain(|(name, _)| *name != variable.name);
        variables.push((variable.name.clone(), value));
    }
    Ok(variables)
}

impl Identity {
    /// The value of a path such as `metadata.name` or `metadata.labels['zone']`.
    fn field(&self, path: &str) -> Result<String> {
        let entry = |map: &Labels, key: &str| map.get(key).cloned().unwrap_or_default();
        if let Some(key) = key(path, "metadata.labels") {
            return Ok(entry(&self.labels, key));
        }
        if let Some(key) = key(path, "metadata.annotations") {
            return Ok(entry(&self.annotations, key));
        }
        Ok(match path {
            "metadata.name" => self.name.clone(),
            "metadata.namespace" => self.namespace.clone(),
            "metadata.uid" => self.uid.clone(),
            "spec.nodeName" => self.host.clone(),
            "spec.serviceAccountName" => self.account.clone(),
            "status.podIP" => self.address.to_string(),
            other => bail!("the field {other} is not modelled"),
        })
    }
}

/// The key in `map['key']`.
fn key<'a>(path: &'a str, map: &str) -> Option<&'a str> {
    let quoted = path.strip_prefix(map)?.strip_prefix("['")?;
    quoted.strip_suffix("']")
}

/// A text with `$(NAME)` replaced by the variable, if there is one. `$$` is a dollar.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let name = after.strip_prefix('(').and_then(|it| it.split_once(')'));
        let found = name.and_then(|(name, rest)| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| (value, rest))
        });
        match found {
            Some((value, after)) => {
                expanded.push_str(value);
                rest = after;
            }
            None => {
                expanded.push('$');
                rest = after;
            }
        }
    }
    expanded.push_str(rest);
    expanded
}

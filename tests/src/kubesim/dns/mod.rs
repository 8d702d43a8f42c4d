//! The names of the cluster: which ones there are, how they are asked for, and who answers.

pub mod message;
pub mod server;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;

use super::manifest::{self, Labels};

/// Addresses by full name, in lower case and without the last dot.
pub type Names = BTreeMap<String, Vec<Ipv4Addr>>;

/// A pod that has an address.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its name, which is its host name too.
    pub pod: String,
    /// The Service that its name is under, if it is a pod of a StatefulSet.
    pub subdomain: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it is ready, and not about to end.
    pub is_ready: bool,
}

/// The names that headless Services make in a cluster domain. Services with an address of their own
/// make none here.
pub fn names(services: &[Service], hosts: &[Host], domain: &str) -> Result<Names> {
    let mut names = Names::new();
    for service in services {
        let spec = service.spec.as_ref().context("a Service has a spec")?;
        if spec.cluster_ip.as_deref() != Some("None") {
            continue;
        }
        let name = manifest::name(&service.metadata);
        let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
        let full = format!("{name}.{namespace}.svc.{domain}").to_lowercase();
        let publishes_all = spec.publish_not_ready_addresses == Some(true);
        let Some(selector) = &spec.selector else {
            continue;
        };
        for host in hosts {
            if !manifest::has_all(selector.iter(), &host.labels)
                || !(publishes_all || host.is_ready)
            {
                continue;
            }
            names.entry(full.clone()).or_default().push(host.address);
            if host.subdomain.as_deref() == Some(name) {
                let pod = format!("{}.{full}", host.pod.to_lowercase());
                names.entry(pod).or_default().push(host.address);
            }
        }
    }
    Ok(names)
}

/// What a pod has in `/etc/resolv.conf`.
pub fn resolv_conf(server: Ipv4Addr, namespace: &str, domain: &str) -> String {
    format!(
        "search {namespace}.svc.{domain} svc.{domain} {domain}\nnameserver {server}\noptions ndots:5\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubesim::manifest::Manifests;

    fn services(not_ready: bool, cluster_ip: &str) -> Vec<Service> {
        let text = format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: fleet}}
spec:
  clusterIP: {cluster_ip}
  publishNotReadyAddresses: {not_ready}
  selector: {{app: web}}
  ports: [{{name: http, port: 80}}]
"
        );
        Manifests::parse(&text).unwrap().services
    }

    fn host(pod: &str, last: u8, is_ready: bool) -> Host {
        Host {
            pod: pod.into(),
            subdomain: Some("web".into()),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            address: Ipv4Addr::new(10, 0, 0, last),
            is_ready,
        }
    }

    fn lookup(names: &Names, name: &str) -> Vec<u8> {
        let found = names.get(name).into_iter().flatten();
        found.map(|address| address.octets()[3]).collect()
    }

    #[test]
    fn headless_service_names_itself_and_every_pod() {
        let stranger = Host {
            labels: Labels::new(),
            ..host("other-0", 9, true)
        };
        let gateway = Host {
            subdomain: None,
            ..host("gateway-x", 7, true)
        };
        let hosts = [
            host("web-0", 1, true),
            host("web-1", 2, true),
            stranger,
            gateway,
        ];
        let found = names(&services(false, "None"), &hosts, "cluster.local").unwrap();
        assert_eq!(lookup(&found, "web.fleet.svc.cluster.local"), [1, 2, 7]);
        assert_eq!(lookup(&found, "web-1.web.fleet.svc.cluster.local"), [2]);
        assert_eq!(
            found.len(),
            3,
            "a pod that is not under the Service has no name: {found:?}"
        );
    }

    #[test]
    fn not_ready_pods_are_named_only_when_the_service_publishes_them() {
        let hosts = [host("web-0", 1, true), host("web-1", 2, false)];
        let found = names(&services(false, "None"), &hosts, "cluster.local").unwrap();
        assert_eq!(lookup(&found, "web.fleet.svc.cluster.local"), [1]);
        assert!(lookup(&found, "web-1.web.fleet.svc.cluster.local").is_empty());
        let found = names(&services(true, "None"), &hosts, "cluster.local").unwrap();
        assert_eq!(lookup(&found, "web-1.web.fleet.svc.cluster.local"), [2]);
    }

    #[test]
    fn services_with_an_address_are_not_modelled() {
        let hosts = [host("web-0", 1, true)];
        let found = names(&services(true, "10.1.2.3"), &hosts, "cluster.local").unwrap();
        assert!(found.is_empty());
    }

    #[test]
    fn names_are_completed_with_the_domain_of_the_cluster() {
        let text = resolv_conf(Ipv4Addr::new(10, 0, 0, 254), "fleet", "cluster.local");
        assert_eq!(
            text,
            "search fleet.svc.cluster.local svc.cluster.local cluster.local\n\
             nameserver 10.0.0.254\noptions ndots:5\n"
        );
    }
}

//! The API server, as much of it as a pod may ask: its StatefulSet, if its role lets it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::manifest;

/// What a request and its answer may take.
const LIMIT: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
/// How often the server looks whether it should end.
const TURN: Duration = Duration::from_millis(50);

/// What the API knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// StatefulSets by namespace and name.
    pub stateful_sets: BTreeMap<(String, String), Value>,
    /// Namespace and name of service accounts by their tokens.
    pub tokens: BTreeMap<String, (String, String)>,
    /// What may be done.
    pub roles: Vec<Role>,
    /// Who may do it.
    pub bindings: Vec<RoleBinding>,
}

/// A server. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    authority: String,
    known: Arc<Mutex<Known>>,
    /// How often a StatefulSet was given away.
    reads: Arc<AtomicU64>,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer at an address, with a certificate of an authority of its own.
    pub fn start(address: SocketAddr) -> Result<Server> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("be the API at {address}"))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (config, authority) = identity(&address)?;
        let known = Arc::new(Mutex::new(Known::default()));
        let reads = Arc::new(AtomicU64::new(0));
        let is_ending = Arc::new(AtomicBool::new(false));
        let (knows, ending) = (Arc::clone(&known), Arc::clone(&is_ending));
        let counted = Arc::clone(&reads);
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(TURN);
                    continue;
                };
                let (config, known) = (Arc::clone(&config), Arc::clone(&knows));
                let reads = Arc::clone(&counted);
                // Whoever is not answered asks again.
                thread::spawn(move || serve(stream, config, &known, &reads).ok());
            }
        });
        Ok(Server {
            address,
            authority,
            known,
            reads,
            is_ending,
            thread: Some(thread),
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// How often a StatefulSet was given away so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Changes what it knows.
    pub fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().expect("nobody panics with it"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn identity(address: &SocketAddr) -> Result<(Arc<ServerConfig>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let names = vec![
        address.ip().to_string(),
        "kubernetes.default.svc".to_owned(),
    ];
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok((Arc::new(config), authority))
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    known: &Mutex<Known>,
    reads: &AtomicU64,
) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        match stream.read(&mut piece)? {
            0 => break,
            read => head.extend(&piece[..read]),
        }
    }
    let (status, body) = {
        let known = known.lock().expect("nobody panics with it");
        answer(&String::from_utf8_lossy(&head), &known)
    };
    if status == 200 {
        reads.fetch_add(1, Ordering::SeqCst);
    }
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// Status and body of the answer to a request.
fn answer(head: &str, known: &Known) -> (u16, Value) {
    let mut lines = head.split("\r\n");
    let mut request = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (request.next(), request.next().unwrap_or_default());
    let token = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().strip_prefix("Bearer ")?;
        name.eq_ignore_ascii_case("authorization").then_some(value)
    });
    let Some(account) = token.and_then(|token| known.tokens.get(token)) else {
        return refusal(401, "Unauthorized", "Unauthorized");
    };
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let [
        "apis",
        "apps",
        "v1",
        "namespaces",
        namespace,
        "statefulsets",
        name,
    ] = parts[..]
    else {
        return refusal(
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
    };
    if method != Some("GET") || !known.allows(account, namespace, name) {
        let text = format!("statefulsets.apps \"{name}\" is forbidden");
        return refusal(403, "Forbidden", &text);
    }
    let key = (namespace.to_owned(), name.to_owned());
    match known.stateful_sets.get(&key) {
        Some(object) => (200, object.clone()),
        None => refusal(
            404,
            "NotFound",
            &format!("statefulsets.apps \"{name}\" not found"),
        ),
    }
}

fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

impl Known {
    /// Whether a service account may get a StatefulSet.
    fn allows(&self, account: &(String, String), namespace: &str, name: &str) -> bool {
        let is_here = |object: &Option<String>| object.as_deref() == Some(namespace);
        let bound = self.bindings.iter().filter(|binding| {
            let mut subjects = binding.subjects.iter().flatten();
            is_here(&binding.metadata.namespace)
                && subjects.any(|subject| {
                    subject.kind == "ServiceAccount"
                        && subject.name == account.1
                        && subject.namespace.as_deref() == Some(&account.0)
                })
        });
        let mut roles = bound.flat_map(|binding| {
            self.roles.iter().filter(|role| {
                is_here(&role.metadata.namespace)
                    && manifest::name(&role.metadata) == binding.role_ref.name
            })
        });
        roles.any(|role| {
            let mut rules = role.rules.iter().flatten();
            rules.any(|rule| {
                let has = |list: &Option<Vec<String>>, wanted: &str| {
                    list.iter().flatten().any(|one| one == wanted || one == "*")
                };
                let names = rule.resource_names.as_deref().unwrap_or_default();
                has(&rule.api_groups, "apps")
                    && has(&rule.resources, "statefulsets")
                    && rule.verbs.iter().any(|verb| verb == "get" || verb == "*")
                    && (names.is_empty() || names.iter().any(|one| one == name))
            })
        })
    }
}

/// The variables by which a container finds the API.
pub fn variables(address: Ipv4Addr, port: u16) -> Vec<(String, String)> {
    vec![
        ("KUBERNETES_SERVICE_HOST".to_owned(), address.to_string()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubesim::manifest::Manifests;

    const RULES: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: web, namespace: fleet}
rules:
  - {apiGroups: [apps], resources: [statefulsets], resourceNames: [web], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: web, namespace: fleet}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}
subjects: [{kind: ServiceAccount, name: web, namespace: fleet}]
";

    fn known() -> Known {
        let objects = Manifests::parse(RULES).unwrap();
        let account = |name: &str| ("fleet".to_owned(), name.to_owned());
        let object = json!({"kind": "StatefulSet", "spec": {"replicas": 5}});
        Known {
            stateful_sets: [(account("web"), object.clone()), (account("other"), object)].into(),
            tokens: [
                ("token-1".to_owned(), account("web")),
                ("token-2".to_owned(), account("default")),
            ]
            .into(),
            roles: objects.roles,
            bindings: objects.role_bindings,
        }
    }

    fn ask(known: &Known, line: &str, token: &str) -> u16 {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        answer(&head, known).0
    }

    const WEB: &str = "GET /apis/apps/v1/namespaces/fleet/statefulsets/web";

    #[test]
    fn account_reads_what_its_role_lets_it() {
        let mut known = known();
        assert_eq!(ask(&known, WEB, "token-1"), 200);
        assert_eq!(ask(&known, WEB, "token-2"), 403, "another account");
        assert_eq!(ask(&known, WEB, "token-3"), 401, "nobody's token");
        assert_eq!(ask(&known, &WEB.replace("/web", "/other"), "token-1"), 403);
        assert_eq!(ask(&known, &WEB.replace("/fleet", "/home"), "token-1"), 403);
        assert_eq!(ask(&known, &WEB.replace("GET", "PUT"), "token-1"), 403);
        assert_eq!(ask(&known, "GET /api/v1/pods", "token-1"), 404);
        known.stateful_sets.clear();
        assert_eq!(ask(&known, WEB, "token-1"), 404);
        known.bindings.clear();
        assert_eq!(ask(&known, WEB, "token-1"), 403);
    }

    #[test]
    fn head_without_a_token_is_refused() {
        let known = known();
        assert_eq!(answer("", &known).0, 401);
        assert_eq!(answer(&format!("{WEB} HTTP/1.1\r\n\r\n"), &known).0, 401);
    }
}

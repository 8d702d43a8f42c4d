//! A server that plays the API of Kubernetes, as far as a node asks it: one StatefulSet, over TLS, for whoever shows
//! the token of the service account.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

const TOKEN: &str = "token-of-the-tests";
const NAMESPACE: &str = "tests";
const LIMIT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The server with the files of a service account. Stops when dropped.
pub struct Api {
    address: SocketAddr,
    account: TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    set: String,
    start: u32,
    replicas: AtomicU32,
    reads: AtomicU64,
    stopping: AtomicBool,
    tls: Arc<ServerConfig>,
}

impl Api {
    /// Serves a StatefulSet whose first pod has the ordinal `start`, at an address of this machine.
    pub fn start(address: IpAddr, set: &str, start: u32, replicas: u32) -> Result<Api> {
        let account = tempfile::tempdir()?;
        let tls = certify(address, &account)?;
        fs::write(account.path().join("token"), TOKEN)?;
        fs::write(account.path().join("namespace"), NAMESPACE)?;
        let listener = TcpListener::bind((address, 0))?;
        let api = Api {
            address: listener.local_addr()?,
            account,
            shared: Arc::new(Shared {
                set: set.to_owned(),
                start,
                replicas: AtomicU32::new(replicas),
                reads: AtomicU64::new(0),
                stopping: AtomicBool::new(false),
                tls: Arc::new(tls),
            }),
        };
        let shared = Arc::clone(&api.shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&shared);
                // Whoever goes away midway is not missed.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Ok(api)
    }

    /// What a node must have in its environment to find this server.
    pub fn environment(&self) -> Vec<(String, String)> {
        let account = self.account.path().display().to_string();
        let variables = [
            ("KUBERNETES_SERVICE_HOST", self.address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", self.address.port().to_string()),
            ("ANTUMBRA_SERVICE_ACCOUNT", account),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    }

    /// From now on the StatefulSet should have so many pods.
    pub fn scale(&self, replicas: u32) {
        self.shared.replicas.store(replicas, Ordering::SeqCst);
    }

    /// How often the StatefulSet was given away.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::SeqCst)
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes whoever waits for connections.
        TcpStream::connect_timeout(&self.address, LIMIT).ok();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let connection = ServerConnection::new(Arc::clone(&self.tls))?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
            ensure!(head.len() < HEAD_BYTES_MAX, "a head without end");
        }
        let (status, body) = self.answer(&String::from_utf8_lossy(&head));
        let body = body.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        )?;
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(())
    }

    fn answer(&self, head: &str) -> (u16, Value) {
        let path = format!(
            "/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{}",
            self.set
        );
        let is_allowed = head.lines().any(|line| {
            let header = line.split_once(':');
            header.is_some_and(|(name, value)| {
                let value = value.trim();
                name.eq_ignore_ascii_case("authorization") && value == format!("Bearer {TOKEN}")
            })
        });
        if !is_allowed {
            return (401, json!({"kind": "Status", "reason": "Unauthorized"}));
        }
        if !head.starts_with(&format!("GET {path} HTTP/1.1\r\n")) {
            return (404, json!({"kind": "Status", "reason": "NotFound"}));
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": self.set, "namespace": NAMESPACE, "uid": "uid-of-the-tests"},
            "spec": {
                "replicas": self.replicas.load(Ordering::SeqCst),
                "ordinals": {"start": self.start},
                "serviceName": self.set,
            },
        });
        (200, set)
    }
}

/// Makes an authority, writes it for the clients, and gives what the server shows.
fn certify(address: IpAddr, account: &TempDir) -> Result<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    fs::write(account.path().join("ca.crt"), authority.pem())?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![address.to_string()])?;
    let certificate = params.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(config)
}

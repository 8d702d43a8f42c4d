//! A closed node whose doors have TLS, an authority, and clients that show its certificates.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use antumbra::boot::Node;
use antumbra::config::Config;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::access_support::close;
use crate::doors_support::{Reply, patiently, read_reply};
use crate::shadows_support::{config, start};

/// Who signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// The certificate of a device; without a tenant it is for the tenant `default`.
    pub fn device(&self, name: &str, tenant: &str) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if !tenant.is_empty() {
            let organisation = DnType::OrganizationName;
            params.distinguished_name.push(organisation, tenant);
        }
        self.sign(params)
    }

    fn server(&self) -> Identity {
        self.sign(CertificateParams::new(vec!["localhost".to_owned()]).unwrap())
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }
}

/// How a client connects that trusts an authority and shows an identity, or none.
pub fn client(trusted: &Authority, shown: Option<&Identity>, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some(identity) => {
            let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
            let chain = vec![identity.der().clone()];
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

/// Shakes hands with a door.
pub async fn dial(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// A connection of a gRPC client.
pub async fn channel(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = service_fn(move |_| {
        let config = Arc::clone(&config);
        async move { dial(address, config).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("https://localhost");
    patiently(endpoint.connect_with_connector(connector)).await
}

/// A closed node: gRPC, HTTP and MQTT with TLS, and an authority of clients.
pub struct Secured {
    pub node: Node,
    pub authority: Authority,
    pub mqtts: SocketAddr,
    directory: TempDir,
}

impl Secured {
    pub async fn open(adjust: impl FnOnce(&mut Config)) -> Secured {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new();
        let file = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        std::fs::write(file("ca.pem"), authority.certificate.pem()).unwrap();
        let data = directory.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let mut config = config(&data);
        close(&mut config);
        let files = [file("door.pem"), file("door.key"), file("ca.pem")];
        let [certificate, key, ca] = files;
        config.api.tls_certificate = certificate.clone();
        config.api.tls_key = key.clone();
        config.api.tls_client_authority = ca.clone();
        config.http.tls_certificate = certificate.clone();
        config.http.tls_key = key.clone();
        config.http.tls_client_authority = ca.clone();
        config.mqtt.tls_listen = "127.0.0.1:0".to_owned();
        config.mqtt.tls_certificate = certificate;
        config.mqtt.tls_key = key;
        config.mqtt.tls_client_authority = ca;
        config.access.certificate_rules = "common_name = device; organisation = tenant".to_owned();
        adjust(&mut config);
        write_server(&directory, &authority);
        let node = start(&config).await;
        Secured {
            mqtts: node.addresses().mqtts.unwrap(),
            node,
            authority,
            directory,
        }
    }

    pub async fn close(self) {
        self.node.shutdown().await.unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the certificate of the doors by a new one of the same authority.
    pub fn replace_certificate(&self) -> CertificateDer<'static> {
        write_server(&self.directory, &self.authority)
    }

    /// Writes an identity for programs.
    pub fn write(&self, name: &str, identity: &Identity) -> (PathBuf, PathBuf) {
        let (certificate, key) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        std::fs::write(&certificate, identity.certificate.pem()).unwrap();
        std::fs::write(&key, identity.key.serialize_pem()).unwrap();
        (certificate, key)
    }

    pub async fn grpc(&self, shown: Option<&Identity>) -> Channel {
        let config = client(&self.authority, shown, "h2");
        channel(self.node.addresses().grpc, config).await.unwrap()
    }

    /// One HTTP/1.1 request with more headers, each ended by CRLF.
    pub async fn http(
        &self,
        shown: Option<&Identity>,
        (method, path): (&str, &str),
        headers: &str,
        body: &[u8],
    ) -> Reply {
        let config = client(&self.authority, shown, "http/1.1");
        let stream = dial(self.node.addresses().http, config).await.unwrap();
        request(stream, (method, path), headers, body)
            .await
            .unwrap()
    }

    /// The same, without a body, for somebody who may be refused before that.
    pub async fn http_if(&self, shown: Option<&Identity>, what: (&str, &str)) -> Option<Reply> {
        let config = client(&self.authority, shown, "http/1.1");
        let stream = dial(self.node.addresses().http, config).await.ok()?;
        request(stream, what, "", b"").await
    }
}

async fn request(
    mut stream: TlsStream<TcpStream>,
    (method, path): (&str, &str),
    headers: &str,
    body: &[u8],
) -> Option<Reply> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n"
    );
    stream
        .write_all(&[head.as_bytes(), body].concat())
        .await
        .ok()?;
    // In TLS 1.3 a client hears of its refusal when it first reads.
    let mut first = [0];
    patiently(stream.read_exact(&mut first)).await.ok()?;
    let mut whole = first.as_slice().chain(stream);
    Some(read_reply(&mut whole).await)
}

fn write_server(directory: &TempDir, authority: &Authority) -> CertificateDer<'static> {
    let server = authority.server();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("door.pem"), server.certificate.pem()).unwrap();
    std::fs::write(file("door.key"), server.key.serialize_pem()).unwrap();
    server.der().clone()
}

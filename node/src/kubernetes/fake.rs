//! A server that plays the API over TLS, for tests.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Pod;

use super::Client;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// The side of the server, for the name or address that it is reached by.
    pub(crate) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What the server does when it has read a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers with a status and a body.
    Answer(u16, String),
    /// Goes on writing a body.
    Endless,
    /// Writes nothing.
    Silence,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) reply: Arc<Mutex<Reply>>,
    /// The heads of all requests.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) async fn start(acceptor: TlsAcceptor, reply: Reply) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reply, asked) = (
            Arc::new(Mutex::new(reply)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (replies, heard) = (Arc::clone(&reply), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let reply = replies.lock().clone();
                tokio::spawn(answer(stream, reply, Arc::clone(&heard)));
            }
        });
        Server {
            address,
            reply,
            asked,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

async fn answer(
    mut stream: TlsStream<TcpStream>,
    reply: Reply,
    heard: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    heard.lock().push(String::from_utf8(head).unwrap());
    match reply {
        Reply::Answer(status, body) => {
            let head = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all((head + &body).as_bytes()).await?;
            stream.shutdown().await
        }
        Reply::Endless => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).await?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
            loop {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Reply::Silence => std::future::pending().await,
    }
}

/// The files of a service account that trusts an authority.
pub(crate) fn account(authority: &Authority) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("token"), "token-1\n").unwrap();
    fs::write(file("namespace"), "plant-7").unwrap();
    fs::write(file("ca.crt"), &authority.pem).unwrap();
    directory
}

pub(crate) fn client(server: &Server, account: &TempDir) -> Client {
    Client::new(&pod(server, account)).unwrap()
}

/// The environment of a pod with this service account.
pub(crate) fn pod(server: &Server, account: &TempDir) -> Pod {
    Pod {
        api_host: Some(server.address.ip().to_string()),
        api_port: Some(server.address.port().to_string()),
        service_account: account.path().to_owned(),
    }
}

pub(crate) fn set(metadata: &str, spec: &str) -> Reply {
    let text = format!(
        r#"{{"kind":"StatefulSet","apiVersion":"apps/v1",
            "metadata":{{"name":"antumbra","uid":"u-1","labels":{{"a":"b"}}{metadata}}},
            "spec":{{"replicas":5,"serviceName":"x"{spec}}},"status":{{"replicas":4}}}}"#
    );
    Reply::Answer(200, text)
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Reply {
    let text = format!(
        r#"{{"kind":"Status","status":"Failure","reason":"{reason}","message":"{message}","code":{code}}}"#
    );
    Reply::Answer(code, text)
}

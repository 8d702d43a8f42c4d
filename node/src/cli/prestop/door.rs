//! The HTTP door of the node beside this process.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::header::HOST;
use axum::http::{Request, Uri};
use bytes::Bytes;
use http_body_util::Empty;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cli::problem::{Exit, Problem};
use crate::inquiry::{Answer, exchange};

use super::patience::Heard;

/// An answer is one line.
const BODY_BYTES_MAX: usize = 64 << 10;
const PATH: &str = "/prestop";

/// Where the node is asked.
#[derive(Debug)]
pub(super) struct Door {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// Reads the URL of a door.
    pub(super) fn parse(endpoint: &str) -> Result<Door, Problem> {
        let wrong = |why: &str| {
            Problem::new(Exit::Usage, format!("cannot ask {endpoint}"))
                .why(why)
                .try_this("--endpoint http://127.0.0.1:7480")
        };
        let uri: Uri = endpoint
            .parse()
            .map_err(|_| wrong("it is not the URL of an HTTP door"))?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") if is_loopback(host) => {
                let tls = tls().map_err(|error| wrong(&error.to_string()))?;
                (Some(tls), 443)
            }
            Some("https") => {
                return Err(wrong("with https:// only the loopback interface is asked"));
            }
            _ => return Err(wrong("it begins neither with http:// nor with https://")),
        };
        Ok(Door {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            tls,
        })
    }

    /// Asks once. The caller limits the time; may be dropped midway.
    pub(super) async fn ask(&self) -> Heard {
        let answer = match self.get().await {
            Ok(answer) => answer,
            Err(why) => return Heard::Silence(why),
        };
        match (answer.status, serde_json::from_slice(&answer.body)) {
            (200, Ok(outlook)) => Heard::Outlook(outlook),
            (404, _) => Heard::NotUnderstood,
            (status, _) => Heard::Silence(format!("it answers {status}")),
        }
    }

    async fn get(&self) -> Result<Answer, String> {
        let request = Request::get(PATH)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(text)?;
        let address = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(address).await.map_err(text)?;
        let Some(tls) = &self.tls else {
            return exchange(stream, request, BODY_BYTES_MAX)
                .await
                .map_err(text);
        };
        let name = ServerName::try_from(self.host.clone()).map_err(text)?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
        let stream = connecting.await.map_err(text)?;
        exchange(stream, request, BODY_BYTES_MAX)
            .await
            .map_err(text)
    }
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

fn is_loopback(host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

fn tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone { provider }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes any certificate, as the probes of Kubernetes do: it is for the names that clients use. Nothing secret is
/// told to whoever listens on the loopback interface of the pod, and his answer is about how long to wait.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::scaling::outlook::{Fate, Outlook};

    #[test]
    fn endpoints_are_read() {
        let read = |endpoint| {
            let door = Door::parse(endpoint).ok()?;
            Some((door.host, door.port, door.tls.is_some()))
        };
        let of = |host: &str, port, tls| Some((host.to_owned(), port, tls));
        assert_eq!(read("http://127.0.0.1:7480"), of("127.0.0.1", 7480, false));
        assert_eq!(read("http://10.0.0.1"), of("10.0.0.1", 80, false));
        assert_eq!(read("https://localhost:7480/"), of("localhost", 7480, true));
        assert_eq!(read("https://[::1]:7480"), of("::1", 7480, true));
        for wrong in ["https://10.0.0.1:7480", "127.0.0.1:7480", "mqtt://h", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    async fn answered(answer: &'static str) -> Heard {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"GET /prestop HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(door.ask(), serving).0
    }

    /// What an older node, and one that is in trouble, answers is told from what is meant.
    #[tokio::test]
    async fn answers_are_read() {
        let body = r#"{"node":"a-4","fate":"leaves","replicas":2}"#;
        assert_eq!(body.len(), 43);
        let leaves = "HTTP/1.1 200 OK\r\ncontent-length: 43\r\n\r\n\
                      {\"node\":\"a-4\",\"fate\":\"leaves\",\"replicas\":2}";
        let outlook = Outlook {
            node: "a-4".into(),
            fate: Fate::Leaves,
            replicas: 2,
        };
        assert_eq!(answered(leaves).await, Heard::Outlook(outlook));
        let unknown = "HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answered(unknown).await, Heard::NotUnderstood);
        for other in [
            "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "SSH-2.0\r\n\r\n",
        ] {
            let heard = answered(other).await;
            assert!(matches!(heard, Heard::Silence(_)), "{other}: {heard:?}");
        }
    }
}

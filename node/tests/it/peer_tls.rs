//! Links with certificates: who gets in, who does not, and certificates that are replaced.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antumbra::peer::{Tls, TlsError, TlsFiles};
use antumbra::tls::PemError;
use antumbra_proto::peer::v1::ControlRequest;
use antumbra_proto::peer::v1::peer_client::PeerClient;
use antumbra_raft::{Lane, Transport};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tower::service_fn;

use crate::peer_support::{Authority, CLUSTER, PATIENCE, Peer, assert_echoes, echo, soon};

fn authority(directory: &TempDir, name: &str) -> Authority {
    Authority::new(&directory.path().join(name), "lamps")
}

fn with_authority(files: TlsFiles, other: &TlsFiles) -> TlsFiles {
    TlsFiles {
        authority: other.authority.clone(),
        ..files
    }
}

/// What works in plain text works with TLS: all lanes and calls.
#[tokio::test]
async fn links_and_calls_work_with_certificates() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let one = authority.peer("node-1").await;
    let mut two = authority.peer("node-2").await;
    for lane in Lane::ALL {
        let (mut link, accepted) = one.link(&mut two, lane).await;
        echo(accepted.connection);
        assert_echoes(&mut link).await;
    }
    let body = Bytes::from_static(b"hello");
    let answer = one
        .transport
        .control(&two.node.address, body.clone(), PATIENCE);
    assert_eq!(answer.await.unwrap(), "re: hello");
    let answer = two.transport.control(&one.node.address, body, PATIENCE);
    assert_eq!(answer.await.unwrap(), "re: hello");
}

/// A certificate of another authority opens nothing, in neither direction.
#[tokio::test]
async fn refuses_certificates_of_another_authority() {
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (
        authority(&directory, "ours"),
        authority(&directory, "theirs"),
    );
    let one = ours.peer("node-1").await;
    let mut two = theirs.peer("node-2").await;
    let refused = one.refused(&two.node).await;
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    two.refused(&one.node).await;

    // Also when only the server minds: the client trusts both.
    let files = theirs.node("node-3", &[]);
    let both = directory.path().join("both.pem");
    let pem = |authority: &Authority| fs::read(authority.files("x").authority).unwrap();
    fs::write(&both, [pem(&ours), pem(&theirs)].concat()).unwrap();
    let files = TlsFiles {
        authority: both,
        ..files
    };
    let three = Peer::start("node-3", Some(CLUSTER), Tls::open(files, "node-3").unwrap()).await;
    let refused = three.refused(&one.node).await;
    assert!(refused.contains("alert"), "{refused}");
    three.link(&mut two, Lane::Log).await;
}

/// One authority may sign two clusters; their nodes still do not talk.
#[tokio::test]
async fn refuses_certificates_of_another_cluster() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let one = authority.peer("node-1").await;
    let files = authority.node("node-2", &["--cluster", "doors"]);
    let two = Tls::open(files.clone(), "node-2").unwrap();
    let two = Peer::start("node-2", Some(CLUSTER), two).await;
    let text = "the certificate is of cluster `doors`, not of `lamps`";
    let refused = one.refused(&two.node).await;
    assert!(refused.ends_with(text), "{refused}");
    // A caller that does not look itself is told by the node.
    assert_eq!(ask(&one, Some(&files), "node-2").await.unwrap_err(), text);
}

/// The node decides by the certificate, whatever the caller says of itself.
#[tokio::test]
async fn refuses_callers_without_a_node_certificate_of_their_own() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let one = authority.peer("node-1").await;
    let two = authority.node("node-2", &[]);
    ask(&one, Some(&two), "node-2").await.unwrap();
    assert_eq!(
        ask(&one, Some(&two), "node-3").await.unwrap_err(),
        "the certificate is of node-2, not of node-3"
    );
    let client = authority.client("billing");
    assert_eq!(
        ask(&one, Some(&client), "node-2").await.unwrap_err(),
        "the certificate is of client billing"
    );
    let nobody = ask(&one, None, "node-2").await.unwrap_err();
    assert!(!nobody.contains("certificate is of"), "{nobody}");

    let plain = Peer::start("node-2", Some(CLUSTER), Tls::None).await;
    plain.refused(&one.node).await;
    one.refused(&plain.node).await;
}

/// A certificate is replaced while the node runs: open links stay, new ones use the new one.
#[tokio::test]
async fn reload_takes_a_new_certificate_and_keeps_links() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let one = authority.peer("node-1").await;
    let files = authority.node("node-2", &[]);
    let tls = Tls::open(files.clone(), "node-2").unwrap();
    let mut two = Peer::start("node-2", Some(CLUSTER), tls.clone()).await;
    let (mut link, accepted) = one.link(&mut two, Lane::Log).await;
    echo(accepted.connection);
    let before = certificate(&files.certificate);
    assert_eq!(shown_by(&two).await, before);
    assert!(!tls.reload().unwrap());

    authority.node("node-2", &["--force"]);
    assert!(tls.reload().unwrap());
    let after = shown_by(&two).await;
    assert!(after != before && after == certificate(&files.certificate));
    assert_echoes(&mut link).await;
    let (mut newer, accepted) = one.link(&mut two, Lane::Control).await;
    echo(accepted.connection);
    assert_echoes(&mut newer).await;
}

/// Nobody has to tell the node: it looks at its files.
#[tokio::test]
async fn new_certificates_are_noticed() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let one = authority.peer("node-1").await;
    authority.node("node-1", &["--force"]);
    let after = certificate(&authority.files("node-1").certificate);
    let deadline = Instant::now() + Duration::from_secs(15);
    while shown_by(&one).await != after {
        assert!(
            Instant::now() < deadline,
            "the old certificate is still shown"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// An authority is replaced without a break: trust both, issue anew, trust the new one.
#[tokio::test]
async fn an_authority_can_be_replaced_while_nodes_run() {
    let directory = TempDir::new().unwrap();
    let (old, new) = (authority(&directory, "old"), authority(&directory, "new"));
    let trusted = directory.path().join("trusted.pem");
    let pem = |authority: &Authority| fs::read(authority.files("x").authority).unwrap();
    fs::write(&trusted, pem(&old)).unwrap();
    let start = async |name: &str| {
        let files = TlsFiles {
            authority: trusted.clone(),
            ..old.node(name, &[])
        };
        let tls = Tls::open(files, name).unwrap();
        (tls.clone(), Peer::start(name, Some(CLUSTER), tls).await)
    };
    let (tls_one, one) = start("node-1").await;
    let (tls_two, two) = start("node-2").await;
    let linked = async || {
        let there = one.transport.connect(&two.node, Lane::Log).await;
        let back = two.transport.connect(&one.node, Lane::Log).await;
        there.is_ok() && back.is_ok()
    };
    let reload = || tls_one.reload().unwrap() && tls_two.reload().unwrap();
    assert!(linked().await);

    fs::write(&trusted, [pem(&old), pem(&new)].concat()).unwrap();
    assert!(reload() && linked().await);
    for name in ["node-1", "node-2"] {
        let issued = new.node(name, &[]);
        fs::copy(issued.key, old.files(name).key).unwrap();
        fs::copy(issued.certificate, old.files(name).certificate).unwrap();
        // Halfway, one node is new and the other one old.
        if name == "node-1" {
            assert!(tls_one.reload().unwrap() && linked().await);
        }
    }
    assert!(tls_two.reload().unwrap() && linked().await);
    fs::write(&trusted, pem(&new)).unwrap();
    assert!(reload() && linked().await);
}

/// A broken file must not take a working node from the cluster.
#[tokio::test]
async fn broken_files_leave_the_old_certificate_in_force() {
    let directory = TempDir::new().unwrap();
    let authority = authority(&directory, "ca");
    let mut one = authority.peer("node-1").await;
    let files = authority.node("node-2", &[]);
    let tls = Tls::open(files.clone(), "node-2").unwrap();
    let two = Peer::start("node-2", Some(CLUSTER), tls.clone()).await;
    let good = [&files.certificate, &files.key, &files.authority];
    let good = good.map(|path| (path.clone(), fs::read(path).unwrap()));
    let other_key = fs::read(authority.node("node-3", &[]).key).unwrap();

    let breaks: [&dyn Fn(); 4] = [
        &|| fs::write(&files.certificate, "no certificate").unwrap(),
        &|| fs::remove_file(&files.authority).unwrap(),
        &|| fs::write(&files.key, &other_key).unwrap(),
        &|| fs::write(&files.key, "").unwrap(),
    ];
    for broken in breaks {
        broken();
        tls.reload().unwrap_err();
        two.link(&mut one, Lane::Log).await;
        for (path, bytes) in &good {
            fs::write(path, bytes).unwrap();
        }
        assert!(!tls.reload().unwrap(), "nothing is new");
    }
}

/// A node with the wrong files says what is wrong with them when it starts.
#[tokio::test]
async fn wrong_files_are_refused_at_the_start() {
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (
        authority(&directory, "ours"),
        authority(&directory, "theirs"),
    );
    let (one, two) = (ours.node("node-1", &[]), ours.node("node-2", &[]));
    let open = |files: &TlsFiles| Tls::open(files.clone(), "node-1").unwrap_err();

    let error = open(&two);
    assert!(matches!(error, TlsError::WrongNode { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.ends_with("is the certificate of antumbra://lamps/node/node-2, and this is node-1"),
        "{text}"
    );
    let error = open(&ours.client("node-1x"));
    assert!(matches!(error, TlsError::WrongNode { .. }), "{error}");
    let error = open(&TlsFiles {
        key: two.key.clone(),
        ..one.clone()
    });
    assert!(matches!(error, TlsError::Refused { .. }), "{error}");
    let error = open(&with_authority(one.clone(), &theirs.files("x")));
    assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");
    let error = open(&TlsFiles {
        certificate: one.key.clone(),
        ..one.clone()
    });
    assert!(
        matches!(error, TlsError::File(PemError::Content { .. })),
        "{error}"
    );
    let error = open(&ours.files("node-7"));
    assert!(
        matches!(error, TlsError::File(PemError::Read { .. })),
        "{error}"
    );

    let expired = directory.path().join("expired.pem");
    write_expired(&ours, &one, &expired);
    let error = open(&TlsFiles {
        certificate: expired,
        ..one
    });
    assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("expired"), "{error}");
}

/// A certificate of node-1 over its key that has ended.
fn write_expired(authority: &Authority, node: &TlsFiles, path: &Path) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let key = KeyPair::from_pem(&read(&authority.directory.join("ca.key"))).unwrap();
    let pem = read(&authority.directory.join("ca.pem"));
    let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
    let mut params = CertificateParams::new(vec!["node-1".to_owned()]).unwrap();
    let uri = "antumbra://lamps/node/node-1".try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(uri));
    params.not_after = date_time_ymd(2020, 1, 1);
    let key = KeyPair::from_pem(&read(&node.key)).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(path, certificate.pem()).unwrap();
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// The certificate that a node shows now.
async fn shown_by(peer: &Peer) -> CertificateDer<'static> {
    let stream = TcpStream::connect(&peer.node.address).await.unwrap();
    let name = ServerName::try_from("whoever").unwrap();
    let connector = TlsConnector::from(Arc::new(careless(None)));
    let stream = soon(connector.connect(name, stream)).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap();
    shown[0].clone().into_owned()
}

/// A control call by a caller that believes everybody; what it is refused with.
async fn ask(peer: &Peer, files: Option<&TlsFiles>, from: &str) -> Result<(), String> {
    let config = Arc::new(careless(files));
    let address = peer.node.address.clone();
    let connector = service_fn(move |_| {
        let (config, address) = (Arc::clone(&config), address.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("whoever").unwrap();
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            std::io::Result::Ok(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://peer");
    let channel = soon(endpoint.connect_with_connector(connector)).await;
    let channel = channel.map_err(|error| error.to_string())?;
    let mut request = Request::new(ControlRequest::default());
    for (key, value) in [("antumbra-link-version", "1"), ("antumbra-from", from)] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let answer = soon(PeerClient::new(channel).control(request)).await;
    answer
        .map(|_| ())
        .map_err(|status: Status| status.message().to_owned())
}

fn careless(files: Option<&TlsFiles>) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless));
    let mut config = match files {
        Some(files) => {
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            let chain = vec![certificate(&files.certificate)];
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Careless;

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

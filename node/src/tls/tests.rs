use std::fs;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A client that trusts this authority; it shows a certificate of another, if there is one.
    fn client(&self, shown: Option<&Authority>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some(authority) => {
                let (certificate, key) = authority.sign();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                let chain = vec![certificate.der().clone()];
                builder.with_client_auth_cert(chain, key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        TlsConnector::from(Arc::new(config))
    }
}

fn write(directory: &TempDir, authority: &Authority) -> TlsFiles {
    let file = |name: &str| directory.path().join(name);
    let (certificate, key) = authority.sign();
    fs::write(file("door.pem"), certificate.pem()).unwrap();
    fs::write(file("door.key"), key.serialize_pem()).unwrap();
    fs::write(file("ca.pem"), authority.certificate.pem()).unwrap();
    TlsFiles {
        certificate: file("door.pem"),
        key: file("door.key"),
        client_authority: Some(file("ca.pem")),
    }
}

type Client = client::TlsStream<TcpStream>;

/// Both ends of a handshake.
async fn meet(tls: &Tls, client: &TlsConnector) -> (Option<Accepted>, std::io::Result<Client>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        tls.accept(stream).await
    };
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        client.connect(name, stream).await
    };
    timeout(PATIENCE, async { tokio::join!(serve, connect) })
        .await
        .unwrap()
}

fn shown_by(client: &Client) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// What a client shows is handed on; what nobody here vouches for ends the handshake.
#[tokio::test]
async fn tells_what_clients_show() {
    let directory = TempDir::new().unwrap();
    let (authority, other) = (Authority::new(), Authority::new());
    let files = write(&directory, &authority);
    let tls = Tls::open(Door::Grpc, files.clone()).unwrap();
    let (accepted, _client) = meet(&tls, &authority.client(Some(&authority))).await;
    let visitor = accepted.unwrap().visitor;
    assert!(visitor.shown.is_some() && visitor.must_prove);
    let (accepted, _client) = meet(&tls, &authority.client(None)).await;
    let visitor = accepted.unwrap().visitor;
    assert!(visitor.shown.is_none() && visitor.must_prove);
    let (accepted, _client) = meet(&tls, &authority.client(Some(&other))).await;
    assert!(accepted.is_none());

    let without = TlsFiles {
        client_authority: None,
        ..files
    };
    let tls = Tls::open(Door::Grpc, without).unwrap();
    let (accepted, _client) = meet(&tls, &authority.client(Some(&authority))).await;
    let visitor = accepted.unwrap().visitor;
    assert!(visitor.shown.is_none() && !visitor.must_prove);
}

/// New files are taken as a whole or not at all; who is connected stays.
#[tokio::test]
async fn takes_new_files_that_fit() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    let files = write(&directory, &first);
    let tls = Tls::open(Door::Http, files.clone()).unwrap();
    let (_accepted, client) = meet(&tls, &first.client(Some(&first))).await;
    let before = shown_by(&client.unwrap());
    assert!(!tls.reload().unwrap(), "nothing is new");

    let (certificate, key) = second.sign();
    fs::write(&files.certificate, certificate.pem()).unwrap();
    assert!(tls.reload().is_err(), "the key is of another certificate");
    let (_accepted, client) = meet(&tls, &first.client(None)).await;
    assert_eq!(shown_by(&client.unwrap()), before);
    fs::write(&files.key, "nothing").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::File(_))));
    fs::write(&files.key, key.serialize_pem()).unwrap();
    assert!(tls.reload().unwrap());
    let (_accepted, client) = meet(&tls, &second.client(Some(&first))).await;
    assert_eq!(shown_by(&client.unwrap()), *certificate.der());

    let authority = files.client_authority.unwrap();
    fs::remove_file(&authority).unwrap();
    assert!(tls.reload().is_err(), "no authority is not any authority");
    fs::write(&authority, second.certificate.pem()).unwrap();
    assert!(tls.reload().unwrap());
    let (accepted, _client) = meet(&tls, &second.client(Some(&first))).await;
    assert!(
        accepted.is_none(),
        "the first authority is not trusted any more"
    );
    let (accepted, _client) = meet(&tls, &second.client(Some(&second))).await;
    assert!(accepted.unwrap().visitor.shown.is_some());
}

/// More handshakes than there are turns stand still; who comes after them is served at once, and they
/// are closed after a while.
#[tokio::test]
async fn stalled_handshakes_are_in_nobodys_way() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    let tls = Tls::open(Door::Mqtt, write(&directory, &authority)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let begun = Instant::now();
    let (mut silent, mut stalled) = (Vec::new(), JoinSet::new());
    for _ in 0..100 {
        silent.push(TcpStream::connect(address).await.unwrap());
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        stalled.spawn(async move { tls.accept(stream).await.is_some() });
    }
    let (accepted, _client) = meet(&tls, &authority.client(None)).await;
    assert!(accepted.is_some());
    assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "{:?}", begun.elapsed());
    assert!(stalled.try_join_next().is_none(), "they still stand");
    let ended = timeout(PATIENCE, stalled.join_all()).await.unwrap();
    assert!(ended.into_iter().all(|accepted| !accepted));
}

/// Files that cannot be used say which and why.
#[test]
fn refuses_files_that_do_not_fit() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    let files = write(&directory, &authority);
    let open = |files: TlsFiles| {
        Tls::open(Door::Grpc, files)
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(open(files.clone()), None);
    let absent = TlsFiles {
        key: directory.path().join("absent"),
        ..files.clone()
    };
    assert!(open(absent).unwrap().contains("absent"));
    let swapped = TlsFiles {
        certificate: files.key.clone(),
        ..files.clone()
    };
    let text = open(swapped).unwrap();
    assert!(
        text.ends_with("door.key holds no certificate in PEM form"),
        "{text}"
    );
    let foreign = TlsFiles {
        client_authority: Some(files.key.clone()),
        ..files
    };
    assert!(open(foreign).unwrap().contains("door.key"));
}

//! A closed node, credentials of every standing, and callers that show them at the three doors.

use std::net::SocketAddr;
use std::path::Path;

use antumbra::access::Mode;
use antumbra::config::Config;
use antumbra_proto::admin::v1 as admin;
use antumbra_proto::admin::v1::admin_client::AdminClient;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;
use tonic::transport::Channel;

use crate::doors_support::{Site, patiently};

/// A token as the operator has it before there is any credential.
pub const BOOTSTRAP: &str =
    "atk_bootstrap_000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A node that lets nobody in without credentials.
pub async fn closed() -> Site {
    Site::open_with(close).await
}

/// Makes a node closed, with an operator.
pub fn close(config: &mut Config) {
    config.mode = Mode::Closed;
    let file = config.node.data_dir.join("bootstrap.token");
    write(&file, BOOTSTRAP);
    config.access.bootstrap_token_file = file.to_string_lossy().into_owned();
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

/// A request with a token; none when it is empty.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let header = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    request
}

/// The operator of a site.
pub async fn operator(site: &Site) -> AdminClient<Channel> {
    let address = site.node.addresses().grpc;
    let client = AdminClient::connect(format!("http://{address}")).await;
    client.unwrap()
}

/// Makes a credential and gives its token.
pub async fn credential(
    site: &Site,
    request: admin::CreateCredentialRequest,
) -> admin::CreateCredentialResponse {
    let mut operator = operator(site).await;
    let made = operator.create_credential(with(BOOTSTRAP, request));
    patiently(made).await.unwrap().into_inner()
}

/// The token of a new credential for a device.
pub async fn device_token(site: &Site, tenant: &str, id: &str, device: &str) -> String {
    let request = admin::CreateCredentialRequest {
        tenant: tenant.to_owned(),
        id: id.to_owned(),
        device_id: device.to_owned(),
        ..Default::default()
    };
    credential(site, request).await.token
}

/// The token of a new credential for a backend.
pub async fn backend_token(site: &Site, tenant: &str, id: &str, role: &str) -> String {
    let request = admin::CreateCredentialRequest {
        tenant: tenant.to_owned(),
        id: id.to_owned(),
        role: role.to_owned(),
        ..Default::default()
    };
    credential(site, request).await.token
}

pub async fn make_tenant(site: &Site, name: &str) {
    let request = admin::CreateTenantRequest {
        name: name.to_owned(),
        limits: None,
    };
    let made = operator(site)
        .await
        .create_tenant(with(BOOTSTRAP, request))
        .await;
    made.unwrap();
}

pub async fn revoke(site: &Site, id: &str) {
    let request = admin::RevokeCredentialRequest { id: id.to_owned() };
    let mut operator = operator(site).await;
    let revoked = operator.revoke_credential(with(BOOTSTRAP, request));
    revoked.await.unwrap();
}

/// The credentials of the matrix, by what they are to the device `lamp` of the tenant `default`.
pub struct Standings {
    pub own: String,
    pub other_device: String,
    pub other_tenant: String,
    pub revoked: String,
}

impl Standings {
    pub async fn make(site: &Site) -> Standings {
        make_tenant(site, "acme").await;
        let standings = Standings {
            own: device_token(site, "", "own", "lamp").await,
            other_device: device_token(site, "", "other", "pump").await,
            other_tenant: device_token(site, "acme", "foreign", "lamp").await,
            revoked: device_token(site, "", "gone", "lamp").await,
        };
        revoke(site, "gone").await;
        standings
    }
}

/// An MQTT 5 client with as much of the protocol as these tests need.
pub struct Mqtt {
    stream: Box<dyn Stream>,
    next_id: u16,
}

/// What MQTT is spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Mqtt {
    /// Connects with a token, or with nothing when it is empty; the reason code when it is refused.
    pub async fn connect(site: &Site, user: &str, token: &str) -> Result<Mqtt, u8> {
        Mqtt::connect_to(site.node.addresses().mqtt, user, token).await
    }

    /// The same at an address.
    pub async fn connect_to(address: SocketAddr, user: &str, token: &str) -> Result<Mqtt, u8> {
        let stream = TcpStream::connect(address).await.unwrap();
        Mqtt::over(Box::new(stream), user, token).await
    }

    /// The same over a connection that is there.
    pub async fn over(mut stream: Box<dyn Stream>, user: &str, token: &str) -> Result<Mqtt, u8> {
        let flags = if token.is_empty() { 0x02 } else { 0xc2 };
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 60, 0];
        text(&mut body, &format!("client-{user}"));
        if !token.is_empty() {
            text(&mut body, user);
            text(&mut body, token);
        }
        stream.write_all(&packet(0x10, &body)).await.unwrap();
        let mut client = Mqtt { stream, next_id: 1 };
        let (kind, body) = client.read().await.expect("CONNACK");
        assert_eq!(kind, 0x20);
        match body[1] {
            0 => Ok(client),
            reason => Err(reason),
        }
    }

    /// Publishes with QoS 1 and gives the reason of the PUBACK.
    pub async fn publish(&mut self, topic: &str, payload: &str) -> u8 {
        let id = self.id();
        let mut body = Vec::new();
        text(&mut body, topic);
        body.extend(id);
        body.push(0);
        body.extend(payload.as_bytes());
        self.stream.write_all(&packet(0x32, &body)).await.unwrap();
        let answer = self.answer(0x40).await;
        answer.get(2).copied().unwrap_or(0)
    }

    /// Subscribes and gives the reason of the SUBACK.
    pub async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = self.id().to_vec();
        body.push(0);
        text(&mut body, filter);
        body.push(1);
        self.stream.write_all(&packet(0x82, &body)).await.unwrap();
        *self.answer(0x90).await.last().unwrap()
    }

    /// Waits until the server closes the connection, and gives the reason that it says.
    pub async fn closed(&mut self) -> Option<u8> {
        let mut reason = None;
        while let Some((kind, body)) = self.read().await {
            if kind == 0xe0 {
                reason = Some(body.first().copied().unwrap_or(0));
            }
        }
        reason
    }

    async fn answer(&mut self, wanted: u8) -> Vec<u8> {
        loop {
            let (kind, body) = self.read().await.expect("an answer");
            if kind == wanted {
                return body;
            }
        }
    }

    fn id(&mut self) -> [u8; 2] {
        self.next_id += 1;
        self.next_id.to_be_bytes()
    }

    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        patiently(async {
            let kind = self.stream.read_u8().await.ok()?;
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((kind, body))
        })
        .await
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128).unwrap();
        length /= 128;
        packet.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

//! A node with open doors, a gRPC client, and an HTTP client that can send anything.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antumbra::api;
use antumbra::boot::Node;
use antumbra::config::Config;
use antumbra::shadows::Caller;
use antumbra_proto::v1;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use antumbra_shadow::Limits;
use axum::body::Body;
use axum::http::Request;
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use crate::shadows_support::{PATIENCE, config, start};

/// A node and its directory.
pub struct Site {
    pub node: Node,
    pub grpc: ShadowsClient<Channel>,
    _directory: TempDir,
}

impl Site {
    pub async fn open() -> Site {
        Site::open_with(|_| {}).await
    }

    pub async fn open_with(adjust: impl FnOnce(&mut Config)) -> Site {
        let directory = TempDir::new().unwrap();
        let mut config = config(directory.path());
        adjust(&mut config);
        let node = start(&config).await;
        let grpc = ShadowsClient::connect(format!("http://{}", node.addresses().grpc));
        Site {
            grpc: grpc.await.unwrap(),
            node,
            _directory: directory,
        }
    }

    pub async fn close(self) {
        let Site {
            node,
            grpc,
            _directory,
        } = self;
        drop(grpc);
        node.shutdown().await.unwrap();
    }

    pub fn http(&self) -> SocketAddr {
        self.node.addresses().http
    }

    /// One HTTP request with a body.
    pub async fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        self.send_with(method, path, "", body).await
    }

    /// One HTTP request with more headers, each ended by CRLF.
    pub async fn send_with(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n"
        );
        raw(self.http(), &[head.as_bytes(), body].concat()).await
    }

    /// What GetThingShadow says.
    pub async fn shadow(&self, thing: &str) -> Value {
        self.send("GET", &format!("/things/{thing}/shadow"), b"")
            .await
            .json()
    }
}

/// An HTTP reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, exception type and message, as an AWS client sees them.
    pub fn failure(&self) -> (u16, String, String) {
        let exception = self
            .headers
            .get("x-amzn-errortype")
            .cloned()
            .unwrap_or_default();
        let message = self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (self.status, exception, message)
    }

    pub fn reason(&self) -> String {
        self.json()["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// Sends bytes and reads the reply until the server closes or the reply is whole.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse and close while we still send.
    let _ = stream.write_all(bytes).await;
    read_reply(&mut stream).await
}

pub async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    let read = async {
        let mut chunk = [0; 8192];
        while !is_whole(&bytes) {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    };
    timeout(PATIENCE, read).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {text:?}"));
    let mut lines = head.lines();
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.filter_map(|line| line.split_once(':'));
    Reply {
        status,
        headers: headers
            .map(|(k, v)| (k.to_lowercase(), v.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}

pub fn key(device: &str, shadow: &str) -> Option<v1::ShadowKey> {
    Some(v1::ShadowKey {
        tenant: String::new(),
        device_id: device.to_owned(),
        shadow_name: shadow.to_owned(),
    })
}

/// An update of the classic shadow's `desired`.
pub fn desired(device: &str, json: &str) -> v1::UpdateShadowRequest {
    v1::UpdateShadowRequest {
        key: key(device, ""),
        desired_json: Some(json.to_owned()),
        ..Default::default()
    }
}

/// A read of the classic shadow.
pub fn get(device: &str) -> v1::GetShadowRequest {
    v1::GetShadowRequest {
        key: key(device, ""),
        ..Default::default()
    }
}

/// The reason in a status.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "antumbra");
    info.reason.clone()
}

/// Code, reason and the field that is wrong.
pub fn refusal(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let field = details
        .bad_request()
        .map(|bad| bad.field_violations[0].field.clone());
    (status.code(), reason(status), field.unwrap_or_default())
}

/// Waits for something with the patience of all tests.
pub async fn patiently<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("in time")
}

/// A request whose deadline is this short.
pub fn within<T>(limit: Duration, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

/// What the gRPC door needs to serve the shadows of a site.
pub fn grpc_door(site: &Site, caller: Arc<Caller>) -> api::Door {
    api::Door {
        shadows: site.node.shadows().clone(),
        cluster: site.node.office(),
        gate: site.node.gate(),
        caller,
        limits: Limits::default(),
        health: site.node.health().clone(),
        default_deadline: Duration::from_secs(10),
        message_bytes_max: 5 << 20,
        stream_updates_max: 8,
    }
}

/// What the server answers to a call with this `grpc-timeout`, without a client that stops waiting
/// by itself at the same moment.
pub async fn answer_within(
    site: &Site,
    limit: &str,
    method: &str,
    message: impl Message,
) -> Status {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let request = Request::post(format!("http://test/antumbra.v1.Shadows/{method}"))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", limit)
        .body(Body::from([&[0], length.as_slice(), &message].concat()))
        .unwrap();
    let calls = api::calls(grpc_door(site, Arc::new(Caller::anyone("test")))).unwrap();
    let response = patiently(calls.oneshot(request)).await.unwrap();
    Status::from_header_map(response.headers()).expect("a refusal")
}

//! The client against a server that is played with the gateway's side of the wire.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::gateway::mqtt::wire::{
    self, ClientPacket, ConnectAck, Delivery, DisconnectNotice, Message, PacketId, Publish, Qos,
    Reason, ServerPacket, SizeLimits, Version,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// The other end of a connection.
struct Peer {
    stream: TcpStream,
    decoder: wire::Decoder,
    unread: Vec<u8>,
}

impl Peer {
    async fn accept(listener: TcpListener) -> Peer {
        let (stream, _) = listener.accept().await.unwrap();
        Peer {
            stream,
            decoder: wire::Decoder::new(SizeLimits::default()),
            unread: Vec::new(),
        }
    }

    async fn receive(&mut self) -> ClientPacket {
        loop {
            let mut input = &self.unread[..];
            let packet = self.decoder.decode(&mut input).unwrap();
            self.unread = input.to_vec();
            if let Some(packet) = packet {
                return packet;
            }
            let mut space = [0; 512];
            let count = self.stream.read(&mut space).await.unwrap();
            assert!(count > 0, "the client left");
            self.unread.extend_from_slice(&space[..count]);
        }
    }

    async fn send(&mut self, packets: &[ServerPacket]) {
        let version = self.decoder.version().unwrap();
        let mut out = BytesMut::new();
        for packet in packets {
            wire::encode(packet, version, &mut out).unwrap();
        }
        self.stream.write_all(&out).await.unwrap();
    }

    /// Takes the CONNECT and accepts it.
    async fn welcome(&mut self) -> wire::Connect {
        let ClientPacket::Connect(connect) = self.receive().await else {
            panic!("no CONNECT first");
        };
        let accepted = ConnectAck::refusal(Reason::Success);
        self.send(&[ServerPacket::ConnectAck(Box::new(accepted))])
            .await;
        *connect
    }
}

fn settings(version: Version) -> Settings {
    Settings {
        version,
        clean_start: true,
        session_expiry_s: 0,
        keep_alive_s: 60,
        username: Some("ann".to_owned()),
        password: Some("secret".to_owned()),
        source: Some([127, 0, 0, 9].into()),
        tls: None,
        timeout: Duration::from_secs(5),
    }
}

/// Runs a server and a client to their ends.
async fn meet<T>(
    settings: &Settings,
    server: impl AsyncFnOnce(Peer),
    client: impl AsyncFnOnce(Result<Connection, Error>) -> T,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint: Endpoint = format!("mqtt://{address}").parse().unwrap();
    let serve = async { server(Peer::accept(listener).await).await };
    let call = async { client(connect(&endpoint, "lamp-1", settings).await).await };
    let both = async { tokio::join!(serve, call).1 };
    tokio::time::timeout(DEADLINE, both).await.unwrap()
}

fn delivered(packet_id: u16, payload: &'static str) -> ServerPacket {
    ServerPacket::Publish(Box::new(Publish {
        message: Message::new("a/b", payload),
        delivery: Delivery::AtLeastOnce {
            packet_id: PacketId::new(packet_id).unwrap(),
            duplicate: false,
        },
        retain: false,
        topic_alias: None,
        subscription_identifiers: Vec::new(),
    }))
}

/// The whole life of a connection, in both versions: messages that come early are not lost, and
/// each is acknowledged once.
#[tokio::test]
async fn subscribes_publishes_and_receives() {
    for version in [Version::V311, Version::V5] {
        let server = async |mut peer: Peer| {
            let connect = peer.welcome().await;
            assert_eq!((connect.version, &*connect.client_id), (version, "lamp-1"));
            assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
            assert_eq!(
                peer.stream.peer_addr().unwrap().ip().to_string(),
                "127.0.0.9"
            );
            let ClientPacket::Subscribe(subscribe) = peer.receive().await else {
                panic!("no SUBSCRIBE");
            };
            assert_eq!(subscribe.filters.len(), 2);
            let (packet_id, grants) = (subscribe.packet_id, vec![Ok(Qos::AtLeastOnce); 2]);
            let ack = ServerPacket::SubscribeAck { packet_id, grants };
            peer.send(&[delivered(7, "early"), ack]).await;
            let ack = peer.receive().await;
            assert!(
                matches!(ack, ClientPacket::PublishAck { packet_id, .. } if packet_id.get() == 7)
            );
            let ClientPacket::Publish(publish) = peer.receive().await else {
                panic!("no PUBLISH");
            };
            let Delivery::AtLeastOnce { packet_id, .. } = publish.delivery else {
                panic!("not QoS 1");
            };
            let reason = Reason::Success;
            peer.send(&[ServerPacket::PublishAck { packet_id, reason }])
                .await;
            assert!(matches!(peer.receive().await, ClientPacket::Disconnect(_)));
        };
        let client = async |connection: Result<Connection, Error>| {
            let mut connection = connection.unwrap();
            connection.subscribe(["a/b", "a/c"]).await.unwrap();
            let sent = connection.publish("a/c", "x", Qos::AtLeastOnce).unwrap();
            let event = connection.next().await.unwrap();
            assert!(matches!(event, Event::Message(message) if message.payload == "early"));
            let acknowledged = Event::Acknowledged {
                packet_id: sent.unwrap(),
                reason: Reason::Success,
            };
            assert_eq!(connection.next().await.unwrap(), acknowledged);
            connection.disconnect().await.unwrap();
        };
        meet(&settings(version), server, client).await;
    }
}

/// A user must be told to change the password, not that the network is down.
#[tokio::test]
async fn refusal_says_why() {
    let server = async |mut peer: Peer| {
        peer.receive().await;
        let refusal = ConnectAck::refusal(Reason::BadUserNameOrPassword);
        peer.send(&[ServerPacket::ConnectAck(Box::new(refusal))])
            .await;
    };
    let client = async |connection: Result<Connection, Error>| connection.unwrap_err();
    let error = meet(&settings(Version::V311), server, client).await;
    let text = error.problem(&"a".parse().unwrap()).render(false);
    assert!(
        text.contains("BadUserNameOrPassword") && text.contains("--password"),
        "{text}"
    );
}

#[tokio::test]
async fn end_by_the_server_says_why() {
    let server = async |mut peer: Peer| {
        peer.welcome().await;
        let notice = DisconnectNotice {
            reason: Reason::SessionTakenOver,
            reason_string: None,
        };
        peer.send(&[ServerPacket::Disconnect(notice)]).await;
    };
    let client = async |connection: Result<Connection, Error>| {
        connection.unwrap().next().await.unwrap_err().code()
    };
    let code = meet(&settings(Version::V5), server, client).await;
    assert_eq!(code, "ENDED SessionTakenOver");
}

/// An idle client is not taken for dead.
#[tokio::test]
async fn pings_while_nothing_happens() {
    let server = async |mut peer: Peer| {
        peer.welcome().await;
        for _ in 0..2 {
            assert_eq!(peer.receive().await, ClientPacket::PingRequest);
            peer.send(&[ServerPacket::PingResponse]).await;
        }
    };
    let client = async |connection: Result<Connection, Error>| {
        connection.unwrap().next().await.unwrap_err().code()
    };
    let settings = Settings {
        keep_alive_s: 1,
        ..settings(Version::V311)
    };
    assert_eq!(meet(&settings, server, client).await, "CLOSED");
}

/// Nobody there, and something there that is not MQTT.
#[tokio::test]
async fn unreachable_and_foreign_servers_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint: Endpoint = address.to_string().parse().unwrap();
    let foreign = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
    };
    let settings = settings(Version::V5);
    let (result, ()) = tokio::join!(connect(&endpoint, "a", &settings), foreign);
    assert_eq!(result.unwrap_err().code(), "UNREADABLE");
    drop(listener);
    let error = connect(&endpoint, "a", &settings).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
}

//! What every test of this module uses: packets built by hand, byte by byte.

mod accepted;
mod encoding;
mod mutation;
mod refused;

use bytes::BytesMut;

use super::*;

/// A fixed header for `body`, then `body`.
fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap();
        length /= 128;
        bytes.push(if length == 0 { low } else { low | 0x80 });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Text or binary data with its length.
fn text(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(content);
    bytes
}

/// Properties with their length, which must be below 128.
fn properties(content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let mut bytes = vec![u8::try_from(content.len()).unwrap()];
    assert!(bytes[0] < 128);
    bytes.extend(content);
    bytes
}

/// CONNECT with these flags and payload; keep-alive 60. `properties` is for MQTT 5 only.
fn connect(version: Version, flags: u8, props: &[&[u8]], payload: &[&[u8]]) -> Vec<u8> {
    let (name, level) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    let props = match version {
        Version::V5 => properties(props),
        _ => Vec::new(),
    };
    packet(
        0x10,
        &[
            &text(name),
            &[level, flags, 0, 60],
            &props,
            &payload.concat(),
        ],
    )
}

/// The shortest good CONNECT, client identifier `a`.
fn plain_connect(version: Version) -> Vec<u8> {
    connect(version, 0b10, &[], &[&text("a")])
}

/// Everything that `bytes` decode to when they come in pieces of `piece_bytes`.
fn decode_pieces(bytes: &[u8], piece_bytes: usize) -> (Vec<ClientPacket>, Option<Error>) {
    let mut decoder = Decoder::new(SizeLimits::default());
    let mut packets = Vec::new();
    for mut piece in bytes.chunks(piece_bytes) {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
        assert!(piece.is_empty(), "what is not decoded is kept");
    }
    (packets, None)
}

/// Decodes in one piece, in single bytes and in threes; all must agree.
fn decode(bytes: &[u8]) -> (Vec<ClientPacket>, Option<Error>) {
    let whole = decode_pieces(bytes, bytes.len().max(1));
    for piece_bytes in [1, 3] {
        assert_eq!(
            decode_pieces(bytes, piece_bytes),
            whole,
            "in pieces of {piece_bytes}"
        );
    }
    whole
}

/// The one packet that follows a CONNECT of `version`.
fn decode_after_connect(version: Version, bytes: &[u8]) -> ClientPacket {
    let (mut packets, error) = decode(&[plain_connect(version), bytes.to_vec()].concat());
    assert_eq!(error, None);
    assert_eq!(packets.len(), 2);
    packets.remove(1)
}

fn decode_connect(bytes: &[u8]) -> Connect {
    let (mut packets, error) = decode(bytes);
    assert_eq!(error, None);
    match packets.remove(0) {
        ClientPacket::Connect(connect) => *connect,
        other => panic!("not a CONNECT: {other:?}"),
    }
}

fn encoded(packet: &ServerPacket, version: Version) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).unwrap();
    assert_eq!(encoded_len(packet, version), Ok(bytes.len()));
    bytes.to_vec()
}

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

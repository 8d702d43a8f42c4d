//! Arbitrary bytes through the decoder, the session and the encoder.

use std::sync::Arc;

use bytes::BytesMut;
use bytestring::ByteString;

use crate::gateway::mqtt::session::{
    Acceptance, DeliverMessage, DeliveryToken, Input, Intake, Origin, Output, PublishOutcome,
    Session, SessionLimits,
};
use crate::gateway::mqtt::topics;
use crate::gateway::mqtt::wire::{self, Decoder, Grant, Message, Qos, Reason};

/// Feeds `data` to a decoder in pieces whose size the first byte gives, what it decodes to a
/// session, and answers everything that the session asks for. Panics when something breaks that
/// must hold for any input; a fuzzer calls this.
pub fn fuzz(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(rest) {
        fuzz_topics(text);
    }
    let limits = Arc::new(SessionLimits::default());
    let mut decoder = Decoder::new(limits.sizes);
    let mut session = Session::new(Arc::clone(&limits), 0);
    let piece_bytes = usize::from(choice >> 2) + 1;
    let mut now_ms = 0;
    while !rest.is_empty() && !session.is_closed() {
        let (piece, behind) = rest.split_at(piece_bytes.min(rest.len()));
        rest = behind;
        now_ms += u64::from(*choice);
        feed(piece, &mut decoder, &mut session, &mut now_ms);
        assert!(
            decoder.partial_bytes() <= limits.sizes.publish_bytes_max as usize,
            "no more is kept than a packet"
        );
    }
    let mut out = Vec::new();
    session.handle(Input::ConnectionLost, now_ms, &mut out);
    check_encodable(&session, &out);
    assert!(session.is_closed(), "a lost connection is closed");
}

fn feed(mut piece: &[u8], decoder: &mut Decoder, session: &mut Session, now_ms: &mut u64) {
    loop {
        match session.intake(*now_ms) {
            Intake::Open => {}
            Intake::Until(later_ms) => *now_ms = later_ms,
            Intake::Blocked => return,
        }
        let input = match decoder.decode(&mut piece) {
            Ok(Some(packet)) => Input::Packet(packet),
            Ok(None) => {
                assert!(piece.is_empty(), "what is not decoded is kept");
                return;
            }
            Err(error) => Input::Invalid {
                error,
                version: decoder.version(),
            },
        };
        drive(session, input, *now_ms);
    }
}

/// Gives an input and answers all that comes of it.
fn drive(session: &mut Session, input: Input, now_ms: u64) {
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        let mut out = Vec::new();
        session.handle(input, now_ms, &mut out);
        check_encodable(session, &out);
        inputs.extend(out.into_iter().flat_map(|output| answers(session, output)));
    }
}

fn answers(session: &Session, output: Output) -> Vec<Input> {
    match output {
        Output::Authenticate(_) => vec![Input::Accept(Box::new(Acceptance {
            assigned_client_id: Some(ByteString::from_static("assigned")),
            ..Acceptance::default()
        }))],
        Output::Publish {
            token,
            message,
            qos,
        } => {
            let outcome = match message.payload.first() {
                Some(b'!') => PublishOutcome::Refused(Reason::NotAuthorized),
                Some(b'?') => PublishOutcome::Unknown,
                _ => PublishOutcome::Committed,
            };
            let mut answers = echo(session, message, qos);
            answers.push(Input::Published { token, outcome });
            answers
        }
        Output::Subscribe { token, filters, .. } => {
            let grants: Vec<Grant> = filters.iter().map(|filter| Ok(filter.qos)).collect();
            vec![Input::Subscribed { token, grants }]
        }
        Output::Unsubscribe { token, .. } => vec![Input::Unsubscribed { token }],
        _ => Vec::new(),
    }
}

/// Sends a message back to its publisher where it subscribes to it.
fn echo(session: &Session, message: Message, qos: Qos) -> Vec<Input> {
    let Some(route) = session.subscriptions().route(&message.topic, Origin::Same) else {
        return Vec::new();
    };
    vec![Input::Deliver(Box::new(DeliverMessage {
        token: DeliveryToken::default(),
        message,
        qos: qos.min(route.qos),
        subscription_identifiers: route.identifiers,
    }))]
}

fn check_encodable(session: &Session, out: &[Output]) {
    for output in out {
        if let Output::Send(packet) = output {
            let mut bytes = BytesMut::new();
            let written = wire::encode(packet, session.version(), &mut bytes);
            assert!(
                written.is_ok(),
                "every packet to send can be written: {packet:?}"
            );
            let counted = wire::encoded_len(packet, session.version());
            assert_eq!(counted, Ok(bytes.len()), "the counted length is right");
        }
    }
}

fn fuzz_topics(text: &str) {
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    if topics::check_filter(filter).is_ok() && topics::check_name(name).is_ok() {
        let covers = topics::matches(filter, name);
        assert!(
            !(covers && topics::is_shared(filter)),
            "shared filters cover nothing"
        );
    }
}

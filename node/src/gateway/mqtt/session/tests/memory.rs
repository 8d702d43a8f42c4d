use super::*;
use crate::gateway::mqtt::wire::Decoder;

/// What one idle connection costs here at most, in bytes, decoder included.
const IDLE_BYTES_MAX: usize = 700;

/// The two subscriptions of an AWS device with a usual name.
const FILTERS: [&str; 2] = [
    "$aws/things/sensor-00012345/shadow/update/delta",
    "$aws/things/sensor-00012345/shadow/get/+",
];

fn idle_bytes(client: &Client, decoder: &Decoder) -> usize {
    size_of::<Session>() + size_of::<Decoder>() + client.session.heap_bytes() + decoder.heap_bytes()
}

/// A quiet session costs little, and comes back to that after work.
#[test]
fn idle_session_is_small() {
    let mut client = Client::connected(Version::V5);
    for filter in FILTERS {
        client.subscribe(filter, Qos::AtLeastOnce);
    }
    let decoder = Decoder::new(crate::gateway::mqtt::wire::SizeLimits::default());
    let idle = idle_bytes(&client, &decoder);
    println!(
        "session {} + decoder {} + heap {} = {idle} bytes",
        size_of::<Session>(),
        size_of::<Decoder>(),
        client.session.heap_bytes()
    );
    assert!(idle <= IDLE_BYTES_MAX, "{idle}");

    for round in 1..=50 {
        let token = client.publish(publish("a", round));
        client.deliver(1, Message::new("a", vec![0; 1_000]), Qos::AtLeastOnce);
        assert!(idle_bytes(&client, &decoder) > idle);
        client.published(token, PublishOutcome::Committed);
        client.acknowledge(round);
        client.subscribe(FILTERS[0], Qos::AtLeastOnce);
    }
    assert_eq!(idle_bytes(&client, &decoder), idle);
}

/// A will does not keep the CONNECT packet in memory.
#[test]
fn will_is_copied_out_of_the_packet() {
    let frame = bytes::Bytes::from(vec![b'w'; 4_096]);
    let mut asks = connect(Version::V311);
    asks.will = will();
    asks.will.as_mut().unwrap().message.payload = frame.slice(10..14);
    let client = Client::connected_with(SessionLimits::default(), asks, Acceptance::default());
    assert!(frame.is_unique(), "nothing but this test holds the packet");
    assert!(
        client.session.heap_bytes() < 300,
        "{}",
        client.session.heap_bytes()
    );
}

/// A topic alias does not keep its packet in memory.
#[test]
fn alias_is_copied_out_of_the_packet() {
    let frame = bytes::Bytes::from(vec![b'a'; 4_096]);
    let mut client = Client::connected(Version::V5);
    let mut publish = publish("", 0);
    publish.message.topic = bytestring::ByteString::try_from(frame.slice(0..4)).unwrap();
    publish.topic_alias = NonZeroU16::new(1);
    client.publish(publish);
    assert!(frame.is_unique(), "nothing but this test holds the packet");
}

/// A closed session owns nothing.
#[test]
fn closed_session_owns_nothing() {
    let mut client = Client::connected(Version::V5);
    client.subscribe("a", Qos::AtLeastOnce);
    client.publish(publish("a", 1));
    client.deliver(1, Message::new("a", "x"), Qos::AtLeastOnce);
    client.input(Input::ConnectionLost);
    assert_eq!(client.session.heap_bytes(), 0);
}

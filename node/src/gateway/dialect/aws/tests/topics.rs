use antumbra_shadow::{DeviceId, ShadowName};
use proptest::prelude::*;

use crate::gateway::dialect::aws::fuzz;
use crate::gateway::dialect::aws::topic::{Topic, of_channel};
use crate::gateway::dialect::{Channel, Verb};

const VERBS: [(Verb, &str); 3] = [
    (Verb::Read, "get"),
    (Verb::Update, "update"),
    (Verb::Delete, "delete"),
];

/// Every topic of the table in `aws-shadow.md`, section 1, letter by letter.
#[test]
fn the_topics_of_a_shadow_are_those_of_the_service() {
    let pump = DeviceId::parse("pump").unwrap();
    let table = [
        (Channel::ReadAccepted, "get/accepted"),
        (Channel::ReadRefused, "get/rejected"),
        (Channel::UpdateAccepted, "update/accepted"),
        (Channel::UpdateRefused, "update/rejected"),
        (Channel::Desired, "update/delta"),
        (Channel::Documents, "update/documents"),
        (Channel::DeleteAccepted, "delete/accepted"),
        (Channel::DeleteRefused, "delete/rejected"),
    ];
    for (channel, end) in table {
        let classic = of_channel(&pump, &ShadowName::classic(), channel);
        assert_eq!(classic, format!("$aws/things/pump/shadow/{end}"));
        let named = of_channel(&pump, &ShadowName::parse("config").unwrap(), channel);
        assert_eq!(named, format!("$aws/things/pump/shadow/name/config/{end}"));
    }
}

/// Texts that look like a topic of a shadow and are none.
#[test]
fn near_misses_are_no_requests() {
    let long = "x".repeat(129);
    for topic in [
        "$aws/things/pump/shadow/",
        "$aws/things/pump/shadow//get",
        "$aws/things/pump/shadow/Get",
        "$AWS/things/pump/shadow/get",
        "$aws/things//shadow/get",
        "$aws/things/pu mp/shadow/get",
        "$aws/things/pump%2F/shadow/get",
        "$aws/things/pump/shadow/get/",
        "$aws/things/pump/shadow/name/get",
        "$aws/things/pump/shadow/name//get",
        "$aws/things/pump/shadow/name/a.b/get",
        "$aws/things/pump/shadow/name/a/get/accepted/x",
        "/$aws/things/pump/shadow/get",
        "aws/things/pump/shadow/get",
        &format!("$aws/things/{long}/shadow/get"),
        &format!("$aws/things/pump/shadow/name/{}/get", &long[..65]),
    ] {
        let parsed = Topic::parse(topic);
        let shadow = matches!(parsed, Topic::Request { .. } | Topic::Channel { .. });
        assert!(!shadow, "{topic} is {parsed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Every topic of every shadow parses back to what it was made of: names that look like other parts
    /// of a topic are names all the same.
    #[test]
    fn every_topic_parses_back(
        device in "[a-zA-Z0-9:_-]{1,128}|shadow|name|get|things",
        shadow in "[$a-zA-Z0-9:_-]{0,64}|name|get|update|shadow|[$]aws",
    ) {
        let device = DeviceId::parse(&device).unwrap();
        let shadow = ShadowName::parse(&shadow).unwrap();
        for channel in Channel::ALL {
            let topic = of_channel(&device, &shadow, channel);
            let expected = Topic::Channel { device: device.clone(), shadow: shadow.clone(), channel };
            prop_assert_eq!(Topic::parse(&topic), expected);
        }
        for (verb, text) in VERBS {
            let topic = match shadow.is_classic() {
                true => format!("$aws/things/{device}/shadow/{text}"),
                false => format!("$aws/things/{device}/shadow/name/{shadow}/{text}"),
            };
            let expected = Topic::Request { device: device.clone(), shadow: shadow.clone(), verb };
            prop_assert_eq!(Topic::parse(&topic), expected);
        }
    }

    /// Any text is some topic.
    #[test]
    fn any_text_parses(text in any::<String>(), levels in prop::collection::vec("[$a-z+#/%]{0,5}", 0..12)) {
        let _ = Topic::parse(&text);
        let _ = Topic::parse(&format!("$aws/things/{}", levels.join("/")));
    }

    /// Any bytes go through the whole dialect without a panic.
    #[test]
    fn any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&data);
    }

    /// So do damaged messages, which come further than noise.
    #[test]
    fn damaged_requests_are_taken(
        choice in any::<u8>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let topic = b"$aws/things/pump/shadow/name/config/update";
        let payload = br#"{"state":{"desired":{"a":[1,{"b":"\u00e9"}],"c":-1.5e3},"reported":null},"version":3,"clientToken":"t"}"#;
        let mut data = vec![choice, 0, topic.len() as u8];
        data.extend_from_slice(topic);
        data.extend_from_slice(payload);
        let at = at.index(data.len());
        data[at] = byte;
        fuzz(&data);
        data.truncate(cut.index(data.len()));
        fuzz(&data);
    }
}

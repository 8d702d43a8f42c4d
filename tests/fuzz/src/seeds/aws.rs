//! Topics, filters and messages as the developer guide of AWS IoT shows them.

use super::Seed;

const DEVICE: u8 = 0;
const BACKEND: u8 = 1;
const WILL: u8 = 4;

pub(super) fn seeds() -> Vec<Seed> {
    let update = br#"{"state":{"desired":{"color":{"r":1},"on":true},"reported":{"on":false}},"clientToken":"t-1","version":3}"#;
    let messages: [(&str, u8, &str, &[u8]); 16] = [
        ("update", DEVICE, "$aws/things/pump/shadow/update", update),
        (
            "update-named",
            DEVICE,
            "$aws/things/pump/shadow/name/motor/update",
            update,
        ),
        (
            "update-other",
            DEVICE,
            "$aws/things/other/shadow/update",
            update,
        ),
        (
            "update-backend",
            BACKEND,
            "$aws/things/other/shadow/update",
            update,
        ),
        (
            "update-will",
            WILL,
            "$aws/things/pump/shadow/update",
            br#"{"state":{"reported":null}}"#,
        ),
        (
            "update-null",
            DEVICE,
            "$aws/things/pump/shadow/update",
            br#"{"state":null}"#,
        ),
        (
            "update-wrong",
            DEVICE,
            "$aws/things/pump/shadow/update",
            br#"{"state":{"a":1}}"#,
        ),
        (
            "update-no-state",
            DEVICE,
            "$aws/things/pump/shadow/update",
            br#"{"clientToken":7}"#,
        ),
        ("get", DEVICE, "$aws/things/pump/shadow/get", b""),
        (
            "get-token",
            DEVICE,
            "$aws/things/pump/shadow/get",
            br#"{"clientToken":"x"}"#,
        ),
        (
            "delete",
            DEVICE,
            "$aws/things/pump/shadow/name/motor/delete",
            b"{}",
        ),
        ("plain", DEVICE, "plant/pump/temperature", b"21"),
        ("jobs", DEVICE, "$aws/things/pump/jobs/get", b"{}"),
        ("rules", DEVICE, "$aws/rules/store/plant", b"{}"),
        ("foreign", DEVICE, "$SYS/broker", b"{}"),
        (
            "empty-name",
            DEVICE,
            "$aws/things/pump/shadow/name//get",
            b"",
        ),
    ];
    let filters = [
        "$aws/things/pump/shadow/update/accepted",
        "$aws/things/pump/shadow/name/+/update/delta",
        "$aws/things/+/shadow/+/+",
        "$aws/things/pump/#",
        "$aws/things/pump/shadow/#",
        "$aws/events/presence/connected/+",
        "$share/group/$aws/things/pump/shadow/#",
        "$aws/+/pump/shadow/get/rejected",
        "#",
        "+/+",
    ];
    let mut seeds = Vec::new();
    for (name, choice, topic, payload) in messages {
        let bytes = [&[choice], &super::pair(topic.as_bytes(), payload)[..]].concat();
        seeds.push(Seed::new("aws", name, bytes));
    }
    for (nth, filter) in filters.into_iter().enumerate() {
        for (kind, choice) in [("device", DEVICE), ("backend", BACKEND)] {
            let bytes = [&[choice], &super::pair(filter.as_bytes(), b"")[..]].concat();
            seeds.push(Seed::new("aws", format!("filter-{nth}-{kind}"), bytes));
        }
    }
    let login = super::pair(b"user?SDK=Python&Version=1.4", b"secret");
    seeds.push(Seed::new("aws", "login", [&[2], &login[..]].concat()));
    seeds
}

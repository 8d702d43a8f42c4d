//! The topics of the dialect (AWS IoT Core developer guide, "Reserved topics").

use antumbra_shadow::{DeviceId, ShadowName};

use crate::gateway::dialect::channel::{Channel, Verb};
use crate::gateway::dialect::event::PresenceKind;

/// The levels of the longest topic of a shadow.
pub(super) const LEVELS_MAX: usize = 8;

/// What a topic name is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topic<'a> {
    /// A request about a shadow.
    Request {
        device: DeviceId,
        shadow: ShadowName,
        verb: Verb,
    },
    /// What the server publishes about a shadow.
    Channel {
        device: DeviceId,
        shadow: ShadowName,
        channel: Channel,
    },
    /// Another topic of a thing, such as those of jobs.
    Thing {
        thing: &'a str,
        family: &'static str,
    },
    /// Another reserved topic.
    Reserved { family: &'static str },
    /// A topic that begins with `$` and is not of this cloud.
    Foreign,
    /// A topic between clients.
    Plain,
}

impl<'a> Topic<'a> {
    /// Reads any text. Total: what is not a topic of a shadow, down to the alphabet of its names, is
    /// something else.
    pub(super) fn parse(name: &'a str) -> Topic<'a> {
        let (levels, count) = split(name);
        match levels[..count] {
            ["$aws", "things", thing, family, ref rest @ ..] => {
                let found = match family {
                    "shadow" => of_shadow(thing, rest),
                    _ => None,
                };
                found.unwrap_or(Topic::Thing {
                    thing,
                    family: family_of(family),
                })
            }
            ["$aws", "things", thing] => Topic::Thing {
                thing,
                family: "other",
            },
            ["$aws", family, ..] => Topic::Reserved {
                family: family_of(family),
            },
            ["$aws"] => Topic::Reserved { family: "other" },
            [first, ..] if first.starts_with('$') => Topic::Foreign,
            _ => Topic::Plain,
        }
    }
}

/// The first levels of a name, and how many there are; the rest of a longer name is in the last one.
fn split(name: &str) -> ([&str; LEVELS_MAX + 1], usize) {
    let mut levels = [""; LEVELS_MAX + 1];
    let mut count = 0;
    for level in name.splitn(LEVELS_MAX + 1, '/') {
        levels[count] = level;
        count += 1;
    }
    (levels, count)
}

fn of_shadow<'a>(thing: &str, levels: &[&str]) -> Option<Topic<'a>> {
    let (shadow, levels) = match levels {
        // An empty name is no name; it is not the classic shadow.
        ["name", "", ..] => return None,
        ["name", name, rest @ ..] => (ShadowName::parse(name).ok()?, rest),
        rest => (ShadowName::classic(), rest),
    };
    let device = DeviceId::parse(thing).ok()?;
    match levels {
        [verb] => Some(Topic::Request {
            device,
            shadow,
            verb: VERBS.into_iter().find(|(_, text)| text == verb)?.0,
        }),
        [verb, result] => {
            let channel = Channel::ALL
                .into_iter()
                .find(|&channel| levels_of(channel) == [*verb, *result])?;
            Some(Topic::Channel {
                device,
                shadow,
                channel,
            })
        }
        _ => None,
    }
}

const VERBS: [(Verb, &str); 3] = [
    (Verb::Read, "get"),
    (Verb::Update, "update"),
    (Verb::Delete, "delete"),
];

/// The last two levels of the topic of a channel.
pub(super) fn levels_of(channel: Channel) -> [&'static str; 2] {
    match channel {
        Channel::ReadAccepted => ["get", "accepted"],
        Channel::ReadRefused => ["get", "rejected"],
        Channel::UpdateAccepted => ["update", "accepted"],
        Channel::UpdateRefused => ["update", "rejected"],
        Channel::DeleteAccepted => ["delete", "accepted"],
        Channel::DeleteRefused => ["delete", "rejected"],
        Channel::Desired => ["update", "delta"],
        Channel::Documents => ["update", "documents"],
    }
}

/// The topic on which a channel of a shadow is published.
pub(super) fn of_channel(device: &DeviceId, shadow: &ShadowName, channel: Channel) -> String {
    let [verb, result] = levels_of(channel);
    if shadow.is_classic() {
        format!("$aws/things/{device}/shadow/{verb}/{result}")
    } else {
        format!("$aws/things/{device}/shadow/name/{shadow}/{verb}/{result}")
    }
}

/// The level that tells what kind of lifecycle event a topic has.
pub(super) fn level_of(kind: PresenceKind) -> &'static str {
    match kind {
        PresenceKind::Connected => "connected",
        PresenceKind::Disconnected => "disconnected",
    }
}

/// The topic of a lifecycle event.
pub(super) fn of_presence(kind: PresenceKind, client_id: &str) -> String {
    format!("$aws/events/presence/{}/{client_id}", level_of(kind))
}

/// The label under which messages to a reserved topic are counted: one of a few.
fn family_of(level: &str) -> &'static str {
    const FAMILIES: [&str; 14] = [
        "shadow",
        "jobs",
        "rules",
        "events",
        "tunnels",
        "defender",
        "streams",
        "commands",
        "greengrass",
        "provisioning-templates",
        "certificates",
        "device_location",
        "packages",
        "sitewise",
    ];
    let known = FAMILIES.into_iter().find(|&family| family == level);
    known.unwrap_or("other")
}

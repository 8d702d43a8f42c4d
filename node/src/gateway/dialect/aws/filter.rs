//! Topic filters, compiled: which of the 16 topics of a shadow (8 of the classic one, 8 of a named one)
//! a filter matches, as two bit sets, and for which device and name.

use antumbra_shadow::{DeviceId, ShadowName};

use super::topic::{level_of, levels_of};
use crate::gateway::dialect::channel::{Channel, Channels};
use crate::gateway::dialect::event::PresenceKind;
use crate::gateway::dialect::grant::{Devices, Names, PresenceGrant, ShadowGrant};

/// The level of a topic in which the thing name stands, from 0.
const THING: usize = 2;
/// The level in which the name of a named shadow stands.
const NAME: usize = 5;
/// The level in which the client id of a lifecycle event begins.
const CLIENT: usize = 4;

/// What a filter over reserved topics matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compiled<'a> {
    /// Whose topics it may match, also those that are not served.
    pub(super) things: Things<'a>,
    /// Topics of shadows; `None` when it matches none.
    pub(super) shadows: Option<ShadowGrant>,
    /// Lifecycle events; `None` when it matches none.
    pub(super) presence: Option<PresenceGrant>,
}

/// The things into whose topics a filter reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Things<'a> {
    /// None.
    None,
    /// The thing with this name, if it is one.
    One(&'a str),
    /// All.
    All,
}

/// One level of the topics that are matched.
#[derive(Debug, Clone, Copy)]
enum Level {
    /// This text.
    Text(&'static str),
    /// A name.
    Any,
}

/// Compiles a valid filter. `None` when it is not one over reserved topics: a wildcard at the first
/// level does not match them.
pub(super) fn compile(filter: &str) -> Option<Compiled<'_>> {
    let levels: Vec<&str> = filter.split('/').collect();
    (levels.first() == Some(&"$aws")).then(|| Compiled {
        things: things(&levels),
        shadows: shadows(&levels),
        presence: presence(&levels),
    })
}

fn things<'a>(levels: &[&'a str]) -> Things<'a> {
    match levels {
        [_, "#"] | [_, "things" | "+", "+" | "#", ..] => Things::All,
        [_, "things" | "+", thing, ..] => Things::One(thing),
        _ => Things::None,
    }
}

fn shadows(levels: &[&str]) -> Option<ShadowGrant> {
    let devices = match literal(levels, THING) {
        Some(thing) => Devices::One(DeviceId::parse(thing).ok()?),
        None => Devices::All,
    };
    let classic = channels(levels, &[]);
    let named = channels(levels, &[Level::Text("name"), Level::Any]);
    let (named, names) = match literal(levels, NAME) {
        _ if named.is_empty() => (named, Names::All),
        None => (named, Names::All),
        Some(name) => match ShadowName::parse(name) {
            Ok(name) if !name.is_classic() => (named, Names::One(name)),
            _ => (Channels::NONE, Names::All),
        },
    };
    let grant = ShadowGrant {
        devices,
        classic,
        named,
        names,
    };
    (!grant.is_empty()).then_some(grant)
}

/// The channels whose topics the filter matches, when `middle` stands between `shadow` and the verb.
fn channels(levels: &[&str], middle: &[Level]) -> Channels {
    let matching = Channel::ALL.into_iter().filter(|&channel| {
        let head = ["$aws", "things"].map(Level::Text);
        let tail = levels_of(channel).map(Level::Text);
        let topic = head
            .into_iter()
            .chain([Level::Any, Level::Text("shadow")])
            .chain(middle.iter().copied())
            .chain(tail);
        fits(levels, topic)
    });
    matching.collect()
}

fn presence(levels: &[&str]) -> Option<PresenceGrant> {
    // A client id has one level or more, so a filter without `#` is longer than what stands before.
    let clients = match levels.get(CLIENT..) {
        Some(clients) if !clients.is_empty() => clients.join("/"),
        _ if levels.last() == Some(&"#") => "#".to_owned(),
        _ => return None,
    };
    let told = |kind| fits_prefix(levels, ["$aws", "events", "presence", level_of(kind)]);
    let grant = PresenceGrant {
        connected: told(PresenceKind::Connected),
        disconnected: told(PresenceKind::Disconnected),
        clients: clients.into(),
    };
    (grant.connected || grant.disconnected).then_some(grant)
}

/// Whether the filter matches a topic of these levels.
fn fits(filter: &[&str], topic: impl IntoIterator<Item = Level>) -> bool {
    let mut filter = filter.iter();
    for level in topic {
        match (filter.next(), level) {
            (Some(&"#"), _) => return true,
            (Some(&"+"), _) | (Some(_), Level::Any) => {}
            (Some(wanted), Level::Text(text)) if *wanted == text => {}
            _ => return false,
        }
    }
    matches!(filter.as_slice(), [] | ["#"])
}

/// Whether the filter matches the levels before a client id.
fn fits_prefix(filter: &[&str], topic: [&'static str; CLIENT]) -> bool {
    for (at, text) in topic.into_iter().enumerate() {
        match filter.get(at) {
            Some(&"#") => return true,
            Some(&"+") => {}
            Some(wanted) if *wanted == text => {}
            _ => return false,
        }
    }
    true
}

/// The text that the filter demands at a level; `None` when any will do.
fn literal<'a>(levels: &[&'a str], at: usize) -> Option<&'a str> {
    let wild = levels.iter().take(at).any(|&level| level == "#");
    match levels.get(at) {
        Some(&"+" | &"#") | None => None,
        Some(_) if wild => None,
        Some(text) => Some(text),
    }
}

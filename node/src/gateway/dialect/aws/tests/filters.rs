use antumbra_shadow::{DeviceId, ShadowName};
use proptest::prelude::*;

use crate::gateway::dialect::aws::filter::{Compiled, Things, compile};
use crate::gateway::dialect::aws::topic::{of_channel, of_presence};
use crate::gateway::dialect::topic::{check_filter, matches};
use crate::gateway::dialect::{Channel, Channels, Devices, Names, PresenceKind, ShadowGrant};

fn pump() -> DeviceId {
    DeviceId::parse("pump").unwrap()
}

/// The filters that real clients send, and their bits.
#[test]
fn the_filters_of_real_clients_compile_to_bits() {
    let only = |channels: &[Channel]| channels.iter().copied().collect::<Channels>();
    let classic = |filter: &str| compile(filter).unwrap().shadows.unwrap();
    let grant = |classic, named, names| ShadowGrant {
        devices: Devices::One(pump()),
        classic,
        named,
        names,
    };
    let get = only(&[Channel::ReadAccepted, Channel::ReadRefused]);
    assert_eq!(
        classic("$aws/things/pump/shadow/get/+"),
        grant(get, Channels::NONE, Names::All)
    );
    assert_eq!(
        classic("$aws/things/pump/shadow/update/delta"),
        grant(only(&[Channel::Desired]), Channels::NONE, Names::All)
    );
    let config = Names::One(ShadowName::parse("config").unwrap());
    assert_eq!(
        classic("$aws/things/pump/shadow/name/config/get/+"),
        grant(Channels::NONE, get, config)
    );
    assert_eq!(
        classic("$aws/things/pump/shadow/#"),
        grant(Channels::ALL, Channels::ALL, Names::All)
    );
    for none in [
        "name//update/delta",
        "name/a.b/get/accepted",
        "get",
        "update",
        "name/+",
    ] {
        let filter = format!("$aws/things/pump/shadow/{none}");
        assert_eq!(compile(&filter).unwrap().shadows, None, "{none}");
    }
    let fleet = classic("$aws/things/+/shadow/update/accepted");
    assert_eq!(fleet.devices, Devices::All);
}

/// Filters that reach into the topics of things, served or not.
#[test]
fn the_reach_of_a_filter_is_known() {
    let reach = |filter| compile(filter).map(|compiled| compiled.things);
    assert_eq!(reach("$aws/things/pump/jobs/#"), Some(Things::One("pump")));
    assert_eq!(reach("$aws/+/pump/#"), Some(Things::One("pump")));
    for all in [
        "$aws/#",
        "$aws/+/#",
        "$aws/things/#",
        "$aws/things/+",
        "$aws/+/+/jobs/get",
    ] {
        assert_eq!(reach(all), Some(Things::All), "{all}");
    }
    for none in [
        "$aws/rules/#",
        "$aws/events/presence/#",
        "$aws",
        "$aws/things",
        "$aws/+",
    ] {
        assert_eq!(reach(none), Some(Things::None), "{none}");
    }
    for other in [
        "#",
        "+/things/pump/shadow/#",
        "$share/x/$aws/#",
        "$AWS/#",
        "aws/#",
    ] {
        assert_eq!(reach(other), None, "{other}");
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "$aws",
        "things",
        "pump",
        "valve",
        "shadow",
        "name",
        "config",
        "get",
        "update",
        "delete",
        "accepted",
        "rejected",
        "delta",
        "documents",
        "events",
        "presence",
        "connected",
        "disconnected",
        "",
        "+",
        "pu mp",
    ])
}

/// Filters made of one that matches something, with levels replaced, removed or cut: most of them are
/// close to matching.
fn filter() -> impl Strategy<Value = String> {
    let start = prop::sample::select(vec![
        "$aws/things/pump/shadow/get/accepted",
        "$aws/things/pump/shadow/update/delta",
        "$aws/things/pump/shadow/name/config/update/documents",
        "$aws/things/valve/shadow/name/get/delete/rejected",
        "$aws/events/presence/connected/pump",
        "$aws/events/presence/disconnected/site/pump",
    ]);
    let changes = prop::collection::vec((0_usize..9, level(), 0_u8..10), 0..4);
    (start, changes, 0_usize..20).prop_map(|(start, changes, open)| {
        let mut levels: Vec<&str> = start.split('/').collect();
        for (at, level, what) in changes {
            match what {
                0 if at < levels.len() => drop(levels.remove(at)),
                1 if at <= levels.len() => levels.insert(at, level),
                2..=5 if at < levels.len() => levels[at] = "+",
                _ if at < levels.len() => levels[at] = level,
                _ => {}
            }
        }
        if open <= levels.len() {
            levels.truncate(open);
            levels.push("#");
        }
        levels.join("/")
    })
}

fn told(compiled: &Compiled<'_>, kind: PresenceKind, client: &str) -> bool {
    let grant = compiled.presence.as_ref();
    grant.is_some_and(|grant| grant.includes(kind, client))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    /// The compiled form matches exactly what the plain matcher matches, for every topic that we
    /// publish.
    #[test]
    fn the_compiled_form_is_the_filter(filter in filter()) {
        if check_filter(&filter).is_err() {
            return Ok(());
        }
        let compiled = compile(&filter);
        for device in ["pump", "valve", "name", "shadow", "get"] {
            let device = DeviceId::parse(device).unwrap();
            for shadow in ["", "config", "name", "get", "update", "$aws", "accepted"] {
                let shadow = ShadowName::parse(shadow).unwrap();
                for channel in Channel::ALL {
                    let topic = of_channel(&device, &shadow, channel);
                    let grant = compiled.as_ref().and_then(|compiled| compiled.shadows.as_ref());
                    let brings = grant.is_some_and(|grant| {
                        grant.channels(&device, &shadow).contains(channel)
                    });
                    prop_assert_eq!(brings, matches(&filter, &topic), "{} {}", filter, topic);
                }
            }
        }
        for client in ["pump", "site/pump", "a//b", "/", "$aws"] {
            for kind in [PresenceKind::Connected, PresenceKind::Disconnected] {
                let topic = of_presence(kind, client);
                let brings = compiled.as_ref().is_some_and(|compiled| told(compiled, kind, client));
                prop_assert_eq!(brings, matches(&filter, &topic), "{} {}", filter, topic);
            }
        }
    }

    /// A filter that matches any topic of a thing, served or not, is known to reach it.
    #[test]
    fn the_reach_is_never_understated(filter in filter(), rest in "(jobs|shadow|x)(/[a-z]{0,3}){0,4}") {
        if check_filter(&filter).is_ok() {
            for thing in ["pump", "valve", "shadow"] {
                let topic = format!("$aws/things/{thing}/{rest}");
                let reached = match compile(&filter).map(|compiled| compiled.things) {
                    Some(Things::One(one)) => one == thing,
                    Some(Things::All) => true,
                    Some(Things::None) | None => false,
                };
                prop_assert!(reached || !matches(&filter, &topic), "{filter} {topic}");
            }
        }
    }
}

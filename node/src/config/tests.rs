//! What the tests through the binary cannot reach: internals of the loader.

use std::time::Duration;

use super::setting::{ByteSize, CacheSize, Setting};
use super::{Config, SECTIONS};

/// `config show` and the generated docs print what the loader reads back.
#[test]
fn every_default_reads_back_what_it_shows() {
    let defaults = Config::default();
    let mut config = Config::default();
    for section in SECTIONS {
        for option in section.options {
            let literal = defaults.show(section.name, option.name).unwrap();
            let text = literal.trim_matches('"');
            config.set(section.name, option.name, text).unwrap();
        }
    }
    assert_eq!(config, defaults);
}

/// Units are what people write; a forgotten one must not turn seconds into anything else.
#[test]
fn durations_and_sizes_are_human() {
    let duration = |text| Duration::parse(text);
    assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
    assert_eq!(duration("24h").unwrap().show(), "\"24h\"");
    assert_eq!(duration("60s").unwrap().show(), "\"60s\"");
    for wrong in [
        "",
        "60",
        "s",
        "1.5s",
        "5 parsecs",
        "99999999999999999999s",
        "-1s",
    ] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
    let size = |text| ByteSize::parse(text);
    assert_eq!(size("64MiB"), Ok(ByteSize(64 << 20)));
    assert_eq!(size("64MB"), Ok(ByteSize(64_000_000)));
    assert_eq!(size("64 KiB"), Ok(ByteSize(65_536)));
    assert_eq!(size("4096"), Ok(ByteSize(4_096)));
    assert_eq!(ByteSize(65_536).show(), "\"64KiB\"");
    assert_eq!(ByteSize(65_537).show(), "\"65537B\"");
    for wrong in ["", "MiB", "1.5MiB", "64Mib", "99999999TiB", "-1"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
}

/// A cache is as large as it is said, or as the machine allows.
#[test]
fn caches_are_sized_by_themselves_or_by_hand() {
    assert_eq!(CacheSize::parse("auto"), Ok(CacheSize::Auto));
    assert_eq!(CacheSize::Auto.show(), "\"auto\"");
    let bytes = CacheSize::Bytes(ByteSize::gib(2));
    assert_eq!(CacheSize::parse("2GiB"), Ok(bytes));
    assert_eq!(bytes.show(), "\"2GiB\"");
    for wrong in ["", "Auto", "2 G", "half"] {
        assert!(CacheSize::parse(wrong).is_err(), "{wrong}");
    }
}

/// The style allows at most forty options beside the limits; who may come in has many kinds of proof,
/// and every port the same three files for TLS.
#[test]
fn there_are_not_too_many_options() {
    let sections = SECTIONS
        .iter()
        .filter(|section| !["limits", "access"].contains(&section.name));
    let options = sections.flat_map(|section| section.options);
    let counted = options.filter(|option| !option.name.starts_with("tls_"));
    assert!(counted.count() <= 40);
}

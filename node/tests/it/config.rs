//! The configuration as an operator meets it: precedence, origins, and every problem at once.

use std::path::Path;
use std::time::Duration;

use antumbra::config::environment::Environment;
use antumbra::config::load::Override;
use antumbra::config::{ByteSize, CacheSize, Loaded, Origin, Problems, Shards, Sources, load};

const FILE: &str = "antumbra.toml";

fn from_file(text: &str) -> Result<Loaded, Problems> {
    load(&Sources {
        file: Some((Path::new(FILE), text)),
        ..Sources::default()
    })
}

fn flag(key: &str, value: &str) -> Override {
    Override {
        key: key.to_owned(),
        value: value.to_owned(),
        flag: "--set",
    }
}

/// The problems of a configuration as lines `origin: what; hint`.
fn problems(sources: &Sources<'_>) -> Vec<String> {
    match load(sources) {
        Ok(loaded) => panic!("accepted as {:?}", loaded.config),
        Err(Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn file_problems(text: &str) -> Vec<String> {
    problems(&Sources {
        file: Some((Path::new(FILE), text)),
        ..Sources::default()
    })
}

/// A flag beats the environment, which beats the file, which beats the default; and
/// `config show --origin` says so.
#[test]
fn later_sources_win_and_origins_say_which() {
    let text =
        "[storage]\nflush_interval = \"1s\"\nfeed_retention = \"1h\"\ncache_bytes = 1048576\n";
    let environment = [
        ("ANTUMBRA_STORAGE_FLUSH_INTERVAL", "2s"),
        ("ANTUMBRA_STORAGE_FEED_RETENTION", "2h"),
        ("ANTUMBRA_CLUSTER_SHARDS", "7"),
    ];
    let loaded = load(&Sources {
        file: Some((Path::new(FILE), text)),
        environment: Environment::from_pairs(environment),
        flags: vec![flag("storage.flush_interval", "3s")],
        allow_test_switches: false,
    })
    .unwrap();
    let storage = &loaded.config.storage;
    assert_eq!(storage.flush_interval, Duration::from_secs(3));
    assert_eq!(storage.feed_retention, Duration::from_secs(7_200));
    assert_eq!(storage.cache_bytes, CacheSize::Bytes(ByteSize::mib(1)));
    assert_eq!(loaded.config.cluster.shards, Shards::Count(7));

    let origin = |option| loaded.origin("storage", option);
    assert_eq!(origin("flush_interval"), Origin::Flag { flag: "--set" });
    let variable = "ANTUMBRA_STORAGE_FEED_RETENTION".to_owned();
    assert_eq!(origin("feed_retention"), Origin::Environment { variable });
    assert_eq!(
        origin("cache_bytes"),
        Origin::File {
            path: FILE.into(),
            line: 4
        }
    );
    assert_eq!(origin("tail_bytes"), Origin::Default);
}

/// A typing mistake must never leave an option silently at its default.
#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    let cases = [
        (
            "[storage]\nflush_intervall = \"1s\"\n",
            "antumbra.toml:2: there is no option `storage.flush_intervall`; did you mean `storage.flush_interval`?",
        ),
        (
            "[storge]\n",
            "antumbra.toml:1: there is no section `storge`; did you mean `storage`?",
        ),
        (
            "data_dir = \"/x\"\n",
            "antumbra.toml:1: there is no section `data_dir`; `data_dir` belongs under `[node]`",
        ),
        (
            "[node]\nheartbeat = \"1s\"\n",
            "antumbra.toml:2: there is no option `node.heartbeat`; `heartbeat` belongs under `[raft]`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file_problems(text), [expected]);
    }
    let environment = Environment::from_pairs([("ANTUMBRA_NODE_DATADIR", "/x")]);
    let wrong = problems(&Sources {
        environment,
        ..Sources::default()
    });
    assert_eq!(
        wrong,
        [
            "ANTUMBRA_NODE_DATADIR: this variable sets no option; did you mean `ANTUMBRA_NODE_DATA_DIR`?"
        ]
    );
    let wrong = problems(&Sources {
        flags: vec![flag("api.listn", "x")],
        ..Sources::default()
    });
    assert_eq!(
        wrong,
        ["--set: there is no option `api.listn`; did you mean `api.listen`?"]
    );
}

/// Fixing a file must not take one start per mistake.
#[test]
fn all_problems_come_at_once() {
    let text = r#"
[node]
name = "Node 1"
[raft]
heartbeat = "1s"
election_timeout_min = "1s"
election_timeout_max = 800
[http]
listen = "127.0.0.1:7400"
[limits]
document_depth_max = "8"
document_bytes_max = "1GiB"
[colour]
"#;
    let found = file_problems(text);
    let expected = [
        ":3: `node.name` is `Node 1`",
        ":6: `raft.election_timeout_min` must be at least twice `raft.heartbeat`",
        ":7: `raft.election_timeout_max`: `800` is not a duration such as",
        ":9: `http.listen` is port 7400, which `api.listen` has",
        ":11: `limits.document_depth_max`: `8` is not a whole number without quotes",
        ":12: `limits.document_bytes_max` is \"1GiB\", outside \"1B\" to \"256KiB\"",
        ":13: there is no section `colour`",
    ];
    for part in expected {
        assert!(
            found.iter().any(|line| line.contains(part)),
            "no {part} in {found:#?}"
        );
    }
}

/// A door with half of its files for TLS would else be plain or refuse everybody.
#[test]
fn files_for_tls_go_together() {
    let found =
        file_problems("[api]\ntls_certificate = \"a\"\n[http]\ntls_client_authority = \"b\"\n");
    let expected = [
        "`api.tls_key` is needed with `api.tls_certificate`",
        "`http.tls_certificate` is needed with `http.tls_client_authority`",
    ];
    for part in expected {
        let is_told = found.iter().any(|line| line.contains(part));
        assert!(is_told, "no {part} in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// Who decides which nodes belong to the cluster must be able to.
#[test]
fn membership_fits_the_name_and_the_seeds() {
    let of = |membership: &str, node: &str, seeds: &str| {
        from_file(&format!(
            "[node]\n{node}\n[cluster]\nmembership = \"{membership}\"\nseeds = \"{seeds}\"\n\
             [peer]\nadvertise = \"h:7401\"\n"
        ))
    };
    let seeds = "antumbra-0=h0:7401,antumbra-1=h1:7401";
    for (membership, node, seeds) in [
        ("kubernetes", "name = \"antumbra-0\"", seeds),
        ("kubernetes", "name = \"antumbra-12\"", seeds),
        (
            "kubernetes",
            "name = \"gateway-5f7\"\nstorage = false",
            seeds,
        ),
        ("static", "name = \"antumbra-1\"", seeds),
        ("static", "name = \"alone\"", ""),
        ("static", "name = \"gateway\"\nstorage = false", seeds),
        ("api", "name = \"anybody\"", seeds),
    ] {
        let loaded = of(membership, node, seeds);
        assert!(loaded.is_ok(), "{membership} {node}: {loaded:?}");
    }
    for (membership, node, part) in [
        (
            "kubernetes",
            "name = \"antumbra\"",
            "not that of a pod of a StatefulSet",
        ),
        (
            "kubernetes",
            "name = \"antumbra-01\"",
            "not that of a pod of a StatefulSet",
        ),
        (
            "static",
            "name = \"antumbra-2\"",
            "`antumbra-2` is not among the seeds",
        ),
        (
            "operator",
            "name = \"antumbra-0\"",
            "`operator` is not `static`, `api` or `kubernetes`",
        ),
    ] {
        let refused = of(membership, node, seeds).unwrap_err().to_string();
        assert!(refused.contains(part), "no {part} in {refused}");
    }
}

/// What the kubelet says is taken from the environment, and never taken for an option.
#[test]
fn surroundings_of_a_pod_are_read() {
    let environment = Environment::from_pairs([
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("ANTUMBRA_SERVICE_ACCOUNT", "/tmp/account"),
    ]);
    let loaded = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(loaded.set_count(), 0);
    let pod = loaded.config.pod;
    assert_eq!(pod.api_host.as_deref(), Some("10.96.0.1"));
    assert_eq!(pod.api_port.as_deref(), Some("443"));
    assert_eq!(pod.service_account, Path::new("/tmp/account"));
    let usual = from_file("").unwrap().config.pod;
    assert!(
        usual
            .service_account
            .ends_with("kubernetes.io/serviceaccount")
    );
    assert_eq!((usual.api_host, usual.api_port), (None, None));
}

/// A file that is not TOML says where, and what could be read is checked all the same.
#[test]
fn syntax_errors_have_a_line() {
    let found = file_problems("[node]\nname = \n[storge]\n");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("antumbra.toml:2: ")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|line| line.contains("storge")),
        "{found:#?}"
    );
}

/// The file that is shipped is valid, and so is every option in it once it is uncommented.
#[test]
fn the_annotated_file_is_the_defaults() {
    let annotated = antumbra::config::document::toml();
    assert_eq!(from_file(&annotated).unwrap().config, Default::default());
    let uncommented: Vec<&str> = annotated
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .collect();
    let options: Vec<&str> = uncommented
        .into_iter()
        .filter(|line| line.starts_with('[') || line.split(" = ").next().is_some_and(is_a_name))
        .collect();
    let loaded = from_file(&options.join("\n")).unwrap();
    assert_eq!(loaded.config, Default::default());
    assert!(
        loaded.set_count() > 20,
        "only {} options were uncommented",
        loaded.set_count()
    );
}

fn is_a_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// What Kubernetes puts into a pod for a service named `antumbra-http` must not stop a node, nor
/// must variables of its clients and its build.
#[test]
fn foreign_variables_are_left_alone() {
    let environment = Environment::from_pairs([
        ("ANTUMBRA_HTTP_SERVICE_HOST", "10.0.0.1"),
        ("ANTUMBRA_HTTP_SERVICE_PORT", "7480"),
        ("ANTUMBRA_HTTP_PORT", "tcp://10.0.0.1:7480"),
        ("ANTUMBRA_HTTP_PORT_7480_TCP_ADDR", "10.0.0.1"),
        ("ANTUMBRA_ENDPOINT", "http://127.0.0.1:7400"),
        ("ANTUMBRA_TENANT", "t"),
        ("ANTUMBRA_TOOLS", "/tools"),
        ("PATH", "/bin"),
    ]);
    let loaded = load(&Sources {
        environment,
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(loaded.set_count(), 0);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

/// A variable that somebody left in an environment must never make a node lose data.
#[test]
fn test_switches_need_a_flag_of_their_own() {
    let pairs = [
        ("ANTUMBRA_TEST_NO_FSYNC", "1"),
        ("ANTUMBRA_TEST_LOSE_PROPOSAL", "3"),
        ("ANTUMBRA_TEST_EARLY_ACKNOWLEDGEMENT", "1"),
        ("ANTUMBRA_TEST_VOTES_NOT_SYNCED", "1"),
        ("ANTUMBRA_TEST_STALE_READS", "1"),
        ("ANTUMBRA_TEST_ANNOUNCE_RULES", "2"),
    ];
    let with = |allow_test_switches| {
        let environment = Environment::from_pairs(pairs);
        load(&Sources {
            environment,
            allow_test_switches,
            ..Sources::default()
        })
        .unwrap()
    };
    let ignored = with(false);
    assert_eq!(ignored.config.test_switches, Default::default());
    assert_eq!(ignored.warnings.len(), 6, "{:?}", ignored.warnings);

    let honoured = with(true).config.test_switches;
    assert!(honoured.no_fsync);
    assert_eq!(honoured.lose_proposal, Some(3));
    assert!(honoured.early_acknowledgement && honoured.votes_not_synced && honoured.stale_reads);
    assert_eq!(honoured.announce_rules, Some(2));
    assert_eq!(honoured.active().len(), 6);

    let environment = Environment::from_pairs([("ANTUMBRA_TEST_LOSE_PROPOSALS", "3")]);
    let wrong = Sources {
        environment,
        allow_test_switches: true,
        ..Sources::default()
    };
    assert_eq!(problems(&wrong).len(), 1);
}

/// The committed documentation is what the options say.
#[test]
fn generated_docs_are_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let generated = [
        (
            "configuration.md",
            antumbra::config::document::markdown(antumbra::cli::EXIT_CODES),
        ),
        ("antumbra.toml", antumbra::config::document::toml()),
    ];
    for (name, expected) in generated {
        let committed = std::fs::read_to_string(docs.join(name)).unwrap_or_default();
        assert!(
            committed == expected,
            "docs/{name} is not current: run `make docs` (`antumbra config docs docs`)"
        );
    }
}

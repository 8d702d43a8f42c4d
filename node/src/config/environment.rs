//! The environment variables of the program. No other file reads them.
//!
//! - `ANTUMBRA_<SECTION>_<OPTION>` sets an option of the configuration.
//! - `ANTUMBRA_ENDPOINT`, `ANTUMBRA_TENANT`, `ANTUMBRA_TOKEN` and `ANTUMBRA_TLS_…` are defaults of the
//!   client commands.
//! - `ANTUMBRA_TEST_…` inject faults, and only together with `--allow-test-switches`.
//! - `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, which every container of a pod has, say where the
//!   API of Kubernetes is; `ANTUMBRA_SERVICE_ACCOUNT` is for tests, see [`Pod`].
//! - `NO_COLOR` turns colours off when it is set to anything but the empty string.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::load::{Origin, Problem};
use super::options::SECTIONS;
use super::suggest::closest;

/// Where client commands find the MQTT door; it looks like an option and is none.
const MQTT_ENDPOINT: &str = "ANTUMBRA_MQTT";

/// Where the service account is instead; it looks like an option and is none.
const SERVICE_ACCOUNT: &str = "ANTUMBRA_SERVICE_ACCOUNT";
const API_HOST: &str = "KUBERNETES_SERVICE_HOST";
const API_PORT: &str = "KUBERNETES_SERVICE_PORT";
/// Variables that are not ours by name.
const OTHERS: &[&str] = &["NO_COLOR", API_HOST, API_PORT];

const PREFIX: &str = "ANTUMBRA_";
const TEST_PREFIX: &str = "ANTUMBRA_TEST_";
const NO_FSYNC: &str = "ANTUMBRA_TEST_NO_FSYNC";
const LOSE_PROPOSAL: &str = "ANTUMBRA_TEST_LOSE_PROPOSAL";
const EARLY_ACKNOWLEDGEMENT: &str = "ANTUMBRA_TEST_EARLY_ACKNOWLEDGEMENT";
const VOTES_NOT_SYNCED: &str = "ANTUMBRA_TEST_VOTES_NOT_SYNCED";
const STALE_READS: &str = "ANTUMBRA_TEST_STALE_READS";
const MEMORY_FILE: &str = "ANTUMBRA_TEST_MEMORY_FILE";
const ANNOUNCE_RULES: &str = "ANTUMBRA_TEST_ANNOUNCE_RULES";
const TEST_SWITCHES: &[&str] = &[
    NO_FSYNC,
    LOSE_PROPOSAL,
    EARLY_ACKNOWLEDGEMENT,
    VOTES_NOT_SYNCED,
    STALE_READS,
    MEMORY_FILE,
    ANNOUNCE_RULES,
];

/// Faults that tests inject into a whole process. With all of them off, the default, the program
/// behaves as if they did not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestSwitches {
    /// `ANTUMBRA_TEST_NO_FSYNC=1`: the log is written but not synced, so a power cut loses
    /// acknowledged changes. Proves that the power-cut test can see a loss.
    pub no_fsync: bool,
    /// `ANTUMBRA_TEST_LOSE_PROPOSAL=N`: the result of every Nth proposal of a shard is lost after
    /// it was proposed, so its callers are told that the outcome is unknown.
    pub lose_proposal: Option<u64>,
    /// `ANTUMBRA_TEST_EARLY_ACKNOWLEDGEMENT=1`: entries are reported durable 50 ms before they are
    /// written. Proves, like the next two, that the chaos program sees such a defect.
    pub early_acknowledgement: bool,
    /// `ANTUMBRA_TEST_VOTES_NOT_SYNCED=1`: a crash forgets which votes a node gave.
    pub votes_not_synced: bool,
    /// `ANTUMBRA_TEST_STALE_READS=1`: reads do not ask whether the replica is up to date.
    pub stale_reads: bool,
    /// `ANTUMBRA_TEST_MEMORY_FILE=PATH`: the bytes of memory in use are what this file says, for
    /// `limits.memory_bytes_max`.
    pub memory_file: Option<PathBuf>,
    /// `ANTUMBRA_TEST_ANNOUNCE_RULES=N`: the node says that it knows these rules, as a newer version would.
    pub announce_rules: Option<u16>,
}

impl TestSwitches {
    /// The active switches as `NAME=value`, for the log.
    pub fn active(&self) -> Vec<String> {
        let flags = [
            (self.no_fsync, NO_FSYNC),
            (self.early_acknowledgement, EARLY_ACKNOWLEDGEMENT),
            (self.votes_not_synced, VOTES_NOT_SYNCED),
            (self.stale_reads, STALE_READS),
        ];
        let on = flags.into_iter().filter(|(on, _)| *on);
        let mut active: Vec<_> = on.map(|(_, name)| format!("{name}=1")).collect();
        if let Some(every) = self.lose_proposal {
            active.push(format!("{LOSE_PROPOSAL}={every}"));
        }
        if let Some(path) = &self.memory_file {
            active.push(format!("{MEMORY_FILE}={}", path.display()));
        }
        if let Some(rules) = self.announce_rules {
            active.push(format!("{ANNOUNCE_RULES}={rules}"));
        }
        active
    }
}

/// What Kubernetes tells a container of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Host of the API; nothing outside a pod.
    pub api_host: Option<String>,
    /// Its port, as it is written.
    pub api_port: Option<String>,
    /// Directory with the token, the authority of the API and the namespace. Tests that are not in a pod name
    /// another one in `ANTUMBRA_SERVICE_ACCOUNT`.
    pub service_account: PathBuf,
}

impl Default for Pod {
    fn default() -> Self {
        Self {
            api_host: None,
            api_port: None,
            service_account: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount"),
        }
    }
}

/// A copy of the variables that concern this program.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Reads the environment of this process. Variables that are not UTF-8 are left out.
    pub fn read() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::from_pairs(std::env::vars_os().filter_map(utf8))
    }

    /// An environment of these variables.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<String>,
        V: Into<String>,
    {
        let variables = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .filter(|(name, _)| name.starts_with(PREFIX) || OTHERS.contains(&name.as_str()))
            .collect();
        Self { variables }
    }

    /// Default of `--endpoint`.
    pub fn endpoint(&self) -> Option<&str> {
        self.filled("ANTUMBRA_ENDPOINT")
    }

    /// Default of `--tenant`.
    pub fn tenant(&self) -> Option<&str> {
        self.filled("ANTUMBRA_TENANT")
    }

    /// Default of `--token`.
    pub fn token(&self) -> Option<&str> {
        self.filled("ANTUMBRA_TOKEN")
    }

    /// Defaults of `--tls-authority`, `--tls-certificate` and `--tls-key`.
    pub fn tls_files(&self) -> [Option<&str>; 3] {
        [
            self.filled("ANTUMBRA_TLS_AUTHORITY"),
            self.filled("ANTUMBRA_TLS_CERTIFICATE"),
            self.filled("ANTUMBRA_TLS_KEY"),
        ]
    }

    /// What Kubernetes says of this container.
    pub fn pod(&self) -> Pod {
        let given = |name| self.filled(name).map(str::to_owned);
        let usual = Pod::default();
        Pod {
            api_host: given(API_HOST),
            api_port: given(API_PORT),
            service_account: given(SERVICE_ACCOUNT).map_or(usual.service_account, PathBuf::from),
        }
    }

    /// Whether the user asked for output without colours (<https://no-color.org>).
    pub fn no_color(&self) -> bool {
        self.filled("NO_COLOR").is_some()
    }

    /// The value of the variable of an option, with the variable's name.
    pub(super) fn option(&self, section: &str, option: &str) -> Option<(String, &str)> {
        let name = variable_of(section, option);
        let value = self.variables.get(&name)?;
        Some((name, value))
    }

    /// Variables that look like options and are none.
    pub(super) fn unknown(&self) -> Vec<Problem> {
        let known: Vec<String> = SECTIONS
            .iter()
            .flat_map(|section| {
                section
                    .options
                    .iter()
                    .map(|option| variable_of(section.name, option.name))
            })
            .collect();
        let looks_like_an_option = |name: &str| {
            let section = name[PREFIX.len()..].split('_').next().unwrap_or_default();
            let section = section.to_ascii_lowercase();
            closest(&section, SECTIONS.iter().map(|s| s.name)).is_some()
        };
        self.variables
            .keys()
            .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
            .filter(|name| !name.starts_with(TEST_PREFIX) && !is_service_link(name))
            .filter(|name| ![MQTT_ENDPOINT, SERVICE_ACCOUNT].contains(&name.as_str()))
            .filter(|name| looks_like_an_option(name))
            .map(|name| Problem {
                origin: Origin::Environment {
                    variable: name.clone(),
                },
                what: "this variable sets no option".to_owned(),
                try_this: closest(name, known.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            })
            .collect()
    }

    /// The test switches, or what is wrong with them.
    pub(super) fn test_switches(&self) -> Result<TestSwitches, Vec<Problem>> {
        let mut switches = TestSwitches::default();
        let mut problems = Vec::new();
        for (name, value) in &self.variables {
            let read = match name.as_str() {
                NO_FSYNC => read_flag(value).map(|on| switches.no_fsync = on),
                EARLY_ACKNOWLEDGEMENT => {
                    read_flag(value).map(|on| switches.early_acknowledgement = on)
                }
                VOTES_NOT_SYNCED => read_flag(value).map(|on| switches.votes_not_synced = on),
                STALE_READS => read_flag(value).map(|on| switches.stale_reads = on),
                MEMORY_FILE => {
                    switches.memory_file = Some(PathBuf::from(value));
                    Ok(())
                }
                ANNOUNCE_RULES => match value.parse() {
                    Ok(rules) => {
                        switches.announce_rules = Some(rules);
                        Ok(())
                    }
                    Err(_) => Err("takes a number".to_owned()),
                },
                LOSE_PROPOSAL => read_count(value).map(|every| switches.lose_proposal = every),
                other if other.starts_with(TEST_PREFIX) => Err(format!(
                    "not a test switch; there are {}",
                    TEST_SWITCHES.join(", ")
                )),
                _ => Ok(()),
            };
            if let Err(what) = read {
                let origin = Origin::Environment {
                    variable: name.clone(),
                };
                problems.push(Problem {
                    origin,
                    what,
                    try_this: None,
                });
            }
        }
        if problems.is_empty() {
            Ok(switches)
        } else {
            Err(problems)
        }
    }

    /// Test switches that are set, for a warning when they are not honoured.
    pub(super) fn test_switch_names(&self) -> Vec<&str> {
        self.variables
            .keys()
            .map(String::as_str)
            .filter(|n| n.starts_with(TEST_PREFIX))
            .collect()
    }

    fn filled(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// `ANTUMBRA_NODE_DATA_DIR` for `node.data_dir`.
pub fn variable_of(section: &str, option: &str) -> String {
    format!(
        "{PREFIX}{}_{}",
        section.to_ascii_uppercase(),
        option.to_ascii_uppercase()
    )
}

/// Kubernetes puts `<SERVICE>_SERVICE_HOST`, `<SERVICE>_PORT_7400_TCP_ADDR` and the like into
/// every pod, which for a service named `antumbra-http` look like ours.
fn is_service_link(name: &str) -> bool {
    let part = |wanted: &str| name.split('_').any(|part| part == wanted);
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || (part("PORT") && (part("TCP") || part("UDP")))
}

fn read_flag(value: &str) -> Result<bool, String> {
    match value {
        "1" => Ok(true),
        "0" | "" => Ok(false),
        _ => Err(format!("`{value}` is neither 0 nor 1")),
    }
}

fn read_count(value: &str) -> Result<Option<u64>, String> {
    match value.parse() {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(_) => Err(format!("`{value}` is not a whole number")),
    }
}

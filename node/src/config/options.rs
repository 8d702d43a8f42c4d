//! The declaration of every option. Docs, loader and struct tree are derived from it.
//!
//! An option is here only if it does something. Times and sizes carry their unit in the value;
//! the default follows the `=`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::environment::{Pod, TestSwitches};
use super::setting::{ByteSize, CacheSize, Literal, LogFormat, Membership, Seeds, Setting, Shards};

/// One section of the file, as the docs and the loader see it.
#[derive(Debug)]
pub struct SectionInfo {
    /// `storage` for `[storage]`.
    pub name: &'static str,
    /// Lines of documentation, each with the space that follows `///`.
    pub doc: &'static [&'static str],
    /// Its options, in the order of the declaration.
    pub options: &'static [OptionInfo],
}

/// One option, as the docs and the loader see it.
#[derive(Debug)]
pub struct OptionInfo {
    /// `data_dir` for `node.data_dir`.
    pub name: &'static str,
    /// Lines of documentation, each with the space that follows `///`.
    pub doc: &'static [&'static str],
    /// What a value looks like.
    pub kind: &'static str,
    /// How a value may be written in TOML.
    pub literals: &'static [Literal],
}

macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $type:ident {
            $(
                $(#[doc = $doc:literal])+
                $option:ident: $kind:ty = $default:expr,
            )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $type {
                $(
                    $(#[doc = $doc])+
                    #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")]
                    pub $option: $kind,
                )+
            }

            impl Default for $type {
                fn default() -> Self {
                    Self { $($option: $default,)+ }
                }
            }
        )+

        /// Everything an operator may set.
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Config {
            $(
                $(#[doc = $section_doc])+
                pub $section: $type,
            )+
            /// Faults that tests inject; never set by a file, and by the environment only
            /// together with `--allow-test-switches`.
            pub test_switches: TestSwitches,
            /// What Kubernetes tells a container of where it is. Set by the environment alone.
            pub pod: Pod,
            /// Whether callers must prove who they are. Never set by a file or the environment: only
            /// `antumbra dev` and `antumbra serve --insecure` are open.
            pub mode: crate::access::Mode,
        }

        /// Every section with every option, in the order of the declaration.
        pub const SECTIONS: &[SectionInfo] = &[$(
            SectionInfo {
                name: stringify!($section),
                doc: &[$($section_doc),+],
                options: &[$(
                    OptionInfo {
                        name: stringify!($option),
                        doc: &[$($doc),+],
                        kind: <$kind as Setting>::KIND,
                        literals: <$kind as Setting>::LITERALS,
                    },
                )+],
            },
        )+];

        impl Config {
            /// Sets one option from text. The name must be one of [`SECTIONS`].
            pub(super) fn set(&mut self, section: &str, option: &str, text: &str) -> Result<(), String> {
                match (section, option) {
                    $($(
                        (stringify!($section), stringify!($option)) => {
                            self.$section.$option = Setting::parse(text)?;
                            Ok(())
                        }
                    )+)+
                    _ => Err(format!("there is no option `{section}.{option}`")),
                }
            }

            /// One option as a TOML literal. The name must be one of [`SECTIONS`].
            pub fn show(&self, section: &str, option: &str) -> Option<String> {
                match (section, option) {
                    $($(
                        (stringify!($section), stringify!($option)) => {
                            Some(self.$section.$option.show())
                        }
                    )+)+
                    _ => None,
                }
            }
        }
    };
}

sections! {
    /// This process and where it keeps its data.
    node: Node {
        /// Name of the node, written into the data directory at the first start; a directory of
        /// another node is refused. 1-63 characters of `a-z`, `0-9` and `-`.
        name: String = "node-1".to_owned(),
        /// Directory of everything the node keeps. Created at the first start.
        data_dir: PathBuf = PathBuf::from("antumbra-data"),
        /// Whether the node keeps replicas. Without it the node is a gateway: it serves all doors, keeps
        /// no shadow, founds no cluster, and may come and go at any time. Needs `cluster.seeds`.
        storage: bool = true,
        /// What the node would be lost with: a building, a rack, a zone of a cloud. The replicas of a shard
        /// are spread over as many zones as there are. Empty when there is nothing to say; else 1-63
        /// characters of `a-z`, `0-9` and `-`.
        zone: String = String::new(),
        /// How many replicas the node should have in proportion to other nodes, 1 to 1000.
        capacity: u32 = 1,
        /// Threads that serve requests and run the shards. 0 means one per core.
        worker_threads: u32 = 0,
        /// How long a stopping node goes on as before after `/readyz` has begun to say no: as long as a load
        /// balancer in front of it takes to send clients elsewhere. At most 10m.
        stop_delay: Duration = Duration::ZERO,
        /// How long a stopping node waits for requests in flight before it closes its stores. Counted
        /// from when its devices have been sent away.
        shutdown_timeout: Duration = Duration::from_secs(10),
    }

    /// The two stores of the data directory.
    storage: Storage {
        /// How often the state store is flushed, so that the log before it can be dropped. A
        /// restart replays at most what came after the last flush.
        flush_interval: Duration = Duration::from_secs(60),
        /// Flush earlier when so much log was written since the last flush. It is also flushed earlier
        /// when what is to be flushed takes 72 MiB of memory.
        flush_log_bytes: ByteSize = ByteSize::mib(24),
        /// Recent log entries kept in memory, per shard.
        tail_bytes: ByteSize = ByteSize::mib(16),
        /// Memory for recently used documents and for blocks read from disk. It fills as far as there are
        /// documents to keep. `auto` is an eighth of the memory of the machine or container, and 128 MiB
        /// at least.
        cache_bytes: CacheSize = CacheSize::Auto,
        /// How long changes stay in the feed. A watch that resumes from an older cursor starts
        /// again from the current documents.
        feed_retention: Duration = Duration::from_secs(24 * 3600),
        /// Size of the feed of the whole node; older changes are dropped first.
        feed_bytes_max: ByteSize = ByteSize::gib(1),
    }

    /// Timing of the replicated log.
    raft: Raft {
        /// How often a leader makes itself heard.
        heartbeat: Duration = Duration::from_millis(200),
        /// A follower that hears nothing stands for election after a random time between this
        /// and `election_timeout_max`.
        election_timeout_min: Duration = Duration::from_millis(400),
        /// See `election_timeout_min`.
        election_timeout_max: Duration = Duration::from_millis(800),
    }

    /// Which cluster this is, and how its data is divided.
    cluster: Cluster {
        /// Name of the cluster, written into the data directory at the first start; a directory
        /// of another cluster is refused. 1-63 characters of `a-z`, `0-9` and `-`.
        name: String = "antumbra".to_owned(),
        /// Shards that a new cluster is divided into; later starts keep what it has. `auto` is one
        /// per four cores of all nodes, but at least 3 and at least one per node.
        shards: Shards = Shards::Auto,
        /// The first nodes of the cluster with their peer addresses, such as
        /// `node-1=10.0.0.1:7401,node-2=10.0.0.2:7401`. Every node has the same list. Empty for a
        /// node that is a cluster of its own.
        seeds: Seeds = Seeds::default(),
        /// Seeds that must be there before a new cluster is created; 0 means all of them.
        expect: u32 = 0,
        /// Who decides which nodes belong to the cluster; the same on all of them. `api`: nodes join by
        /// themselves and leave by command. `static`: the nodes are those of `cluster.seeds`; no other joins,
        /// and none is sent away. `kubernetes`: the StatefulSet whose pods the nodes are, each called
        /// `<statefulset>-<ordinal>`; a node that it does not need any more is sent away.
        membership: Membership = Membership::Api,
        /// Replicas of every shard of a new cluster; fewer when there are fewer nodes.
        replication_factor: u32 = 3,
        /// A node that cannot be reached for so long is given up: its replicas are built on other nodes, and a
        /// gateway is forgotten. One that comes back later gets its share anew.
        replace_after: Duration = Duration::from_secs(600),
        /// Shards whose replicas are moved at the same time.
        moves_max: u32 = 2,
        /// Most bytes of snapshots that the node sends each second, to replicas that are new or far behind.
        copy_bytes_per_second: ByteSize = ByteSize::mib(32),
    }

    /// The link between the nodes of a cluster.
    peer: Peer {
        /// Where other nodes are listened for.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7401)),
        /// What other nodes connect to, `host:port`; empty when that is `listen`. Its host is also where clients are
        /// told to find a door of this node that listens everywhere.
        advertise: String = String::new(),
        /// Certificate of this node, a PEM file. With it, the two below are needed too, and every
        /// link is encrypted and authenticated both ways. `antumbra cert` makes all three.
        tls_certificate: String = String::new(),
        /// Its private key, a PEM file.
        tls_key: String = String::new(),
        /// Certificate of the authority that signs the nodes of this cluster, a PEM file.
        tls_authority: String = String::new(),
    }

    /// The gRPC door.
    api: Api {
        /// Where gRPC is served.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
        /// Certificate that clients see, a PEM file. With it, `tls_key` is needed too, and nothing
        /// but TLS is spoken at `listen`; empty for plain text.
        tls_certificate: String = String::new(),
        /// Its private key, a PEM file.
        tls_key: String = String::new(),
        /// Certificates of the authorities that sign clients, a PEM file. A client must then show one,
        /// or a token; `access.certificate_rules` says whom it is for.
        tls_client_authority: String = String::new(),
        /// Deadline of a call that brings none.
        default_deadline: Duration = Duration::from_secs(10),
        /// Largest request message.
        message_bytes_max: ByteSize = ByteSize::mib(5),
        /// Events that wait for one slow watcher before it is told to start over.
        watch_events_max: u32 = 1024,
        /// Updates of one update stream that may be in flight; more wait on the connection.
        stream_updates_max: u32 = 1024,
    }

    /// The HTTP door: AWS `iot-data` paths, health, metrics.
    http: Http {
        /// Where HTTP is served.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 7480)),
        /// Certificate that clients see, a PEM file. With it, `tls_key` is needed too, and nothing
        /// but TLS is spoken at `listen`; empty for plain text.
        tls_certificate: String = String::new(),
        /// Its private key, a PEM file.
        tls_key: String = String::new(),
        /// Certificates of the authorities that sign clients, a PEM file. A client must then show one,
        /// a token or a signature, except for health and metrics; `access.certificate_rules` says whom
        /// it is for.
        tls_client_authority: String = String::new(),
        /// Deadline of a request.
        default_deadline: Duration = Duration::from_secs(10),
        /// Largest request body that is read.
        body_bytes_max: ByteSize = ByteSize::mib(1),
    }

    /// Who may come in, at all doors. `antumbra dev` and `antumbra serve --insecure` let everybody in
    /// who shows nothing; what is shown is judged there, too.
    access: Access {
        /// File with a token whose holder is an operator, beside the credentials that are stored: for
        /// the first of them. `antumbra credential bootstrap` makes one. Empty for none; leave it out
        /// again once there is another operator.
        bootstrap_token_file: String = String::new(),
        /// Where the certificate of a device says whom it is for: rules `common_name = device`,
        /// `organisation = tenant`, `organisational_unit = role`, `dns = {device}.example.com` or
        /// `uri = spiffe://{tenant}/{device}`, with semicolons between.
        certificate_rules: String = "common_name = device".to_owned(),
        /// Whether a certificate must be registered as a credential; else what the authority signed is
        /// good.
        certificates_registered: bool = false,
        /// Who signs tokens (JWT) that are taken, as `iss` of the token; empty for nobody. With it,
        /// `jwt_audience` and `jwt_keys_file` are needed.
        jwt_issuer: String = String::new(),
        /// For whom these tokens are, as `aud` of the token.
        jwt_audience: String = String::new(),
        /// Public keys of the issuer, a JSON Web Key Set. Read again when the file changes.
        jwt_keys_file: String = String::new(),
        /// How tokens may be signed, with commas between: RS256 RS384 RS512 PS256 PS384 PS512 ES256
        /// ES384 EdDSA.
        jwt_algorithms: String = "RS256,ES256,EdDSA".to_owned(),
        /// How far the clock of the issuer may be from ours. At most 5m.
        jwt_leeway: Duration = Duration::from_secs(30),
        /// The claim with the device; tokens without it are for no device.
        jwt_device_claim: String = "sub".to_owned(),
        /// The claim with the tenant; empty when tokens do not say.
        jwt_tenant_claim: String = String::new(),
        /// The claim with the role: `device`, `backend` or `reader`; empty when tokens do not say,
        /// whose role is then `device`.
        jwt_role_claim: String = String::new(),
        /// The only tenant of these tokens; empty when they may be for any.
        jwt_tenant: String = "default".to_owned(),
        /// How far the time of a signed HTTP request may be from ours. At most 15m.
        signature_skew: Duration = Duration::from_secs(300),
    }

    /// The MQTT door for devices.
    mqtt: Mqtt {
        /// Where MQTT without TLS is served. Clients show a password or a token, unless the node is
        /// open to everybody.
        listen: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
        /// Where MQTT with TLS is served, such as `0.0.0.0:8883`; empty for nowhere. Needs
        /// `tls_certificate` and `tls_key`.
        tls_listen: String = String::new(),
        /// Certificate that clients see, a PEM file.
        tls_certificate: String = String::new(),
        /// Its private key, a PEM file.
        tls_key: String = String::new(),
        /// Certificates of the authorities that sign clients, a PEM file. A client must then show one,
        /// or a password or token; `access.certificate_rules` says whom it is for.
        tls_client_authority: String = String::new(),
        /// Whether the cluster knows of every client that is connected, also of those whose session
        /// ends with the connection. Costs one small write per connection and one at its end.
        presence: bool = true,
    }

    /// Logs. Metrics are served at `/metrics` of the HTTP door.
    telemetry: Telemetry {
        /// What is logged: `error`, `warn` or `info`, or a filter per target such as
        /// `info,openraft=warn`. Finer levels are not compiled in. With `antumbra::requests=info` in it there
        /// is a line for every request. `antumbra cluster log-level` changes it while the node runs.
        log_filter: String = "info,openraft=error".to_owned(),
        /// How log lines on standard error look.
        log_format: LogFormat = LogFormat::Text,
    }

    /// What is refused, and how much may wait.
    limits: Limits {
        /// Largest document: the JSON of desired and reported without metadata. At most 256KiB. A
        /// write that does not grow a document that is already larger is accepted.
        document_bytes_max: ByteSize = ByteSize::kib(8),
        /// Deepest nesting of objects and arrays in desired or reported. At most 16.
        document_depth_max: u32 = 8,
        /// Shadows of one device, the classic one included.
        shadows_per_device_max: u32 = 64,
        /// Longest client token.
        client_token_bytes_max: ByteSize = ByteSize(64),
        /// Longest key in a document.
        key_bytes_max: ByteSize = ByteSize::kib(1),
        /// Devices that may have a live twin on this node; the least recently used stop first.
        twins_max: u32 = 50_000,
        /// Documents that live twins keep in memory on this node. Over it they are read from the
        /// state store.
        twins_bytes_max: ByteSize = ByteSize::mib(192),
        /// How long a twin lives without work.
        twin_idle: Duration = Duration::from_secs(60),
        /// Commands waiting or in flight, per shard; more are refused as OVERLOADED.
        commands_max: u32 = 8_192,
        /// Commands waiting or in flight for one device; more are refused as OVERLOADED.
        commands_per_device_max: u32 = 1_024,
        /// MQTT connections at one time; more are closed at once.
        mqtt_connections_max: u32 = 1_000_000,
        /// MQTT connections accepted per second; more wait.
        mqtt_connects_per_second_max: u32 = 10_000,
        /// MQTT clients that a stopping node sends to other nodes each second, so that they do not all
        /// come there at once. Without other nodes all are told at once.
        mqtt_disconnects_per_second: u32 = 500,
        /// MQTT clients of one tenant that may connect each second; more are refused (3.1.1: return
        /// code 3, 5: reason 0x9F). 0 for no limit.
        mqtt_connects_per_second_per_tenant_max: u32 = 5_000,
        /// Bytes each second that are read from one MQTT client, of which as many may come at once;
        /// over it the client is read more slowly, not closed.
        mqtt_bytes_per_second_max: ByteSize = ByteSize::kib(512),
        /// Longest keep-alive of an MQTT client, also of one that asks for none.
        mqtt_keep_alive_max: Duration = Duration::from_secs(1_200),
        /// Longest time that an MQTT session outlives its connection.
        mqtt_session_expiry_max: Duration = Duration::from_secs(7 * 24 * 3600),
        /// Memory of the process above which nothing new is begun: MQTT connections are closed before
        /// TLS, and gRPC and HTTP requests that change shadows or open streams are refused as
        /// OVERLOADED, until it is below 95 % again. Above 105 % the MQTT sessions for which most is
        /// waiting are closed. 0 for no ceiling; three quarters of the memory of the machine or
        /// container is a good one.
        memory_bytes_max: ByteSize = ByteSize(0),
        /// Commands of one device that are written as one log entry.
        group_max: u32 = 128,
    }
}

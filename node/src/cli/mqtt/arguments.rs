//! The options that all commands share that speak MQTT.

use std::net::IpAddr;
use std::time::Duration;

use clap::ValueEnum;

use crate::cli::input;
use crate::cli::problem::{Exit, Problem};
use crate::config::parse_duration;
use crate::gateway::mqtt::wire::Version;

use super::{Endpoint, Settings, TlsFiles};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LinkArgs {
    /// Version of MQTT
    #[arg(long, value_enum, default_value_t, help_heading = "MQTT options")]
    protocol: Protocol,
    /// User name to show to the server
    #[arg(long, help_heading = "MQTT options")]
    username: Option<String>,
    /// Password or token to show: text, @FILE, or - for standard input
    #[arg(long, requires = "username", help_heading = "MQTT options")]
    password: Option<String>,
    /// Longest silence of the client, up to 65535s; 0s for any
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "MQTT options")]
    keep_alive: Option<Duration>,
    /// How long connecting may take [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, help_heading = "MQTT options")]
    connect_timeout: Option<Duration>,
    #[command(flatten)]
    tls: TlsFiles,
}

/// Versions of MQTT that users may choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// MQTT 3.1.1
    #[value(name = "3.1.1")]
    V311,
    /// MQTT 5
    #[default]
    #[value(name = "5")]
    V5,
}

impl LinkArgs {
    /// Settings for connections to `endpoints` from `source`, with a clean start and without a
    /// session that outlives the connection. `keep_alive` is used when the user does not say.
    pub(crate) fn settings(
        &self,
        endpoints: &[Endpoint],
        source: Option<IpAddr>,
        keep_alive: Duration,
    ) -> Result<Settings, Problem> {
        let keep_alive_s = self.keep_alive.unwrap_or(keep_alive).as_secs();
        let keep_alive_s = u16::try_from(keep_alive_s).map_err(|_| {
            Problem::new(Exit::Usage, "cannot use this --keep-alive")
                .why("MQTT has no longer one than 65535s")
                .try_this("--keep-alive 20m")
        })?;
        let is_secure = endpoints.iter().any(|endpoint| endpoint.is_secure);
        let password = self.password.as_deref();
        let password = password.map(|given| input::text(given, "--password"));
        Ok(Settings {
            version: match self.protocol {
                Protocol::V311 => Version::V311,
                Protocol::V5 => Version::V5,
            },
            clean_start: true,
            session_expiry_s: 0,
            keep_alive_s,
            username: self.username.clone(),
            // A file ends with a line feed, a password does not.
            password: password
                .transpose()?
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
            source,
            tls: is_secure.then(|| self.tls.load()).transpose()?,
            timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        })
    }

    /// The files for TLS.
    pub(crate) fn tls(&self) -> &TlsFiles {
        &self.tls
    }
}

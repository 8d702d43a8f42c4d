//! The options that all client commands share, and the connection they make.

use std::time::Duration;

use antumbra_proto::v1::ShadowKey;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use clap::Args;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::config::parse_duration;

use super::Context;
use super::output::Format;
use super::problem::{Exit, Problem};

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7400";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers may be larger than requests: a page of documents.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where and how to call.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// gRPC door of any node [env: ANTUMBRA_ENDPOINT] [default: http://127.0.0.1:7400]
    #[arg(long, value_name = "URL", help_heading = "Client options")]
    endpoint: Option<String>,
    /// Tenant to work in [env: ANTUMBRA_TENANT] [default: the caller's own]
    #[arg(long, help_heading = "Client options")]
    tenant: Option<String>,
    /// Longest time one call may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    #[arg(help_heading = "Client options")]
    timeout: Duration,
    /// How results are printed
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        help_heading = "Client options"
    )]
    output: Format,
}

/// A connection with the options of its calls.
pub(crate) struct Client {
    /// The public door.
    pub(crate) shadows: ShadowsClient<Channel>,
    /// How results are printed.
    pub(crate) format: Format,
    tenant: String,
    timeout: Duration,
}

impl ClientArgs {
    /// Connects, so that an absent server is told apart from a failed call.
    pub(crate) async fn connect(&self, context: &Context) -> Result<Client, Problem> {
        let endpoint = self.endpoint(context)?;
        let shadows = open(&endpoint, CONNECT_TIMEOUT.min(self.timeout)).await?;
        Ok(Client {
            shadows,
            format: self.output,
            tenant: self.tenant(context),
            timeout: self.timeout,
        })
    }

    /// The URL to call, from the flag, the environment or the default.
    pub(crate) fn endpoint(&self, context: &Context) -> Result<String, Problem> {
        let given = self.endpoint.as_deref().or(context.environment.endpoint());
        let given = given.unwrap_or(DEFAULT_ENDPOINT);
        match given.split_once("://") {
            None => Ok(format!("http://{given}")),
            Some(("http", _)) => Ok(given.to_owned()),
            Some(_) => Err(
                Problem::new(Exit::Usage, format!("cannot use endpoint `{given}`"))
                    .why("only plain http:// is supported by this version")
                    .try_this(format!("--endpoint {DEFAULT_ENDPOINT}")),
            ),
        }
    }

    /// The tenant to name in requests; empty means the caller's own.
    pub(crate) fn tenant(&self, context: &Context) -> String {
        let given = self.tenant.as_deref().or(context.environment.tenant());
        given.unwrap_or_default().to_owned()
    }

    /// Longest time of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        self.output
    }
}

impl Client {
    /// A request with the deadline of the command line.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// The tenant to name in requests.
    pub(crate) fn tenant(&self) -> String {
        self.tenant.clone()
    }

    /// The key of a shadow; no name means the classic one.
    pub(crate) fn key(&self, device: &str, name: Option<&str>) -> Option<ShadowKey> {
        Some(ShadowKey {
            tenant: self.tenant(),
            device_id: device.to_owned(),
            shadow_name: name.unwrap_or_default().to_owned(),
        })
    }
}

/// One connection to `endpoint`.
pub(crate) async fn open(
    endpoint: &str,
    timeout: Duration,
) -> Result<ShadowsClient<Channel>, Problem> {
    let wrong = |error| {
        Problem::new(Exit::Usage, format!("cannot use endpoint `{endpoint}`"))
            .why(error)
            .try_this(format!("--endpoint {DEFAULT_ENDPOINT}"))
    };
    let target = Endpoint::from_shared(endpoint.to_owned()).map_err(wrong)?;
    let channel = target
        .connect_timeout(timeout)
        .tcp_nodelay(true)
        .connect()
        .await;
    let channel = channel.map_err(|error| {
        Problem::new(Exit::Unavailable, format!("cannot reach {endpoint}"))
            .why(innermost(&error))
            .try_this("start a node with `antumbra dev`, or name another with --endpoint")
    })?;
    Ok(ShadowsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX))
}

/// The error that says most: transport errors wrap "connection refused" three times.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

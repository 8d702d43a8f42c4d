//! The options that all client commands share, and the connection they make.

use std::time::Duration;

use antumbra_proto::admin::v1::admin_client::AdminClient;
use antumbra_proto::cluster::v1::cluster_client::ClusterClient;
use antumbra_proto::v1::ShadowKey;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use clap::Args;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::config::parse_duration;

use super::Context;
use super::output::Format;
use super::problem::{Exit, Problem};

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7400";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time of one call, when the user does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Answers may be larger than requests: a page of documents.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where and how to call.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// gRPC door of any node, or several with commas between: the first that can be reached is used
    /// [env: ANTUMBRA_ENDPOINT] [default: http://127.0.0.1:7400]
    #[arg(long, value_name = "URL", help_heading = "Client options")]
    endpoint: Option<String>,
    /// Tenant to work in [env: ANTUMBRA_TENANT] [default: the caller's own]
    #[arg(long, help_heading = "Client options")]
    tenant: Option<String>,
    /// Token to show, as `antumbra credential create` prints it; better in the environment, where
    /// others do not see it [env: ANTUMBRA_TOKEN]
    #[arg(long, help_heading = "Client options")]
    token: Option<String>,
    /// Longest time one call may take [default: 10s; 60s for cluster verify]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    #[arg(help_heading = "Client options")]
    timeout: Option<Duration>,
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
    /// The door for backends.
    pub(crate) shadows: ShadowsClient<Channel>,
    /// The door for operators.
    pub(crate) cluster: ClusterClient<Channel>,
    /// The door for who may come in.
    pub(crate) admin: AdminClient<Channel>,
    /// How results are printed.
    pub(crate) format: Format,
    tenant: String,
    token: Option<Shown>,
    timeout: Duration,
}

/// A token as a header of a call.
pub(crate) type Shown = MetadataValue<Ascii>;

impl ClientArgs {
    /// Connects, so that an absent server is told apart from a failed call.
    pub(crate) async fn connect(&self, context: &Context) -> Result<Client, Problem> {
        self.connect_for(context, TIMEOUT).await
    }

    /// The same for calls that may take so long when the user does not say.
    pub(crate) async fn connect_for(
        &self,
        context: &Context,
        timeout: Duration,
    ) -> Result<Client, Problem> {
        let timeout = self.timeout.unwrap_or(timeout);
        let endpoints = self.endpoints(context)?;
        let channel = first(&endpoints, CONNECT_TIMEOUT.min(timeout)).await?;
        Ok(Client {
            shadows: shadows(channel.clone()),
            admin: AdminClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            cluster: ClusterClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
            format: self.output,
            tenant: self.tenant(context),
            token: self.token(context)?,
            timeout,
        })
    }

    /// The URLs to call, from the flag, the environment or the default. At least one.
    pub(crate) fn endpoints(&self, context: &Context) -> Result<Vec<String>, Problem> {
        let given = self.endpoint.as_deref().or(context.environment.endpoint());
        let given = given.unwrap_or(DEFAULT_ENDPOINT).split(',').map(str::trim);
        let given: Vec<&str> = given.filter(|endpoint| !endpoint.is_empty()).collect();
        if given.is_empty() {
            return Err(Problem::new(Exit::Usage, "no endpoint is given")
                .try_this(format!("--endpoint {DEFAULT_ENDPOINT}")));
        }
        given.into_iter().map(plain).collect()
    }

    /// The tenant to name in requests; empty means the caller's own.
    pub(crate) fn tenant(&self, context: &Context) -> String {
        let given = self.tenant.as_deref().or(context.environment.tenant());
        given.unwrap_or_default().to_owned()
    }

    /// The token to show with every call, if there is one.
    pub(crate) fn token(&self, context: &Context) -> Result<Option<Shown>, Problem> {
        let given = self.token.as_deref().or(context.environment.token());
        let header = given.map(|token| format!("Bearer {}", token.trim()).parse());
        header.transpose().map_err(|_| {
            // Not the token itself: it would end up in logs.
            Problem::new(Exit::Usage, "the token is not one line of text")
                .try_this("ANTUMBRA_TOKEN as `antumbra credential create` prints it")
        })
    }

    /// Longest time of one call.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        self.output
    }
}

impl Client {
    /// A request with the deadline of the command line.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.stream(message);
        request.set_timeout(self.timeout);
        request
    }

    /// A request without a deadline, for streams.
    pub(crate) fn stream<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        show(&mut request, self.token.as_ref());
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

/// Shows a token with a request.
pub(crate) fn show<T>(request: &mut Request<T>, token: Option<&Shown>) {
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
    }
}

/// A URL that this version can use.
fn plain(endpoint: &str) -> Result<String, Problem> {
    match endpoint.split_once("://") {
        None => Ok(format!("http://{endpoint}")),
        Some(("http", _)) => Ok(endpoint.to_owned()),
        Some(_) => Err(
            Problem::new(Exit::Usage, format!("cannot use endpoint `{endpoint}`"))
                .why("only plain http:// is supported by this version")
                .try_this(format!("--endpoint {DEFAULT_ENDPOINT}")),
        ),
    }
}

/// One connection to `endpoint`.
pub(crate) async fn open(
    endpoint: &str,
    timeout: Duration,
) -> Result<ShadowsClient<Channel>, Problem> {
    let endpoints = [endpoint.to_owned()];
    first(&endpoints, timeout).await.map(shadows)
}

/// A connection to the first endpoint that can be reached.
async fn first(endpoints: &[String], timeout: Duration) -> Result<Channel, Problem> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match reach(endpoint, timeout).await? {
            Ok(channel) => return Ok(channel),
            Err(why) => failures.push((endpoint, why)),
        }
    }
    let problem = match &failures[..] {
        [(endpoint, why)] => {
            Problem::new(Exit::Unavailable, format!("cannot reach {endpoint}")).why(why)
        }
        several => {
            let what = format!("cannot reach any of {} endpoints", several.len());
            let why = several
                .iter()
                .map(|(endpoint, why)| format!("{endpoint}: {why}"));
            Problem::new(Exit::Unavailable, what).why(why.collect::<Vec<_>>().join("\n"))
        }
    };
    Err(problem.try_this("start a node with `antumbra dev`, or name another with --endpoint"))
}

/// A connection, or why the endpoint cannot be reached; a problem when it is no endpoint at all.
async fn reach(endpoint: &str, timeout: Duration) -> Result<Result<Channel, String>, Problem> {
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
    Ok(channel.map_err(|error| innermost(&error)))
}

fn shadows(channel: Channel) -> ShadowsClient<Channel> {
    ShadowsClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// The error that says most: transport errors wrap "connection refused" three times.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use crate::config::environment::Environment;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        client: ClientArgs,
    }

    fn endpoints(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Vec<String>, Problem> {
        let context = Context {
            program: "antumbra".to_owned(),
            environment: Environment::from_pairs(environment.iter().copied()),
            color: false,
        };
        let line = Line::try_parse_from([&["test"], arguments].concat()).unwrap();
        line.client.endpoints(&context)
    }

    #[test]
    fn endpoints_are_a_list_and_the_flag_wins() {
        assert_eq!(endpoints(&[], &[]).unwrap(), [DEFAULT_ENDPOINT]);
        let environment = [("ANTUMBRA_ENDPOINT", "a:1, http://b:2,")];
        assert_eq!(
            endpoints(&[], &environment).unwrap(),
            ["http://a:1", "http://b:2"]
        );
        let flag = ["--endpoint", "c:3"];
        assert_eq!(endpoints(&flag, &environment).unwrap(), ["http://c:3"]);
        assert!(endpoints(&["--endpoint", ","], &[]).is_err());
        assert!(endpoints(&["--endpoint", "a:1,https://b:2"], &[]).is_err());
    }
}

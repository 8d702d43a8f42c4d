//! The options that all client commands share, and the connection they make.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use antumbra_proto::admin::v1::admin_client::AdminClient;
use antumbra_proto::cluster::v1::cluster_client::ClusterClient;
use antumbra_proto::v1::ShadowKey;
use antumbra_proto::v1::shadows_client::ShadowsClient;
use axum::http::Uri;
use clap::Args;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::config::parse_duration;

use super::Context;
use super::output::Format;
use super::problem::{Exit, Problem};
use super::tls::TlsArgs;

const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7400";
const SECURE: &str = "https://";
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
    #[command(flatten)]
    tls: TlsArgs,
    /// Longest time one call may take [default: 10s; 60s for cluster verify and snapshot restore]
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
        let dialer = Dialer::new(&endpoints, &self.tls, CONNECT_TIMEOUT.min(timeout), context)?;
        let channel = first(&endpoints, &dialer).await?;
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
        given.into_iter().map(url).collect()
    }

    /// The same options for another endpoint, reached as securely as the first one given.
    pub(crate) fn at(&self, address: &str, context: &Context) -> Result<ClientArgs, Problem> {
        let first = self.endpoints(context)?.into_iter().next();
        let is_secure = first.is_some_and(|first| first.starts_with(SECURE));
        let scheme = if is_secure { SECURE } else { "http://" };
        Ok(ClientArgs {
            endpoint: Some(format!("{scheme}{address}")),
            ..self.clone()
        })
    }

    /// The tenant to name in requests; empty means the caller's own.
    pub(crate) fn tenant(&self, context: &Context) -> String {
        let given = self.tenant.as_deref().or(context.environment.tenant());
        given.unwrap_or_default().to_owned()
    }

    /// The token to show with every call, if there is one.
    pub(crate) fn token(&self, context: &Context) -> Result<Option<Shown>, Problem> {
        let given = self.token.as_deref().or(context.environment.token());
        given.map(shown).transpose()
    }

    /// How to connect to these endpoints within the longest time of one call.
    pub(crate) fn dialer(
        &self,
        endpoints: &[String],
        context: &Context,
    ) -> Result<Dialer, Problem> {
        Dialer::new(endpoints, &self.tls, self.timeout(), context)
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

/// How endpoints are reached: over TLS where the URL says so.
pub(crate) struct Dialer {
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

impl Dialer {
    /// Reads the files for TLS when one of the endpoints needs them. Connecting may take so long.
    pub(crate) fn new(
        endpoints: &[String],
        tls: &TlsArgs,
        timeout: Duration,
        context: &Context,
    ) -> Result<Dialer, Problem> {
        let is_secure = |endpoint: &String| endpoint.starts_with(SECURE);
        let tls = endpoints.iter().any(is_secure).then(|| tls.load(context));
        Ok(Dialer {
            tls: tls.transpose()?,
            timeout,
        })
    }
}

/// A token as it is shown.
pub(crate) fn shown(token: &str) -> Result<Shown, Problem> {
    format!("Bearer {}", token.trim()).parse().map_err(|_| {
        // Not the token itself: it would end up in logs.
        Problem::new(Exit::Usage, "the token is not one line of text")
            .try_this("ANTUMBRA_TOKEN as `antumbra credential create` prints it")
    })
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
pub(crate) fn url(endpoint: &str) -> Result<String, Problem> {
    match endpoint.split_once("://") {
        None => Ok(format!("http://{endpoint}")),
        Some(("http" | "https", _)) => Ok(endpoint.to_owned()),
        Some(_) => Err(
            Problem::new(Exit::Usage, format!("cannot use endpoint `{endpoint}`"))
                .why("gRPC is spoken over http:// or https://")
                .try_this(format!("--endpoint {DEFAULT_ENDPOINT}")),
        ),
    }
}

/// One connection to `endpoint`.
pub(crate) async fn open(
    endpoint: &str,
    dialer: &Dialer,
) -> Result<ShadowsClient<Channel>, Problem> {
    let endpoints = [endpoint.to_owned()];
    first(&endpoints, dialer).await.map(shadows)
}

/// A connection to the first endpoint that can be reached.
async fn first(endpoints: &[String], dialer: &Dialer) -> Result<Channel, Problem> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match reach(endpoint, dialer).await? {
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
    Err(problem.try_this(match &dialer.tls {
        Some(_) => {
            "an --endpoint that the certificate of the server names, and the --tls-authority that \
             signed it"
        }
        None => "start a node with `antumbra dev`, or name another with --endpoint",
    }))
}

/// A connection, or why the endpoint cannot be reached; a problem when it is no endpoint at all.
async fn reach(endpoint: &str, dialer: &Dialer) -> Result<Result<Channel, String>, Problem> {
    let wrong = |error| {
        Problem::new(Exit::Usage, format!("cannot use endpoint `{endpoint}`"))
            .why(error)
            .try_this(format!("--endpoint {DEFAULT_ENDPOINT}"))
    };
    let target = Endpoint::from_shared(endpoint.to_owned()).map_err(wrong)?;
    let target = target.connect_timeout(dialer.timeout).tcp_nodelay(true);
    let channel = match &dialer.tls {
        Some(config) if endpoint.starts_with(SECURE) => {
            let config = Arc::clone(config);
            let connector = service_fn(move |url: Uri| secure(Arc::clone(&config), url));
            target.connect_with_connector(connector).await
        }
        _ => target.connect().await,
    };
    Ok(channel.map_err(|error| innermost(&error)))
}

/// A connection over TLS to a server whose certificate names the host of the URL.
async fn secure(config: Arc<ClientConfig>, url: Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    // An IPv6 address stands there in brackets.
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(TokioIo::new(stream))
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

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> (ClientArgs, Context) {
        let context = Context {
            program: "antumbra".to_owned(),
            environment: Environment::from_pairs(environment.iter().copied()),
            color: false,
        };
        let line = Line::try_parse_from([&["test"], arguments].concat()).unwrap();
        (line.client, context)
    }

    fn endpoints(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Vec<String>, Problem> {
        let (client, context) = parse(arguments, environment);
        client.endpoints(&context)
    }

    /// A URL with TLS needs an authority, from a flag or the environment; others need no file.
    #[test]
    fn https_needs_an_authority() {
        let dial = |endpoint: &str, environment: &[(&str, &str)]| {
            let (client, context) = parse(&["--tls-key", "key"], environment);
            let dialer = client.dialer(&[endpoint.to_owned()], &context);
            dialer.err().map(|problem| problem.render(false))
        };
        assert_eq!(dial("http://a:1", &[]), None);
        let missing = dial("https://a:1", &[]).unwrap();
        assert!(missing.contains("--tls-authority"), "{missing}");
        let authority = ("ANTUMBRA_TLS_AUTHORITY", "/no/such/file");
        let alone = dial("https://a:1", &[authority]).unwrap();
        assert!(alone.contains("go together"), "{alone}");
        let certificate = ("ANTUMBRA_TLS_CERTIFICATE", "certificate");
        let absent = dial("https://a:1", &[authority, certificate]).unwrap();
        assert!(absent.contains("/no/such/file"), "{absent}");
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
        assert!(endpoints(&["--endpoint", "a:1,mqtt://b:2"], &[]).is_err());
    }
}

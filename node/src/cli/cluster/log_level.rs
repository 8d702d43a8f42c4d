//! `antumbra cluster log-level [FILTER]`.

use antumbra_proto::cluster::v1::{NodeLogFilter, SetLogFilterRequest};
use antumbra_shadow::json::Value;
use tonic::Code;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value, string, table};
use crate::cli::problem::{Exit, Problem};

/// Change what nodes write into their logs, or show it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples: antumbra cluster log-level warn
          antumbra cluster log-level --node node-2 info,openraft=warn
A node that is started again logs by `telemetry.log_filter`. A program built for release has no finer
level than info.")]
pub(crate) struct Args {
    /// Levels (off, error, warn, info, debug, trace) and TARGET=LEVEL, separated by commas; without it
    /// what is in force is shown
    filter: Option<String>,
    /// Name of the node; all of them without it
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    if args.filter.as_deref() == Some("") {
        return Err(Problem::new(Exit::Usage, "cannot set an empty filter")
            .try_this("`antumbra cluster log-level off` to log nothing"));
    }
    let mut client = args.client.connect(context).await?;
    let request = client.request(SetLogFilterRequest {
        node: args.node.clone().unwrap_or_default(),
        filter: args.filter.clone().unwrap_or_default(),
    });
    let answer = client.cluster.set_log_filter(request).await;
    let answer = answer.map_err(|status| {
        let problem = Problem::from_status("cannot change the log filter", &status);
        match status.code() {
            Code::InvalidArgument => problem.try_this("a filter such as info,openraft=error"),
            _ => problem,
        }
    })?;
    let nodes = answer.into_inner().nodes;
    let value = object([("nodes", Value::Array(nodes.iter().map(value).collect()))]);
    print_value(client.format, &value, || text(&nodes));
    match nodes.iter().find(|node| !node.reason.is_empty()) {
        None => Ok(()),
        Some(node) => {
            let what = format!("{} does not say what it logs", node.node);
            Err(Problem::new(Exit::Failure, what)
                .why(&node.reason)
                .try_this("it again; it changes nothing where it is done"))
        }
    }
}

fn value(node: &NodeLogFilter) -> Value {
    object([
        ("node", string(node.node.clone())),
        ("filter", string(node.filter.clone())),
        ("finest_level", string(node.finest_level.clone())),
        ("reason", string(node.reason.clone())),
    ])
}

fn text(nodes: &[NodeLogFilter]) -> String {
    let row = |node: &NodeLogFilter| {
        let filter = match node.reason.is_empty() {
            true => node.filter.clone(),
            false => node.reason.clone(),
        };
        vec![node.node.clone(), filter, node.finest_level.clone()]
    };
    table(
        &["node", "log filter", "finest level"],
        nodes.iter().map(row),
    )
}

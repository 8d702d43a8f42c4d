//! `antumbra cluster drain|resume|decommission NODE`.

use antumbra_proto::cluster::v1::{
    DecommissionRequest, DrainRequest, GetStatusResponse, Node, NodeLife, ResumeRequest,
};
use tonic::Code;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::problem::Problem;

use super::waiting::{Goal, Seen, show, wait};

/// Prepare a node for being stopped for a while
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Other nodes lead its shards, and it gets no new replicas; it keeps those that it has. One node at a time
is in maintenance. Waits until it leads nothing; to stop waiting stops nothing.
Example: antumbra cluster drain node-2 && systemctl restart antumbra && antumbra cluster resume node-2")]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    common: Common,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

/// Let a node stay that was drained or is leaving
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: antumbra cluster resume node-2")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    common: Common,
}

/// Send a node away for good
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Its replicas move to other nodes while they serve; then it has left, and its process ends by itself.
Until the last replica has moved, `antumbra cluster resume` takes it back. Refused when fewer nodes would be
left than there are replicas of a shard. Waits until it has left; to stop waiting stops nothing.
Example: antumbra cluster decommission node-5 --dry-run")]
pub(crate) struct DecommissionArgs {
    #[command(flatten)]
    common: Common,
    /// Do not wait until it has left
    #[arg(long)]
    no_wait: bool,
}

/// What the three have in common.
#[derive(Debug, clap::Args)]
struct Common {
    /// Name of the node
    node: String,
    /// Say what would happen, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn drain(args: &DrainArgs, context: &Context) -> Result<(), Problem> {
    let common = &args.common;
    let mut client = common.client.connect(context).await?;
    let request = client.request(DrainRequest {
        node: common.node.clone(),
        dry_run: common.dry_run,
    });
    let answer = client.cluster.drain(request).await;
    let answer = answer.map_err(|status| refused("drain", &common.node, &status))?;
    show(&client, &answer.into_inner().steps, common.dry_run);
    if common.dry_run || args.no_wait {
        return Ok(());
    }
    let name = common.node.clone();
    let goal = Goal {
        what: format!("{name} gives its leads away"),
        done: format!("{name} leads nothing: it can be stopped"),
        left: Box::new(move |status| {
            left(status, &name, NodeLife::Draining, |node| node.leaderships)
        }),
    };
    wait(&mut client, context, goal).await
}

pub(crate) async fn resume(args: &ResumeArgs, context: &Context) -> Result<(), Problem> {
    let common = &args.common;
    let mut client = common.client.connect(context).await?;
    let request = client.request(ResumeRequest {
        node: common.node.clone(),
        dry_run: common.dry_run,
    });
    let answer = client.cluster.resume(request).await;
    let answer = answer.map_err(|status| refused("resume", &common.node, &status))?;
    show(&client, &answer.into_inner().steps, common.dry_run);
    Ok(())
}

pub(crate) async fn decommission(
    args: &DecommissionArgs,
    context: &Context,
) -> Result<(), Problem> {
    let common = &args.common;
    let mut client = common.client.connect(context).await?;
    let request = client.request(DecommissionRequest {
        node: common.node.clone(),
        dry_run: common.dry_run,
    });
    let answer = client.cluster.decommission(request).await;
    let answer = answer.map_err(|status| refused("decommission", &common.node, &status))?;
    show(&client, &answer.into_inner().steps, common.dry_run);
    if common.dry_run || args.no_wait {
        return Ok(());
    }
    let name = common.node.clone();
    let goal = Goal {
        what: format!("{name} gives its replicas away"),
        done: format!("{name} has left the cluster"),
        left: Box::new(move |status| left(status, &name, NodeLife::Leaving, |node| node.replicas)),
    };
    wait(&mut client, context, goal).await
}

/// What is left to do with a node; a node that is not listed has nothing. One that is not in this part of
/// its life any more was called back by somebody else.
fn left(status: &GetStatusResponse, name: &str, life: NodeLife, of: impl Fn(&Node) -> u32) -> Seen {
    let node = status.nodes.iter().find(|node| node.name == name);
    match node {
        None => Seen::Left(0),
        Some(node) if node.life() != life => Seen::NotBegun,
        // It has left when it is not listed any more.
        Some(node) if life == NodeLife::Leaving => Seen::Left(of(node).max(1)),
        Some(node) => Seen::Left(of(node)),
    }
}

fn refused(verb: &str, node: &str, status: &tonic::Status) -> Problem {
    let problem = Problem::from_status(format!("cannot {verb} {node}"), status);
    match status.code() {
        Code::InvalidArgument | Code::Unavailable => {
            problem.try_this("`antumbra cluster nodes` to see them all and who is in maintenance")
        }
        Code::FailedPrecondition => {
            problem.try_this("docs/cluster.md: `cluster.membership` says who decides")
        }
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that somebody took back is not one that has left.
    #[test]
    fn what_is_left_is_told_from_what_was_called_off() {
        let status = |life: NodeLife, replicas| GetStatusResponse {
            nodes: vec![Node {
                name: "node-1".into(),
                life: life.into(),
                replicas,
                ..Node::default()
            }],
            ..GetStatusResponse::default()
        };
        let seen = |status: &GetStatusResponse| {
            left(status, "node-1", NodeLife::Leaving, |node| node.replicas)
        };
        assert_eq!(seen(&status(NodeLife::Leaving, 3)), Seen::Left(3));
        assert_eq!(seen(&status(NodeLife::Leaving, 0)), Seen::Left(1));
        assert_eq!(seen(&status(NodeLife::Active, 3)), Seen::NotBegun);
        assert_eq!(seen(&GetStatusResponse::default()), Seen::Left(0));
    }
}

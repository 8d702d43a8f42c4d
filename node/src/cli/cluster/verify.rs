//! `antumbra cluster verify [SHARD…]`.

use std::time::Duration;

use antumbra_proto::cluster::v1::{ShardVerification, VerifyRequest};

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{object, print_value};
use crate::cli::problem::{Exit, Problem};

use super::render;

/// It reads all data once.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Compare the replicas of shards while they go on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every replica keeps its state at one index of the log and takes a checksum of it. Ends with 0 when
all replicas of all shards are equal, with 8 when two differ, with 5 when one could not be compared.")]
pub(crate) struct Args {
    /// Numbers of the shards; none means all of them
    shards: Vec<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect_for(context, TIMEOUT).await?;
    let request = client.request(VerifyRequest {
        shards: args.shards.clone(),
    });
    let answer = client.cluster.verify(request).await;
    let answer = answer.map_err(|status| {
        let problem = Problem::from_status("cannot compare the replicas", &status);
        match status.code() {
            tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
                problem.try_this("a longer --timeout, or one shard at a time")
            }
            _ => problem,
        }
    })?;
    let shards = answer.into_inner().shards;
    let value = object([("shards", render::verification_value(&shards))]);
    print_value(client.format, &value, || render::verification_text(&shards));
    judge(&shards)
}

/// The exit code: a difference is worse than a replica that could not be asked.
fn judge(shards: &[ShardVerification]) -> Result<(), Problem> {
    let with = |equal: Option<bool>| -> Vec<String> {
        let shards = shards.iter().filter(|shard| shard.equal == equal);
        shards.map(|shard| shard.shard.to_string()).collect()
    };
    let (differ, incomplete) = (with(Some(false)), with(None));
    if !differ.is_empty() {
        return Err(Problem::new(Exit::Damaged, "replicas differ")
            .why(format!("shards: {}", differ.join(", ")))
            .try_this("keep the data directories of these nodes and report it"));
    }
    if !incomplete.is_empty() {
        return Err(
            Problem::new(Exit::Unavailable, "not every replica could be compared")
                .why(format!("shards: {}", incomplete.join(", ")))
                .try_this("again when `antumbra cluster status` says that all nodes answer"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts branch on the exit code; only complete equality is success.
    #[test]
    fn exit_code_tells_equal_different_and_incomplete() {
        let exit = |equals: &[Option<bool>]| {
            let shards: Vec<_> = equals
                .iter()
                .map(|equal| ShardVerification {
                    equal: *equal,
                    ..ShardVerification::default()
                })
                .collect();
            judge(&shards).err().map(|problem| problem.exit())
        };
        assert_eq!(exit(&[Some(true), Some(true)]), None);
        assert_eq!(exit(&[Some(true), None]), Some(Exit::Unavailable));
        assert_eq!(exit(&[None, Some(false)]), Some(Exit::Damaged));
    }
}

//! `antumbra prestop`: waits until the node beside it may be stopped.
//!
//! Kubernetes runs it in the pod before it stops the node. It changes nothing and only waits, in one case: the node
//! leaves the cluster for good. Whatever goes wrong, the node is stopped rather than held up; nothing is lost then,
//! because its data stay and the others go on without it.

mod door;
mod patience;

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::block_on;
use super::problem::Problem;

use door::Door;
use patience::{Heard, Patience, Step};

/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);
/// The node asks the API of Kubernetes before it answers, for which it waits two seconds at most, and which takes
/// four at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// Wait until the node of this pod may be stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "\
For `lifecycle.preStop` of a pod. A node that leaves the cluster for good has to run until its replicas have moved:
waits until it has left. In every other case it ends at once, with 0, and SIGTERM stops the node in good order;
so it does when the node has not answered for 10 seconds.")]
pub(crate) struct Args {
    /// HTTP door of the node; with https:// on the loopback interface its certificate is not checked
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7480")]
    endpoint: String,
}

pub(crate) fn run(args: &Args) -> Result<(), Problem> {
    let door = Door::parse(&args.endpoint)?;
    block_on(async {
        wait(&door).await;
        Ok(())
    })
}

async fn wait(door: &Door) {
    let (mut patience, mut said) = (Patience::default(), String::new());
    loop {
        let asked = timeout(ANSWER_TIMEOUT, door.ask()).await;
        let heard = asked.unwrap_or_else(|_| Heard::Silence("it takes too long".to_owned()));
        let step = patience.next(Instant::now(), heard);
        let (Step::Wait(text) | Step::Stop(text)) = &step;
        if *text != said {
            // The kubelet shows it when the hook fails; nobody has to listen.
            let _ = writeln!(io::stderr(), "{text}");
            said.clone_from(text);
        }
        match step {
            Step::Wait(_) => sleep(PAUSE).await,
            Step::Stop(_) => return,
        }
    }
}

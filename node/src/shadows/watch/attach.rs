//! Tells the node that a shard is followed on what this gateway wants of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use antumbra_raft::{HashRange, Node};
use tokio_util::task::AbortOnDropHandle;

use crate::shadows::Shadows;
use crate::shadows::attached::{AttachRequest, STEPS_MAX, is_taken};
use crate::shadows::wanted::{Step, Told, Wanted};

/// How long an answer may take: it needs no disk and no other node.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Tells what is wanted as long as one stream lasts.
pub(super) struct Attaching {
    task: AbortOnDropHandle<String>,
    /// Kept until nothing is read from the stream any more. From then on it counts as one that leaves
    /// nothing out, because the next one begins where this one was read to.
    _told: Arc<Told>,
}

impl Attaching {
    /// Begins to tell; the stream has begun.
    pub(super) fn start(
        shadows: &Shadows,
        wanted: &Arc<Wanted>,
        node: &Node,
        (stream, range): (u64, HashRange),
    ) -> Attaching {
        let (told, all) = wanted.begin(stream, range);
        let told = Arc::new(told);
        let attacher = Attacher {
            shadows: shadows.clone(),
            wanted: Arc::clone(wanted),
            node: node.clone(),
            stream,
        };
        let telling = Arc::clone(&told);
        let task = tokio::spawn(async move {
            match attacher.run(&telling, all).await {
                Ok(never) => match never {},
                Err(why) => why,
            }
        });
        Attaching {
            task: AbortOnDropHandle::new(task),
            _told: told,
        }
    }

    /// Resolves when the node cannot be told any more, and says why: the stream has to begin anew. May
    /// be dropped midway.
    pub(super) async fn over(&mut self) -> String {
        match (&mut self.task).await {
            Ok(why) => why,
            Err(error) => error.to_string(),
        }
    }
}

struct Attacher {
    shadows: Shadows,
    wanted: Arc<Wanted>,
    node: Node,
    stream: u64,
}

impl Attacher {
    /// Tells all, then every step.
    async fn run(&self, told: &Told, all: Vec<Step>) -> Result<Infallible, String> {
        for chunk in all.chunks(STEPS_MAX) {
            self.tell(chunk.to_vec(), false).await?;
        }
        drop(all);
        self.tell(Vec::new(), true).await?;
        loop {
            let next = told.next(STEPS_MAX);
            let (steps, upto) = next.ok_or("too much has changed in what is wanted")?;
            if !steps.is_empty() {
                self.tell(steps, false).await?;
            }
            told.knows(upto);
            self.wanted.more_than(upto).await;
        }
    }

    async fn tell(&self, steps: Vec<Step>, is_whole: bool) -> Result<(), String> {
        let request = AttachRequest {
            stream: self.stream,
            steps,
            is_whole,
        };
        let peers = &self.shadows.inner.peers;
        let answer = peers.forward(&self.node, request.encode(), ANSWER_TIMEOUT);
        match answer.await {
            Ok(answer) if is_taken(&answer) => Ok(()),
            Ok(_) => Err("the node does not know the stream".to_owned()),
            Err(error) => Err(format!("tell what is wanted: {error}")),
        }
    }
}

//! A simulated cluster, and what is done to it.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use super::admission::Denial;
use super::controller::budget::Answer;
use super::controller::stateful_set::Generation;
use super::manifest::Manifests;
use super::node::{Ending, Node};
use super::world::World;
use crate::chaos::network;

/// Between two turns of the controllers.
const TURN: Duration = Duration::from_millis(50);
/// Between two looks of somebody who waits.
const LOOK: Duration = Duration::from_millis(50);
/// Begins the names of the directories of simulations; the process id follows.
const DIRECTORY: &str = "antumbra-kubesim-";
/// Of a log, so much is shown.
const LOG_BYTES_MAX: usize = 4000;

/// How to make a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that all images have in them.
    pub binary: PathBuf,
    /// Images that can be pulled.
    pub images: BTreeSet<String>,
    /// The namespace that everything is in.
    pub namespace: String,
    /// Periods, delays and graces of Kubernetes are divided by it; the program keeps its own times.
    pub time_scale: f64,
    /// How this Kubernetes updates StatefulSets.
    pub generation: Generation,
    /// Zones that hosts are in, by turns. Pods are not told of zones when there are none.
    pub zones: Vec<String>,
}

/// A cluster. Everything of it is gone when it is dropped. Needs root.
pub struct Simulation {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

struct Shared {
    world: Mutex<World>,
    /// What ended the controllers.
    problem: Mutex<Option<String>>,
    is_ending: AtomicBool,
}

/// A pod as `kubectl get pod` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its address, which the next pod of that name does not have.
    pub address: Ipv4Addr,
    /// The revision of its template.
    pub revision: String,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Whether it was deleted and has not ended.
    pub is_terminating: bool,
    /// How often its container was started again.
    pub restarts: u32,
    /// How often its image could not be pulled.
    pub failed_pulls: u32,
}

impl View {
    fn of(node: &Node) -> View {
        View {
            name: node.pod.name.clone(),
            address: node.identity.address,
            revision: node.pod.revision.clone(),
            is_ready: node.pod.ready_since.is_some(),
            is_terminating: node.pod.is_terminating,
            restarts: node.restarts(),
            failed_pulls: node.failed_pulls(),
        }
    }
}

/// Sees the pods of a Service for as long as the simulation is there.
#[derive(Clone)]
pub(super) struct Pods {
    shared: Arc<Shared>,
    service: String,
}

impl Pods {
    /// Whether there is no simulation any more.
    pub(super) fn are_over(&self) -> bool {
        self.shared.is_ending.load(Ordering::Relaxed)
    }

    /// The addresses of the pods that a Service leads to.
    pub(super) fn ready(&self) -> Vec<Ipv4Addr> {
        let world = self.shared.world.lock().expect("controllers do not panic");
        world.served_by(&self.service)
    }
}

impl Simulation {
    /// Makes an empty cluster, after removing what killed runs left behind.
    pub fn start(options: Options) -> Result<Simulation> {
        network::remove_leftovers()?;
        remove_leftovers()?;
        let prefix = format!("{DIRECTORY}{}-", process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let shared = Arc::new(Shared {
            world: Mutex::new(World::create(options, directory.path())?),
            problem: Mutex::new(None),
            is_ending: AtomicBool::new(false),
        });
        let turning = Arc::clone(&shared);
        // Containers live as long as the thread that starts them.
        let thread = thread::spawn(move || turning.run());
        Ok(Simulation {
            shared,
            thread: Some(thread),
            _directory: directory,
        })
    }

    /// As `helm install` and `helm upgrade`, with what `helm template` printed. The denial, if the
    /// API refuses it; nothing is changed then.
    pub fn apply(&self, manifests: &str) -> Result<Option<Denial>> {
        let manifests = Manifests::parse(manifests)?;
        self.world()?.apply(manifests)
    }

    /// As `kubectl apply` with the Secrets that no chart has, and their namespace. The kubelet brings those that have
    /// changed to the pods that mount them, at once.
    pub fn add_secrets(&self, manifests: &str) -> Result<()> {
        let Manifests {
            secrets,
            namespaces,
            ..
        } = Manifests::parse(manifests)?;
        ensure!(!secrets.is_empty(), "no Secrets in {namespaces:?}");
        self.world()?.add_secrets(secrets)
    }

    /// An image can be pulled from now on.
    pub fn push(&self, image: &str) -> Result<()> {
        self.world()?.push(image);
        Ok(())
    }

    /// As `kubectl scale statefulset`. The denial, if the API refuses it.
    pub fn scale(&self, set: &str, replicas: u32) -> Result<Option<Denial>> {
        self.world()?.scale(set, replicas)
    }

    /// As `kubectl drain` does with a pod: deletes it if its budget allows.
    pub fn evict(&self, pod: &str) -> Result<Answer> {
        self.world()?.evict(pod)
    }

    /// As `kubectl delete pod`: asks it to end, with its hook and its grace.
    pub fn delete(&self, pod: &str) -> Result<()> {
        self.world()?.delete(pod)
    }

    /// SIGKILL to the container of a pod. The pod stays, and starts it again.
    pub fn kill(&self, pod: &str) -> Result<()> {
        self.world()?.kill(pod)
    }

    /// Kills the container of a pod, and empties its volumes before it is started again.
    pub fn lose_volume(&self, pod: &str) -> Result<()> {
        self.world()?.lose_volume(pod)
    }

    /// As `helm uninstall`: everything goes but volumes.
    pub fn uninstall(&self) -> Result<()> {
        self.world()?.uninstall()
    }

    /// All pods, by name.
    pub fn pods(&self) -> Result<Vec<View>> {
        Ok(self.world()?.nodes().map(View::of).collect())
    }

    /// Names of all volumes.
    pub fn claims(&self) -> Result<BTreeSet<String>> {
        Ok(self.world()?.claims().clone())
    }

    /// All ends of containers so far, in their order.
    pub fn endings(&self) -> Result<Vec<Ending>> {
        Ok(self.world()?.endings().to_vec())
    }

    /// Everything that the pods of a name printed, and the commands that were run in them.
    pub fn log(&self, pod: &str) -> String {
        let world = self.shared.world.lock().expect("controllers do not panic");
        let log = fs::read(world.log(pod)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until the pods are as `condition` wants them, and fails showing them and the ends of
    /// their logs when `limit` has passed.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&[View]) -> Option<T>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            let pods = self.pods()?;
            if let Some(value) = condition(&pods) {
                return Ok(value);
            }
            if started.elapsed() > limit {
                let end = |pod: &View| {
                    let log = self.log(&pod.name);
                    let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_BYTES_MAX));
                    format!("── {}\n{}", pod.name, &log[from..])
                };
                let logs: Vec<String> = pods.iter().map(end).collect();
                let (endings, logs) = (self.endings()?, logs.join("\n"));
                bail!("{what}: not within {limit:?}: {pods:#?}\n{endings:#?}\n{logs}");
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until there are exactly these pods and all are ready.
    pub fn until_ready(&self, names: &[&str], limit: Duration) -> Result<()> {
        self.until(&format!("{names:?} are ready"), limit, |pods| {
            let all = pods
                .iter()
                .map(|pod| pod.name.as_str())
                .eq(names.iter().copied());
            let ready = |pod: &View| pod.is_ready && !pod.is_terminating;
            (all && pods.iter().all(ready)).then_some(())
        })
    }

    /// Sees the pods of a Service, as long as the simulation is there.
    pub(super) fn watch(&self, service: &str) -> Pods {
        Pods {
            shared: Arc::clone(&self.shared),
            service: service.to_owned(),
        }
    }

    fn world(&self) -> Result<MutexGuard<'_, World>> {
        let problem = self.shared.problem.lock().expect("nobody panics with it");
        if let Some(problem) = problem.as_ref() {
            bail!("the controllers have ended: {problem}");
        }
        drop(problem);
        Ok(self.shared.world.lock().expect("controllers do not panic"))
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    /// Turns until the end, and ends all pods then.
    fn run(&self) {
        while !self.is_ending.load(Ordering::Relaxed) {
            let turned = self.world.lock().expect("verbs do not panic").turn();
            if let Err(error) = turned {
                let mut problem = self.problem.lock().expect("nobody panics with it");
                *problem = Some(format!("{error:#}"));
                break;
            }
            thread::sleep(TURN);
        }
        self.world.lock().expect("verbs do not panic").end();
    }
}

/// Removes the directories of killed runs.
fn remove_leftovers() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let owner = name
            .strip_prefix(DIRECTORY)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(network::is_gone) {
            fs::remove_dir_all(&path).ok();
        }
    }
    Ok(())
}

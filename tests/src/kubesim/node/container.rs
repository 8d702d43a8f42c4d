//! One process with a network, a host name and a file system of its own.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::chaos::command;
use crate::kubesim::image::LAUNCHER;
use crate::kubesim::pod::Launch;

/// Where container runtimes look for programs unless the image says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs in the namespaces of the container: mounts, and becomes the program. Its arguments are the
/// root, the host name, the access to the root, then for each mount what, where and how, `--`, and
/// the arguments of the launcher.
const SETUP: &str = r#"set -e
root=$1 host=$2 access=$3
shift 3
hostname "$host"
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  mount --bind "$1" "$root$2"
  [ "$3" != ro ] || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
mount --rbind /proc "$root/proc"
[ "$access" != ro ] || mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"#;

/// Where a container runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its root file system.
    pub root: PathBuf,
    /// File of its network namespace.
    pub namespace: PathBuf,
    /// Its host name.
    pub host_name: String,
    /// What is mounted, and where in its file system.
    pub mounts: Vec<Bind>,
    /// Everything it prints is added to this file.
    pub log: PathBuf,
}

/// A file or directory that is seen at another place, too.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Where it is.
    pub source: PathBuf,
    /// Where it is seen.
    pub target: PathBuf,
    /// Whether it is read-only there.
    pub is_read_only: bool,
}

/// A running container. Killed when dropped, and by the kernel when the thread that started it ends.
pub struct Container {
    child: Child,
    launch: Launch,
    place: Place,
}

impl Container {
    /// Starts a container.
    pub fn start(place: &Place, launch: &Launch) -> Result<Container> {
        // Each program becomes the next one: the process id stays the same to the end.
        let mut start = Command::new("setpriv");
        start
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={}", place.namespace.display()))
            .args(["unshare", "--mount", "--uts", "sh", "-c", SETUP, "sh"])
            .args([place.root.as_os_str(), place.host_name.as_ref()])
            .arg(access(launch.has_read_only_root));
        for bind in &place.mounts {
            start
                .args([&bind.source, &bind.target])
                .arg(access(bind.is_read_only));
        }
        start.args(["--", LAUNCHER]).args(rights(launch));
        let child = begin(start, &launch.command, place, launch)?;
        Ok(Container {
            child,
            launch: launch.clone(),
            place: place.clone(),
        })
    }

    /// Starts a command in the container. It is killed when the thread that started it ends.
    pub fn exec(&self, words: &[String]) -> Result<Child> {
        let mut start = Command::new("setpriv");
        start
            .args(["--pdeathsig", "KILL", "nsenter", "--target"])
            .arg(self.child.id().to_string())
            .args(["--mount", "--net", "--uts", "--root", "--wd", LAUNCHER])
            .args(rights(&self.launch));
        begin(start, words, &self.place, &self.launch)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        command::run("kill", &["-s", "TERM", &self.child.id().to_string()])?;
        Ok(())
    }

    /// SIGKILL. Its end is seen by [`Container::ended`].
    pub fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn begin(mut start: Command, words: &[String], place: &Place, launch: &Launch) -> Result<Child> {
    let log = open(&place.log)?;
    start
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/")
        .env("HOSTNAME", &place.host_name)
        .envs(launch.environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log));
    start.spawn().with_context(|| format!("start {words:?}"))
}

fn open(log: &Path) -> Result<std::fs::File> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).open(log);
    opened.with_context(|| log.display().to_string())
}

fn access(is_read_only: bool) -> &'static str {
    if is_read_only { "ro" } else { "rw" }
}

/// Arguments of the launcher: the user and its groups, and no rights besides.
fn rights(launch: &Launch) -> Vec<String> {
    let Launch {
        user,
        group,
        volume_group,
        ..
    } = launch;
    vec![
        format!("--reuid={user}"),
        format!("--regid={group}"),
        format!("--groups={group},{volume_group}"),
        "--no-new-privs".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--bounding-set=-all".to_owned(),
        "--pdeathsig=KILL".to_owned(),
    ]
}

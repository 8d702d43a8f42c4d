//! Power cuts: what was not synced is gone, on one node or on all at the same moment.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Harm;
use crate::chaos::cluster::Cluster;

/// Written and never synced: it must be gone afterwards.
const UNSYNCED: &str = "never synced";

/// Once a line is read: stops the processes and shuts down the file systems under them, all within a
/// moment. A system call that is under way goes on, a sync too, but its process never hears of the
/// result. In Python, because ioctls and signals from Rust would need unsafe code.
const CUT: &str = "import fcntl, os, signal, struct, sys
half = len(sys.argv) // 2
disks = [os.open(path, os.O_RDONLY) for path in sys.argv[1:half + 1]]
processes = [int(process) for process in sys.argv[half + 1:]]
flags = struct.pack('I', 2)
print('ready', flush=True)
sys.stdin.readline()
for process in processes:
    os.kill(process, signal.SIGSTOP)
for disk in disks:
    fcntl.ioctl(disk, 0x8004587D, flags)
";

/// The power of some nodes is cut at once and comes back later. Nothing that a node has not yet said
/// at the moment of the cut is ever said; then nobody hears of it at all, not even that it is gone.
pub(super) struct Power {
    victims: Vec<usize>,
    /// What must be lost.
    unsynced: Vec<PathBuf>,
    cut: bool,
    lost: usize,
}

impl Power {
    pub(super) fn new(victims: Vec<usize>) -> Power {
        Power {
            victims,
            unsynced: Vec::new(),
            cut: false,
            lost: 0,
        }
    }

    fn cut(&self, cluster: &mut Cluster) -> Result<()> {
        let mut command = Command::new("python3");
        command.args(["-c", CUT]);
        for node in &self.victims {
            command.arg(cluster.disk(*node)?.path());
        }
        for node in &self.victims {
            command.arg(cluster.process(*node)?.id().to_string());
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut cutter = command.spawn().context("start python3")?;
        let (go, ready) = (cutter.stdin.take(), cutter.stdout.take());
        let ready = ready.context("stdout is piped")?;
        BufReader::new(ready).read_line(&mut String::new())?;
        // When it could not get ready, its end says why.
        go.map(|mut go| writeln!(go));
        let output = cutter.wait_with_output()?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cut the power: {error}");
        Ok(())
    }
}

impl Harm for Power {
    fn inject(&mut self, cluster: &mut Cluster) -> Result<()> {
        for node in &self.victims {
            let file = cluster.disk(*node)?.path().join("unsynced");
            fs::write(&file, UNSYNCED).with_context(|| file.display().to_string())?;
            self.unsynced.push(file);
        }
        self.cut(cluster)?;
        for node in &self.victims {
            cluster.network().silence(*node)?;
        }
        let mut killed = true;
        for node in &self.victims {
            killed &= cluster.kill(*node)?;
        }
        self.cut = killed;
        Ok(())
    }

    fn heal(&mut self, cluster: &mut Cluster) -> Result<()> {
        for (node, file) in self.victims.iter().zip(&self.unsynced) {
            cluster.disk(*node)?.power_on()?;
            let found = fs::read_to_string(file).unwrap_or_default();
            self.lost += usize::from(found != UNSYNCED);
            fs::remove_file(file).ok();
            cluster.start(*node)?;
        }
        cluster.network().heal()
    }

    fn hit(&self) -> bool {
        self.cut && self.lost == self.victims.len()
    }
}

//! What the README of `deploy/` tells operators to type, typed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use antumbra_tests::chaos::command;
use antumbra_tests::environment;
use antumbra_tests::kubesim::cluster::{Options, Simulation};
use antumbra_tests::kubesim::helm;
use tempfile::TempDir;

use crate::kubesim_scale::{LIMIT, PODS, options};

/// Makes keys, and installs Helm the first time.
const TYPED_LIMIT: Duration = Duration::from_secs(300);
/// Keeps what is applied, where the API would have it.
const KUBECTL: &str = r#"#!/bin/sh
case "$*" in
  "apply --server-side -f -") cat > applied.yaml ;;
  "--namespace antumbra rollout status statefulset/antumbra") ;;
  "--namespace antumbra port-forward pod/antumbra-0 7400") ;;
  *) echo "kubectl $*: not expected" >&2; exit 1 ;;
esac
"#;
/// Renders what would be installed.
const HELM: &str = r#"#!/bin/sh
[ "$1" = install ] || { echo "helm $*: not expected" >&2; exit 1; }
shift
HELM template "$@" > installed.yaml
"#;

/// The commands of a section, block by block.
fn commands(section: &str) -> Vec<String> {
    let path = environment::repository().join("deploy/README.md");
    let text = fs::read_to_string(path).unwrap();
    let heading = format!("\n## {section}\n");
    let (_, rest) = text.split_once(&heading).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1);
    let typed = blocks.map(|block| {
        let lines = block.split("```").next().unwrap().lines();
        let typed: Vec<&str> = lines.filter_map(|line| line.strip_prefix("$ ")).collect();
        typed.join("\n")
    });
    typed.collect()
}

/// A shell of an operator, in a directory with the repository's `deploy`.
struct Shell(TempDir);

impl Shell {
    fn open() -> Shell {
        let directory = tempfile::tempdir().unwrap();
        let (here, bin) = (directory.path(), directory.path().join("bin"));
        symlink(
            environment::repository().join("deploy"),
            here.join("deploy"),
        )
        .unwrap();
        fs::create_dir(&bin).unwrap();
        symlink(environment::binary(), bin.join("antumbra")).unwrap();
        let real = helm::program().unwrap();
        let helm = HELM.replace("HELM", &real.to_string_lossy());
        for (name, script) in [("kubectl", KUBECTL), ("helm", &helm)] {
            let path = bin.join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Shell(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What these commands print. They have to succeed.
    fn type_in(&self, commands: &str) -> String {
        let script = format!("PATH=$PWD/bin:$PATH\n{commands}");
        let mut bash = Command::new("bash");
        bash.args(["-e", "-u", "-o", "pipefail", "-c", &script]);
        bash.current_dir(self.path());
        environment::isolate(&mut bash);
        let printed = command::finish(bash, "", TYPED_LIMIT).unwrap();
        assert!(printed.status.success(), "{commands}: {}", printed.error);
        printed.output
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }
}

/// Three commands install a cluster from the image that was built before, and the commands after them reach it.
#[test]
fn kubesim_operates_as_the_readme_says() {
    if !environment::can_use_root(1) {
        return;
    }
    let blocks = commands("Kubernetes in three commands");
    let [image, install, ..] = blocks.as_slice() else {
        panic!("an image and an installation: {blocks:?}");
    };
    assert_eq!(install.lines().count(), 3, "{install}");
    let mut words = image.split_whitespace();
    let pushed = words.find(|word| word.starts_with("registry."));
    let simulation = Simulation::start(Options {
        images: [pushed.unwrap().to_owned()].into(),
        namespace: "antumbra".into(),
        ..options(&["zone-a", "zone-b", "zone-c"])
    });
    let simulation = simulation.unwrap();
    let shell = Shell::open();
    shell.type_in(install);
    simulation.add_secrets(&shell.read("applied.yaml")).unwrap();
    let installed = simulation.apply(&shell.read("installed.yaml"));
    assert_eq!(installed.unwrap(), None);
    simulation.until_ready(&PODS[..3], LIMIT).unwrap();

    let blocks = commands("Talk to it");
    let [talk, operator] = blocks.as_slice() else {
        panic!("talking, and an operator of one's own: {blocks:?}");
    };
    let door = simulation.expose("antumbra-api", 7400).unwrap();
    let reached = |commands: &str| {
        let there = commands.replace("localhost:7400", &format!("localhost:{}", door.port()));
        assert_ne!(there, commands);
        shell.type_in(&there)
    };
    let said = reached(talk);
    for told in ["nodes    3 of 3 answer", "all is well", "version  1"] {
        assert!(said.contains(told), "{told}: {said}");
    }
    let exports: Vec<&str> = talk
        .lines()
        .filter(|line| line.starts_with("export"))
        .collect();
    let create = operator.lines().next().unwrap();
    let made = reached(&format!("{}\n{create}", exports.join("\n")));
    assert!(made.contains("ada"), "{made}");
}

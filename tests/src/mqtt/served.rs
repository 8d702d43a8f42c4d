//! A node for one test, and what must be true of it after any test.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::Version;
use super::build::{Connect, Publish};
use super::client::Client;
use crate::node::{Node, Options};

/// Starts a node, runs the test, and sees that the node is none the worse for it.
///
/// # Panics
/// When the node does not start, has panicked or does not serve afterwards.
pub fn with_node(test: impl FnOnce(&Node)) {
    with_options(|options| options, test);
}

/// The same with a node that has other options than the usual ones.
///
/// # Panics
/// As [`with_node`].
pub fn with_options(change: impl FnOnce(Options) -> Options, test: impl FnOnce(&Node)) {
    let directory = tempfile::tempdir().expect("a place for data");
    let options = change(Options::new(directory.path()));
    let mut node = Node::start(&options).expect("the node starts");
    test(&node);
    assert!(node.is_running(), "{}", node.output());
    assert_serves(node.mqtt());
    assert!(!node.output().contains("panicked"), "{}", node.output());
}

/// A client of each version connects, hears itself and leaves.
///
/// # Panics
/// When that does not work.
pub fn assert_serves(address: SocketAddr) {
    for version in Version::ALL {
        if let Err(error) = serve(address, version) {
            panic!("a fresh client of {version:?}: {error:?}");
        }
    }
}

fn serve(address: SocketAddr, version: Version) -> Result<()> {
    let connect = Connect::new(version, version.pick("fresh-311", "fresh-5"));
    let mut client = Client::connect(address, &connect)?;
    let topic = version.pick("fresh/311", "fresh/5");
    client.listen(&[topic])?;
    client.publish(Publish::new(topic, "hello", 1))?;
    let message = client.message_on(topic)?;
    ensure!(message.text() == "hello", "{message:?}");
    client.disconnect()
}

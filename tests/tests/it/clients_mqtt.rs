//! MQTT clients that devices have, unmodified.

use std::path::Path;

use antumbra_tests::node::{self, Node, Options};
use antumbra_tests::python;

/// The device that the client certificate is for.
const THING: &str = "lamp-1";

/// Runs a script against the open MQTT door.
fn run(script: &str) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&Options::new(directory.path())).unwrap();
    let arguments = ["--mqtt".to_owned(), node.mqtt().to_string()];
    python::run_client_with(script, &node, &arguments).unwrap();
    assert!(!node.output().contains("panicked"), "{}", node.output());
}

/// Runs scripts against the MQTT door with TLS, as one device.
fn run_with_certificates(scripts: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let port = node::free_base_port().unwrap();
    let options = Options::new(directory.path().join("data"))
        .with_env("ANTUMBRA_MQTT_TLS_LISTEN", format!("127.0.0.1:{port}"))
        .with_env("ANTUMBRA_MQTT_TLS_CERTIFICATE", file("server/node-1.pem"))
        .with_env("ANTUMBRA_MQTT_TLS_KEY", file("server/node-1.key"))
        .with_env("ANTUMBRA_MQTT_TLS_CLIENT_AUTHORITY", file("ca/ca.pem"));
    let node = Node::start(&options).unwrap();

    let arguments = [
        ("--mqtts", format!("localhost:{port}")),
        ("--ca", file("ca/ca.pem")),
        ("--certificate", file(&format!("clients/{THING}.pem"))),
        ("--key", file(&format!("clients/{THING}.key"))),
        ("--thing", THING.to_owned()),
    ];
    let arguments = arguments.map(|(flag, value)| [flag.to_owned(), value]);
    for script in scripts {
        python::run_client_with(script, &node, arguments.as_flattened()).unwrap();
    }
    assert!(!node.output().contains("panicked"), "{}", node.output());
}

/// An authority, a certificate for the node, and one for the device.
fn make_certificates(directory: &Path) {
    let commands = [
        "cert ca --out ca",
        "cert node --ca ca --out server --name node-1 --host localhost,127.0.0.1",
        &format!("cert client --ca ca --out clients --name {THING}"),
    ];
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let made = node::run(&arguments, directory).unwrap();
        assert!(made.status.success(), "{command}: {}", made.output);
    }
}

/// paho: requests, deltas, documents, sessions, wills, topics between clients, take-over.
#[test]
fn clients_mqtt_paho_uses_everything_in_both_versions() {
    run("mqtt_paho.py");
}

/// mosquitto_pub, mosquitto_sub and mosquitto_rr: what people try first.
#[test]
fn clients_mqtt_mosquitto_tools_publish_and_subscribe() {
    run("mqtt_mosquitto.py");
}

/// The device that users copy works.
#[test]
fn clients_mqtt_example_device_follows_and_catches_up() {
    run("mqtt_example_device.py");
}

/// The AWS IoT Device SDK works unmodified, both generations, with certificates of our own.
#[test]
fn clients_mqtt_aws_device_sdk_works_with_certificates() {
    run_with_certificates(&["mqtt_awsiotsdk.py"]);
}

/// A device with a certificate reaches its own shadows and topics and no others.
#[test]
fn clients_mqtt_other_clients_work_with_certificates() {
    run_with_certificates(&[
        "mqtt_paho.py",
        "mqtt_mosquitto.py",
        "mqtt_example_device.py",
    ]);
}

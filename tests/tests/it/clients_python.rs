//! Real clients in another language, unmodified.

use antumbra_tests::node::{Node, Options};
use antumbra_tests::python;

fn run(script: &str, configure: impl Fn(Options) -> Options) {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(&configure(Options::new(directory.path()))).unwrap();
    python::run_client(script, &node).unwrap();
    assert!(!node.output().contains("panicked"), "{}", node.output());
}

/// boto3 works unmodified and gets every error as the right exception.
#[test]
fn clients_aws_sdk_gets_documents_pages_and_exceptions() {
    run("aws_sdk.py", |options| options);
}

/// The published vectors of the AWS service hold over HTTP.
#[test]
fn clients_aws_sdk_sees_the_conformance_vectors() {
    run("aws_vectors.py", |options| options);
}

/// Overload is an exception that the SDK's own retries understand.
#[test]
fn clients_aws_sdk_is_throttled_and_gets_through() {
    run("aws_throttled.py", |options| {
        options.with_env("ANTUMBRA_LIMITS_COMMANDS_PER_DEVICE_MAX", 2)
    });
}

/// A Python client generated from the `.proto` files can use everything.
#[test]
fn clients_generated_from_proto_use_every_method() {
    run("grpc_generated.py", |options| options);
}

/// A client that knows only the address learns the rest from reflection.
#[test]
fn clients_learn_the_service_by_reflection() {
    run("grpc_reflected.py", |options| options);
}

/// All doors write and read the same shadows, with one version count.
#[test]
fn clients_of_all_doors_see_each_others_versions() {
    run("both_doors.py", |options| options);
}

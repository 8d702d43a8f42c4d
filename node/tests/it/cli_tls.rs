//! Commands that speak TLS and show what they have.

use std::path::Path;

use antumbra_proto::admin::v1::CreateCredentialRequest;

use crate::access_support::BOOTSTRAP;
use crate::cli_program::{Run, command, finish};
use crate::doors_tls::credential;
use crate::tls_support::Secured;

/// Runs a command with files for TLS in its environment.
async fn antumbra(site: &Secured, arguments: &[&str], files: [&Path; 3]) -> Run {
    let mut command = command(arguments);
    let endpoint = format!("https://localhost:{}", site.node.addresses().grpc.port());
    command.env("ANTUMBRA_ENDPOINT", endpoint);
    let names = ["AUTHORITY", "CERTIFICATE", "KEY"];
    for (name, file) in names.into_iter().zip(files) {
        command.env(format!("ANTUMBRA_TLS_{name}"), file);
    }
    tokio::task::spawn_blocking(move || finish(command))
        .await
        .unwrap()
}

/// Commands show a certificate or a token over TLS, and say what is wrong with their files.
#[tokio::test(flavor = "multi_thread")]
async fn commands_speak_tls() {
    let site = Secured::open(|_| {}).await;
    let (certificate, key) = site.write("lamp", &site.authority.device("lamp", ""));
    let (ca, none) = (site.file("ca.pem"), Path::new(""));
    let update = ["shadow", "update", "lamp", "--desired", r#"{"on":true}"#];
    let run = antumbra(&site, &update, [&ca, &certificate, &key]).await;
    assert!(run.success().contains("version  1"));
    let other = ["shadow", "get", "pump"];
    antumbra(&site, &other, [&ca, &certificate, &key])
        .await
        .failure(7);
    let get = ["shadow", "get", "lamp", "--token", BOOTSTRAP];
    assert!(
        antumbra(&site, &get, [&ca, none, none])
            .await
            .success()
            .contains("true")
    );

    let run = antumbra(&site, &update, [none; 3]).await.failure(2);
    assert!(run.stderr.contains("--tls-authority"), "{run:#?}");
    let run = antumbra(&site, &update, [&ca, &certificate, none])
        .await
        .failure(2);
    assert!(run.stderr.contains("go together"), "{run:#?}");
    let run = antumbra(&site, &update, [&certificate, none, none])
        .await
        .failure(5);
    assert!(run.stderr.contains("certificate"), "{run:#?}");
    site.close().await;
}

/// The bench shows a token, over TLS, too.
#[tokio::test(flavor = "multi_thread")]
async fn bench_shows_a_token() {
    let site = Secured::open(|_| {}).await;
    let request = CreateCredentialRequest {
        id: "bench".to_owned(),
        ..Default::default()
    };
    let token = credential(&site, request).await;
    let (ca, none) = (site.file("ca.pem"), Path::new(""));
    let load = "bench shadow --clients 1 --in-flight 2 --seconds 4 --warm-up 0 --devices 4";
    for mode in ["unary", "stream"] {
        for (token, code) in [(&*token, 0), ("nonsense", 1)] {
            let mut arguments: Vec<&str> = load.split(' ').collect();
            arguments.extend(["--mode", mode, "--token", token]);
            let run = antumbra(&site, &arguments, [&ca, none, none]).await;
            assert_eq!(run.code, code, "{mode}: {run:#?}");
        }
    }
    let mqtt = format!("mqtt://{}", site.node.addresses().mqtt);
    let load = "bench mqtt --devices 2 --updates-per-second 4 --seconds 4 --token";
    let mut arguments: Vec<&str> = load.split(' ').collect();
    arguments.extend([&token, "--endpoints", &mqtt]);
    antumbra(&site, &arguments, [&ca, none, none])
        .await
        .success();
    site.close().await;
}

//! Twins come and go; what they used is given back.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};

use antumbra_tests::client::Client;
use antumbra_tests::node::{Node, Options};
use antumbra_tests::waiting;

const DEVICES: usize = 100_000;
const IDLE: Duration = Duration::from_secs(5);
const WITHIN: Duration = Duration::from_secs(120);
const MIB: f64 = 1024.0 * 1024.0;

/// Writes every device once, many at a time.
pub(crate) async fn touch(client: &Client, devices: &[String], value: u64) {
    let desired = format!(r#"{{"value":{value},"text":"some words of a device"}}"#);
    let started = Instant::now();
    stream::iter(devices.chunks(100).map(Ok))
        .try_for_each_concurrent(16, |some| client.update_all(some, &desired))
        .await
        .unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!("{} devices in {seconds:.1} s", devices.len());
}

/// 100,000 devices are touched and fall idle: no twin is left and memory is back where it was.
/// Memory is compared after the same work was done before, because stores and caches fill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_of_100_000_idle_devices_give_everything_back() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path())
        .with_env("ANTUMBRA_LIMITS_TWIN_IDLE", format!("{}s", IDLE.as_secs()))
        .with_env("ANTUMBRA_STORAGE_CACHE_BYTES", "32MiB")
        .with_env("ANTUMBRA_STORAGE_FLUSH_INTERVAL", "1s");
    let node = Node::start(&options).unwrap();
    let devices: Vec<String> = (0..DEVICES)
        .map(|number| format!("idle-{number}"))
        .collect();
    let client = Client::new(node.grpc()).with_limit(Duration::from_secs(60));
    let fresh = node.rss().unwrap();

    for value in 1..=2 {
        touch(&client, &devices, value).await;
    }
    wait_until_idle(&node);
    let before = settled_rss(&node).await;

    touch(&client, &devices, 3).await;
    let live = node.metric("antumbra_twins_live").unwrap();
    let busy = node.rss().unwrap();
    wait_until_idle(&node);
    let after = settled_rss(&node).await;
    println!(
        "memory in MiB: fresh {:.0}, before {:.0}, with {live} live twins {:.0}, after {:.0}",
        fresh as f64 / MIB,
        before as f64 / MIB,
        busy as f64 / MIB,
        after as f64 / MIB,
    );
    assert!(live > 0.0, "no twin was live after {DEVICES} writes");
    assert!(
        after as f64 <= before as f64 * 1.2,
        "{after} after, {before} before"
    );

    let versions = client.get_all(&devices[..1000]).await.unwrap();
    assert!(versions.values().all(|shadow| shadow.version == 3));
    let live = node.metric("antumbra_twins_live").unwrap();
    assert_eq!(live, 0.0, "reads start no twin");
}

fn wait_until_idle(node: &Node) {
    waiting::until("no live twin", WITHIN, || {
        (node.metric("antumbra_twins_live").unwrap() == 0.0).then_some(())
    })
    .unwrap();
}

/// Memory once it has stopped falling: the allocator gives pages back with a delay.
async fn settled_rss(node: &Node) -> u64 {
    let mut samples: Vec<u64> = Vec::new();
    let each_second = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Some(((), ()))
    });
    let mut each_second = std::pin::pin!(each_second.take(30));
    while each_second.next().await.is_some() {
        samples.push(node.rss().unwrap());
        let lowest = samples.iter().min().copied().unwrap();
        // Nothing new for ten seconds.
        if samples.len() > 10
            && samples[samples.len() - 10..]
                .iter()
                .all(|rss| *rss > lowest)
        {
            break;
        }
    }
    samples.iter().min().copied().unwrap()
}

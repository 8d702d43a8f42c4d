#![allow(clippy::unwrap_used)]

mod conformance;
mod connect;
mod events;
mod filters;
mod isolation;
mod presence;
mod topics;

use serde_json::Value;

use crate::gateway::dialect::aws::Aws;
use crate::gateway::dialect::harness::{World, backend, device};

/// A thing and a backend that sees everything of it.
struct Pump {
    world: World,
    device: usize,
    backend: usize,
}

impl Pump {
    fn new() -> Pump {
        let mut world = World::default();
        let device = world.join(&Aws, device("pump"));
        let backend = world.join(&Aws, backend());
        world.subscribe(backend, "$aws/things/+/shadow/#").unwrap();
        Pump {
            world,
            device,
            backend,
        }
    }

    /// The device publishes to a topic of its classic shadow; what the backend sees of it, by the last
    /// part of the topics.
    fn send(&mut self, topic: &str, payload: &str) -> Vec<(String, Value)> {
        let topic = format!("$aws/things/pump/shadow/{topic}");
        self.world.publish(self.device, &topic, payload);
        let seen = self.world.take(self.backend).into_iter();
        seen.map(|(topic, payload)| {
            let end = topic.strip_prefix("$aws/things/pump/shadow/");
            (end.unwrap_or(&topic).to_owned(), payload)
        })
        .collect()
    }

    fn update(&mut self, payload: &str) -> Vec<(String, Value)> {
        self.send("update", payload)
    }

    fn get(&mut self) -> Value {
        let (topic, payload) = self.send("get", "").remove(0);
        assert!(topic.starts_with("get/"), "{topic}");
        payload
    }
}

fn names(seen: &[(String, Value)]) -> Vec<&str> {
    seen.iter().map(|(topic, _)| &topic[..]).collect()
}

//! System tests: the real binary, real clients, real kills.
//!
//! Names of heavy tests start with their group (`clients`, `twins`, `durability`, `damage`,
//! `bad_input`), which the test runner runs one at a time. What needs root says so and is skipped
//! without it, except in continuous integration. Random choices print their seed; `ANTUMBRA_SEED`
//! repeats them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input_grpc;
mod bad_input_http;
mod chaos_checkers;
mod chaos_checkers_watch;
mod chaos_run;
mod chaos_simulation;
mod clients_mqtt;
mod clients_python;
mod cluster_grows;
mod cluster_upgrades;
mod damage_flips;
mod damage_refusals;
mod doors;
mod durability_kill;
mod durability_power;
mod durability_restart;
mod kubesim_chart;
mod kubesim_operations;
mod kubesim_readme;
mod kubesim_scale;
mod kubesim_traffic;
mod logs;
mod long_cluster;
mod long_disk;
mod long_move;
mod metrics;
mod mqtt_cluster;
mod mqtt_connect;
mod mqtt_deltas;
mod mqtt_gateways;
mod mqtt_malformed;
mod mqtt_presence;
mod mqtt_protection;
mod mqtt_publish;
mod mqtt_sessions;
mod mqtt_shadows;
mod mqtt_stop;
mod mqtt_tenants;
mod scale_in;
mod snapshot;
mod tidy;
mod tidy_docs;
mod twins_idle;
mod twins_limits;
mod watch;

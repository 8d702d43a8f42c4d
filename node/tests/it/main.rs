//! Integration tests of the node: through its library and through its binary.

// The futures of a whole node within those of a test are deep.
#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod access_cluster;
mod access_matrix;
mod access_revocation;
mod access_signatures;
mod access_support;
mod cli;
mod cli_node;
mod cli_program;
mod cli_tls;
mod cluster_cli;
mod cluster_program;
mod config;
mod doors_errors;
mod doors_grpc;
mod doors_grpc_many;
mod doors_http;
mod doors_input;
mod doors_streams;
mod doors_support;
mod doors_tls;
mod doors_tls_reload;
mod membership;
mod peer_calls;
mod peer_certificates;
mod peer_links;
mod peer_support;
mod peer_tls;
mod shadows;
mod shadows_boot;
mod shadows_support;
mod shadows_watch;
mod tls_support;

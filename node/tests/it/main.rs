//! Integration tests of the node: through its library and through its binary.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod cli;
mod cli_node;
mod cli_program;
mod config;
mod doors_errors;
mod doors_grpc;
mod doors_http;
mod doors_input;
mod doors_support;
mod shadows;
mod shadows_boot;
mod shadows_support;
mod shadows_watch;

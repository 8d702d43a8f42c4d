//! Integration tests of the node: through its library and through its binary.

#![allow(clippy::unwrap_used, missing_docs)]

mod cli;
mod cli_node;
mod cli_program;
mod config;
mod shadows;
mod shadows_boot;
mod shadows_support;
mod shadows_watch;

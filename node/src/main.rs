//! The program: sets the allocator and hands over to the command line.

use std::process::ExitCode;

/// One allocator for Rust and RocksDB.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    antumbra::cli::run(std::env::args_os())
}

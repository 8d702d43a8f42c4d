//! Compiles the `.proto` files with a compiler written in Rust, so that cargo alone builds.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// What clients use; reflection serves these files.
const PUBLIC: &[&str] = &[
    "antumbra/v1/shadows.proto",
    "antumbra/cluster/v1/cluster.proto",
    "antumbra/admin/v1/admin.proto",
];
/// What nodes say to each other; not in the descriptor set.
const INTERNAL: &[&str] = &["antumbra/peer/v1/peer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in PUBLIC.iter().chain(INTERNAL) {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(PUBLIC)?;

    #[allow(
        clippy::disallowed_methods,
        reason = "cargo tells build scripts this way"
    )]
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out.join("antumbra.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())?;

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).open_files(INTERNAL)?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        // Shared, not copied: frames are taken apart by whoever reads them.
        .bytes(".antumbra.peer.v1")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

//! Compiles the `.proto` files with a compiler written in Rust, so that cargo alone builds.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: &[&str] = &["antumbra/v1/shadows.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(FILES)?;

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
    Ok(())
}

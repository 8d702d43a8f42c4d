//! Writes the inputs from which the fuzzer starts into the directory given, or into `corpus`.

use std::fs;
use std::path::PathBuf;

use fuzz::seeds;

fn main() -> std::io::Result<()> {
    let root = std::env::args_os().nth(1);
    let root = root.map_or_else(|| PathBuf::from("corpus"), PathBuf::from);
    for seed in seeds::all() {
        let directory = root.join(seed.directory);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(seed.name), seed.bytes)?;
    }
    Ok(())
}

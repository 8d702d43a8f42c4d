//! Directories as values: copy, list with hashes, measure.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Every file below `root`, by path relative to it, sorted.
pub fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Every file below `root` with a hash of its content.
pub fn hashes(root: &Path) -> Result<BTreeMap<PathBuf, u64>> {
    let mut hashes = BTreeMap::new();
    for path in list(root)? {
        let mut hasher = DefaultHasher::new();
        fs::read(root.join(&path))?.hash(&mut hasher);
        hashes.insert(path, hasher.finish());
    }
    Ok(hashes)
}

/// Copies all files of `from` to `to`, which must not exist yet.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in list(from)? {
        let target = to.join(&path);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(from.join(&path), &target).with_context(|| target.display().to_string())?;
    }
    Ok(())
}

/// Bytes of all files below `root`. Files that vanish meanwhile count as nothing.
pub fn bytes(root: &Path) -> Result<u64> {
    let sizes = list(root)?.into_iter().map(|path| {
        fs::metadata(root.join(path))
            .map(|meta| meta.len())
            .unwrap_or(0)
    });
    Ok(sizes.sum())
}

//! What a node that has left finds when it comes back: its directory is refused, and kept.

use std::fs;
use std::path::PathBuf;

use super::{
    CLUSTER_FILE, DataDirectory, Error, FILE, Identity, LOCK_FILE, failed, sync_directory,
};

/// Begins the names of what is set aside; the incarnation follows.
const ASIDE: &str = "left-";

impl DataDirectory {
    /// Whether the last state of the cluster in this directory says that it is of a node that has left.
    /// Blocks on the disk.
    pub fn has_left(&self, identity: &Identity) -> Result<bool, Error> {
        let state = self.read_cluster()?;
        Ok(state.is_some_and(|state| state.has_left(identity.incarnation)))
    }

    /// Moves everything in here into a directory of its own beside what will be here, and says where. What
    /// says that it is of a node that has left goes last: after a crash on the way this is begun again.
    /// Blocks on the disk.
    pub fn set_aside(&self, identity: &Identity) -> Result<PathBuf, Error> {
        let aside = self.path.join(format!("{ASIDE}{}", identity.incarnation));
        fs::create_dir_all(&aside).map_err(|e| failed("create", &aside, e))?;
        let entries = fs::read_dir(&self.path).map_err(|e| failed("read", &self.path, e))?;
        let last = [FILE, CLUSTER_FILE];
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("read", &self.path, e))?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text != LOCK_FILE && !text.starts_with(ASIDE) && !last.contains(&&*text) {
                names.push(name);
            }
        }
        names.extend(last.map(Into::into));
        for name in names {
            let from = self.path.join(&name);
            if !from.exists() {
                continue;
            }
            fs::rename(&from, aside.join(&name)).map_err(|e| failed("rename", &from, e))?;
            sync_directory(&aside)?;
            sync_directory(&self.path)?;
        }
        Ok(aside)
    }
}

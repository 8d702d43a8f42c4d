//! Who owns a data directory: the header file `identity` and the lock on the directory. Beside it the
//! file `cluster` keeps the last state of the cluster that the node has seen, in the same frame.
//!
//! The header is read and checked before anything else is opened, and replaced only as a whole.
//! What does not fit is refused with a code; nothing is ever deleted. The frame (magic, format,
//! length, payload, checksum) stays the same in all formats, so that damage and a newer format are
//! told apart.

mod aside;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cluster::{ClusterState, Founding, NodeId, Standing};

/// Name of the header file.
const FILE: &str = "identity";

/// Name of the file with the last known state of the cluster.
const CLUSTER_FILE: &str = "cluster";

/// Name of the file that holds the lock. Its content says nothing.
const LOCK_FILE: &str = "lock";

const MAGIC: &[u8; 8] = b"ANTUMBRA";

/// The newest format this version reads and the one it writes.
const FORMAT: u32 = 1;

/// Magic, format and length before the payload.
const FRAME_HEAD_BYTES: usize = 16;

/// A header is refused above this, whatever its length says.
const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Why a data directory is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the directory.
    #[error(
        "data directory {path} is in use by another process. \
         Stop that process, or give this one a directory of its own"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The header cannot be trusted.
    #[error(
        "{path} is damaged: {what}. Nothing was changed. Restore this file from a copy of the \
         directory; when there is none, rebuild the node from the others or from a backup"
    )]
    Damaged {
        /// The header file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There are data but no header.
    #[error(
        "{path} is missing although the directory holds data. Nothing was changed. Restore this \
         file from a copy of the directory, or choose an empty directory"
    )]
    Missing {
        /// The header file.
        path: PathBuf,
    },
    /// A newer version of the program wrote the directory.
    #[error(
        "{path} has format {found}, this version reads up to {FORMAT}. Nothing was changed; \
         start the newer version again"
    )]
    TooNew {
        /// The header file.
        path: PathBuf,
        /// The format on disk.
        found: u32,
    },
    /// The directory belongs to another cluster.
    #[error(
        "data directory {path} belongs to cluster {found}, not to {expected}. \
         Nothing was changed; check the data directory and the cluster name"
    )]
    WrongCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster of this node.
        expected: String,
        /// The cluster on disk.
        found: String,
    },
    /// The directory belongs to another node.
    #[error(
        "data directory {path} belongs to node {found}, not to {expected}. \
         Nothing was changed; check the data directory and the node name"
    )]
    WrongNode {
        /// The directory.
        path: PathBuf,
        /// This node.
        expected: String,
        /// The node on disk.
        found: String,
    },
    /// A gateway was given the directory of a node with replicas.
    #[error(
        "data directory {path} holds replicas, and `node.storage` is false. Nothing was changed; \
         give the gateway an empty directory and a name of its own"
    )]
    HoldsData {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system failed a call.
    #[error("{action} {path}: {source}. Check the disk, its free space and permissions")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Stable name of the kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Locked { .. } => "DIRECTORY_LOCKED",
            Error::Damaged { .. } => "IDENTITY_DAMAGED",
            Error::Missing { .. } => "IDENTITY_MISSING",
            Error::TooNew { .. } => "FORMAT_TOO_NEW",
            Error::WrongCluster { .. } => "WRONG_CLUSTER",
            Error::WrongNode { .. } => "WRONG_NODE",
            Error::HoldsData { .. } => "DIRECTORY_HOLDS_DATA",
            Error::Io { .. } => "IO",
        }
    }

    /// Whether the header is not what it was.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::Missing { .. })
    }
}

/// What the header of a data directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the cluster.
    pub cluster_name: String,
    /// Name of the node.
    pub node_name: String,
    /// Drawn anew for every data directory: a wiped node is another incarnation.
    pub incarnation: Uuid,
    /// How far the node has come in its cluster.
    pub standing: Standing,
    /// Whether the stores have been created: from then on a missing one is damage.
    pub created: bool,
}

/// Whom a directory must belong to.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Name of the cluster.
    pub cluster_name: &'a str,
    /// Name of the node.
    pub node_name: &'a str,
}

/// A data directory that only this process has. Dropping it releases the directory.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory when needed and locks it. Blocks on the disk.
    pub fn lock(path: &Path) -> Result<DataDirectory, Error> {
        fs::create_dir_all(path).map_err(|e| failed("create", path, e))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| failed("open", &lock_path, e))?;
        match fs4::fs_std::FileExt::try_lock_exclusive(&lock) {
            Ok(true) => {}
            Ok(false) => {
                return Err(Error::Locked {
                    path: path.to_owned(),
                });
            }
            Err(error) => return Err(failed("lock", &lock_path, error)),
        }
        Ok(DataDirectory {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the header; `None` in a directory that holds no data. Blocks on the disk.
    pub fn read(&self, owner: Owner<'_>) -> Result<Option<Identity>, Error> {
        let path = self.path.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ["log", "state", "seal"]
                    .iter()
                    .any(|name| self.path.join(name).exists())
                {
                    return Err(Error::Missing { path });
                }
                return Ok(None);
            }
            Err(error) => return Err(failed("read", &path, error)),
        };
        let identity = decode(&bytes, &path)?;
        self.check(&identity, owner)?;
        Ok(Some(identity))
    }

    /// Reads the last known state of the cluster; `None` when there is none. Blocks on the disk.
    pub fn read_cluster(&self) -> Result<Option<ClusterState>, Error> {
        let path = self.path.join(CLUSTER_FILE);
        match fs::read(&path) {
            Ok(bytes) => decode_payload(&bytes, &path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, error)),
        }
    }

    /// Replaces the last known state of the cluster as a whole. Blocks on the disk.
    pub fn write_cluster(&self, state: &ClusterState) -> Result<(), Error> {
        self.replace(CLUSTER_FILE, &encode_payload(state))
    }

    /// Replaces the header: all of it reaches the disk, or the old one stays. Blocks on the disk.
    pub fn write(&self, identity: &Identity) -> Result<(), Error> {
        self.replace(FILE, &encode(identity))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let mut file = File::create(&new).map_err(|e| failed("create", &new, e))?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(|e| failed("write", &new, e))?;
        fs::rename(&new, &path).map_err(|e| failed("rename", &new, e))?;
        sync_directory(&self.path)?;
        // The directory itself may be new.
        match self
            .path
            .canonicalize()
            .ok()
            .as_deref()
            .and_then(Path::parent)
        {
            Some(parent) => sync_directory(parent),
            None => Ok(()),
        }
    }

    fn check(&self, identity: &Identity, owner: Owner<'_>) -> Result<(), Error> {
        if identity.cluster_name != owner.cluster_name {
            return Err(Error::WrongCluster {
                path: self.path.clone(),
                expected: owner.cluster_name.to_owned(),
                found: identity.cluster_name.clone(),
            });
        }
        if identity.node_name != owner.node_name {
            return Err(Error::WrongNode {
                path: self.path.clone(),
                expected: owner.node_name.to_owned(),
                found: identity.node_name.clone(),
            });
        }
        Ok(())
    }
}

/// Stored form of format 1. Frozen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityV1 {
    cluster_name: String,
    node_name: String,
    incarnation: Uuid,
    standing: StandingV1,
    created: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum StandingV1 {
    Blank,
    Pledged(Founding),
    Member { cluster_id: Uuid, node: NodeId },
}

fn encode(identity: &Identity) -> Vec<u8> {
    let standing = match &identity.standing {
        Standing::Blank => StandingV1::Blank,
        Standing::Pledged(founding) => StandingV1::Pledged(founding.clone()),
        Standing::Member { cluster_id, node } => StandingV1::Member {
            cluster_id: *cluster_id,
            node: *node,
        },
    };
    encode_payload(&IdentityV1 {
        cluster_name: identity.cluster_name.clone(),
        node_name: identity.node_name.clone(),
        incarnation: identity.incarnation,
        standing,
        created: identity.created,
    })
}

fn encode_payload(value: &impl Serialize) -> Vec<u8> {
    let payload = serde_json::to_vec(value).expect("numbers and strings are always JSON");
    frame(FORMAT, &payload)
}

fn frame(format: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a header is far below 4 GiB");
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + payload.len() + 4);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&format.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8], path: &Path) -> Result<Identity, Error> {
    let stored: IdentityV1 = decode_payload(bytes, path)?;
    let standing = match stored.standing {
        StandingV1::Blank => Standing::Blank,
        StandingV1::Pledged(founding) => Standing::Pledged(founding),
        StandingV1::Member { cluster_id, node } => Standing::Member { cluster_id, node },
    };
    Ok(Identity {
        cluster_name: stored.cluster_name,
        node_name: stored.node_name,
        incarnation: stored.incarnation,
        standing,
        created: stored.created,
    })
}

fn decode_payload<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, Error> {
    let damaged = |what: &str| Error::Damaged {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    let (format, payload) = unframe(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(Error::TooNew {
            path: path.to_owned(),
            found: format,
        });
    }
    serde_json::from_slice(payload).map_err(|_| damaged("its content cannot be read"))
}

fn unframe(bytes: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    if bytes.len() < FRAME_HEAD_BYTES + 4 || bytes.len() > PAYLOAD_BYTES_MAX {
        return Err("its length is wrong");
    }
    let (checked, sum) = bytes.split_at(bytes.len() - 4);
    if crc32fast::hash(checked).to_be_bytes() != sum {
        return Err("its checksum is wrong");
    }
    let (head, payload) = checked.split_at(FRAME_HEAD_BYTES);
    let number = |at: usize| {
        let bytes = head[at..at + 4].try_into();
        u32::from_be_bytes(bytes.expect("four bytes of the frame"))
    };
    if &head[..8] != MAGIC {
        return Err("it is not an identity file");
    }
    if number(12) as usize != payload.len() {
        return Err("its length is wrong");
    }
    Ok((number(8), payload))
}

fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| failed("sync", path, e))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

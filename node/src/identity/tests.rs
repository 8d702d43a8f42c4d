#![allow(clippy::unwrap_used)]

use super::*;

const OWNER: Owner<'_> = Owner {
    cluster_name: "antumbra",
    node_name: "node-1",
};

fn sample() -> Identity {
    Identity {
        cluster_name: "antumbra".to_owned(),
        node_name: "node-1".to_owned(),
        incarnation: Uuid::from_u128(2),
        standing: Standing::Member {
            cluster_id: Uuid::from_u128(1),
            node: NodeId(1),
        },
        created: true,
    }
}

fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Golden bytes: directories outlive the program that wrote them.
#[test]
fn header_has_its_frozen_bytes() {
    let bytes = encode(&sample());
    let payload = r#"{"cluster_name":"antumbra","node_name":"node-1","incarnation":"00000000-0000-0000-0000-000000000002","standing":{"member":{"cluster_id":"00000000-0000-0000-0000-000000000001","node":1}},"created":true}"#;
    assert_eq!(&bytes[..8], b"ANTUMBRA");
    assert_eq!(bytes[8..12], 1u32.to_be_bytes());
    assert_eq!(&bytes[16..bytes.len() - 4], payload.as_bytes());
    assert_eq!(decode(&bytes, Path::new("x")).unwrap(), sample());
}

#[test]
fn header_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDirectory::lock(directory.path()).unwrap();
    assert_eq!(data.read(OWNER).unwrap(), None);
    data.write(&sample()).unwrap();
    assert_eq!(data.read(OWNER).unwrap(), Some(sample()));
}

#[test]
fn one_directory_is_open_in_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = DataDirectory::lock(directory.path()).unwrap();
    let second = DataDirectory::lock(directory.path()).unwrap_err();
    assert_eq!(second.code(), "DIRECTORY_LOCKED");
    drop(first);
    DataDirectory::lock(directory.path()).unwrap();
}

#[test]
fn directory_of_another_cluster_or_node_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDirectory::lock(directory.path()).unwrap();
    data.write(&sample()).unwrap();
    let before = files(directory.path());
    let other = Owner {
        cluster_name: "penumbra",
        ..OWNER
    };
    assert_eq!(data.read(other).unwrap_err().code(), "WRONG_CLUSTER");
    let other = Owner {
        node_name: "node-2",
        ..OWNER
    };
    assert_eq!(data.read(other).unwrap_err().code(), "WRONG_NODE");
    assert_eq!(files(directory.path()), before);
}

#[test]
fn newer_format_is_refused_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDirectory::lock(directory.path()).unwrap();
    fs::write(directory.path().join(FILE), frame(FORMAT + 1, b"unknown")).unwrap();
    let before = files(directory.path());
    assert_eq!(data.read(OWNER).unwrap_err().code(), "FORMAT_TOO_NEW");
    assert_eq!(files(directory.path()), before);
}

/// Any flipped bit and any cut is found.
#[test]
fn damaged_header_is_refused() {
    let bytes = encode(&sample());
    for nth in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[nth / 8] ^= 1 << (nth % 8);
        let error = decode(&flipped, Path::new("x")).unwrap_err();
        assert_eq!(error.code(), "IDENTITY_DAMAGED", "bit {nth}");
    }
    for cut in 0..bytes.len() {
        let error = decode(&bytes[..cut], Path::new("x")).unwrap_err();
        assert_eq!(error.code(), "IDENTITY_DAMAGED", "cut at {cut}");
    }
}

/// Without its header a directory could be taken for a new one and be overwritten.
#[test]
fn data_without_a_header_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDirectory::lock(directory.path()).unwrap();
    fs::create_dir(directory.path().join("log")).unwrap();
    assert_eq!(data.read(OWNER).unwrap_err().code(), "IDENTITY_MISSING");
}

/// What a node that has left kept is moved away whole, and the directory is as good as new; a crash on the way
/// is followed by another attempt.
#[test]
fn directory_of_a_node_that_has_left_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let data = DataDirectory::lock(directory.path()).unwrap();
    let founding = Founding {
        cluster_id: Uuid::from_u128(1),
        replication_factor: 1,
        shards: 1,
        members: vec![crate::cluster::NodeInfo {
            name: "node-1".into(),
            incarnation: sample().incarnation,
            peer: String::new(),
            grpc: String::new(),
            http: String::new(),
            storage: true,
            zone: String::new(),
            capacity: std::num::NonZeroU16::MIN,
            rules: 1,
        }],
    };
    let mut state = founding.state();
    let identity = sample();
    data.write(&identity).unwrap();
    assert!(!data.has_left(&identity).unwrap(), "it knows no state");
    data.write_cluster(&state).unwrap();
    assert!(!data.has_left(&identity).unwrap());
    let tombstone = crate::cluster::state::Tombstone {
        name: "node-1".into(),
        incarnation: identity.incarnation,
    };
    state.left.insert(NodeId(1), tombstone);
    data.write_cluster(&state).unwrap();
    assert!(data.has_left(&identity).unwrap());

    fs::create_dir(directory.path().join("log")).unwrap();
    fs::write(directory.path().join("log/entries"), b"kept").unwrap();
    fs::write(directory.path().join("seal"), b"kept too").unwrap();
    // A crash came after the first rename of an attempt.
    let aside = directory
        .path()
        .join(format!("left-{}", identity.incarnation));
    fs::create_dir(&aside).unwrap();
    fs::rename(directory.path().join("seal"), aside.join("seal")).unwrap();

    assert!(data.has_left(&identity).unwrap());
    assert_eq!(data.set_aside(&identity).unwrap(), aside);
    assert_eq!(fs::read(aside.join("log/entries")).unwrap(), b"kept");
    assert_eq!(fs::read(aside.join("seal")).unwrap(), b"kept too");
    assert!(aside.join(FILE).exists() && aside.join(CLUSTER_FILE).exists());
    assert_eq!(data.read(OWNER).unwrap(), None, "nothing is left to refuse");
    assert!(directory.path().join(LOCK_FILE).exists(), "it stays locked");
}

//! The directories behind the volumes of a pod.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::kubesim::pod::Files;

/// Contents by key.
pub type Contents = BTreeMap<String, Vec<u8>>;

/// What a ConfigMap holds.
pub fn of_config_map(map: &ConfigMap) -> Contents {
    let texts = map.data.iter().flatten();
    let texts = texts.map(|(key, text)| (key.clone(), text.clone().into_bytes()));
    let bytes = map.binary_data.iter().flatten();
    texts
        .chain(bytes.map(|(key, bytes)| (key.clone(), bytes.0.clone())))
        .collect()
}

/// What a Secret holds.
pub fn of_secret(secret: &Secret) -> Contents {
    let bytes = secret.data.iter().flatten();
    let bytes = bytes.map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    // What is given as text wins.
    let texts = secret.string_data.iter().flatten();
    bytes
        .chain(texts.map(|(key, text)| (key.clone(), text.clone().into_bytes())))
        .collect()
}

/// Writes files of a ConfigMap or a Secret into a directory, for a group. Whoever reads there sees a file as it was or
/// as it will be.
pub fn write(directory: &Path, files: &Files, contents: &Contents, group: u32) -> Result<()> {
    fs::create_dir_all(directory)?;
    let mode = files.mode;
    let Some(items) = &files.items else {
        for (key, content) in contents {
            write_file(&directory.join(key), content, mode, group)?;
        }
        return Ok(());
    };
    for item in items {
        let content = contents.get(&item.key);
        let content = content.with_context(|| format!("{} has no {}", files.object, item.key))?;
        let own = item.mode.map(u32::try_from).transpose()?;
        let path = directory.join(&item.path);
        fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        write_file(&path, content, own.unwrap_or(mode), group)?;
    }
    Ok(())
}

/// Writes a file that belongs to a group.
pub fn write_file(path: &Path, content: &[u8], mode: u32, group: u32) -> Result<()> {
    let new = path.with_extension("new-file");
    fs::write(&new, content).with_context(|| path.display().to_string())?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
    // Only root gives files away; the tests of this file are not about that.
    if crate::environment::is_root() {
        chown(&new, Some(0), Some(group))?;
    }
    Ok(fs::rename(new, path)?)
}

/// Makes a directory that a group may write to, unless it is there.
pub fn make(directory: &Path, group: u32) -> Result<()> {
    fs::create_dir_all(directory)?;
    chown(directory, Some(0), Some(group))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o2775))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::KeyToPath;

    use super::*;

    fn files(items: Option<Vec<KeyToPath>>) -> Files {
        Files {
            object: "web".into(),
            mode: 0o440,
            items,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn all_keys_become_files_with_the_mode_of_the_volume() {
        let secret = Secret {
            data: Some([("a".to_owned(), ByteString(b"1".to_vec()))].into()),
            string_data: Some([("b".to_owned(), "2".to_owned())].into()),
            ..Secret::default()
        };
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &files(None), &of_secret(&secret), 0).unwrap();
        let read = |name| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!((read("a"), read("b")), ("1".to_owned(), "2".to_owned()));
        assert_eq!(mode(&directory.path().join("a")), 0o440);
    }

    #[test]
    fn items_choose_keys_and_give_them_paths_and_modes() {
        let map = ConfigMap {
            data: Some([("a".to_owned(), "1".to_owned())].into()),
            binary_data: Some([("b".to_owned(), ByteString(vec![0]))].into()),
            ..ConfigMap::default()
        };
        let item = |key: &str| KeyToPath {
            key: key.into(),
            mode: Some(0o400),
            path: format!("below/{key}"),
        };
        let directory = tempfile::tempdir().unwrap();
        let contents = of_config_map(&map);
        write(
            directory.path(),
            &files(Some(vec![item("b")])),
            &contents,
            0,
        )
        .unwrap();
        let path = directory.path().join("below/b");
        assert_eq!(fs::read(&path).unwrap(), [0]);
        assert_eq!(mode(&path), 0o400);
        assert!(!directory.path().join("a").exists());
        let missing = write(
            directory.path(),
            &files(Some(vec![item("c")])),
            &contents,
            0,
        );
        assert!(missing.unwrap_err().to_string().contains("web has no c"));
    }
}

//! Are a version's weights there, all of them?

use std::fs;
use std::path::Path;

/// Checks a folder or file of weights; `None` asks for nothing.
///
/// A Hugging Face folder lists its shards in an index: each must be there and hold something.
pub(crate) fn complete(weights: Option<&Path>) -> Result<(), String> {
    let Some(path) = weights else { return Ok(()) };
    let found = fs::metadata(path).map_err(|error| format!("weights {}: {error}", path.display()))?;
    if found.is_file() {
        return if found.len() > 0 {
            Ok(())
        } else {
            Err(format!("weights {}: the file is empty", path.display()))
        };
    }
    for index in ["model.safetensors.index.json", "pytorch_model.bin.index.json"] {
        let index = path.join(index);
        let Ok(text) = fs::read_to_string(&index) else { continue };
        let index_of: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", index.display()))?;
        let shards = index_of.get("weight_map").and_then(serde_json::Value::as_object);
        let shards = shards.ok_or_else(|| format!("{}: it has no weight_map", index.display()))?;
        for shard in shards.values().filter_map(serde_json::Value::as_str) {
            let shard = path.join(shard);
            if !fs::metadata(&shard).is_ok_and(|found| found.len() > 0) {
                return Err(format!(
                    "weights {}: the shard is missing or empty; fetch the rest of it",
                    shard.display()
                ));
            }
        }
        return Ok(());
    }
    let any = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if any { Ok(()) } else { Err(format!("weights {}: the folder is empty", path.display())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_shard_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(complete(None).is_ok());
        assert!(complete(Some(&at("none"))).is_err());
        assert!(complete(Some(folder.path())).unwrap_err().contains("empty"));
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        fs::write(at("model.safetensors.index.json"), index).unwrap();
        fs::write(at("1.safetensors"), "x").unwrap();
        assert!(complete(Some(folder.path())).unwrap_err().contains("2.safetensors"));
        fs::write(at("2.safetensors"), "x").unwrap();
        assert!(complete(Some(folder.path())).is_ok());
    }
}

//! Records as files, and in exports that are one JSON file: a name and its bytes each.
//!
//! Names stay as they are found and so do values: only the container is peeled.

use super::{MigrateError, Result, unreadable};
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name in the source.
    pub name: String,
    /// What it is.
    pub content: Content,
}

/// What a record is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes.
    Bytes(Vec<u8>),
    /// A file that is read when its turn comes.
    File(PathBuf),
}

impl Content {
    /// The bytes.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::File(file) => fs::read(file),
        }
    }
}

/// The folder with the files: the one in it (or in `instances` in it) that has one of these names, or itself, or the only one
/// there is in it.
pub fn folder_of(folder: &Path, names: &[&str]) -> Result<PathBuf> {
    let parents = [folder.to_owned(), folder.join("instances")];
    for parent in &parents {
        // A name of an instance is no path.
        let plain = names.iter().filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        if let Some(found) = plain.map(|name| parent.join(name)).find(|found| has_records(found)) {
            return Ok(found);
        }
    }
    if has_records(folder) {
        return Ok(folder.to_owned());
    }
    let folders = |parent: &PathBuf| fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = parents.iter().flat_map(folders).filter(|path| has_records(path)).collect();
    found.sort();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] if !folder.is_dir() => Err(unreadable(folder.display(), "there is no such folder")),
        [] => Err(MigrateError::NotFound(format!("neither {} nor a folder in it holds records", folder.display()))),
        several => {
            let names: Vec<_> =
                several.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
            Err(MigrateError::NotFound(format!(
                "there are several instances in {}: {}; name one with --source-instance",
                folder.display(),
                names.join(", ")
            )))
        }
    }
}

fn is_record(entry: &fs::DirEntry) -> bool {
    // A link could lead anywhere.
    entry.file_type().is_ok_and(|kind| kind.is_file()) && entry.path().extension().is_some_and(|end| end == "json")
}

fn has_records(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| is_record(&entry))
}

/// The records of a folder, by name.
pub fn in_folder(folder: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder.display(), error))? {
        let entry = entry.map_err(|error| unreadable(folder.display(), error))?;
        if is_record(&entry)
            && let Ok(name) = entry.file_name().into_string()
        {
            records.push(Record { name, content: Content::File(entry.path()) });
        }
    }
    records.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(records)
}

/// When a folder or a file was last written.
pub fn newest(place: &Path) -> Option<SystemTime> {
    let of = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let inside = fs::read_dir(place).into_iter().flatten().flatten().filter_map(|entry| of(&entry.path()));
    inside.max().or_else(|| of(place))
}

fn json_of(file: &Path) -> Result<Vec<Value>> {
    let bytes = fs::read(file).map_err(|error| unreadable(file.display(), error))?;
    // One value, or one a line, as what exports databases writes them.
    let values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    values.collect::<Result<_, _>>().map_err(|error| unreadable(file.display(), format!("it is not JSON: {error}")))
}

fn record(name: &str, value: Value) -> Record {
    let bytes = match value {
        Value::String(text) => text.into_bytes(),
        value => serde_json::to_vec(&value).unwrap_or_default(),
    };
    Record { name: name.to_owned(), content: Content::Bytes(bytes) }
}

fn object(file: &Path) -> Result<Map<String, Value>> {
    let mut values = json_of(file)?;
    match (values.pop(), values.is_empty()) {
        (Some(Value::Object(fields)), true) => Ok(fields),
        _ => Err(unreadable(file.display(), "it is not one JSON object")),
    }
}

/// What was in Redis: `{"<prefix>:instance:<id>": {field: value}}`, or the fields alone.
pub fn of_redis(file: &Path, names: &[&str]) -> Result<Vec<Record>> {
    let mut fields = object(file)?;
    let ends_as = |key: &str| names.iter().any(|name| key.rsplit_once(':').is_some_and(|(_, end)| end == *name));
    // A field may have colons, too.
    let is_hash = |key: &str, value: &Value| value.is_object() && (key.contains(":instance:") || ends_as(key));
    let hashes: Vec<String> =
        fields.iter().filter(|(key, value)| is_hash(key, value)).map(|(key, _)| key.clone()).collect();
    if !hashes.is_empty() {
        let picked = match (hashes.iter().find(|key| ends_as(key)), hashes.as_slice()) {
            (Some(named), _) => named.clone(),
            (None, [only]) => only.clone(),
            (None, several) => {
                return Err(MigrateError::NotFound(format!(
                    "there are several instances in {}: {}; name one with --source-instance",
                    file.display(),
                    several.join(", ")
                )));
            }
        };
        fields = match fields.remove(&picked) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
    }
    Ok(fields.into_iter().map(|(name, value)| record(&name, value)).collect())
}

/// What the provider had: `{name: data}`; a name may have a path before it.
pub fn of_provider(file: &Path) -> Result<Vec<Record>> {
    let fields = object(file)?.into_iter();
    Ok(fields.map(|(name, value)| record(&name, value)).collect())
}

/// What was in MongoDB: documents `{_id, …}`, as a list or one a line.
pub fn of_mongo(file: &Path) -> Result<Vec<Record>> {
    let documents = json_of(file)?.into_iter().flat_map(|value| match value {
        Value::Array(documents) => documents,
        document => vec![document],
    });
    let mut records = Vec::new();
    for document in documents {
        let Value::Object(mut document) = document else {
            return Err(unreadable(file.display(), "it holds something that is no document"));
        };
        let Some(Value::String(name)) = document.remove("_id") else {
            return Err(unreadable(file.display(), "it holds a document without the name of a record as `_id`"));
        };
        records.push(record(&name, Value::Object(document)));
    }
    Ok(records)
}

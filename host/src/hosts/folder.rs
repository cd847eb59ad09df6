//! Whether the folder of files (`data.media_dir`) is the one that the other hosts of the database have: a file that one of
//! them stores is to be there for all.
//!
//! Whoever comes first leaves a mark in the folder, and the same in the database; whoever comes while others live has to
//! find it. One host joins at a time, and the mark of the database counts only together with its host: what dies between
//! the two leaves a file that the next one writes anew.
//!
//! Deliberately not here: whether the folder goes away later, which shows when a file is stored; and copies of a folder on
//! a network file system that numbers files as it likes, which are warned of and not refused.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// The file with the mark. Stored files lie in folders beside it.
const FILE: &str = "omni.shared";
/// How long the folder may take: one on a network may not answer at all.
const WITHIN: Duration = Duration::from_secs(10);

/// The folder of a host that joins.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// The host.
    pub host: Uuid,
}

impl Folder {
    /// Makes sure that it is the others' as well, and gives back the mark that the database is to have from now on, when
    /// there is a new one. The error is a sentence that says what to do.
    pub async fn agree(&self, others: &[String], mark: Option<String>) -> Result<Option<String>, String> {
        let (folder, with_others) = (self.clone(), !others.is_empty());
        let looking = tokio::task::spawn_blocking(move || match mark.filter(|_| with_others) {
            Some(mark) => folder.find(&mark).map(|()| None),
            None => folder.leave().map(Some),
        });
        let path = self.path.display();
        let found = match tokio::time::timeout(WITHIN, looking).await {
            Ok(Ok(found)) => found,
            Ok(Err(failed)) => Err(Trouble::Unusable(failed.to_string())),
            Err(_) => Err(Trouble::Unusable(format!("it did not answer within {} s", WITHIN.as_secs()))),
        };
        found.map_err(|trouble| match trouble {
            Trouble::Unusable(reason) => format!(
                "the folder {path} (`data.media_dir`), where hosts keep files, cannot be used: {reason}; let this host \
                 read and write it"
            ),
            Trouble::Another(reason) => format!(
                "the folder {path} (`data.media_dir`) is not the one that the other hosts of this database have ({}): \
                 {reason}; mount the same folder at `data.media_dir` on every host, and start this one again",
                others.join(", ")
            ),
        })
    }

    /// Finds a mark, and that the folder can be written.
    fn find(&self, mark: &str) -> Result<(), Trouble> {
        let text = match std::fs::read_to_string(self.path.join(FILE)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Trouble::Another(format!("there is no file {FILE} in it")));
            }
            Err(error) => return Err(Trouble::Unusable(format!("failed to read {FILE}: {error}"))),
        };
        let (found, inode) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if found != mark {
            return Err(Trouble::Another(format!("the file {FILE} in it is not theirs")));
        }
        if inode != std::fs::metadata(self.path.join(FILE))?.ino().to_string() {
            tracing::warn!(
                "the folder {} (`data.media_dir`) may be a copy of the one that the other hosts have: if it is, files that \
                 they store are missing here; mount the same folder on every host",
                self.path.display()
            );
        }
        std::fs::remove_file(self.write(mark)?)?;
        Ok(())
    }

    /// Leaves a new mark.
    fn leave(&self) -> Result<String, Trouble> {
        std::fs::create_dir_all(&self.path)?;
        let mark = Uuid::new_v4().to_string();
        std::fs::rename(self.write(&mark)?, self.path.join(FILE))?;
        std::fs::File::open(&self.path)?.sync_all()?;
        Ok(mark)
    }

    /// Writes a mark beside its place: under a name that is this host's alone, so that a crash leaves one of them at most.
    fn write(&self, mark: &str) -> Result<PathBuf, Trouble> {
        let path = self.path.join(format!("{FILE}.{}", self.host.simple()));
        let mut file = std::fs::File::create(&path)?;
        let inode = file.metadata()?.ino();
        file.write_all(format!("{mark} {inode}\n").as_bytes())?;
        file.sync_all()?;
        Ok(path)
    }
}

/// What is wrong with a folder.
#[derive(Debug)]
enum Trouble {
    /// It cannot be read or written.
    Unusable(String),
    /// It is not the others'.
    Another(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Unusable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder(place: &TempDir, name: &str) -> Folder {
        Folder { path: place.path().join(name), host: Uuid::new_v4() }
    }

    fn files(folder: &Folder) -> Vec<String> {
        let names = std::fs::read_dir(&folder.path).expect("a folder").flatten();
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn whoever_comes_while_others_live_has_to_have_their_folder() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let others = ["mars".to_owned()];
        let first = folder(&place, "media");
        let mark = first.agree(&[], None).await.expect("agrees");
        assert!(mark.is_some());
        // The same, by another name.
        std::os::unix::fs::symlink(&first.path, place.path().join("mounted")).expect("links");
        let second = folder(&place, "mounted");
        assert_eq!(second.agree(&others, mark.clone()).await.expect("agrees"), None);
        assert_eq!(files(&first), [FILE], "nothing else is left in it");
        let stranger = folder(&place, "local");
        let sentence = stranger.agree(&others, mark.clone()).await.expect_err("is refused");
        for words in [&*stranger.path.to_string_lossy(), "(mars)", "no file omni.shared", "mount the same folder"] {
            assert!(sentence.contains(words), "{words}: {sentence}");
        }
        assert!(!stranger.path.exists(), "what is refused leaves nothing behind");
        let elsewhere = folder(&place, "elsewhere");
        elsewhere.agree(&[], mark.clone()).await.expect("agrees");
        let sentence = elsewhere.agree(&others, mark).await.expect_err("is refused");
        assert!(sentence.contains("is not theirs"), "{sentence}");
    }

    #[tokio::test]
    async fn whoever_is_alone_may_have_moved_the_folder_or_found_what_a_crash_left() {
        let place = tempfile::tempdir().expect("a temporary folder");
        let (before, after) = (folder(&place, "before"), folder(&place, "after"));
        let mark = before.agree(&[], None).await.expect("agrees");
        let moved = after.agree(&[], mark.clone()).await.expect("agrees");
        assert!(moved.is_some() && moved != mark);
        // It died before the database had the mark, in the middle of another one.
        std::fs::write(after.path.join(format!("{FILE}.{}", after.host.simple())), "ha").expect("writes");
        let again = after.agree(&[], mark.clone()).await.expect("agrees");
        assert!(again.is_some() && again != moved);
        assert_eq!(files(&after), [FILE]);
        // Others that have never left one are of an older version: the first that can leaves it.
        assert!(after.agree(&["old".into()], None).await.expect("agrees").is_some());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_refused() {
        let place = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(place.path().join("file"), "x").expect("writes");
        let none = folder(&place, "file/media");
        let sentence = none.agree(&[], None).await.expect_err("is refused");
        assert!(sentence.contains("file/media") && sentence.contains("cannot be used"), "{sentence}");
        // There is a folder, and nobody can write into it.
        let full = Folder { path: "/proc/self".into(), host: Uuid::new_v4() };
        let sentence = full.agree(&[], None).await.expect_err("is refused");
        assert!(sentence.contains("cannot be used") && sentence.contains("read and write"), "{sentence}");
    }
}

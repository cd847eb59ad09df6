//! Files one behind the other, as a tar archive: written so that names stay as they are, byte for byte.
//!
//! Names here are those of records (`app-state-sync-key-AAAA//=`), and what writes tar archives elsewhere takes them for
//! paths and tidies them.

use std::io::{self, Write};

const BLOCK: usize = 512;
const NAME: usize = 100;

/// Adds a file.
pub fn append(to: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    if name.len() > NAME {
        let with_end = [name.as_bytes(), b"\0"].concat();
        entry(to, b"././@LongLink", b'L', &with_end)?;
    }
    entry(to, &name.as_bytes()[..name.len().min(NAME)], b'0', content)
}

fn entry(to: &mut impl Write, name: &[u8], kind: u8, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_mode(0o600);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    to.write_all(header.as_bytes())?;
    to.write_all(content)?;
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    to.write_all(&[0; BLOCK][..padding])
}

/// Ends an archive.
pub fn end(to: &mut impl Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn names_come_back_as_they_were() {
        let long = format!("sender-key-{}@g.us--1--0", "9".repeat(200));
        let names = ["creds.json", "app-state-sync-key-AA//b=", "../x", "/etc/passwd", "a/./b/", "ü", &long];
        let mut archive = Vec::new();
        for (at, name) in names.iter().enumerate() {
            append(&mut archive, name, &vec![7; at * 300]).expect("writes");
        }
        end(&mut archive).expect("writes");
        let mut read = tar::Archive::new(archive.as_slice());
        let found: Vec<(String, usize)> = read
            .entries()
            .expect("an archive")
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let name = String::from_utf8(entry.path_bytes().into_owned()).expect("a name");
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("reads");
                (name, content.len())
            })
            .collect();
        let expected: Vec<_> = names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), at * 300)).collect();
        assert_eq!(found, expected);
    }
}

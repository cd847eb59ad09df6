//! A disk that is full, and one that fails to sync.

use super::load::{Load, chats};
use super::program::Launch;
use super::seed;
use super::verdict::Verdict;
use crate::database::needs_the_file;
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A file system in memory, as large as asked for. Gone when dropped.
pub struct Small(PathBuf);

/// Mebibytes for a plugin that is built for tests, copies of it and of those beside the program, and little more.
const ROOM: u32 = 96;

impl Small {
    /// `None` when this user may not mount.
    pub fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Small {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Everything that is left goes to somebody else, whose file this is.
    pub fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write(&mut file, &[0; 65_536]).is_ok_and(|written| written == 65_536) {}
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_acknowledges_nothing_and_is_got_over() {
    if needs_the_file("the disk is that of the data folder, where the server has nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(&folder.path().join("disk"), ROOM) else {
        println!("left out: a small file system cannot be mounted by this user");
        return;
    };
    let data = disk.0.join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let host = Launch::new(&data, &listen).start().await;
    host.echo(&echo).await;
    let load = Load::start(&echo, chats("d", 8));
    load.until(50, PATIENCE).await;
    let filler = disk.fill();
    // The database still has room in the file that it has: messages come in until that is used up, then no more.
    let mut before = load.until(usize::MAX, Duration::from_millis(500)).await;
    let stalled = loop {
        let now = load.until(usize::MAX, Duration::from_millis(500)).await;
        if now == before {
            break now;
        }
        before = now;
    };
    std::fs::remove_file(&filler).unwrap();
    let wanted = stalled + 50;
    assert!(load.until(wanted, PATIENCE).await >= wanted, "with room again, messages come in again");
    let chats = load.stop().await;
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    verdict.look(&host, &chats).await;
    verdict.check("full disk", seed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_to_sync_acknowledges_nothing() {
    if needs_the_file("the disk is that of the data folder, where the server has nothing") {
        return;
    }
    let tracer = ["--pdeathsig", "KILL", "strace", "-D", "-f", "-o", "/dev/null", "true"];
    if !Command::new("setpriv").args(tracer).output().is_ok_and(|done| done.status.success()) {
        println!("left out: strace (with setpriv) is needed, and the right to trace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    {
        let mut host = Launch::new(&data, &listen).start().await;
        host.echo(&echo).await;
        host.kill().await;
    }
    let trace = folder.path().join("trace");
    let path = trace.to_string_lossy().into_owned();
    // The program itself is what we start and end, and the tracer its companion (`-D`): ended the other way around, the
    // program would go on without it. And it ends with this test even when the whole of the tests is killed.
    let tracer = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        &path,
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync,fsync:error=EIO:when=40..60",
    ];
    let mut host = Launch::new(&data, &listen).under(&tracer).start().await;
    let load = Load::start(&echo, chats("s", 4));
    load.until(200, PATIENCE).await;
    host.kill().await;
    let chats = load.stop().await;
    let failed = std::fs::read_to_string(&trace).unwrap();
    let failed = failed.lines().filter(|line| line.contains("(INJECTED)")).count();
    assert!(failed > 0, "the disk failed while messages came in");
    let host = Launch::new(&data, &listen).start().await;
    let mut verdict = Verdict { rounds: failed, ..Verdict::default() };
    verdict.look(&host, &chats).await;
    verdict.check("EIO from fsync", seed());
}

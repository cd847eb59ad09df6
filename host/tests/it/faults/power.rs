//! The power is cut: what reached the disk is all there is.
//!
//! The data folder lies on a file system in a file. The host is stopped for a moment, the file is copied as it is, with
//! whatever the system had not written yet missing, and the copy is mounted and run: everything that was acknowledged
//! before must be in it.

use super::load::{Load, chats};
use super::program::Launch;
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::database::needs_the_file;
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system in a file. Unmounted when dropped.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn mount(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes a file system in a file; whether that can be done here.
pub fn make(image: &Path) -> bool {
    let made = std::fs::File::create(image).and_then(|file| file.set_len(128 << 20)).is_ok();
    made && Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image).output().is_ok_and(|done| done.status.success())
}

/// Copies a file system as it is on the disk at this moment.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["--sparse=always", "--reflink=never"]).arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "the image is copied");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_power_cut() {
    if needs_the_file("the power is that of the data folder, where the server has nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.img");
    let disk = make(&image).then(|| Disk::mount(&image, &folder.path().join("disk"))).flatten();
    let Some(disk) = disk else {
        println!("left out: a file system in a file cannot be mounted by this user");
        return;
    };
    let data = disk.0.join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let mut host = Launch::new(&data, &listen).start().await;
    host.echo(&echo).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(5), ..Verdict::default() };
    let mut talking = chats("w", 6);
    for _ in 0..verdict.rounds {
        let load = Load::start(&echo, talking);
        load.until(random.random_range(5..60), PATIENCE).await;
        let pid = host.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(pid, Signal::STOP).unwrap();
        // What was told until now was told before the power went; what is told later does not count for this copy.
        let cut = folder.path().join("cut.img");
        copy(&image, &cut);
        let told = load.told();
        kill_process(pid, Signal::CONT).unwrap();
        talking = load.stop().await;

        let after = Disk::mount(&cut, &folder.path().join("cut")).expect("the copy is a file system");
        let elsewhere = free_address();
        let mut again = Launch::new(&after.0.join("data"), &elsewhere).start().await;
        verdict.look(&again, &told).await;
        again.kill().await;
        drop(after);
    }
    host.kill().await;
    verdict.check("power cut", seed);
}

//! What every benchmark says beside its numbers: the machine, its disk, its memory.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long 4 KiB take to be durable, in milliseconds: the median, and the 99th percentile.
pub fn calibrate() -> (f64, f64) {
    synced(4 << 10, 300)
}

/// How long so many bytes take to be durable, so many times: the median, and the 99th percentile, in milliseconds.
pub fn synced(bytes: usize, times: usize) -> (f64, f64) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let page = vec![7u8; bytes];
    let mut times: Vec<Duration> = (0..times)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&page).expect("the disk takes it");
            file.sync_data().expect("the disk syncs");
            began.elapsed()
        })
        .collect();
    times.sort();
    let ms = |per_cent: usize| times[times.len() * per_cent / 100].as_secs_f64() * 1_000.0;
    (ms(50), ms(99))
}

/// The processor, the cores, the kernel.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, model)| model));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} × {cores}, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

/// The memory of this process, in MiB.
pub fn rss() -> f64 {
    rss_of("self")
}

/// The memory of a process, in MiB.
pub fn rss_of(pid: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

/// The echo plugin, built as the host is.
pub fn echo_plugin() -> PathBuf {
    plugin("echo")
}

/// One of our plugins, built as the host is.
pub fn plugin(channel: &str) -> PathBuf {
    let bench = std::env::current_exe().expect("a benchmark has a path");
    let target = bench.ancestors().nth(2).expect("it lies in target/release/deps");
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p"])
        .arg(format!("omni-channel-{channel}"))
        .arg("--target-dir")
        .arg(target.parent().expect("a target folder"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the plugin could not be built");
    target.join(format!("libomni_channel_{channel}.so"))
}

//! Files in the plugins folder: each that cannot be used says why, and harms nothing else.

use crate::harness::{Setup, TestHost, install, plugin_file};
use omni_host::config::Isolation;
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

/// Why a file is refused: the API, the command line and the log say the same.
async fn reason(host: &TestHost, file: &str) -> String {
    let log = log();
    host.call(Method::POST, "/plugins/rescan", Some(json!({}))).await;
    let (told, done) = host.cli(&["--json", "plugins", "list"]).await;
    assert!(done.success(), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let shown = host.get("/plugins").await;
    let [shown, told] = [&shown["items"], &told].map(|list| {
        let items = list.as_array().unwrap();
        let found = items.iter().find(|plugin| ends_with(plugin, file));
        let found = found.unwrap_or_else(|| panic!("{file} is not among {items:?}"));
        assert_eq!(state_of(found), "failed", "{found}");
        found["status"]["reason"].as_str().unwrap().to_owned()
    });
    assert_eq!(told, shown, "the command line says the same");
    let path = host.data.join("plugins").join(file).display().to_string();
    let logged = log.text();
    let mut lines = logged.lines().filter(|line| line.contains(&path));
    assert!(lines.any(|line| line.contains(&shown)), "{file}: {shown:?} is not in the log: {logged}");
    shown
}

fn state_of(plugin: &Value) -> &str {
    plugin["status"]["state"].as_str().unwrap()
}

fn write(host: &TestHost, name: &str, bytes: &[u8]) {
    let file = host.data.join("plugins").join(name);
    std::fs::write(&file, bytes).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The good file with one piece of it replaced by another of the same length.
fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(plugin_file("telegram")).unwrap();
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the piece is in the file");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

/// The good file with the byte at a place of its ELF header replaced.
fn header(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = std::fs::read(plugin_file("telegram")).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// Every bad file, and what is said about it.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = std::fs::read(plugin_file("telegram")).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.ends_with("libc.so.6"));
    vec![
        ("empty.so", Vec::new(), "the file is empty"),
        ("words.so", b"this is not a library at all".to_vec(), "it is not a shared library (no ELF header)"),
        ("module.wasm", b"\0asm\x01\0\0\0".to_vec(), "it is a WASM module and no component"),
        ("component.wasm", b"\0asm\x0d\0\x01\0".to_vec(), "it is a WASM component but no channel plugin"),
        ("magic.wasm", b"\0asm".to_vec(), "it is WASM that is damaged or cut off"),
        ("garbage.wasm", [&b"\0asm\x0d\0\x01\0"[..], &[0xa5; 5_000]].concat(), "it is WASM that is damaged or cut off"),
        ("magic.so", good[..4].to_vec(), "it is not a 64-bit library"),
        ("ten-bytes.so", good[..10].to_vec(), "its ELF headers are damaged or cut off"),
        ("thousand-bytes.so", good[..1_000].to_vec(), "cut off"),
        ("half.so", good[..good.len() / 2].to_vec(), "cut off"),
        ("one-byte-less.so", good[..good.len() - 1].to_vec(), "cut off"),
        ("32-bit.so", header(4, &[1]), "it is not a 64-bit library"),
        ("big-endian.so", header(5, &[2]), "it is not a little-endian library"),
        ("program.so", header(16, &2u16.to_le_bytes()), "it is an ELF file but not a shared library"),
        ("arm.so", header(18, &183u16.to_le_bytes()), "it is built for aarch64, this machine is x86_64"),
        ("riscv.so", header(18, &243u16.to_le_bytes()), "it is built for machine 243, this machine is x86_64"),
        ("libc.so", std::fs::read(libc.unwrap()).unwrap(), "it is a library but no channel plugin"),
        ("json.so", replaced(b"{\"manifest\":1,", b"[\"manifest\":1,"), "its manifest is not what it should be"),
        ("format.so", replaced(b"{\"manifest\":1,", b"{\"manifest\":2,"), "its manifest has format 2"),
        ("note.so", replaced(b"Omni\0\0\0\0{", b"Ommi\0\0\0\0{"), "its manifest section is not a well-formed note"),
        ("old-sdk.so", replaced(b"\"sdk\":\"1.", b"\"sdk\":\"0."), "rebuild it with the current SDK"),
        ("new-sdk.so", replaced(b"\"sdk\":\"1.", b"\"sdk\":\"2."), "it needs a newer host"),
        ("no-sdk.so", replaced(b"\"sdk\":\"1.", b"\"sdk\":\"x."), "is no version"),
        ("abi.so", replaced(b"\"abi\":\"native-1\"", b"\"abi\":\"native-9\""), "it speaks \"native-9\""),
        ("abort.so", replaced(b"\"panic\":\"unwind\"", b"\"panic\":\"abort\" "), "rebuild it with panic = \"unwind\""),
        ("id.so", replaced(b"\"id\": \"telegram\"", b"\"id\": \"Telegram\""), "its channel id \"Telegram\" is not"),
        ("glibc.so", replaced(b"\0GLIBC_2.34\0", b"\0GLIBC_9.99\0"), "it needs glibc 9.99, this machine has 2."),
        (
            "no-export.so",
            replaced(b"_1as_0lib_1header", b"_2as_0lib_1header"),
            "it has a manifest but exports no channel",
        ),
    ]
}

/// What the log says, of every test in this program.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// The one log of this program, from the first call on.
fn log() -> Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let begin = || {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    };
    LOG.get_or_init(begin).clone()
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_says_what_is_wrong_everywhere_and_the_good_ones_go_on() {
    log();
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(Setup { isolation, ..Setup::default() }).await;
        let (id, echo) = host.echo("demo").await;
        let files = bad_files();
        for (name, bytes, _) in &files {
            write(&host, name, bytes);
        }
        std::fs::create_dir(host.data.join("plugins/folder.so")).unwrap();
        let sentences = files.iter().map(|(name, _, sentence)| (*name, *sentence));
        for (name, sentence) in sentences.chain([("folder.so", "it is not a regular file")]) {
            let why = reason(&host, name).await;
            assert!(why.contains(sentence), "{name}: {why}");
        }
        host.say(&echo, "room", "m1", "still here").await;
        host.settle().await;
        assert_eq!(host.messages(&id, "room").await.len(), 1);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_strangers_may_change_is_refused() {
    log();
    let host = TestHost::start().await;
    let file = install(&host.data, &plugin_file("telegram"));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(reason(&host, "libomni_channel_telegram.so").await.contains("chmod o-w"));
    std::fs::remove_file(&file).unwrap();
    symlink(plugin_file("telegram"), host.data.join("plugins/link.so")).unwrap();
    assert!(reason(&host, "link.so").await.contains("out of the plugins folder"));
    symlink("nowhere.so", host.data.join("plugins/broken.so")).unwrap();
    assert!(reason(&host, "broken.so").await.contains("a link that leads nowhere"));
    // A good file in a folder that everybody may write into is no better than what they put there.
    std::fs::remove_file(host.data.join("plugins/link.so")).unwrap();
    std::fs::set_permissions(host.data.join("plugins"), PermissionsExt::from_mode(0o777)).unwrap();
    install_as(&host, "late.so");
    assert!(reason(&host, "late.so").await.contains("everybody on this machine may put files into its folder"));
    std::fs::set_permissions(host.data.join("plugins"), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(state_of(&host.plugin("late.so").await), "loaded", "and it is found good when that is mended");
    host.stop().await;
}

fn install_as(host: &TestHost, name: &str) {
    write(host, name, &std::fs::read(plugin_file("telegram")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_one_id_are_both_refused_and_one_twice_is_one() {
    log();
    let host = TestHost::start().await;
    let bytes = std::fs::read(plugin_file("telegram")).unwrap();
    write(&host, "a.so", &bytes);
    write(&host, "b.so", &bytes);
    assert!(reason(&host, "b.so").await.contains("same file as"));
    let mut changed = bytes.clone();
    changed.push(0);
    write(&host, "b.so", &changed);
    for file in ["a.so", "b.so"] {
        let why = reason(&host, file).await;
        assert!(why.contains("a.so") && why.contains("b.so"), "{why}");
    }
    std::fs::remove_file(host.data.join("plugins/b.so")).unwrap();
    host.call(Method::POST, "/plugins/rescan", Some(json!({}))).await;
    let plugins = host.get("/plugins").await;
    let a = plugins["items"].as_array().unwrap().iter().find(|plugin| ends_with(plugin, "a.so")).unwrap().clone();
    assert_eq!(state_of(&a), "loaded");
    host.stop().await;
}

fn ends_with(plugin: &Value, name: &str) -> bool {
    Path::new(plugin["file"].as_str().unwrap()).file_name().is_some_and(|file| file == name)
}

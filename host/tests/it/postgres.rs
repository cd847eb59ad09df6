//! A host on Postgres as its operator sees it: who may use a database, and what the command line says of it.

use crate::harness::{PATIENCE, built, free_address, http_client};
use crate::postgres_server::Server;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A server with a database, and data folders.
struct Rig {
    server: Server,
    home: tempfile::TempDir,
}

impl Rig {
    fn start() -> Option<Self> {
        let Some(server) = Server::start(&["fsync = off"]) else {
            println!("left out: Postgres is not installed");
            return None;
        };
        server.create("omni", None);
        Some(Self { server, home: tempfile::tempdir().unwrap() })
    }

    fn data(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The program on a data folder.
    fn program(&self, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(built().join("omni"));
        command
            .args(args)
            .arg("--data")
            .arg(data)
            .env_clear()
            .env("OMNI_DATABASE_URL", self.address())
            .env("OMNI_LISTEN", free_address())
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// The address, with a password that the server does not ask for.
    fn address(&self) -> String {
        format!("{}&password=hunter2", self.server.url("omni"))
    }

    /// Runs it to its end: its exit code and what it printed.
    async fn run(&self, data: &Path, args: &[&str]) -> (i32, String) {
        let done = tokio::time::timeout(PATIENCE, self.program(data, args).output()).await.expect("it ends").unwrap();
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(!said.contains("hunter2"), "a password is shown nowhere: {said}");
        (done.status.code().expect("it ends by itself"), said)
    }

    /// A host that answers.
    async fn host(&self, data: &Path) -> Child {
        let listen = free_address();
        let log = data.with_extension("log");
        let mut serve = self.program(data, &["serve"]);
        serve.env("OMNI_LISTEN", &listen).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        let host = serve.spawn().unwrap();
        let (client, url) = (http_client(PATIENCE), format!("http://{listen}/ready"));
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let ready = async {
            while !client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                tick.tick().await;
            }
        };
        let started = tokio::time::timeout(PATIENCE, ready).await;
        started.unwrap_or_else(|_| panic!("the host does not start: {}", std::fs::read_to_string(&log).unwrap()));
        host
    }
}

async fn end(mut host: Child) {
    let pid = host.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::time::timeout(PATIENCE, host.wait()).await.expect("it ends in time").unwrap();
    assert!(ended.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_host_uses_a_database_and_the_second_is_told_which() {
    let Some(rig) = Rig::start() else { return };
    let (mars, venus) = (rig.data("mars"), rig.data("venus"));
    let host = rig.host(&mars).await;
    let (code, said) = rig.run(&venus, &["serve"]).await;
    assert_eq!(code, 1, "{said}");
    let process = host.id().expect("it runs");
    assert!(
        said.contains("in use by another host, omni on ") && said.contains(&format!("(process {process})")),
        "{said}"
    );
    // Offline commands do not write beside it either, and the doctor says who has it.
    let (code, said) = rig.run(&venus, &["data", "rotate-key", "--offline"]).await;
    assert!(code == 1 && said.contains("in use by another host"), "{said}");
    let (_, said) = rig.run(&mars, &["doctor"]).await;
    assert!(said.contains("in use by omni on "), "{said}");
    end(host).await;
    // What is over is free at once.
    end(rig.host(&mars).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_another_key_or_without_one_writes_nothing() {
    let Some(rig) = Rig::start() else { return };
    let (mars, venus) = (rig.data("mars"), rig.data("venus"));
    end(rig.host(&mars).await).await;
    let (code, said) = rig.run(&venus, &["serve"]).await;
    assert!(code == 1 && said.contains("the data folder has no key"), "{said}");
    assert!(!venus.join("omni.key").exists(), "a key that is of no use is not left behind");
    std::fs::write(venus.join("omni.key"), format!("{}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(venus.join("omni.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, said) = rig.run(&venus, &["serve"]).await;
    assert!(code == 1 && said.contains("another key"), "{said}");
    std::fs::copy(mars.join("omni.key"), venus.join("omni.key")).unwrap();
    end(rig.host(&venus).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_what_it_finds_and_what_it_leaves_to_others() {
    let Some(rig) = Rig::start() else { return };
    let data = rig.data("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let (_, said) = rig.run(&data, &["doctor", "--json"]).await;
    assert!(said.contains("empty; `omni serve` makes the tables"), "{said}");
    end(rig.host(&data).await).await;
    let (_, said) = rig.run(&data, &["doctor", "--json"]).await;
    let found: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let text = found.to_string();
    let steps = std::fs::read_dir("../migrations/postgres").unwrap().flatten();
    let number = |step: std::fs::DirEntry| step.file_name().to_str()?.split('_').next()?.parse::<i64>().ok();
    let newest = steps.filter_map(number).max().unwrap();
    assert!(
        text.contains(&format!("schema {newest}\""))
            && text.contains("fsync is off")
            && text.contains("the one that belongs"),
        "{said}"
    );
    let (code, said) = rig.run(&data, &["backup", "copy"]).await;
    assert!(code == 2 && said.contains("pg_dump"), "{said}");
    let (code, said) = rig.run(&data, &["restore", "copy"]).await;
    assert!(code == 2 && said.contains("pg_restore"), "{said}");
    let (code, said) = rig.run(&data, &["config", "check"]).await;
    assert!(code == 0 && said.contains("user=postgres"), "{said}");
    // A schema that is newer, and a server that is not there.
    rig.server.ask(
        "omni",
        "insert into _sqlx_migrations select 9999, description, installed_on, success, checksum, execution_time
         from _sqlx_migrations where version = 1",
    );
    let (code, said) = rig.run(&data, &["serve"]).await;
    assert!(code == 1 && said.contains("used by a newer version of Omni"), "{said}");
    let (code, said) = rig.run(&data, &["doctor"]).await;
    assert!(code == 1 && said.contains("newer than this program knows"), "{said}");
    rig.server.signal("KILL");
    let (code, said) = rig.run(&data, &["doctor"]).await;
    assert!(code == 1 && said.contains("cannot be used"), "{said}");
}

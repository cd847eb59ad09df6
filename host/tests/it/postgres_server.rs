//! A Postgres server of the tests' own, in a temporary folder, reached by a socket in it and by nobody else. Also used by
//! the tests in `src`.
//!
//! Postgres refuses to run as root, so that root starts it as another user. A guardian, which reads from the test process
//! until that ends, however it ends, stops the server by the process id in its folder and takes the folder away.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Stops the server and takes its folder away when its input ends.
const GUARDIAN: &str = r#"trap '' INT TERM HUP
read -r _
pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -CONT "$pid" && kill -QUIT "$pid" &&
  for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
rm -rf "$0""#;

/// A running server.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    user: Option<String>,
    _guardian: Guardian,
}

/// The folder of Postgres's programs, the newest there are; `None` when there is none.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(version, _)| *version >= 15)
        .collect();
    found.sort();
    let others = ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    found.into_iter().rev().map(|(_, folder)| folder).chain(others).find(|folder| folder.join("initdb").exists())
}

/// Stops a server and takes its folder away when its input ends: with this value, or with the test process.
#[derive(Debug)]
pub struct Guardian(Child);

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // What is not waited for is never quite gone, and whoever waits for that waits for ever.
        let _ = self.0.wait();
    }
}

/// Starts what stops a server and takes its folder away.
pub fn guard(folder: &Path, script: &str) -> Guardian {
    let mut guardian = Command::new("sh");
    guardian.args(["-c", script]).arg(folder).stdin(Stdio::piped());
    Guardian(guardian.spawn().expect("a guardian starts"))
}

/// Somebody who is not root: name, user and group.
fn other_user() -> Option<(String, u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let of = |wanted: &str| {
        let fields: Vec<&str> = users
            .lines()
            .map(|line| line.split(':').collect())
            .find(|fields: &Vec<&str>| fields.first() == Some(&wanted))?;
        Some((wanted.to_owned(), fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

impl Server {
    /// Starts one; `None` when Postgres is not installed. `settings` are as for `postgres -c`.
    pub fn start(settings: &[&str]) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("omni-pg-").tempdir().expect("a temporary folder").keep();
        let user = if is_root(&folder) { other_user() } else { None };
        if let Some((_, uid, gid)) = &user {
            std::os::unix::fs::chown(&folder, Some(*uid), Some(*gid)).expect("the folder changes hands");
        }
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).expect("rights");
        let guardian = guard(&folder, GUARDIAN);
        let server = Self { folder, programs, user: user.map(|(name, _, _)| name), _guardian: guardian };
        let data = server.data();
        let init = |locale: &[&str]| {
            let mut init = server.program("initdb");
            init.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-locale", "-D"]);
            server.run(init.arg(&data).args(locale))
        };
        // Words in the order of a language where that can be had, since our own sort by their bytes whatever it is.
        if let Err(said) = init(&["--locale-provider=icu", "--icu-locale=en-US"]) {
            let _ = std::fs::remove_dir_all(&data);
            init(&[]).unwrap_or_else(|again| panic!("initdb failed: {said}\n{again}"));
        }
        let mut lines = String::from("listen_addresses = ''\nmax_connections = 400\nshared_buffers = 64MB\n");
        lines.push_str(&format!("unix_socket_directories = '{}'\n", server.folder.display()));
        for setting in settings {
            lines.push_str(setting);
            lines.push('\n');
        }
        let file = data.join("postgresql.auto.conf");
        std::fs::write(&file, lines).expect("its settings are written");
        server.go();
        Some(server)
    }

    /// Starts it again after it was stopped or killed; returns when it answers.
    pub fn go(&self) {
        let mut start = self.program("pg_ctl");
        start.arg("start").args(["-w", "-s", "-t", "60", "-D"]).arg(self.data());
        // Its own output must not keep ours open.
        start.arg("-l").arg(self.folder.join("log"));
        // What is left of one that was killed takes a moment to end.
        let mut said = String::new();
        for _ in 0..100 {
            match self.run(&mut start) {
                Ok(()) => return,
                Err(again) => said = again,
            }
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("the server did not start: {said}\n{log}");
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// One of Postgres's programs, as the user whose server it is.
    fn program(&self, name: &str) -> Command {
        let Some(user) = &self.user else { return self.client(name) };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
        command.arg(self.programs.join(name));
        self.settled(command)
    }

    /// One that asks the server, which anybody may.
    fn client(&self, name: &str) -> Command {
        self.settled(Command::new(self.programs.join(name)))
    }

    fn settled(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(&self.folder);
        command
    }

    fn run(&self, command: &mut Command) -> Result<(), String> {
        let done = command.stdin(Stdio::null()).output().map_err(|error: io::Error| error.to_string())?;
        let said = || String::from_utf8_lossy(&[done.stdout.as_slice(), done.stderr.as_slice()].concat()).into_owned();
        if done.status.success() { Ok(()) } else { Err(said()) }
    }

    /// The process id of the server.
    pub fn pid(&self) -> String {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("the server runs");
        file.lines().next().expect("its first line is the process id").to_owned()
    }

    /// The address of a database on it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=postgres", self.folder.display())
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// Makes a database, as a copy of another one if one is named.
    pub fn create(&self, database: &str, template: Option<&str>) {
        let mut create = self.client("createdb");
        create.arg("--host").arg(&self.folder).args(["--username=postgres", "--maintenance-db=postgres"]);
        if let Some(template) = template {
            create.args(["--template", template]);
        }
        self.run(create.arg(database)).unwrap_or_else(|said| panic!("createdb failed: {said}"));
    }

    /// Runs a statement from outside, and gives back what it says: rows by lines, columns by `|`.
    pub fn ask(&self, database: &str, statement: &str) -> String {
        let mut ask = self.client("psql");
        ask.arg("--host").arg(&self.folder).args(["--username=postgres", "-X", "-A", "-t", "-c", statement, database]);
        let done = ask.stdin(Stdio::null()).output().expect("psql runs");
        assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("it answers with text").trim().to_owned()
    }

    /// All that is in a database, as text.
    pub fn dump(&self, database: &str) -> Vec<u8> {
        let mut dump = self.client("pg_dump");
        dump.arg("--host").arg(&self.folder).args(["--username=postgres", database]);
        let done = dump.stdin(Stdio::null()).output().expect("pg_dump runs");
        assert!(done.status.success(), "pg_dump: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Sends a signal to the server, by its process id.
    pub fn signal(&self, signal: impl AsRef<OsStr>) {
        let sent = Command::new("kill").arg("-s").arg(signal).arg(self.pid()).status().expect("kill runs");
        assert!(sent.success(), "the server takes the signal");
    }

    /// Sends a signal to the server and to every process of it, first to the one that starts the others.
    pub fn signal_all(&self, signal: &str) {
        let pid = self.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it has children");
        self.signal(signal);
        // One that has ended meanwhile has nothing to be told.
        let _ =
            Command::new("kill").args(["-s", signal]).args(children.split_whitespace()).status().expect("kill runs");
    }
}

/// Whether we are root: what we make is root's.
fn is_root(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder).is_ok_and(|found| found.uid() == 0)
}

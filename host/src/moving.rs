//! An embedded installation moves into Postgres: everything in its file is copied, compared, and from then on kept there.
//!
//! ```text
//! look     the file is whole, at the newest step of the schema, and belongs to the key of the data folder
//! hold     the data folder's lock and the target's, so that no host writes to either
//! copy     table by table in pages; each page and how far the table is with it are one transaction
//! compare  every row of both sides, in the order of their keys, byte by byte, and a hash of each table from each side
//! finish   what the target counts by itself goes on behind what was copied; the target says that it is whole
//! mark     `omni.moved` in the data folder: no host starts on the file any more
//! ```
//!
//! Begun again after an end at any point, it goes on behind the last page. Key, files and plugins stay in the data folder.
//! Deliberately not here: the way back. The file stays as it was; what came after the move is in Postgres only.

use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::data::{DataError, DataFolder, write_private};
use crate::store::moving::{Copied, CopyError, Found, Key, Page, Source, Table, Target};
use crate::store::{StoreError, Time, snapshot};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The file in the data folder that says where the installation is now.
pub const MARK_FILE: &str = "omni.moved";
/// Rows of a page, unless somebody says otherwise.
pub const PAGE_ROWS: u32 = 4_000;

/// Why an installation was not moved. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is nothing to be moved.
    #[error("there is no database at {0}; name the data folder with --data")]
    NoDatabase(PathBuf),
    /// The file was written by an older program.
    #[error(
        "the database is at step {found} of its schema, and this program writes step {known}: start `omni serve` on it \
         once, so that it is brought up to date, stop it, and move it then"
    )]
    Older {
        /// The step of the file.
        found: i64,
        /// The newest step.
        known: i64,
    },
    /// The file was written by a newer program.
    #[error("the database is at step {0} of its schema: it was used by a newer version of Omni; move it with that one")]
    Newer(i64),
    /// The key does not belong to the file.
    #[error("the key in {0} does not belong to the database: {1}")]
    Key(PathBuf, String),
    /// The installation is elsewhere already.
    #[error(transparent)]
    Moved(#[from] Moved),
    /// The target holds something else.
    #[error("the target holds {0}; name an empty database, or empty this one first if nothing in it is needed")]
    NotEmpty(String),
    /// The target holds a copy of something else.
    #[error(
        "the target holds a copy of another installation, begun {0}; name an empty database, or empty this one first if \
         nothing in it is needed"
    )]
    Another(Time),
    /// The target holds a copy that is done, and the file has changed since.
    #[error(
        "this installation was moved to the target already, {0}, and its file was used since; set `database.url` to the \
         target to go on there, or name an empty database to move the file as it is now"
    )]
    Done(Time),
    /// The file was changed since its copy was begun.
    #[error(
        "the target holds an unfinished copy of this installation, begun {0}, and the file was used since; add --restart \
         to throw that copy away and to begin anew"
    )]
    Changed(Time),
    /// Rows, or one of the databases.
    #[error("{0}{advice}", advice = advice(.0))]
    Copy(#[from] CopyError),
    /// The two sides are not the same.
    #[error(
        "the copy is not the same as the file: {table}, row {key}: {what}; the target was changed meanwhile, or a disk is \
         failing. Nothing was changed in the file; find out what it was, and begin anew with --restart"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// The first row's key.
        key: String,
        /// What is not the same.
        what: String,
    },
    /// The data folder is used or its key file is bad.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The disk.
    #[error("failed to read {path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn advice(error: &CopyError) -> &'static str {
    match error.is_about_rows() {
        true => {
            "; nothing of its page was copied. Mend or delete it in the file with the program sqlite3, while no host runs, \
             and begin anew with --restart"
        }
        false => "",
    }
}

impl From<StoreError> for MoveError {
    fn from(error: StoreError) -> Self {
        Self::Copy(error.into())
    }
}

type Result<T, E = MoveError> = std::result::Result<T, E>;

/// Where an installation is now, as the mark in its old data folder says.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
#[error(
    "this installation was moved to {to}, {moved_at}: set `database.url` to that database. To go back to what {} held then, \
     and to lose what came since, delete {}",
    .database.display(), .mark.display()
)]
pub struct Moved {
    /// The file that it was in.
    pub database: PathBuf,
    /// Where it is, without a password.
    pub to: String,
    /// Since when.
    pub moved_at: Time,
    /// The mark.
    #[serde(skip)]
    pub mark: PathBuf,
}

/// Where the installation of a data folder is now, if the file that is configured is not it any more.
pub fn moved(config: &Config) -> Option<Moved> {
    moved_from(&config.data.dir, &config.database_file()?)
}

fn moved_from(folder: &Path, database: &Path) -> Option<Moved> {
    let mark = folder.join(MARK_FILE);
    let text = std::fs::read(&mark).ok()?;
    // A mark that cannot be read is still one: two hosts with the same tokens are worse than a host that asks.
    let read = serde_json::from_slice(&text).ok();
    let unread = || Moved {
        database: database.to_path_buf(),
        to: "another database".into(),
        moved_at: Time(0),
        mark: PathBuf::new(),
    };
    let found = Moved { mark, ..read.unwrap_or_else(unread) };
    let same = |one: &Path, other: &Path| one == other || one.canonicalize().ok() == other.canonicalize().ok();
    same(&found.database, database).then_some(found)
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The database that it goes to.
    pub to: DatabaseUrl,
    /// Only look, and say what would be done.
    pub dry_run: bool,
    /// Throw an unfinished copy of this installation away.
    pub restart: bool,
    /// Rows of a page.
    pub page_rows: u32,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Rows are only read, to see whether they can be copied.
    Check,
    /// Rows are copied.
    Copy,
    /// Rows are compared.
    Compare,
}

/// How far a step is with a table.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// With which table.
    pub table: &'static str,
    /// Rows that are done.
    pub rows: u64,
    /// Of so many.
    pub of: u64,
    /// Rows of the table that were there from an earlier try.
    pub before: u64,
}

/// What became of a table.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TableReport {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Those of them that were copied this time.
    pub copied: u64,
    /// The XXH3 hash of all rows in the order of their keys, the same from both sides; absent when they were not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What became of a move.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The file.
    pub from: PathBuf,
    /// The target, without a password.
    pub to: String,
    /// Whether it was only looked at.
    pub dry_run: bool,
    /// Whether an earlier try was gone on with.
    pub resumed: bool,
    /// Whether the copy was done already, so that nothing was to be done.
    pub done_before: bool,
    /// Each table.
    pub tables: Vec<TableReport>,
    /// Rows of all of them.
    pub rows: u64,
    /// How long copying took.
    pub copy_ms: i64,
    /// How long comparing took.
    pub compare_ms: i64,
}

/// The two sides, and what there is to be copied.
struct Sides {
    source: Source,
    target: Target,
    tables: Vec<Table>,
    counts: Vec<u64>,
    page_rows: u32,
}

/// Who is told how far it is.
pub type Tell<'a> = &'a mut dyn FnMut(Progress);

/// Moves the installation of a data folder. Nothing is written to its file.
pub async fn run(config: &Config, request: &Request, clock: &Clock, tell: Tell<'_>) -> Result<Report> {
    let file = match &config.database.url {
        DatabaseUrl::Sqlite(file) => file.clone(),
        DatabaseUrl::Embedded | DatabaseUrl::Postgres(_) => config.data.dir.join("omni.db"),
    };
    if !std::fs::metadata(&file).is_ok_and(|found| found.len() > 0) {
        return Err(MoveError::NoDatabase(file));
    }
    let data = DataFolder::open(&config.data.dir, Some(&file))?;
    let key_check = look(&file, &data).await?;
    let DatabaseUrl::Postgres(address) = &request.to else {
        return Err(StoreError::Unfit(format!("{} is no Postgres database", request.to)).into());
    };
    let machine = rustix::system::uname();
    let name = format!("omni moving from {} (process {})", machine.nodename().to_string_lossy(), std::process::id());
    let mut target = Target::open(address.expose(), &name).await?;
    let fingerprint = fingerprint(&file).await?;
    let mut found = target.look().await?;
    let mut report = Report {
        from: file.clone(),
        to: request.to.to_string(),
        dry_run: request.dry_run,
        resumed: false,
        done_before: false,
        tables: Vec::new(),
        rows: 0,
        copy_ms: 0,
        compare_ms: 0,
    };
    if let Found::Move(there) = &found {
        if data.sealer.verify(&there.key_check).is_err() {
            return Err(MoveError::Another(there.started_at));
        }
        let is_the_same = there.fingerprint == fingerprint;
        match there.finished_at {
            Some(at) if is_the_same => {
                // It died, if ever, before it could say so in the data folder.
                if !request.dry_run {
                    mark(&data, &file, &report.to, at)?;
                }
                report.done_before = true;
                target.close().await?;
                return Ok(report);
            }
            Some(at) => return Err(MoveError::Done(at)),
            None if request.restart && !request.dry_run => {
                target.forget_move().await?;
                found = Found::Empty;
            }
            None if is_the_same || request.restart => {}
            None => return Err(MoveError::Changed(there.started_at)),
        }
    }
    if let Found::Else(what) = found {
        return Err(MoveError::NotEmpty(what));
    }
    // Only then: one that was moved to this very target is done, and that was said above.
    if let Some(moved) = moved_from(&config.data.dir, &file) {
        return Err(moved.into());
    }
    report.resumed = matches!(found, Found::Move(_));
    let tables = if request.dry_run {
        target.tables_to_be().await?
    } else {
        target.migrate().await?;
        target.tables().await?
    };
    if !request.dry_run && !report.resumed {
        target.begin_move(&key_check, &fingerprint, clock.now()).await?;
    }
    let mut source = Source::open(&file).await?;
    let mut counts = Vec::with_capacity(tables.len());
    for table in &tables {
        source.check(table).await?;
        counts.push(source.count(table.name).await?);
    }
    let mut sides = Sides { source, target, tables, counts, page_rows: request.page_rows.max(1) };
    let began = clock.now();
    if request.dry_run {
        report.tables = sides.check(tell).await?;
    } else {
        report.tables = sides.copy(tell).await?;
        let copied = clock.now();
        report.copy_ms = copied.millis() - began.millis();
        let hashes = sides.compare(tell).await?;
        for (table, hash) in report.tables.iter_mut().zip(hashes) {
            table.hash = Some(hash);
        }
        report.compare_ms = clock.now().millis() - copied.millis();
        let now = clock.now();
        sides.finish(now).await?;
        mark(&data, &file, &report.to, now)?;
    }
    report.rows = report.tables.iter().map(|table| table.rows).sum();
    sides.source.close().await?;
    sides.target.close().await?;
    Ok(report)
}

/// Whether the file is whole and ours; gives its key's check value.
async fn look(file: &Path, data: &DataFolder) -> Result<String> {
    let inside = snapshot::inspect(file).await?;
    let known = snapshot::newest_schema();
    if inside.schema < known {
        return Err(MoveError::Older { found: inside.schema, known });
    }
    if inside.schema > known {
        return Err(MoveError::Newer(inside.schema));
    }
    let key = data.path.join(crate::data::KEY_FILE);
    let check = inside.key_check.ok_or_else(|| {
        MoveError::Key(key.clone(), "no host has used the database yet, so there is nothing to be moved".into())
    })?;
    match data.sealer.verify(&check) {
        Ok(()) => Ok(check),
        Err(error) => Err(MoveError::Key(key, error.to_string())),
    }
}

/// A hash of the file, and of what was not folded into it yet. It is the same as long as nobody has written.
async fn fingerprint(file: &Path) -> Result<String> {
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    let files = [file.to_path_buf(), PathBuf::from(wal)];
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hash = Xxh3::new();
        let mut buffer = vec![0; 1 << 20];
        for path in files {
            let failed = |source| MoveError::Io { path: path.clone(), source };
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            loop {
                match file.read(&mut buffer).map_err(failed)? {
                    0 => break,
                    count => hash.update(&buffer[..count]),
                }
            }
        }
        Ok(format!("{:032x}", hash.digest128()))
    });
    hashing.await.map_err(|error| MoveError::Io { path: file.to_path_buf(), source: error.into() })?
}

/// Says in the data folder where the installation is now.
fn mark(data: &DataFolder, file: &Path, to: &str, now: Time) -> Result<()> {
    let moved = Moved {
        database: file.canonicalize().unwrap_or_else(|_| file.to_path_buf()),
        to: to.to_owned(),
        moved_at: now,
        mark: PathBuf::new(),
    };
    let place = data.path.join(MARK_FILE);
    let text = serde_json::to_vec_pretty(&moved)
        .map_err(|error| MoveError::Io { path: place.clone(), source: error.into() })?;
    Ok(write_private(&place, &text)?)
}

impl Sides {
    /// Reads every row as it would be copied.
    async fn check(&mut self, tell: Tell<'_>) -> Result<Vec<TableReport>> {
        let mut reports = Vec::with_capacity(self.tables.len());
        for (table, of) in self.tables.iter().zip(&self.counts) {
            let (mut behind, mut rows): (Option<Key>, u64) = (None, 0);
            loop {
                tell(Progress { step: Step::Check, table: table.name, rows, of: *of, before: 0 });
                let page = self.source.read(table, behind.as_ref(), self.page_rows).await?;
                let Some(last) = page.last_key(table) else { break };
                rows += page.len() as u64;
                behind = Some(last);
            }
            reports.push(TableReport { table: table.name, rows, copied: 0, hash: None });
        }
        Ok(reports)
    }

    /// Copies every table from where it is.
    async fn copy(&mut self, tell: Tell<'_>) -> Result<Vec<TableReport>> {
        let Self { source, target, tables, counts, page_rows } = self;
        let mut reports = Vec::with_capacity(tables.len());
        for (table, of) in tables.iter().zip(counts.iter()) {
            let mut copied = target.copied(table).await?;
            let before = copied.rows;
            let mut progress = Progress { step: Step::Copy, table: table.name, rows: before, of: *of, before };
            tell(progress);
            if !copied.is_whole {
                let mut page = source.read(table, copied.last.as_ref(), *page_rows).await?;
                loop {
                    copied = behind(table, &page, copied);
                    // While Postgres takes a page, the next one is read.
                    let (written, next) = tokio::join!(
                        target.write(table, &page, &copied),
                        source.read(table, copied.last.as_ref(), *page_rows)
                    );
                    written?;
                    progress.rows = copied.rows;
                    tell(progress);
                    if copied.is_whole {
                        break;
                    }
                    page = next?;
                }
                target.analyze(table).await?;
            }
            reports.push(TableReport {
                table: table.name,
                rows: copied.rows,
                copied: copied.rows - before,
                hash: None,
            });
        }
        Ok(reports)
    }

    /// Compares every row of both sides; gives a hash of each table.
    async fn compare(&mut self, tell: Tell<'_>) -> Result<Vec<String>> {
        let Self { source, target, tables, counts, page_rows } = self;
        let mut hashes = Vec::with_capacity(tables.len());
        for (table, of) in tables.iter().zip(counts.iter()) {
            let (mut here, mut there) = (Xxh3::new(), Xxh3::new());
            let mut progress = Progress { step: Step::Compare, table: table.name, rows: 0, of: *of, before: 0 };
            tell(progress);
            let mut behind: Option<Key> = None;
            let mut page = source.read(table, None, *page_rows).await?;
            loop {
                // One more than is expected behind the last page, where there must be none.
                let (copy, next) = tokio::join!(target.read(table, behind.as_ref(), page.len().max(1)), async {
                    match page.last_key(table) {
                        Some(last) => Some(source.read(table, Some(&last), *page_rows).await),
                        None => None,
                    }
                });
                let copy = copy?;
                if let Some((key, what)) = difference(table, &page, &copy) {
                    return Err(MoveError::Differs { table: table.name, key, what });
                }
                here.update(&page.bytes);
                there.update(&copy.bytes);
                progress.rows += page.len() as u64;
                tell(progress);
                let Some(next) = next else { break };
                behind = page.last_key(table);
                page = next?;
            }
            let (here, there) = (here.digest128(), there.digest128());
            if here != there {
                let what = format!("the hash of the table is {here:032x} in the file, and {there:032x} in the target");
                return Err(MoveError::Differs { table: table.name, key: "(any)".into(), what });
            }
            hashes.push(format!("{here:032x}"));
        }
        Ok(hashes)
    }

    async fn finish(&mut self, now: Time) -> Result<()> {
        let Self { source, target, tables, .. } = self;
        let mut numbers = Vec::new();
        let mut events = 0;
        for table in tables.iter() {
            if let Some(column) = &table.counter {
                numbers.push((table, column.as_str(), source.newest_number(table, column).await?));
            }
            if table.name == "omni_events" {
                events = source.newest_number(table, "seq").await?;
            }
        }
        Ok(target.finish(&numbers, events, now).await?)
    }
}

/// How far a table is behind a page.
fn behind(table: &Table, page: &Page, copied: Copied) -> Copied {
    match page.last_key(table) {
        None => Copied { is_whole: true, ..copied },
        last => Copied { last, rows: copied.rows + page.len() as u64, is_whole: false },
    }
}

/// The first row that is not the same on both sides, and in what.
fn difference(table: &Table, here: &Page, there: &Page) -> Option<(String, String)> {
    let at = (0..here.len().max(there.len())).find(|at| here.row(*at) != there.row(*at))?;
    match (here.key(table, at), there.key(table, at)) {
        (Some(here_key), Some(there_key)) if here_key == there_key => {
            let column = Page::first_difference(table, here.row(at)?, there.row(at)?).unwrap_or("a column");
            Some((here_key.to_string(), format!("{column} is not the same")))
        }
        (Some(key), there_key) if there_key.as_ref().is_none_or(|there_key| key < *there_key) => {
            Some((key.to_string(), "it is missing in the target".into()))
        }
        (_, Some(key)) => Some((key.to_string(), "it is in the target only".into())),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests;

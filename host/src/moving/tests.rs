//! Rows of every table and every type, made up from the schema itself, so that a new column is among them at once.

use super::*;
use crate::store::tests::both::bare_database;
use crate::store::{SqliteOptions, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use std::collections::{BTreeMap, HashMap};

const ROWS: usize = 23;
const NOW: Time = Time(1_767_225_600_000_000);

/// A data folder with a file that is full, and an empty database.
struct World {
    home: tempfile::TempDir,
    to: String,
}

impl World {
    async fn new(seed: u64) -> Option<Self> {
        let to = bare_database().await?;
        let world = Self { home: tempfile::tempdir().expect("a temporary folder"), to };
        let data = DataFolder::open(world.home.path(), None).expect("a data folder");
        let store = Store::open_sqlite(&world.file(), SqliteOptions { readers: 1 }).await.expect("opens");
        crate::run::check_key(&store, &data, &Clock::manual(NOW).0).await.expect("a check value");
        store.close().await;
        drop(data);
        let mut file = world.sqlite().await;
        fill(&mut file, &mut StdRng::seed_from_u64(seed)).await;
        file.close().await.expect("closes");
        Some(world)
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("omni.db")
    }

    async fn sqlite(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.file()).foreign_keys(true).connect().await.expect("opens")
    }

    async fn postgres(&self) -> PgConnection {
        PgConnection::connect(&self.to).await.expect("connects")
    }

    async fn run(&self, change: impl FnOnce(&mut Request)) -> Result<Report> {
        self.run_until(change, usize::MAX).await
    }

    /// Gives up after so many words of progress, as a process does that is ended.
    async fn run_until(&self, change: impl FnOnce(&mut Request), words: usize) -> Result<Report> {
        let mut config = Config::default();
        config.data.dir = self.home.path().to_path_buf();
        let to = self.to.parse().expect("an address");
        let mut request = Request { to, dry_run: false, restart: false, page_rows: 5 };
        change(&mut request);
        let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
        let (mut left, mut gone) = (words, Some(gone));
        let clock = Clock::manual(NOW).0;
        let mut tell = |_: Progress| match left.checked_sub(1) {
            Some(less) => left = less,
            None => drop(gone.take()),
        };
        tokio::select! {
            biased;
            _ = is_gone => Err(MoveError::NoDatabase("it was ended".into())),
            moved = run(&config, &request, &clock, &mut tell) => moved,
        }
    }
}

#[derive(sqlx::FromRow)]
struct Column {
    name: String,
    r#type: String,
    notnull: bool,
    pk: i64,
}

/// What a column holds, by its type in Postgres, since SQLite's own says less.
async fn types() -> HashMap<(String, String), String> {
    let url = bare_database().await.expect("Postgres was there a moment ago");
    Store::open_postgres(&url, crate::store::tests::both::options()).await.expect("opens").close().await;
    let mut connection = PgConnection::connect(&url).await.expect("connects");
    let query = "select cast(c.relname as text), cast(a.attname as text), cast(t.typname as text)
        from pg_class c join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
        where c.relkind = 'r' and c.relnamespace = cast(current_schema() as regnamespace) and a.attnum > 0";
    let found: Vec<(String, String, String)> =
        sqlx::query_as(query).fetch_all(&mut connection).await.expect("the catalogue");
    found.into_iter().map(|(table, column, kind)| ((table, column), kind)).collect()
}

/// Puts rows into every table, as its own schema says.
async fn fill(file: &mut SqliteConnection, random: &mut StdRng) {
    let types = types().await;
    for table in crate::store::moving::TABLES {
        let query = "select name, type, \"notnull\", pk from pragma_table_xinfo($1) where hidden = 0";
        let columns: Vec<Column> = sqlx::query_as(query).bind(table).fetch_all(&mut *file).await.expect("columns");
        let query = "select id, \"table\", \"from\", \"to\" from pragma_foreign_key_list($1)";
        let parents: Vec<(i64, String, String, String)> =
            sqlx::query_as(query).bind(table).fetch_all(&mut *file).await.expect("foreign keys");
        for row in 0..ROWS {
            let mut names = Vec::new();
            let mut values = Vec::new();
            for column in &columns {
                let parent = parents.iter().find(|(_, _, from, _)| *from == column.name);
                let value = match parent {
                    // Of one row of the parent all the columns: the row is the one of the same place.
                    Some((_, parent, _, to)) => {
                        format!("(select {to} from {parent} order by rowid_or_key limit 1 offset {row})").replace(
                            "rowid_or_key",
                            if parent == "plugin_state_snapshots" { "instance_id, state_version" } else { to },
                        )
                    }
                    None if !column.notnull && column.pk == 0 && random.random_bool(0.3) => "null".to_owned(),
                    None => value(&types[&(table.to_owned(), column.name.clone())], row, column.pk > 0, random),
                };
                names.push(column.name.clone());
                values.push(value);
                assert!(!column.r#type.is_empty());
            }
            let statement = format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", "));
            let done = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *file).await;
            done.unwrap_or_else(|error| panic!("{error}: {statement}"));
        }
    }
    // The newest are gone again: their numbers must not be given once more.
    for table in ["omni_events", "outbox", "webhook_deliveries"] {
        let statement = format!("delete from {table} where seq = (select max(seq) from {table})");
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *file).await.expect("deletes");
    }
}

fn hex_of(random: &mut StdRng, bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", random.random::<u8>())).collect()
}

fn value(kind: &str, row: usize, is_key: bool, random: &mut StdRng) -> String {
    const TEXTS: [&str; 7] = ["", "plain", "it''s", "übergröße 👩‍👩‍👧 \u{202e}", "\\N\ttab", "a\nb\r\n", "\u{1}\u{7f}"];
    const JSON: [&str; 6] =
        [r#"{"b": 1,  "a":2.50}"#, "[]", "null", r#"{"a":1,"a":2}"#, r#""\u0000 \ud83d\ude00""#, "1e400"];
    let number = random.random_range(0..1_000_000_i64);
    match kind {
        "bool" => random.random_range(0..=1).to_string(),
        "bytea" => {
            let length = random.random_range(0..70);
            format!("x'{}'", hex_of(random, length))
        }
        "uuid" => format!("x'{}'", hex_of(random, 16)),
        "int8" if is_key => (row + 1).to_string(),
        "int8" => [0, -1, number, i64::MAX, i64::MIN + 1][random.random_range(0..5)].to_string(),
        "json" => format!("'{}'", JSON[random.random_range(0..JSON.len())]),
        "text" => format!("'{} {row} {number}'", TEXTS[random.random_range(0..TEXTS.len())]),
        "timestamptz" => [0, -1, 1_767_225_600_000_000 + number, i64::MAX][random.random_range(0..4)].to_string(),
        other => panic!("{other}"),
    }
}

async fn count(postgres: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(postgres)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test]
async fn rows_of_every_table_and_type_are_the_same_on_both_sides() {
    for seed in 0..4 {
        let Some(world) = World::new(seed).await else { return };
        let before = std::fs::read(world.file()).expect("reads");
        let looked = world.run(|request| request.dry_run = true).await.expect("can be copied");
        assert!(looked.tables.iter().all(|table| table.rows >= ROWS as u64 - 1 && table.copied == 0), "{looked:?}");
        let mut postgres = world.postgres().await;
        let made = "select count(*) from pg_tables where schemaname = current_schema()";
        assert_eq!(count(&mut postgres, made).await, 0, "a dry run leaves nothing behind");
        let report = world.run(|_| {}).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(report.tables.len(), crate::store::moving::TABLES.len());
        for table in &report.tables {
            assert!(table.hash.is_some() && table.copied == table.rows, "{table:?}");
            let sql = format!("select count(*) from {}", table.table);
            assert_eq!(count(&mut postgres, &sql).await.unsigned_abs(), table.rows, "{}", table.table);
        }
        // What is counted goes on behind the highest number that was ever given.
        for table in ["outbox", "webhook_deliveries"] {
            let sql = format!("select nextval(cast(pg_get_serial_sequence('{table}', 'seq') as regclass))");
            assert_eq!(count(&mut postgres, &sql).await, ROWS as i64 + 1, "{table}");
        }
        let sql = "select seq from sequences where name = 'omni_events'";
        assert_eq!(count(&mut postgres, sql).await, ROWS as i64);
        assert!(std::fs::read(world.file()).expect("reads") == before, "the file is as it was");
        // Once more says that it is done, and does nothing.
        assert!(world.run(|_| {}).await.expect("is done").done_before);
        let mut config = Config::default();
        config.data.dir = world.home.path().to_path_buf();
        let moved = super::moved(&config).expect("the folder says so").to_string();
        assert!(moved.contains("was moved to postgres://") && moved.contains("omni.moved"), "{moved}");
    }
}

#[tokio::test]
async fn an_end_at_any_page_loses_and_doubles_nothing() {
    let Some(world) = World::new(11).await else { return };
    let mut ends = 0;
    for words in (0..).step_by(17) {
        match world.run_until(|_| {}, words).await {
            Ok(report) => {
                assert!(report.resumed && ends > 5, "{ends} ends");
                let copied: u64 = report.tables.iter().map(|table| table.copied).sum();
                assert!(copied < report.rows, "most was there before");
                return;
            }
            Err(MoveError::NoDatabase(_)) => ends += 1,
            Err(error) => panic!("{error}"),
        }
        let mut postgres = world.postgres().await;
        // How far a table is and what is in it are one thing.
        let sql = "select count(*) from pg_class where relname = 'store_move_tables'";
        if count(&mut postgres, sql).await == 0 {
            continue;
        }
        let told: Vec<(String, i64)> = sqlx::query_as("select table_name, copied from store_move_tables")
            .fetch_all(&mut postgres)
            .await
            .expect("tells");
        for (table, copied) in told {
            assert_eq!(count(&mut postgres, &format!("select count(*) from {table}")).await, copied, "{table}");
        }
    }
}

/// What was changed in one side is found, by its table, key and column.
#[tokio::test]
async fn a_row_that_is_not_the_same_is_found() {
    let changes: BTreeMap<&str, &str> = BTreeMap::from([
        (
            "update chats set name = 'x' where id = (select min(cast(id as text))::uuid from chats)",
            "chats, row .*: name is not the same",
        ),
        (
            "delete from persons where id = (select max(cast(id as text))::uuid from persons)",
            "persons, row .*: it is missing",
        ),
        (
            "insert into delivery_keys (instance_id, key, seen_at) values (gen_random_uuid(), 'y', now())",
            "delivery_keys, row .*: it is in the target only",
        ),
        (
            "update media set size = coalesce(size, 0) - 1 where id = (select max(cast(id as text))::uuid from media)",
            "media, row .*: size",
        ),
    ]);
    for (change, wanted) in changes {
        let Some(world) = World::new(5).await else { return };
        // It dies when it has begun to compare.
        let mut words = 300;
        loop {
            assert!(matches!(world.run_until(|_| {}, words).await, Err(MoveError::NoDatabase(_))));
            let mut postgres = world.postgres().await;
            let whole = count(&mut postgres, "select count(*) from store_move_tables where is_whole").await;
            if whole == i64::try_from(crate::store::moving::TABLES.len()).expect("few") {
                break;
            }
            words += 20;
        }
        let mut postgres = world.postgres().await;
        assert_eq!(sqlx::query(change).execute(&mut postgres).await.expect(change).rows_affected(), 1, "{change}");
        let error = world.run(|_| {}).await.expect_err("is found").to_string();
        let (table, rest) = wanted.split_once(", row .*: ").expect("both");
        assert!(error.contains(&format!(": {table}, row (")) && error.contains(rest), "{change}: {error}");
        let open = "select count(*) from store_moves where finished_at is null";
        assert_eq!(count(&mut postgres, open).await, 1, "it is not done");
        world.run(|request| request.restart = true).await.expect("begins anew, and is the same then");
    }
}

#[tokio::test]
async fn what_postgres_cannot_take_stops_the_copy_with_its_table_and_key() {
    for (change, wanted) in [
        (
            "update messages set text_content = 'a' || char(0) || 'b' where id = (select max(id) from messages)",
            ["messages", "text_content has a NUL character"],
        ),
        ("update outbox set request = '{' where seq = 9", ["row (9) of outbox", "request is no JSON"]),
        (
            "update instances set is_active = 7 where id = (select min(id) from instances)",
            ["instances", "is_active is 7, and neither 0 nor 1"],
        ),
        (
            "update media set message_id = x'00' where id = (select min(id) from media)",
            ["media", "message_id has 1 bytes"],
        ),
        (
            "update chats set name = cast(x'ff' as text) where id = (select min(id) from chats)",
            ["chats", "name is no UTF-8 text"],
        ),
        (
            "update chat_participants set chat_id = x'00000000000000000000000000000000' where id = (select min(id) from chat_participants)",
            ["chat_participants", "is not present in table \"chats\""],
        ),
    ] {
        let Some(world) = World::new(3).await else { return };
        let mut file = world.sqlite().await;
        sqlx::query("pragma foreign_keys = off").execute(&mut file).await.expect("off");
        assert_eq!(sqlx::query(change).execute(&mut file).await.expect(change).rows_affected(), 1, "{change}");
        file.close().await.expect("closes");
        let error = world.run(|_| {}).await.expect_err("is refused").to_string();
        assert!(wanted.iter().all(|word| error.contains(word)) && error.contains("--restart"), "{change}: {error}");
        let mut file = world.sqlite().await;
        sqlx::query("pragma foreign_keys = off").execute(&mut file).await.expect("off");
        let mend = "update messages set text_content = 'mended'";
        sqlx::query(mend).execute(&mut file).await.expect("mends");
        file.close().await.expect("closes");
        let error = world.run(|_| {}).await.expect_err("the file was used since").to_string();
        assert!(error.contains("was used since") && error.contains("--restart"), "{error}");
        let again = world.run(|request| request.restart = true).await;
        assert_eq!(again.is_ok(), wanted[0] == "messages", "{change}: {again:?}");
    }
}

#[tokio::test]
async fn a_target_that_is_not_ours_is_refused_and_left_as_it_is() {
    let Some(world) = World::new(1).await else { return };
    let mut postgres = world.postgres().await;
    sqlx::query("create table theirs (id bigint)").execute(&mut postgres).await.expect("makes");
    let error = world.run(|_| {}).await.expect_err("is refused").to_string();
    assert!(error.contains("tables that are none of ours (theirs)"), "{error}");
    assert_eq!(count(&mut postgres, "select count(*) from pg_tables where schemaname = current_schema()").await, 1);
    sqlx::query("drop table theirs").execute(&mut postgres).await.expect("drops");

    // A copy of another installation, in any state.
    let other = World { to: world.to.clone(), ..World::new(2).await.expect("Postgres is there") };
    assert!(other.run_until(|_| {}, 20).await.is_err());
    let error = world.run(|request| request.restart = true).await.expect_err("is refused").to_string();
    assert!(error.contains("a copy of another installation"), "{error}");
    // No host starts on half an installation.
    let store = Store::open_postgres(&world.to, crate::store::tests::both::options()).await.expect("opens");
    assert!(crate::store::moving::is_unfinished(&store).await.expect("tells"));
    other.run(|_| {}).await.expect("goes on");
    assert!(!crate::store::moving::is_unfinished(&store).await.expect("tells"));
    store.close().await;
    assert!(world.run(|_| {}).await.expect_err("is refused").to_string().contains("a copy of another installation"));

    // An installation that was begun there.
    sqlx::query("delete from store_moves").execute(&mut postgres).await.expect("deletes");
    let error = other.run(|_| {}).await.expect_err("is refused").to_string();
    assert!(error.contains("an installation of its own (rows: 23 in instances"), "{error}");
}

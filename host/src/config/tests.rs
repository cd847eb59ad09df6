use super::*;
use std::collections::BTreeMap;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_in(folder: &Path, pairs: &[(&str, &str)], flags: &[Flag]) -> Result<Loaded, ConfigError> {
    Config::load(&Sources { file: None, env: &env(pairs), flags, folder })
}

/// What is said about a file with this text.
fn refusal(text: &str) -> String {
    let home = tempfile::tempdir().expect("temporary folder");
    std::fs::write(home.path().join("omni.toml"), text).expect("writes");
    let error = load_in(home.path(), &[], &[]).expect_err("is refused").to_string();
    error.replace(&format!("{}/", home.path().display()), "")
}

fn env_refusal(name: &str, value: &str) -> String {
    let home = tempfile::tempdir().expect("temporary folder");
    load_in(home.path(), &[(name, value)], &[]).expect_err("is refused").to_string()
}

const EXAMPLE: &str = include_str!("../../../examples/omni.toml");

#[test]
fn the_example_equals_the_defaults() {
    assert_eq!(toml::from_str::<Config>(EXAMPLE).expect("the example is valid"), Config::default());
}

#[test]
fn the_example_and_the_table_name_every_key_in_one_order() {
    let mut section = String::new();
    let mut named = Vec::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        }
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some((key, _)) = line.split_once(" = ")
            && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            named.push(format!("{section}.{key}"));
        }
    }
    assert_eq!(named, keys::KEYS.iter().map(|key| key.path.to_owned()).collect::<Vec<_>>());
}

#[test]
fn every_default_fits_its_own_key() {
    let Ok(toml::Value::Table(whole)) = toml::Value::try_from(Config::default()) else { panic!("a table") };
    let home = tempfile::tempdir().expect("temporary folder");
    std::fs::write(home.path().join("omni.toml"), toml::to_string(&whole).expect("writes")).expect("writes");
    load_in(home.path(), &[], &[]).expect("the defaults are valid");
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let home = tempfile::tempdir().expect("temporary folder");
    let text = "[http]\nlisten = \"127.0.0.1:1\"\nmax_connections = 7\n[log]\nlevel = \"debug\"\n";
    std::fs::write(home.path().join("omni.toml"), text).expect("writes");
    let flags = [Flag { name: "--listen", key: "http.listen", value: "127.0.0.1:3".into() }];
    let pairs = [("OMNI_LISTEN", "127.0.0.1:2"), ("OMNI_LOG", "warn"), ("OMNI_HTTP_CORS_ORIGINS", "a, b")];
    let loaded = load_in(home.path(), &pairs, &flags).expect("loads");
    assert_eq!(loaded.config.http.listen.port(), 3);
    assert_eq!(loaded.config.log.level, "warn");
    assert_eq!(loaded.config.http.cors_origins, ["a", "b"]);
    assert_eq!(loaded.config.http.max_connections, 7);
    let origin = |key: &str| loaded.settings.iter().find(|found| found.key == key).expect("is there").origin.clone();
    assert_eq!(origin("http.listen"), Origin::Flag("--listen"));
    assert_eq!(origin("log.level"), Origin::Env("OMNI_LOG".into()));
    assert_eq!(origin("http.max_connections"), Origin::File { file: home.path().join("omni.toml"), line: 3 });
    assert_eq!(origin("data.dir"), Origin::Default);
}

#[test]
fn a_path_hangs_off_whoever_named_it() {
    let home = tempfile::tempdir().expect("temporary folder");
    let etc = home.path().join("etc");
    std::fs::create_dir(&etc).expect("makes it");
    std::fs::write(etc.join("o.toml"), "[data]\ndir = \"d\"\n[database]\nurl = \"sqlite:o.db\"\n").expect("writes");
    let load = |file: Option<&Path>, pairs: &[(&str, &str)]| {
        Config::load(&Sources { file, env: &env(pairs), flags: &[], folder: home.path() }).expect("loads").config
    };
    let config = load(Some(Path::new("etc/o.toml")), &[]);
    assert_eq!((config.data.dir.clone(), config.database_file()), (etc.join("d"), Some(etc.join("o.db"))));
    assert_eq!(config.plugins_dir(), etc.join("d/plugins"));
    let config = load(None, &[("OMNI_CONFIG", "etc/o.toml"), ("OMNI_DATA_DIR", "e"), ("OMNI_PLUGINS_DIR", "/p")]);
    assert_eq!((config.data.dir.clone(), config.plugins_dir()), (home.path().join("e"), PathBuf::from("/p")));
    let config = load(None, &[]);
    assert_eq!(config.data.dir, home.path().join("data"));
    assert_eq!(config.database_file(), Some(home.path().join("data/omni.db")));
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_line_and_what_was_meant() {
    for (text, told) in [
        (
            "[http]\nlissten = \"127.0.0.1:1\"\n",
            "omni.toml:2: there is no key `http.lissten`; did you mean `http.listen`?",
        ),
        ("\n[htp]\n", "omni.toml:2: there is no section `htp`; did you mean `http`?"),
        ("listen = \"127.0.0.1:1\"\n", "omni.toml:1: there is no key `listen`; did you mean `http.listen`?"),
        ("[data]\nlisten = \"x\"\n", "omni.toml:2: there is no key `data.listen`; did you mean `http.listen`?"),
        ("[zzz]\n", "omni.toml:1: there is no section `zzz`; examples/omni.toml lists every key"),
        ("http = 1\n", "omni.toml:1: there is no section `http`; did you mean `http`?"),
        (
            "[http]\nlisten = 8882\n",
            "omni.toml:2: `http.listen`: expected an IP address with a port, such as \"127.0.0.1:8882\", found 8882",
        ),
        (
            "[http]\nmax_connections = \"many\"\n",
            "omni.toml:2: `http.max_connections`: expected a whole number from 1 to 1000000, found \"many\"",
        ),
        (
            "[http]\nrequest_timeout_seconds = 0\n",
            "omni.toml:2: `http.request_timeout_seconds`: expected a whole number from 1 to 3600, found 0",
        ),
        (
            "[http]\nbody_limit = \"10 quux\"\n",
            "omni.toml:2: `http.body_limit`: \"10 quux\" is no size; write bytes, or a number with KiB, MiB or GiB, such as \"10 MiB\"",
        ),
        (
            "[plugins]\nisolation = \"none\"\n",
            "omni.toml:2: `plugins.isolation`: expected one of \"auto\", \"process\", \"in-process\", found \"none\"",
        ),
        (
            "[plugins]\nkeys = [\"abc\"]\n",
            "omni.toml:2: `plugins.keys`: \"abc\" is no minisign public key; expected the second line of minisign.pub (RW…)",
        ),
        (
            "[plugins.channel]\necho = true\n",
            "omni.toml:1: `plugins.channel`: expected a table for each channel, such as [plugins.channel.telegram], found { echo = true }",
        ),
        (
            "[plugins]\n\n[plugins.channel.echo]\nisolation = \"sandbox\"\n",
            "omni.toml:3: `plugins.channel`: unknown variant `sandbox`, expected one of `auto`, `process`, `in-process`",
        ),
        (
            "[http]\npublic_url = \"omni.example.org\"\n",
            "omni.toml:2: `http.public_url`: expected an address that begins with https:// or http://, found \"omni.example.org\"",
        ),
        (
            "[http]\n\ntrusted_proxies = [\"10.0.0.0/8\", \"proxy\"]\n",
            "omni.toml:3: `http.trusted_proxies`: \"proxy\" is no range of addresses; write one such as \"10.0.0.0/8\" or \"127.0.0.1\"",
        ),
        (
            "[http]\ntrusted_proxies = \"10.0.0.1\"\n",
            "omni.toml:2: `http.trusted_proxies`: expected a list of texts, such as [\"one\", \"two\"], found \"10.0.0.1\"",
        ),
        ("[log]\nformat = true\n", "omni.toml:2: `log.format`: expected one of \"pretty\", \"json\", found true"),
    ] {
        assert_eq!(refusal(text), told);
    }
    let told = refusal("[http\n");
    assert!(told.starts_with("omni.toml:1: this is not TOML: "), "{told}");
    let told = refusal("[log]\nlevel = \"loud=x=y\"\n");
    assert!(told.starts_with("omni.toml:2: `log.level`: expected error, warn, info"), "{told}");
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    assert_eq!(
        env_refusal("OMNI_HTTP_MAX_CONNECTIONS", "x"),
        "environment OMNI_HTTP_MAX_CONNECTIONS: `http.max_connections`: expected a whole number from 1 to 1000000, found x"
    );
    assert!(env_refusal("OMNI_PLUGINS_WATCH", "maybe").ends_with("expected true or false, found maybe"));
}

#[test]
fn what_this_version_cannot_do_is_refused_without_showing_a_password() {
    let told = env_refusal("OMNI_DATABASE_URL", "postgres://omni:hunter2@[db/omni");
    assert!(told.contains("no address") && !told.contains("hunter2"), "{told}");
    let told = env_refusal("OMNI_BUS_URL", "nats://omni:hunter2@bus");
    assert!(told.contains("NATS is for Postgres") && !told.contains("hunter2"), "{told}");
    for address in ["nats://omni:hunter2@", "nats://omni:hunter2@bus,http://other", "amqp://omni:hunter2@bus"] {
        let told = env_refusal("OMNI_BUS_URL", address);
        assert!(told.contains("nats://") && !told.contains("hunter2"), "{told}");
    }
    let told = env_refusal("OMNI_DATABASE_URL", "mysql://omni:hunter2@db/omni");
    assert!(told.contains("no database this version knows") && !told.contains("hunter2"), "{told}");
    let told = env_refusal("OMNI_API_KEY", "hunter2");
    assert!(told.contains("begins with omni_sk_") && !told.contains("hunter2"), "{told}");
}

#[test]
fn an_address_of_nats_is_shown_without_what_lets_one_in() {
    let url: BusUrl = "nats://omni:hunter2@one:4222,tls://hunter2@two".parse().expect("two servers");
    assert_eq!(url.to_string(), "nats://one:4222,tls://two");
}

#[test]
fn an_address_of_postgres_is_shown_without_what_lets_one_in() {
    let home = tempfile::tempdir().expect("temporary folder");
    for (address, shown) in [
        ("postgres://omni:hunter2@db:5433/omni", "postgres://omni@db:5433/omni"),
        ("postgresql://omni@db/omni?sslmode=require", "postgresql://omni@db/omni?sslmode=require"),
        (
            "postgres:///omni?host=/run/pg&user=omni&password=hunter2&options=-c%20x%3Dhunter2",
            "postgres:///omni?host=%2Frun%2Fpg&user=omni",
        ),
    ] {
        let loaded = load_in(home.path(), &[("OMNI_DATABASE_URL", address)], &[]).expect("loads");
        assert_eq!(loaded.config.database_file(), None);
        assert_eq!(loaded.config.database.url.to_string(), shown);
        let everything = format!("{:?} {}", loaded.config, toml::to_string(&loaded.config).expect("writes"));
        assert!(!everything.contains("hunter2"), "{everything}");
        let DatabaseUrl::Postgres(kept) = &loaded.config.database.url else { panic!("it is Postgres") };
        assert_eq!(kept.expose(), address);
    }
}

#[test]
fn a_file_that_was_named_must_be_there_and_one_that_was_not_need_not() {
    let home = tempfile::tempdir().expect("temporary folder");
    assert_eq!(load_in(home.path(), &[], &[]).expect("loads").file, None);
    let error = load_in(home.path(), &[("OMNI_CONFIG", "no.toml")], &[]).expect_err("is refused").to_string();
    assert!(error.contains("failed to read the configuration file") && error.contains("no.toml"), "{error}");
}

#[test]
fn a_key_comes_from_a_file_and_is_never_shown() {
    let home = tempfile::tempdir().expect("temporary folder");
    std::fs::write(home.path().join("key"), "omni_sk_0123456789abcdef0123\n").expect("writes");
    let loaded = load_in(home.path(), &[("OMNI_API_KEY_FILE", "key")], &[]).expect("loads");
    let key = loaded.config.http.api_key.clone().expect("was read");
    assert_eq!(key.expose(), "omni_sk_0123456789abcdef0123");
    assert!(!format!("{loaded:?}").contains("0123456789"));
    assert!(!serde_json::to_string(&loaded.config).expect("serialises").contains("0123456789"));
    let twice = [("OMNI_API_KEY_FILE", "key"), ("OMNI_API_KEY", "omni_sk_other")];
    let error = load_in(home.path(), &twice, &[]).expect_err("is refused").to_string();
    assert!(error.contains("given twice"), "{error}");
    std::fs::write(home.path().join("key"), "hunter2\n").expect("writes");
    let error = load_in(home.path(), &[("OMNI_API_KEY_FILE", "key")], &[]).expect_err("is refused").to_string();
    assert!(error.contains("begins with omni_sk_") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_variable_that_means_nothing_is_told_of() {
    let home = tempfile::tempdir().expect("temporary folder");
    let loaded =
        load_in(home.path(), &[("OMNI_LISTE", "x"), ("OMNI_LISTEN", ""), ("PATH", "/bin")], &[]).expect("loads");
    assert_eq!(loaded.warnings, ["the environment variable OMNI_LISTE means nothing; did you mean OMNI_LISTEN?"]);
}

#[test]
fn whom_proxies_speak_for_is_believed_of_some_and_a_word_is_said_when_it_is_everybody() {
    let home = tempfile::tempdir().expect("temporary folder");
    let with = |value: &str| load_in(home.path(), &[("OMNI_HTTP_TRUSTED_PROXIES", value)], &[]);
    let loaded = with("10.0.0.0/8, ::1").expect("loads");
    assert_eq!(
        (loaded.config.http.trusted_proxies, loaded.warnings),
        (vec!["10.0.0.0/8".into(), "::1".into()], vec![])
    );
    let told = with("::1, 0.0.0.0/0").expect("loads").warnings.concat();
    assert!(told.contains("`http.trusted_proxies`: 0.0.0.0/0 is everybody"), "{told}");
    let told = with("10.0.0.0/99").expect_err("is refused").to_string();
    assert!(told.starts_with("environment OMNI_HTTP_TRUSTED_PROXIES: `http.trusted_proxies`: "), "{told}");
}

#[test]
fn sizes_are_read_and_written_as_people_do() {
    for (text, bytes) in [("0", 0), ("1", 1), ("10 MiB", 10 << 20), ("3KiB", 3 << 10), ("2 gib", 2 << 30), ("5 B", 5)] {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
    }
    for text in ["", "MiB", "-1", "1.5 MiB", "1 MB", "99999999999 GiB"] {
        assert!(text.parse::<ByteSize>().is_err(), "{text}");
    }
}

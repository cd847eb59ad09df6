//! What needs no server.

use super::*;

#[test]
fn help_version_and_mistakes_end_as_they_should() {
    let ran = omni().run(&["help"]);
    assert!(ran.code == 0 && ran.out.contains("Exit codes:") && ran.err.is_empty(), "{}", ran.out);
    assert!(!ran.out.contains("plugin-runner"));
    let ran = omni().run(&["--version"]);
    assert_eq!(ran.out, format!("omni {}\n", env!("CARGO_PKG_VERSION")));
    let ran = omni().run(&["instances", "lst"]);
    assert!(ran.code == 2 && ran.err.contains("'list'"), "{}", ran.err);
    let ran = omni().run(&["completions", "bash"]);
    assert!(ran.code == 0 && ran.out.contains("complete -F _omni"));
}

#[test]
fn config_check_tells_every_value_and_its_origin() {
    let with = omni().env("OMNI_LOG", "debug");
    std::fs::write(with.folder().join("omni.toml"), "[http]\nlisten = \"127.0.0.1:9\"\n").expect("writes");
    let ran = with.run(&["config", "check", "--data", "d"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let line =
        |key: &str| ran.out.lines().find(|line| line.trim_start().starts_with(key)).expect("is there").to_owned();
    assert!(line("http.listen").contains("127.0.0.1:9") && line("http.listen").contains("omni.toml:2"));
    assert!(line("log.level").contains("environment OMNI_LOG"));
    assert!(line("data.dir").contains("flag --data"));
    assert!(line("plugins.watch").contains("default") && line("plugins.watch").contains("OMNI_PLUGINS_WATCH"));
    assert!(!ran.out.contains("omni_sk_test"), "a secret only says that it is set");
    let json = omni().run(&["config", "check", "--json"]).json();
    let settings = json["settings"].as_array().expect("a list");
    assert_eq!(settings.len(), crate::config::keys::KEYS.len());
    assert!(settings.iter().any(|found| found["key"] == "http.listen" && found["origin"] == "default"));
}

#[test]
fn a_wrong_configuration_is_a_wrong_command_line() {
    let with = omni();
    std::fs::write(with.folder().join("omni.toml"), "[htp]\n").expect("writes");
    let ran = with.run(&["config", "check"]);
    assert!(ran.code == 2 && ran.err.contains("omni.toml:1: there is no section `htp`"), "{}", ran.err);
    let ran = omni().run(&["serve", "--listen", "here"]);
    assert!(ran.code == 2 && ran.err.contains("flag --listen: `http.listen`"), "{}", ran.err);
}

#[test]
fn a_file_is_inspected_without_a_server() {
    let with = omni();
    std::fs::write(with.folder().join("x.so"), "no library").expect("writes");
    let ran = with.run(&["plugins", "inspect", "x.so"]);
    assert!(ran.code == 1 && ran.err.contains("x.so: it is not a shared library"), "{}", ran.err);
    let ran = omni().run(&["plugins", "inspect", "no.so"]);
    assert!(ran.code == 3 && ran.err.contains("failed to read"), "{}", ran.err);
}

#[test]
fn the_banner_says_where_it_is_and_what_is_next() {
    let started = crate::run::Started {
        address: ([127, 0, 0, 1], 8882).into(),
        data: "/d".into(),
        plugins_dir: "/d/plugins".into(),
        plugins: vec![("libtelegram.so".into(), "loaded".into())],
        instances: 0,
        first_key: Some("omni_sk_x".into()),
    };
    let text = serve::banner(&started);
    for part in ["http://127.0.0.1:8882/api/v2", "libtelegram.so: loaded", "omni_sk_x", "omni instances create"] {
        assert!(text.contains(part), "{text}");
    }
    let text = serve::banner(&crate::run::Started { instances: 1, first_key: None, plugins: Vec::new(), ..started });
    assert!(!text.contains("API key") && text.contains("put their files into /d/plugins"), "{text}");
}

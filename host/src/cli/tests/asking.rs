//! Lists, single things, refusals, and who is asked with which key.

use super::*;

#[test]
fn a_list_is_read_page_by_page_up_to_its_limit() {
    let page = |from: usize, count: usize| (from..from + count).map(|n| json!({ "id": n })).collect::<Value>();
    let ran = omni()
        .answers(200, items(&page(0, 100), Some("c1")))
        .answers(200, items(&page(100, 50), Some("c2")))
        .run(&["persons", "list", "--limit", "150", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines(), ["GET /persons?limit=100", "GET /persons?limit=50&cursor=c1"]);
    assert_eq!(ran.json().as_array().map(Vec::len), Some(150));

    let ran = omni()
        .answers(200, items(&page(0, 2), Some("c1")))
        .answers(200, items(&page(2, 1), None))
        .run(&["persons", "list", "--all", "--json"]);
    assert_eq!(ran.json(), page(0, 3));

    let ran = omni()
        .answers(200, items(&page(0, 2), Some("c1")))
        .answers(200, items(&page(2, 1), Some("c1")))
        .run(&["persons", "list", "--all", "--json"]);
    assert_eq!((ran.code, ran.asked.len()), (0, 2), "a cursor that does not move ends the list");
}

#[test]
fn a_table_is_for_people_and_json_for_programs() {
    let instance = json!({
        "id": ID, "name": "support", "channel": "telegram", "hasToken": true, "isActive": true,
        "status": "logged_out", "message": "the token was revoked", "userAction": "make a new token",
        "profileName": "Bot\u{1b}[2J",
    });
    let list = || omni().answers(200, items(&json!([instance]), None));
    let ran = list().run(&["instances", "list"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].contains("NAME") && lines[0].contains("STATE"), "{}", ran.out);
    assert!(lines[1].contains("support") && lines[1].contains("logged_out") && lines[1].contains(ID), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "neither colours nor a network's escapes reach a file");
    assert_eq!(list().run(&["instances", "list", "--json"]).json(), json!([instance]));

    let ran = omni().answers(200, json!({ "data": instance })).run(&["instances", "status", ID]);
    assert!(ran.out.contains("the token was revoked") && ran.out.contains("make a new token"), "{}", ran.out);
    let ran = omni().answers(200, json!({ "data": instance })).run(&["instances", "show", ID, "--json"]);
    assert_eq!(ran.json(), instance);
    let ran = omni().answers(200, items(&json!([]), None)).run(&["instances", "list"]);
    assert!(ran.code == 0 && ran.out.is_empty() && ran.err.contains("omni instances create"), "{ran:?}");
}

#[test]
fn a_table_fits_its_terminal() {
    let text = "word ".repeat(60);
    let chat = json!({ "id": ID, "name": "a chat", "chatType": "group", "lastMessagePreview": text });
    let mut omni = omni().answers(200, items(&json!([chat]), None));
    omni.width = Some(80);
    let ran = omni.run(&["chats", "list"]);
    assert!(ran.out.lines().count() > 2 && ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
}

#[test]
fn every_sort_of_refusal_has_its_exit_code_and_advice() {
    for (status, code, exit, help) in [
        (400, "VALIDATION_ERROR", 1, ""),
        (401, "UNAUTHORIZED", 4, "check OMNI_API_KEY"),
        (403, "FORBIDDEN", 4, "omni keys list"),
        (404, "NOT_FOUND", 3, ""),
        (409, "CONFLICT", 1, ""),
        (429, "RATE_LIMITED", 1, "wait a moment"),
        (500, "INTERNAL_ERROR", 1, ""),
        (502, "CHANNEL_SEND_FAILED", 6, ""),
        (503, "CHANNEL_NOT_CONNECTED", 6, "omni instances connect"),
        (503, "UNAVAILABLE", 5, ""),
        (504, "CHANNEL_TIMEOUT", 6, ""),
    ] {
        let ran = omni().answers(status, refusal(code, "because so")).run(&["chats", "show", "x/y"]);
        assert_eq!(ran.code, exit, "{status} {code}");
        assert!(ran.err.starts_with("error: because so\n") && ran.err.contains(help), "{}", ran.err);
        assert_eq!(ran.err.contains("help: "), !help.is_empty(), "{}", ran.err);
        assert_eq!(ran.lines(), ["GET /chats/x%2Fy"]);
    }
}

#[test]
fn no_server_and_a_strange_server_are_told_apart() {
    let mut away = omni();
    away.nowhere = true;
    let ran = away.run(&["status"]);
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("cannot be reached") && ran.err.contains("omni serve"), "{}", ran.err);
    let ran = omni().answers_with(200, Answer::Text("<html>".into())).run(&["status"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("not as an Omni server does"), "{}", ran.err);
    let ran = omni().run(&["status", "--url", "ftp://x"]);
    assert!(ran.code == 2 && ran.err.contains("is no address of a server"), "{}", ran.err);
}

#[test]
fn the_key_of_the_data_folder_is_for_this_machine_only() {
    let health = json!({ "status": "healthy", "version": "0.1.0", "uptime": 61 });
    let local = |omni: Omni| {
        let data = omni.folder().join("data");
        std::fs::create_dir(&data).expect("makes it");
        std::fs::write(data.join(crate::data::CLI_KEY_FILE), "omni_sk_local\n").expect("writes");
        omni
    };
    let mut bare = local(omni().answers(200, health.clone()));
    bare.env.remove("OMNI_API_KEY");
    let ran = bare.run(&["status"]);
    assert_eq!((ran.code, ran.asked[0].key.as_deref()), (0, Some("omni_sk_local")), "{}", ran.err);
    assert!(ran.out.contains("healthy") && ran.out.contains("1 min"), "{}", ran.out);

    let ran = local(omni().answers(200, health.clone())).run(&["status", "--api-key", "omni_sk_flag"]);
    assert_eq!(ran.asked[0].key.as_deref(), Some("omni_sk_flag"));
    let ran = local(omni().answers(200, health)).run(&["status"]);
    assert_eq!(ran.asked[0].key.as_deref(), Some("omni_sk_test"));

    let stranger = local(omni());
    let world = stranger_world(&stranger);
    let global = Global {
        config: None,
        data: None,
        url: Some("https://omni.example.org".into()),
        api_key: None,
        json: false,
        no_color: false,
    };
    let client = client::Client::find(&global, &world).expect("is made");
    assert!(!client.has_key());
    let global = Global { url: Some("http://[::1]:8882".into()), ..global };
    let client = client::Client::find(&global, &world).expect("is made");
    assert!(client.has_key());
}

fn stranger_world(omni: &Omni) -> World {
    let ui = Ui {
        out: Box::new(io::sink()),
        err: Box::new(io::sink()),
        input: Box::new(io::empty()),
        terminal: Terminal::default(),
        may_colour: false,
        colour: false,
        json: false,
    };
    let clock = Clock::system();
    World {
        args: Vec::new(),
        env: BTreeMap::new(),
        folder: omni.folder().to_path_buf(),
        program: "omni".into(),
        ui,
        clock,
    }
}

#[test]
fn an_instance_is_named_as_people_name_it() {
    let ran = omni().answers(200, json!({ "data": {} })).run(&["instances", "show", "my support"]);
    assert_eq!(ran.lines(), ["GET /instances/my%20support"]);
    let mut missing = refusal("NOT_FOUND", "there is no instance x");
    missing["error"]["details"] = json!({ "resourceType": "instance" });
    let ran = omni().answers(404, missing).run(&["instances", "show", "x"]);
    assert!(ran.code == 3 && ran.err.contains("omni instances list"), "{}", ran.err);
}

#[test]
fn making_and_changing_an_instance_says_just_what_was_given() {
    let made = json!({ "data": { "id": ID, "name": "a", "state": { "state": "connected" } } });
    let ran = omni().answers(201, made.clone()).typing("12:secret\n").run(&[
        "instances",
        "create",
        "a",
        "--channel",
        "telegram",
        "--token-stdin",
        "--config",
        "apiBaseUrl=http://x?a=b",
        "--config",
        "limit:=3",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let config = json!({ "apiBaseUrl": "http://x?a=b", "limit": 3 });
    assert_eq!(
        ran.asked[0].body,
        json!({ "name": "a", "channel": "telegram", "config": config, "token": "12:secret" })
    );
    let ran = omni().answers(200, made).run(&["instances", "update", ID, "--unset", "limit", "--name", "b"]);
    assert_eq!(ran.lines(), [format!("PATCH /instances/{ID}")]);
    assert_eq!(ran.asked[0].body, json!({ "name": "b", "config": { "limit": null } }));
    // A person is told why it is not connected, and what to do.
    let made = json!({ "data": { "id": ID, "name": "a", "status": "logged_out" } });
    let why = json!({ "data": { "state": "logged_out", "message": "it is revoked", "userAction": "get another" } });
    let create = ["instances", "create", "a", "--channel", "telegram", "--token", "12:x"];
    let ran = omni().answers(201, made).answers(200, why).run(&create);
    assert_eq!((ran.code, ran.lines()[1]), (0, format!("GET /instances/{ID}/status").as_str()));
    assert!(ran.out.contains("it is revoked") && ran.out.contains("get another"), "{}", ran.out);
    let away = json!({ "data": { "state": "disconnected", "message": "no answer", "willRetry": true } });
    let ran = omni().answers(200, away).run(&["instances", "status", ID]);
    assert!(ran.out.contains("tried again by itself"), "{}", ran.out);
    let ran = omni().run(&["instances", "update", ID]);
    assert!(ran.code == 2 && ran.err.contains("nothing was said to change"), "{}", ran.err);
    let ran = omni().run(&["instances", "create", "a", "--channel", "x", "--token-stdin"]);
    assert!(ran.code == 2 && ran.err.contains("nothing was entered"), "{}", ran.err);
}

#[test]
fn deleting_asks_a_person_and_wants_a_flag_of_a_script() {
    let found = json!({ "data": { "id": ID, "name": "a" } });
    let ran = omni().answers(200, found.clone()).run(&["instances", "delete", ID]);
    assert!(ran.code == 2 && ran.err.contains("add --yes") && ran.asked.len() == 1, "{}", ran.err);
    let mut person = omni().answers(200, found.clone()).typing("n\n");
    person.person = true;
    let ran = person.run(&["instances", "delete", ID]);
    assert!(ran.code == 1 && ran.asked.len() == 1, "{}", ran.err);
    let ran =
        omni().answers(200, found).answers(200, json!({ "success": true })).run(&["instances", "delete", ID, "--yes"]);
    assert_eq!((ran.code, ran.lines()[1]), (0, format!("DELETE /instances/{ID}").as_str()));
}

#[test]
fn keys_are_shown_once_and_revoked_by_name() {
    let ran = omni().answers(201, json!({ "data": { "id": "k", "plainTextKey": "omni_sk_new" } })).run(&[
        "keys",
        "create",
        "ci",
        "--scope",
        "messages:send",
        "--instance",
        ID,
    ]);
    assert_eq!(ran.out, "omni_sk_new\n");
    assert_eq!(ran.asked[0].body, json!({ "name": "ci", "scopes": ["messages:send"], "instanceIds": [ID] }));
    let ran = omni()
        .answers(200, items(&json!([{ "id": "k1", "name": "ci" }]), None))
        .answers(200, json!({ "data": {} }))
        .run(&["keys", "revoke", "ci"]);
    assert_eq!((ran.code, ran.lines()[1]), (0, "POST /keys/k1/revoke"));
}

#[test]
fn dead_letters_are_shown_whole_and_a_failed_retry_fails() {
    let letter = json!({ "data": { "id": "d", "eventType": "message.received", "payload": { "deep": [1] } } });
    let ran = omni().answers(200, letter).run(&["dead-letters", "show", "d"]);
    assert!(ran.code == 0 && ran.out.contains("\"deep\""), "{}", ran.out);
    let ran =
        omni().answers(200, json!({ "success": false, "error": "still wrong" })).run(&["dead-letters", "retry", "d"]);
    assert!(ran.code == 1 && ran.err.contains("it failed again: still wrong"), "{}", ran.err);
}

#[test]
fn an_unhealthy_server_is_a_failure() {
    let ran = omni().answers(200, json!({ "status": "unhealthy" })).run(&["status", "--json"]);
    assert_eq!((ran.code, ran.json()), (1, json!({ "status": "unhealthy" })));
}

#[test]
fn plugins_are_shown_with_what_became_of_them() {
    let plugin = |file: &str, channel: &str, status: Value| {
        json!({ "file": file, "size": 2048, "home": "process", "status": status,
            "manifest": { "channel": channel, "name": "Name", "version": "1.2.3" } })
    };
    let all = json!([
        plugin("a.so", "telegram", json!({ "state": "running", "instances": 2 })),
        plugin("b.so", "echo", json!({ "state": "failed", "reason": "needs glibc 2.99" })),
    ]);
    let ran = omni().answers(200, items(&all, None)).run(&["plugins", "list"]);
    assert!(
        ran.out.contains("running") && ran.out.contains("needs glibc 2.99") && ran.out.contains("1.2.3"),
        "{}",
        ran.out
    );
    for named in ["echo", "b.so"] {
        let ran = omni().answers(200, items(&all, None)).run(&["plugins", "show", named]);
        assert!(ran.code == 0 && ran.out.contains("needs glibc 2.99") && ran.out.contains("2 KiB"), "{}", ran.out);
    }
    let ran = omni().answers(200, items(&all, None)).run(&["plugins", "show", "x"]);
    assert!(ran.code == 3 && ran.err.contains("there are: a.so, b.so"), "{}", ran.err);
}

#[test]
fn the_audit_log_is_asked_by_key_and_time() {
    let line = json!({
        "timestamp": "2026-01-01T00:00:00Z", "keyName": "ci", "method": "POST", "path": "/api/v2/keys",
        "statusCode": 403, "ipAddress": "192.0.2.1",
    });
    let ran = omni()
        .answers(200, items(&json!([{ "id": ID, "name": "ci" }]), None))
        .answers(200, items(&json!([line]), None))
        .run(&["audit", "--key", "ci", "--failed", "--limit", "5"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines()[1], format!("GET /audit?keyId={ID}&minStatus=400&limit=5"));
    assert!(
        ran.out.contains("POST /api/v2/keys") && ran.out.contains("403") && ran.out.contains("192.0.2.1"),
        "{ran:?}"
    );
}

#[test]
fn the_log_level_and_the_key_are_the_hosts() {
    let ran = omni().answers(200, json!({ "data": { "level": "info" } })).run(&["log-level"]);
    assert_eq!((ran.out.as_str(), ran.lines()), ("info\n", vec!["GET /system/log-level"]));
    let ran = omni().answers(200, json!({ "data": { "level": "debug" } })).run(&["log-level", "debug"]);
    assert_eq!((ran.lines(), &ran.asked[0].body), (vec!["PUT /system/log-level"], &json!({ "level": "debug" })));
    let key = json!({ "data": { "keyId": "0a0b0c0d", "underWay": true, "remaining": 7 } });
    let ran = omni().answers(202, key.clone()).run(&["data", "rotate-key"]);
    assert!(ran.code == 0 && ran.out.contains("0a0b0c0d") && ran.out.contains("7 values"), "{ran:?}");
    assert_eq!(ran.lines(), ["POST /system/key/rotate"]);
    assert_eq!(omni().answers(200, key).run(&["data", "key"]).lines(), ["GET /system/key"]);
}

#[test]
fn a_person_is_given_out_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("ana.ndjson");
    let file = out.to_str().expect("a path");
    let whole =
        omni().answers_with(200, Answer::Text("{\"kind\":\"person\"}\n{\"kind\":\"end\",\"lines\":1}\n".into()));
    let ran = whole.run(&["persons", "export", ID, "--out", file, "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines(), [format!("GET /persons/{ID}/export")]);
    assert_eq!(std::fs::read_to_string(&out).expect("is there").lines().count(), 2);
    let ran = omni().run(&["persons", "export", ID, "--out", file]);
    assert!(ran.code == 2 && ran.err.contains("is there already") && ran.asked.is_empty(), "{ran:?}");
    std::fs::remove_file(&out).expect("is removed");
    let ran = omni()
        .answers_with(200, Answer::Text("{\"kind\":\"person\"}\n".into()))
        .run(&["persons", "export", ID, "--out", file]);
    assert!(ran.code == 1 && ran.err.contains("broke off"), "{ran:?}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing of half an export is left");
}

#[test]
fn a_person_is_erased_when_that_is_meant_and_it_is_waited_for() {
    let erasure = |status: &str| json!({"data": {"id": ID, "status": status, "messages": 3, "events": 4, "files": 0}});
    let ran = omni()
        .answers(202, erasure("running"))
        .answers(200, erasure("completed"))
        .run(&["persons", "erase", ID, "--yes", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.lines(), [format!("POST /persons/{ID}/erase"), format!("GET /persons/{ID}/erasure")]);
    assert_eq!(ran.json()["status"], "completed");
    let ran = omni().answers(202, erasure("running")).run(&["persons", "erase", ID, "--yes", "--no-wait"]);
    assert!(ran.code == 0 && ran.out.contains("goes on"), "{ran:?}");
    let ran = omni().answers(200, json!({"data": {"id": ID, "displayName": "Ana"}})).run(&["persons", "erase", ID]);
    assert!(ran.code == 2 && ran.err.contains("Ana") && ran.err.contains("--yes"), "{ran:?}");
    assert_eq!(ran.lines(), [format!("GET /persons/{ID}")], "nothing is erased unless somebody says so");
}

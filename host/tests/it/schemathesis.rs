//! The API against a tester that this project did not write: it reads the OpenAPI document, asks what the document allows
//! and what it does not, and holds every answer against it.

use crate::harness::TestHost;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// The same questions each time.
const SEED: &str = "20260101";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_what_its_document_says() {
    let Some(venv) = std::env::var_os("OMNI_TEST_SCHEMATHESIS").map(PathBuf::from) else {
        eprintln!("skipped: OMNI_TEST_SCHEMATHESIS does not name a folder with schemathesis; .ci/test makes one");
        return;
    };
    let examples = std::env::var_os("OMNI_TEST_SCHEMATHESIS_EXAMPLES").and_then(|count| count.into_string().ok());
    let examples = examples.unwrap_or_else(|| "5".into());
    let host = TestHost::start().await;
    let (_, echo) = host.echo("demo").await;
    for number in 0..3 {
        host.say(&echo, "room", &format!("m{number}"), "hello").await;
    }
    host.settle().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("schemathesis.toml"), CONFIG).unwrap();
    let run = Command::new(venv.join("bin/schemathesis"))
        .args(["run", &format!("{}/api/v2/openapi.json", host.url)])
        .args(["--header", &format!("x-api-key: {}", host.key)])
        .args(["--seed", SEED, "--max-examples", &examples, "--phases", "examples,coverage,fuzzing"])
        .args(["--checks", "all", "--request-timeout", "30", "--generation-database", "none", "--no-color"])
        .args(EXCLUDED.iter().flat_map(|(option, what, _)| [*option, *what]))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    host.stop().await;
}

/// What a network or a channel cannot do at the moment is no fault of the host: 502 to 504 and 507 are answers, 500 is not.
const CONFIG: &str =
    "[checks]\nnot_a_server_error.expected-statuses = [\"2xx\", \"3xx\", \"4xx\", 502, 503, 504, 507]\n";

/// What is not asked, and why.
const EXCLUDED: &[(&str, &str, &str)] = &[
    ("--exclude-path", "/events/stream", "it answers for as long as one listens"),
    ("--exclude-path", "/system/key/rotate", "a change of the key goes on for a minute"),
    (
        "--exclude-checks",
        "positive_data_acceptance",
        "an id that nobody made, or a cursor that no list gave, is refused, whatever its form",
    ),
];

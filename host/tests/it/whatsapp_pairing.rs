//! Linking a device: by QR code and by a code that is entered on the phone.
//!
//! A device that is new has nobody's certificate yet, and asks for WhatsApp's own, which only WhatsApp has. So these tests take a
//! file that was built without that check (feature `danger-test-server`); the test command builds it apart and names it in
//! `OMNI_TEST_WHATSAPP_PAIRING`. What people run is tested with accounts that were taken over.

use crate::harness::{PATIENCE, TestHost, install};
use crate::whatsapp_server::{BOB, OURS, People, Server, jid};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn plugin() -> Option<PathBuf> {
    let file = std::env::vars().find(|(name, _)| name == "OMNI_TEST_WHATSAPP_PAIRING");
    if file.is_none() {
        println!(
            "left out: the plugin was not built for a server that stands in for WhatsApp's (OMNI_TEST_WHATSAPP_PAIRING)"
        );
    }
    file.map(|(_, file)| PathBuf::from(file))
}

/// A host with an instance that waits for a login.
async fn waiting(server: &Server) -> Option<(TestHost, String, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin()?);
    let host = TestHost::with(crate::harness::Setup { data: Some(data), plugins: vec![], ..Default::default() }).await;
    let mut config = server.config(json!({"deviceName": "Test"}));
    config.as_object_mut().unwrap().remove("serverCertChain");
    let made = host.post("/instances", json!({"name": "phone", "channel": "whatsapp", "config": config})).await;
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    assert_eq!(made["data"]["channel"], "whatsapp-baileys", "the name that what is stored carries");
    host.post(&format!("/instances/{id}/connect"), json!({})).await;
    host.until_state(&id, "waiting_for_login").await;
    Some((host, id, folder))
}

async fn step(host: &TestHost, id: &str, body: Value) -> Value {
    host.post(&format!("/instances/{id}/login"), body).await["data"].clone()
}

/// Both sides can talk.
async fn talk(host: &TestHost, people: &People, id: &str) {
    people.send("bob", &jid(OURS), json!({"text": "welcome"})).await;
    let there = host.stored(id, &jid(BOB), 1).await;
    assert_eq!(there[0]["textContent"], "welcome");
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": BOB.0, "text": "thank you"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    people.gets("bob", "thank you").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_scans_the_code_and_everything_is_there_after_a_restart() {
    let server = Server::start().await;
    let Some(people) = People::start(&server).await else { return };
    let Some((host, id, folder)) = waiting(&server).await else { return };
    people.join("bob", BOB).await;
    let first = step(&host, &id, json!({"action": "start", "flow": "qr"})).await;
    assert_eq!(first["show"]["type"], "qr", "{first}");
    // The code rotates; the step is the same.
    server.does("refresh-refs", json!({})).await;
    let shown = host
        .until(&format!("/instances/{id}/qr"), |body| {
            body["data"]["qr"].is_string() && body["data"]["qr"] != first["show"]["data"]
        })
        .await;
    assert_eq!(step(&host, &id, json!({})).await["stepId"], first["stepId"]);
    let code = shown["data"]["qr"].clone();
    let (phone, lid) = OURS;
    server.does("scan", json!({"qr": code, "phone": phone, "lid": lid, "name": "Ours"})).await;
    host.until_state(&id, "connected").await;
    assert_eq!(step(&host, &id, json!({})).await["show"]["type"], "done");
    talk(&host, &people, &id).await;
    let setup = crate::harness::Setup { data: Some(folder.path().join("data")), plugins: vec![], ..Default::default() };
    let host = host.restart(setup).await;
    host.until_state(&id, "connected").await;
    people.send("bob", &jid(OURS), json!({"text": "still there?"})).await;
    host.stored(&id, &jid(BOB), 3).await;
    // Unlinked on the phone: it says so, deletes nothing, and does not begin anew by itself.
    server.does("disconnect", json!({"jid": server.device(OURS).await, "code": 401})).await;
    let state = host.until_state(&id, "logged_out").await;
    assert!(state.to_string().contains("Linked devices"), "{state}");
    assert_eq!(host.stored(&id, &jid(BOB), 3).await.len(), 3);
    host.stop().await;
}

/// What a browser gives for a passkey, as JSON.
fn assertion(challenge: &str) -> String {
    use base64::Engine;
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let data = json!({"type": "webauthn.get", "challenge": challenge, "origin": "https://web.whatsapp.com"});
    let id = base64(b"a credential");
    let response = json!({
        "clientDataJSON": base64(data.to_string().as_bytes()), "authenticatorData": base64(&[0; 37]),
        "signature": base64(b"signed"), "userHandle": null,
    });
    json!({"id": id, "rawId": id, "type": "public-key", "response": response}).to_string()
}

/// Waits until a login is at a step.
async fn until_step(host: &TestHost, id: &str, wanted: &str) -> Value {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let now = step(host, id, json!({})).await;
        if now["stepId"] == wanted {
            return now;
        }
        assert!(began.elapsed() < PATIENCE, "the login never comes to {wanted}: {now}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_passkey_is_linked_by_whoever_has_it() {
    let server = Server::start().await;
    let Some(people) = People::start(&server).await else { return };
    let Some((host, id, _folder)) = waiting(&server).await else { return };
    people.join("bob", BOB).await;
    let (phone, lid) = OURS;
    let submit = async |at: &Value, field: &str, value: &str| {
        step(&host, &id, json!({"action": "submit", "stepId": at["stepId"], "fields": {field: value}})).await
    };
    // The codes are not the same: somebody else may be at it, and nothing is linked.
    for is_same in [false, true] {
        let first = step(&host, &id, json!({"action": "start", "flow": "qr"})).await;
        assert_eq!(first["show"]["type"], "qr", "{first}");
        let options = server.does("passkey", json!({"phone": phone, "lid": lid, "name": "Ours"})).await;
        let asked = until_step(&host, &id, "passkey").await;
        let challenge = options["challenge"].as_str().unwrap();
        assert!(asked["instructions"].as_str().unwrap().contains(challenge), "{asked}");
        let wrong = submit(&asked, "assertion", "no JSON").await;
        assert!(wrong["instructions"].as_str().unwrap().contains("not JSON"), "{wrong}");
        submit(&asked, "assertion", &assertion(challenge)).await;
        server.does("agree", json!({})).await;
        let shown = until_step(&host, &id, "confirm").await;
        let code = server.look("passkey").await["code"].as_str().unwrap().to_owned();
        let grouped = format!("{}-{}", &code[..4], &code[4..]);
        assert!(shown["instructions"].as_str().unwrap().contains(&grouped), "{shown}, and the phone shows {grouped}");
        if !is_same {
            let over = submit(&shown, "confirm", "no").await;
            assert_eq!(over["show"]["type"], "failed", "{over}");
            continue;
        }
        submit(&shown, "confirm", "yes").await;
    }
    host.until_state(&id, "connected").await;
    talk(&host, &people, &id).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_entered_on_the_phone() {
    let server = Server::start().await;
    let Some(people) = People::start(&server).await else { return };
    let Some((host, id, _folder)) = waiting(&server).await else { return };
    people.join("bob", BOB).await;
    let form = step(&host, &id, json!({"action": "start", "flow": "code"})).await;
    assert_eq!(form["show"]["type"], "form", "{form}");
    let wrong = json!({"action": "submit", "stepId": form["stepId"], "fields": {"phone": "12"}});
    let form = step(&host, &id, wrong).await;
    assert!(form["instructions"].as_str().unwrap().contains("7 to 15 digits"), "{form}");
    let right = json!({"action": "submit", "stepId": form["stepId"], "fields": {"phone": format!("+{}", OURS.0)}});
    let shown = step(&host, &id, right).await;
    assert_eq!(shown["show"]["type"], "code", "{shown}");
    let (phone, lid) = OURS;
    let typed = json!({"code": shown["show"]["code"], "phone": phone, "lid": lid, "name": "Ours"});
    server.does("enter-code", typed).await;
    host.until_state(&id, "connected").await;
    talk(&host, &people, &id).await;
    host.stop().await;
}

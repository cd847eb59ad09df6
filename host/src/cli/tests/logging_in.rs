//! Logging in from a terminal, step by step.

use super::*;

fn step(id: &str, show: &Value) -> Value {
    json!({ "data": { "stepId": id, "show": show, "instructions": format!("do {id}") } })
}

#[test]
fn a_login_goes_through_its_steps() {
    let form = json!({ "type": "form", "fields": [
        { "id": "phone", "label": "Phone", "kind": "phone", "help": "with the country" },
        { "id": "region", "label": "Region", "kind": "select", "options": ["eu", "us"] },
        { "id": "pin", "label": "PIN", "kind": "secret" },
    ] });
    let ran = omni()
        .answers(200, step("s1", &form))
        .answers(200, step("s2", &json!({ "type": "code", "code": "ABCD-EFGH" })))
        .answers(200, step("s2", &json!({ "type": "code", "code": "ABCD-EFGH" })))
        .answers(200, step("s3", &json!({ "type": "qr", "data": "first" })))
        .answers(200, step("s3", &json!({ "type": "qr", "data": "second" })))
        .answers(200, step("s4", &json!({ "type": "done" })))
        .typing("+491234\nmars\n2\nhunter2\n")
        .run(&["instances", "login", ID, "--flow", "phone"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let bodies: Vec<_> = ran.asked.iter().map(|asked| asked.body.clone()).collect();
    assert_eq!(bodies[0], json!({ "action": "start", "flow": "phone" }));
    let fields = json!({ "phone": "+491234", "region": "us", "pin": "hunter2" });
    assert_eq!(bodies[1], json!({ "action": "submit", "stepId": "s1", "fields": fields }));
    assert!(bodies[2..].iter().all(|body| *body == json!({ "action": "poll" })), "{bodies:?}");
    assert_eq!(ran.out.matches("ABCD-EFGH").count(), 1, "a step that stays is shown once");
    assert_eq!(ran.err.matches("do s3").count(), 2, "a new code is shown anew");
    assert!(ran.out.contains('█') && ran.err.contains("enter one of the numbers") && ran.err.contains("logged in"));
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"));
}

#[test]
fn a_login_that_fails_or_is_not_known_says_so() {
    let failed = json!({ "type": "failed", "message": "the code has expired" });
    let ran = omni().answers(200, step("s", &failed)).run(&["instances", "login", ID]);
    assert!(ran.code == 1 && ran.err.contains("the login failed: the code has expired"), "{}", ran.err);
    let ran = omni().answers(200, step("s", &json!({ "type": "dance" }))).run(&["instances", "login", ID]);
    assert!(ran.code == 1 && ran.err.contains("of the kind \"dance\""), "{}", ran.err);
    let ran = omni().answers(404, refusal("NOT_FOUND", "there is no instance")).run(&["instances", "login", ID]);
    assert_eq!(ran.code, 3);
}

#[test]
fn connecting_goes_on_to_the_login_when_a_person_is_there() {
    let waiting = json!({ "data": { "instanceId": ID, "state": "waiting_for_login" } });
    let connect = || {
        omni()
            .answers(200, json!({ "data": { "instanceId": ID, "status": "waiting_for_login" } }))
            .answers(200, waiting.clone())
    };
    let mut person = connect().answers(200, step("s", &json!({ "type": "done" })));
    person.person = true;
    let ran = person.run(&["instances", "connect", ID]);
    assert_eq!(
        (ran.code, ran.lines().last().copied()),
        (0, Some(format!("POST /instances/{ID}/login").as_str())),
        "{}",
        ran.err
    );
    let ran = connect().run(&["instances", "connect", ID]);
    assert!(ran.code == 0 && ran.err.contains(&format!("omni instances login {ID}")), "{}", ran.err);
}

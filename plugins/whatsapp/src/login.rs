//! Where a login stands: one place that the library's events write to and that is shown step by step.
//!
//! ```text
//! idle ── start(qr) ──> waiting ── code ──> qr ⟲ ──────────┐
//!   └──── start(code) ─> phone ── number ─> code ⟲ ────────┤── paired ─> done
//!                                   └─> passkey ─> confirm ┘
//! any of them ── the codes ran out, refused, cancelled ──> failed (a new start begins anew)
//! ```
//!
//! A login never begins by itself, and ends after the codes that the server gave: nothing loops.

use omni_channel_sdk::login::{
    FieldKind, FormField, LoginShow, LoginStep, ShowCode, ShowFailure, ShowForm, ShowNothing, ShowQr,
};
use tokio::sync::watch;

/// The step that is shown. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Step {
    /// Nobody logs in.
    #[default]
    Idle,
    /// The server was asked for a code to be scanned.
    Waiting,
    /// The server was asked for a code to be entered.
    Asked,
    /// Scan this.
    Qr {
        /// What the code says.
        code: String,
        /// Until when it is good.
        until: i64,
    },
    /// Which phone number?
    Phone {
        /// What was wrong with the one that was entered.
        wrong: Option<String>,
    },
    /// Enter this on the phone.
    Code {
        /// Eight letters and digits.
        code: String,
        /// Until when it is good.
        until: i64,
    },
    /// The account's passkey is asked for.
    Passkey {
        /// The request as the server made it (`PublicKeyCredentialRequestOptions` as JSON).
        options: String,
        /// What was wrong with the answer that was entered.
        wrong: Option<String>,
    },
    /// Compare this code with what the phone shows.
    Confirm {
        /// `None` when the server asks for no comparison.
        code: Option<String>,
    },
    /// The phone has linked the device.
    Done,
    /// It ended otherwise.
    Failed(String),
}

/// A login under way, seen from both sides.
#[derive(Debug)]
pub struct Login(watch::Sender<Step>);

impl Default for Login {
    fn default() -> Self {
        Self(watch::Sender::new(Step::Idle))
    }
}

impl Login {
    /// The step that it is at.
    pub fn step(&self) -> Step {
        self.0.borrow().clone()
    }

    /// Goes on to a step.
    pub fn set(&self, step: Step) {
        self.0.send_replace(step);
    }

    /// Goes on to a step, unless the login has come to its end.
    pub fn advance(&self, step: Step) {
        self.0.send_if_modified(|now| {
            let open = !matches!(now, Step::Done | Step::Failed(_) | Step::Idle);
            if open {
                *now = step;
            }
            open
        });
    }

    /// Waits until there is something to show.
    pub async fn shown(&self) -> Step {
        let mut steps = self.0.subscribe();
        match steps.wait_for(|step| !matches!(step, Step::Waiting | Step::Asked)).await {
            Ok(step) => step.clone(),
            Err(_) => self.step(),
        }
    }

    /// Whether a person is at it.
    pub fn is_open(&self) -> bool {
        !matches!(*self.0.borrow(), Step::Idle | Step::Done | Step::Failed(_))
    }
}

impl Step {
    /// The step as a person sees it.
    pub fn show(self) -> LoginStep {
        let step =
            |id: &str, show: LoginShow| LoginStep { step_id: id.into(), show, instructions: None, expires_at: None };
        let say = |mut step: LoginStep, words: &str| {
            step.instructions = Some(words.to_owned());
            step
        };
        match self {
            Self::Idle => step("idle", LoginShow::Failed(ShowFailure { message: "no login was begun".into() })),
            Self::Waiting | Self::Asked => {
                say(step("wait", LoginShow::Wait(ShowNothing {})), "WhatsApp is asked for a code.")
            }
            Self::Qr { code, until } => LoginStep {
                expires_at: Some(until),
                ..say(
                    step("qr", LoginShow::Qr(ShowQr { data: code })),
                    "On the phone: WhatsApp, Linked devices, Link a device, and scan this code. It changes every few seconds.",
                )
            },
            Self::Phone { wrong } => {
                let words = wrong.unwrap_or_else(|| "The phone number of the account, with the country code.".into());
                say(
                    step("phone", form("phone", "Phone number", FieldKind::Phone, "With country code: +5511999990001")),
                    &words,
                )
            }
            Self::Code { code, until } => LoginStep {
                expires_at: Some(until),
                ..say(
                    step("code", LoginShow::Code(ShowCode { code })),
                    "On the phone: WhatsApp, Linked devices, Link a device, Link with phone number instead, and enter this code.",
                )
            },
            Self::Passkey { options, wrong } => {
                let mut words = wrong.map_or_else(String::new, |wrong| format!("{wrong} "));
                words.push_str(
                    "WhatsApp asks for the passkey of this account. On a page of https://web.whatsapp.com in a browser that has it, \
                     open the console, run navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(OPTIONS)}) \
                     with the options below, and paste JSON.stringify of what it gives. Options: ",
                );
                words.push_str(&options);
                say(
                    step(
                        "passkey",
                        form(
                            "assertion",
                            "The passkey's answer (JSON)",
                            FieldKind::Text,
                            "What JSON.stringify printed",
                        ),
                    ),
                    &words,
                )
            }
            Self::Confirm { code: Some(code) } => {
                let fields = vec![FormField {
                    id: "confirm".into(),
                    label: format!("Does the phone show {code}?"),
                    kind: FieldKind::Select,
                    pattern: None,
                    help: None,
                    options: vec!["yes".into(), "no".into()],
                }];
                say(
                    step("confirm", LoginShow::Form(ShowForm { fields })),
                    &format!("Compare the code on the phone with {code}. Only if it is the same, answer yes."),
                )
            }
            Self::Confirm { code: None } => step("confirm", LoginShow::Wait(ShowNothing {})),
            Self::Done => step("done", LoginShow::Done(ShowNothing {})),
            Self::Failed(message) => step("failed", LoginShow::Failed(ShowFailure { message })),
        }
    }
}

fn form(id: &str, label: &str, kind: FieldKind, help: &str) -> LoginShow {
    let field = FormField {
        id: id.into(),
        label: label.into(),
        kind,
        pattern: None,
        help: Some(help.into()),
        options: Vec::new(),
    };
    LoginShow::Form(ShowForm { fields: vec![field] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_ended_is_not_moved_on_by_what_comes_late() {
        let login = Login::default();
        login.advance(Step::Qr { code: "a".into(), until: 1 });
        assert_eq!(login.step(), Step::Idle, "nobody logs in");
        login.set(Step::Waiting);
        login.advance(Step::Qr { code: "a".into(), until: 1 });
        assert!(login.is_open());
        login.set(Step::Done);
        login.advance(Step::Qr { code: "b".into(), until: 2 });
        assert_eq!(login.step(), Step::Done);
    }

    #[test]
    fn a_new_code_of_the_same_login_keeps_the_step() {
        let first = Step::Qr { code: "a".into(), until: 1 }.show();
        let second = Step::Qr { code: "b".into(), until: 2 }.show();
        assert_eq!(first.step_id, second.step_id);
        assert_ne!(first.show, second.show);
    }
}

//! Which number it is and what it logs in with: the configuration's, what was put in, or what was taken over from Evolution.
//!
//! The configuration's counts first, field by field. Nobody confirms a token but Meta: one that is no good is refused where it
//! is put in, and nothing is written.

use crate::Cloud;
use crate::api::PhoneNumber;
use crate::client::{ApiError, Client, Refusal, is_about_the_token};
use crate::config::Config;
use crate::errors::NEW_TOKEN;
use omni_channel_sdk::login::{
    FieldKind, FormField, LoginCall, LoginShow, LoginStep, ShowFailure, ShowForm, ShowNothing,
};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthReport, ImportAuth};
use serde::Serialize;
use std::collections::BTreeMap;

/// The timer by which an instance begins anew.
pub const BEGIN: &str = "begin";
const KEPT: &str = "account";
const STEP: &str = "credentials";
/// The step, and the flow, in which what was put in before is put in anew.
const RENEW: &str = "renew";
/// What Evolution says of a number of Meta's Cloud API.
const BUSINESS: &str = "WHATSAPP-BUSINESS";
/// What is asked of the number when it is confirmed.
const FIELDS: &str = "fields=id,display_phone_number,verified_name,quality_rating";

/// An account that is whole enough to be asked about.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The access token, or its placeholder.
    pub token: String,
    /// Meta's id of the number.
    pub phone_number_id: String,
    /// Meta's id of the account that the number belongs to.
    pub business_account_id: Option<String>,
    /// What Meta signs with, or its placeholder.
    pub app_secret: Option<String>,
}

/// What is known of an account: kept, or configured.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Known {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    business_account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_secret: Option<String>,
}

impl Known {
    /// What is kept and what is configured.
    pub async fn find(ctx: &Context, config: &Config) -> Result<Self, HostError> {
        let kept = ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice::<Self>(&kept).ok()).unwrap_or_default();
        Ok(kept.over(config))
    }

    fn over(self, config: &Config) -> Self {
        let first = |configured: &Option<String>, kept: Option<String>| {
            let configured = configured.as_deref().map(str::trim).filter(|words| !words.is_empty());
            configured.map(str::to_owned).or(kept)
        };
        Self {
            token: first(&config.token, self.token),
            phone_number_id: first(&config.phone_number_id, self.phone_number_id),
            business_account_id: first(&config.business_account_id, self.business_account_id),
            app_secret: first(&config.app_secret, self.app_secret),
        }
    }

    /// The account, when it is known which number with which token.
    pub fn account(&self) -> Option<Account> {
        Some(Account {
            token: self.token.clone()?,
            phone_number_id: self.phone_number_id.clone()?,
            business_account_id: self.business_account_id.clone(),
            app_secret: self.app_secret.clone(),
        })
    }

    /// The fields of the form that are still to be filled in.
    fn missing(&self) -> Vec<FormField> {
        let [number, token, secret] = fields();
        let mut fields = Vec::new();
        fields.extend(self.phone_number_id.is_none().then_some(number));
        fields.extend(self.token.is_none().then_some(token));
        fields.extend(self.app_secret.is_none().then_some(secret));
        fields
    }

    /// The same without what is put in anew. What the configuration says is changed there.
    fn without(mut self, fields: &BTreeMap<String, String>, config: &Config) -> Self {
        let anew = |name: &str| fields.get(name).is_some_and(|words| !words.trim().is_empty());
        if anew("token") && config.token.is_none() {
            self.token = None;
        }
        if anew("appSecret") && config.app_secret.is_none() {
            self.app_secret = None;
        }
        self
    }
}

/// Asks for the secrets anew.
fn renewal(config: &Config) -> LoginStep {
    let [_, token, secret] = fields();
    let mut asked = Vec::new();
    asked.extend(config.token.is_none().then_some(token));
    asked.extend(config.app_secret.is_none().then_some(secret));
    if asked.is_empty() {
        let what =
            "the token and the app secret are in the instance's configuration: `omni instances update` changes them";
        return show(failed(what.into()));
    }
    LoginStep { step_id: RENEW.into(), ..show(LoginShow::Form(ShowForm { fields: asked })) }
}

/// What can be put in: the number's id, the token, the app secret.
fn fields() -> [FormField; 3] {
    let field = |id: &str, label: &str, kind: FieldKind, help: &str| FormField {
        id: id.into(),
        label: label.into(),
        kind,
        pattern: None,
        help: Some(help.into()),
        options: Vec::new(),
    };
    let mut number = field("phoneNumberId", "Phone number ID", FieldKind::Text, "App Dashboard, WhatsApp, API Setup");
    number.pattern = Some("^[0-9]{5,30}$".into());
    let help = "Meta Business Settings, System users: with whatsapp_business_messaging and \
                whatsapp_business_management, and without an end";
    let token = field("token", "Access token", FieldKind::Secret, help);
    let secret = field("appSecret", "App secret", FieldKind::Secret, "App Dashboard, App settings, Basic");
    [number, token, secret]
}

/// Whether a word is an id of Meta's: it goes into addresses.
fn is_id(word: &str) -> bool {
    (5..=30).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Asks Meta about the number.
pub async fn confirm(ctx: &Context, client: &Client) -> Result<PhoneNumber, ApiError> {
    client.ask(ctx, client.get(&format!("{}?{FIELDS}", client.phone()))).await
}

/// Asks Meta about a number that somebody puts in or takes over.
async fn tried(ctx: &Context, config: &Config, account: &Account) -> Result<PhoneNumber, SendError> {
    if account.token.contains(char::is_whitespace) {
        return Err(SendError::invalid("an access token is one word; this one has blanks in it"));
    }
    if !is_id(&account.phone_number_id) {
        return Err(SendError::invalid(
            "a phone number ID is digits alone (App Dashboard, WhatsApp, API Setup); it is not the number itself",
        ));
    }
    match confirm(ctx, &Client::new(config, account)).await {
        Err(ApiError::Refused(Refusal { code, message, .. })) if is_about_the_token(code) => {
            Err(SendError::invalid(format!("Meta does not take the token ({message}): {NEW_TOKEN}")))
        }
        Err(ApiError::Refused(Refusal { code: code @ (33 | 100 | 803), message, .. })) => {
            let what = "is it the number's id, and may the token's system user see its account?";
            Err(SendError::invalid(format!("Meta does not show this number ({message}, code {code}): {what}")))
        }
        found => Ok(found?),
    }
}

/// The number as a profile.
pub fn profile(client: &Client, number: &PhoneNumber) -> Profile {
    let digits = number.display_phone_number.as_deref().map(digits).filter(|digits| !digits.is_empty());
    Profile {
        id: client.phone().to_owned(),
        name: number.verified_name.clone(),
        username: digits.map(|digits| format!("+{digits}")),
        avatar_url: None,
    }
}

/// The digits of a number that is written for people.
pub fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// Makes a move in a login.
pub async fn step(ctx: &Context, cloud: &Cloud, call: LoginCall) -> Result<LoginStep, ChannelError> {
    let known = Known::find(ctx, &cloud.config).await?;
    match call {
        LoginCall::Start { flow: Some(flow) } if flow == RENEW => Ok(renewal(&cloud.config)),
        LoginCall::Start { .. } | LoginCall::Poll => Ok(current(&known)),
        LoginCall::Cancel => Ok(show(failed("the login was given up".into()))),
        LoginCall::Submit { step_id, fields } if step_id == STEP || step_id == RENEW => {
            let known = if step_id == RENEW { known.without(&fields, &cloud.config) } else { known };
            match submitted(ctx, cloud, known, fields).await {
                Ok(()) => Ok(show(LoginShow::Done(ShowNothing {}))),
                Err(error) if error.next == NextActor::Caller => Ok(show(failed(error.message))),
                Err(error) => Err(error.into()),
            }
        }
        LoginCall::Submit { step_id, .. } => {
            Err(ChannelError::invalid(format!("there is no login step {step_id:?}; start again")))
        }
    }
}

async fn submitted(
    ctx: &Context,
    cloud: &Cloud,
    mut known: Known,
    fields: BTreeMap<String, String>,
) -> Result<(), SendError> {
    let missing = known.missing();
    let given = |id: &str| {
        let asked = missing.iter().any(|field| field.id == id);
        let words = fields.get(id).map(|words| words.trim()).filter(|words| asked && !words.is_empty());
        words.map(str::to_owned)
    };
    known.token = known.token.take().or_else(|| given("token"));
    known.phone_number_id = known.phone_number_id.take().or_else(|| given("phoneNumberId"));
    known.app_secret = known.app_secret.take().or_else(|| given("appSecret"));
    let (Some(account), Some(_)) = (known.account(), &known.app_secret) else {
        let names: Vec<_> = known.missing().into_iter().map(|field| field.label).collect();
        return Err(SendError::invalid(format!("still missing: {}", names.join(", "))));
    };
    tried(ctx, &cloud.config, &account).await?;
    // What the configuration has stays there alone: what is kept would outlive it.
    let only = |configured: &Option<String>, known: Option<String>| known.filter(|_| configured.is_none());
    let config = &cloud.config;
    keep(
        ctx,
        &Known {
            token: only(&config.token, known.token),
            phone_number_id: only(&config.phone_number_id, known.phone_number_id),
            business_account_id: only(&config.business_account_id, known.business_account_id),
            app_secret: only(&config.app_secret, known.app_secret),
        },
    );
    ctx.set_timer(BEGIN, 0);
    Ok(())
}

fn keep(ctx: &Context, known: &Known) {
    if let Ok(kept) = serde_json::to_vec(known) {
        ctx.set(KEPT, kept);
    }
}

fn current(known: &Known) -> LoginStep {
    let fields = known.missing();
    if fields.is_empty() {
        return show(LoginShow::Done(ShowNothing {}));
    }
    show(LoginShow::Form(ShowForm { fields }))
}

fn failed(message: String) -> LoginShow {
    LoginShow::Failed(ShowFailure { message })
}

fn show(show: LoginShow) -> LoginStep {
    LoginStep { step_id: STEP.into(), show, instructions: None, expires_at: None }
}

/// Takes a number over from Evolution, whose row of it has the token. Meta says first whether it is good.
pub async fn import(ctx: &Context, config: &Config, asked: ImportAuth) -> Result<AuthReport, SendError> {
    let row = evolution_row(&asked)?;
    let text = |column: &str| row.get(column).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let name = text("name").unwrap_or("without a name");
    let needed = |column: &'static str, what: &str| {
        text(column)
            .ok_or_else(|| SendError::invalid(format!("the instance {name:?} of Evolution has no {what} ({column})")))
    };
    let account = Account {
        token: needed("token", "access token")?.to_owned(),
        phone_number_id: needed("number", "phone number ID")?.to_owned(),
        business_account_id: text("businessId").filter(|id| is_id(id)).map(str::to_owned),
        app_secret: None,
    };
    let number = tried(ctx, config, &account).await?;
    let mut report = AuthReport { paired: true, ..AuthReport::default() };
    for (what, is_there) in
        [("token", true), ("phoneNumberId", true), ("businessAccountId", account.business_account_id.is_some())]
    {
        if is_there {
            report.found.insert(what.to_owned(), 1);
            report.imported.insert(what.to_owned(), 1);
        }
    }
    report.profile = Some(profile(&Client::new(config, &account), &number));
    if account.business_account_id.is_none() {
        report
            .warnings
            .push("there is no businessId: that the app is subscribed to the account is for you to see to".into());
    }
    if config.app_secret.is_none() {
        let what = "Evolution keeps no app secret, without which nothing that Meta sends can be trusted: put it in with `omni \
                    instances login <instance>`";
        report.warnings.push(what.into());
    }
    if config.token.is_some() || config.phone_number_id.is_some() {
        let what = "the instance has a token or a number in its configuration already, which counts before this one";
        report.warnings.push(what.into());
    }
    if !asked.dry_run {
        keep(
            ctx,
            &Known {
                token: Some(account.token),
                phone_number_id: Some(account.phone_number_id),
                business_account_id: account.business_account_id,
                app_secret: None,
            },
        );
    }
    Ok(report)
}

/// The only row of Evolution's table of instances that is handed over.
fn evolution_row(asked: &ImportAuth) -> Result<&Value, SendError> {
    let is_table = |name: &str| {
        let plain = name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_ascii_lowercase();
        plain.strip_prefix("evo_").unwrap_or(&plain) == "instance"
    };
    let rows: Vec<&Value> = asked.rows.iter().filter(|(table, _)| is_table(table)).flat_map(|(_, rows)| rows).collect();
    match rows.as_slice() {
        [row] => match row.get("integration").and_then(Value::as_str) {
            Some(BUSINESS) => Ok(row),
            other => Err(SendError::invalid(format!(
                "this instance of Evolution is {}, not {BUSINESS}: a linked device is taken over by the channel whatsapp-baileys",
                other.unwrap_or("of an unknown kind")
            ))),
        },
        [] => Err(SendError::invalid(
            "there is no number of the Cloud API in what was found; hand over Evolution's database (Omni v1 has it in its own: \
             evolution-postgres:URL)",
        )),
        several => {
            let names: Vec<&str> =
                several.iter().take(5).filter_map(|row| row.get("name").and_then(Value::as_str)).collect();
            Err(SendError::invalid(format!(
                "there are several instances in what was found ({}); hand over one",
                names.join(", ")
            )))
        }
    }
}

//! Logging in. A channel with flows of its own makes the steps; for one that needs no more than its configuration the
//! host asks for the fields that are missing.

use super::{Instance, InstanceChange, InstanceError, Instances, Result};
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::login::{
    FieldKind, FormField, LoginCall, LoginShow, LoginStep, ShowFailure, ShowForm, ShowNothing,
};
use omni_channel_sdk::manifest::ChannelManifest;
use serde_json::{Map, Value};
use std::time::Duration;
use uuid::Uuid;

/// The step id of the host's own form.
const CONFIG_STEP: &str = "config";

/// Makes a move.
pub async fn step(instances: &Instances, id: Uuid, call: LoginCall, by_operator: bool) -> Result<LoginStep> {
    let row = instances.row(id).await?;
    let manifest = instances.manifest(&row.channel)?;
    if manifest.login_flows.is_empty() {
        return by_config(instances, id, &manifest, call, by_operator).await;
    }
    if instances.session(&row).is_err() {
        instances.connect(id, Duration::from_secs(10)).await?;
    }
    let session = instances.session(&row)?;
    Ok(session.login(call, instances.0.options.call_within).await?)
}

async fn by_config(
    instances: &Instances,
    id: Uuid,
    manifest: &ChannelManifest,
    call: LoginCall,
    by_operator: bool,
) -> Result<LoginStep> {
    match call {
        LoginCall::Start { .. } | LoginCall::Poll => {
            let instance = instances.get(id).await?;
            let logged_out = matches!(instance.state, ConnectionState::LoggedOut { .. });
            let fields = missing_fields(&instance, manifest, logged_out);
            if fields.is_empty() {
                let instance = instances.connect(id, Duration::from_secs(10)).await?;
                return Ok(outcome(&instance));
            }
            Ok(form(manifest, fields))
        }
        LoginCall::Submit { step_id, fields } => {
            if step_id != CONFIG_STEP {
                return Err(InstanceError::Invalid(format!("there is no login step {step_id:?}; start again")));
            }
            let config: Map<String, Value> =
                fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            instances.update(id, InstanceChange { config, by_operator, ..InstanceChange::default() }).await?;
            let instance = instances.connect(id, Duration::from_secs(20)).await?;
            Ok(outcome(&instance))
        }
        LoginCall::Cancel => Ok(show(LoginShow::Failed(ShowFailure { message: "the login was given up".into() }))),
    }
}

/// What has to be asked: required fields that are not there, and secrets that are no longer good.
fn missing_fields<'a>(instance: &Instance, manifest: &'a ChannelManifest, logged_out: bool) -> Vec<&'a str> {
    let secrets = manifest.secret_fields();
    let required = manifest.config_schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten().filter_map(Value::as_str);
    required
        .filter(|name| {
            let there = instance.config.contains_key(*name) || instance.secrets.iter().any(|secret| secret == name);
            !there || (logged_out && secrets.contains(name))
        })
        .collect()
}

fn form(manifest: &ChannelManifest, names: Vec<&str>) -> LoginStep {
    let secrets = manifest.secret_fields();
    let fields = names.into_iter().map(|name| {
        let schema = manifest.config_schema.pointer(&format!("/properties/{name}"));
        let text = |key: &str| schema.and_then(|schema| schema.get(key)?.as_str().map(str::to_owned));
        FormField {
            id: name.to_owned(),
            label: text("title").unwrap_or_else(|| name.to_owned()),
            kind: if secrets.contains(&name) { FieldKind::Secret } else { FieldKind::Text },
            pattern: text("pattern"),
            help: text("description"),
            options: Vec::new(),
        }
    });
    show(LoginShow::Form(ShowForm { fields: fields.collect() }))
}

fn outcome(instance: &Instance) -> LoginStep {
    let failed = |message: String| LoginShow::Failed(ShowFailure { message });
    show(match &instance.state {
        ConnectionState::Connected { .. } => LoginShow::Done(ShowNothing {}),
        ConnectionState::Connecting | ConnectionState::WaitingForLogin => LoginShow::Wait(ShowNothing {}),
        ConnectionState::Disconnected { reason, transient: true } => {
            failed(format!("{reason}; it is being tried again"))
        }
        ConnectionState::Disconnected { reason, .. } => failed(reason.clone()),
        ConnectionState::LoggedOut { reason, user_action } => failed(format!("{reason}. {user_action}")),
    })
}

fn show(show: LoginShow) -> LoginStep {
    LoginStep { step_id: CONFIG_STEP.into(), show, instructions: None, expires_at: None }
}

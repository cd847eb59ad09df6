//! Logging an instance in from a terminal: shows each step of the login and brings back what was entered.

use super::client::Client;
use super::ui::{Ui, clean};
use super::{CliError, Result, Wait};
use omni_channel_sdk::login::{FieldKind, FormField, LoginCall, LoginShow, LoginStep, ShowForm};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a step that waits is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Goes through the login at `path` until it is done or has failed.
pub(super) async fn run(path: &str, flow: Option<String>, client: &Client, ui: &mut Ui, clock: &Wait) -> Result<()> {
    let mut step = call(path, &LoginCall::Start { flow }, client).await?;
    let mut shown: Option<LoginStep> = None;
    let mut spinner = ui.spinner("");
    spinner.finish_and_clear();
    loop {
        let is_new = shown.as_ref() != Some(&step);
        if is_new {
            spinner.finish_and_clear();
            show(&step, ui)?;
        }
        let next = match &step.show {
            LoginShow::Done(_) => {
                return if ui.json { Ok(()) } else { ui.note("logged in") };
            }
            LoginShow::Failed(failure) => {
                return Err(CliError::failed(format!("the login failed: {}", failure.message))
                    .help("start it again with the same command"));
            }
            LoginShow::Form(form) => LoginCall::Submit { step_id: step.step_id.clone(), fields: fill_in(form, ui)? },
            LoginShow::Unknown(unknown) => {
                return Err(CliError::failed(format!(
                    "this version cannot show a login step of the kind {:?}",
                    unknown.kind
                ))
                .help("bring omni up to date"));
            }
            LoginShow::Qr(_) | LoginShow::Code(_) | LoginShow::OpenUrl(_) | LoginShow::Wait(_) => {
                if is_new {
                    spinner = ui.spinner(step.instructions.as_deref().unwrap_or("waiting"));
                }
                clock.sleep(POLL).await;
                LoginCall::Poll
            }
        };
        shown = Some(step);
        step = call(path, &next, client).await?;
        if matches!(next, LoginCall::Submit { .. }) {
            // The same form again means that what was entered was not taken: it must be shown again.
            shown = None;
        }
    }
}

async fn call(path: &str, call: &LoginCall, client: &Client) -> Result<LoginStep> {
    let step = client.post(path, body(call)).await?;
    serde_json::from_value(step)
        .map_err(|error| CliError::failed(format!("the server's login step cannot be read: {error}")))
}

/// A move as the API takes it.
fn body(call: &LoginCall) -> Value {
    match call {
        LoginCall::Start { flow: Some(flow) } => json!({ "action": "start", "flow": flow }),
        LoginCall::Start { flow: None } => json!({ "action": "start" }),
        LoginCall::Poll => json!({ "action": "poll" }),
        LoginCall::Submit { step_id, fields } => json!({ "action": "submit", "stepId": step_id, "fields": fields }),
        LoginCall::Cancel => json!({ "action": "cancel" }),
    }
}

fn show(step: &LoginStep, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json_line(step);
    }
    if let Some(instructions) = &step.instructions {
        ui.note(&clean(instructions))?;
    }
    match &step.show {
        LoginShow::Qr(qr) => {
            let drawn = draw(&qr.data)?;
            ui.line(&drawn)
        }
        LoginShow::Code(code) => ui.line(&format!("\n    {}\n", clean(&code.code))),
        LoginShow::OpenUrl(page) => ui.line(&format!("\n    {}\n", clean(&page.url))),
        _ => Ok(()),
    }
}

/// A QR code in half blocks, dark on light, as cameras want it on a dark terminal.
fn draw(data: &str) -> Result<String> {
    let code = QrCode::new(data).map_err(|error| CliError::failed(format!("the QR code cannot be drawn: {error}")))?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Dark).light_color(Dense1x2::Light).build())
}

fn fill_in(form: &ShowForm, ui: &mut Ui) -> Result<BTreeMap<String, String>> {
    form.fields.iter().map(|field| Ok((field.id.clone(), enter(field, ui)?))).collect()
}

fn enter(field: &FormField, ui: &mut Ui) -> Result<String> {
    if let Some(help) = &field.help {
        ui.note(&clean(help))?;
    }
    if field.options.is_empty() {
        return ui.ask(&field.label, field.kind == FieldKind::Secret);
    }
    for (number, option) in field.options.iter().enumerate() {
        ui.note(&format!("  {}) {}", number + 1, clean(option)))?;
    }
    loop {
        let entered = ui.ask(&field.label, false)?;
        let by_number =
            entered.trim().parse::<usize>().ok().and_then(|number| field.options.get(number.checked_sub(1)?));
        match by_number.or_else(|| field.options.iter().find(|option| **option == entered)) {
            Some(option) => return Ok(option.clone()),
            None => ui.note("enter one of the numbers")?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_is_drawn_square_in_half_blocks() {
        let drawn = draw("https://example.org/login").expect("fits");
        let lines: Vec<_> = drawn.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width));
        assert_eq!(lines.len(), width.div_ceil(2));
        assert!(drawn.contains('█') && drawn.contains('▀') && drawn.contains('▄'));
        assert!(draw(&"x".repeat(5000)).is_err());
    }
}

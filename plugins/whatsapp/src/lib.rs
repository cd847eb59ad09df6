//! WhatsApp, as a linked device of an account: WhatsApp Web's protocol, without a browser.
//!
//! ```text
//! lib        the channel: start, login, requests
//! config     what an operator may set
//! auth       auth state that comes from another program, and that is given to one
//! account    what belongs to one account
//! session    the connection, and what its events mean
//! login      where a login stands
//! inbound    what comes in: messages (stored before they are acknowledged), history, everything else
//! outbound   what goes out
//! asked      everything else that is asked: groups, profiles, lists, history
//! baileys    auth state of Baileys and Evolution, taken over and given away
//! names address   who and where: one name for an account that WhatsApp knows by two
//! care       how fast it may send, and what WhatsApp has forbidden
//! store kv   the library's state in the host's key-value store
//! way http   how WhatsApp and its files are reached
//! acks runtime
//! ```
//!
//! The protocol is whatsapp-rust's. This crate is apart from everything else because of its licence ([`LICENSE-NOTE.md`]), and
//! runs in a process of its own by default.
//!
//! [`LICENSE-NOTE.md`]: https://github.com/omni-host/omni/blob/main/plugins/whatsapp/LICENSE-NOTE.md

pub mod account;
pub mod acks;
pub mod address;
pub mod asked;
mod auth;
pub mod baileys;
pub mod care;
pub mod config;
pub mod http;
pub mod inbound;
pub mod kv;
pub mod login;
pub mod names;
pub mod outbound;
pub mod runtime;
pub mod session;
pub mod store;
mod way;

use account::Account;
use config::Config;
use login::Step;
use omni_channel_sdk::ingress::Own;
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{
    AuthExport, AuthReport, DeleteMessage, Directory, DirectoryPage, EditMessage, FetchMedia, GetProfile, GroupChange,
    GroupReply, History, HistoryPage, ImportAuth, MarkRead, MediaReply, Nothing, ProfileReply, React, Reconcile,
    Reconciled, Resolve, SetChat, SetProfile, ShowTyping,
};
use session::Session;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use whatsapp_rust::Client;
use whatsapp_rust::passkey::Assertion;

/// How long to wait for the first code of a login.
const FIRST_CODE: Duration = Duration::from_secs(25);
/// How long to wait for what somebody else does next.
const SOON: Duration = Duration::from_secs(1);

/// One account.
#[derive(Debug)]
pub struct WhatsApp {
    account: Arc<Account>,
    session: Mutex<Option<Session>>,
}

export_channel!(WhatsApp, "../channel.json");

impl WhatsApp {
    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, when there is a connection to ask on.
    fn client(&self) -> Result<Arc<Client>, SendError> {
        let client = self.session().as_ref().map(|session| Arc::clone(&session.client));
        client.ok_or_else(|| {
            SendError::new(ErrorCode::NotConnected, NextActor::Operator, "the account is not logged in on WhatsApp")
        })
    }

    /// Begins to connect, in the place of what was there.
    async fn connect(&self, code_for: Option<String>) -> Result<(), SendError> {
        self.disconnect().await;
        let account = Arc::clone(&self.account);
        let begun = runtime::run(&self.account.runtime, async move {
            Session::begin(&account, code_for).await.map_err(|error| error.error)
        });
        let begun = begun.await?;
        *self.session() = Some(begun);
        Ok(())
    }

    async fn disconnect(&self) {
        let before = self.session().take();
        if let Some(before) = before {
            let _ = runtime::run(&self.account.runtime, async move {
                before.end().await;
                Ok(())
            })
            .await;
        }
    }

    /// Runs a request on the connection.
    async fn ask<T, F>(&self, work: impl FnOnce(Arc<Account>, Arc<Client>) -> F) -> Result<T, SendError>
    where
        T: std::marker::Send + 'static,
        F: Future<Output = Result<T, SendError>> + std::marker::Send + 'static,
    {
        let client = self.client()?;
        if !client.is_logged_in() {
            return Err(SendError::transient("the account is not connected at this moment; it reconnects by itself"));
        }
        runtime::run(&self.account.runtime, work(Arc::clone(&self.account), client)).await
    }

    /// The step that is shown, once there is one, or what is waited for.
    async fn shown(&self, within: Duration) -> LoginStep {
        let account = Arc::clone(&self.account);
        let shown = runtime::run(&self.account.runtime, async move {
            Ok(tokio::time::timeout(within, account.login.shown()).await.unwrap_or(Step::Waiting))
        });
        shown.await.unwrap_or_else(|error| Step::Failed(error.message)).show()
    }

    async fn begin_login(&self, step: Step, code_for: Option<String>) -> Result<(), ChannelError> {
        if self.account.ended().await?.is_some() {
            // An identity that was logged out is of no use for a new link, and is kept aside.
            self.disconnect().await;
            self.account.set_aside().await?;
        } else if self.account.is_linked().await? {
            let words = "a phone has linked this account already, and it reconnects by itself. To link it anew, log the instance \
                         out first: what it logs in with now may be impossible to get again";
            self.account.login.set(Step::Failed(words.into()));
            return Ok(());
        }
        self.account.login.set(step);
        if let Err(error) = self.connect(code_for).await {
            self.account.login.set(Step::Failed(error.message));
        }
        Ok(())
    }

    async fn submit(&self, fields: &BTreeMap<String, String>) -> Result<(), ChannelError> {
        let login = &self.account.login;
        let field = |name: &str| fields.get(name).map(|entered| entered.trim().to_owned()).unwrap_or_default();
        match login.step() {
            Step::Phone { .. } => {
                let number = field("phone");
                match address::parse(&number) {
                    Ok(jid) if jid.is_pn() => return self.begin_login(Step::Asked, Some(jid.user.to_string())).await,
                    Ok(_) => {
                        login.set(Step::Phone { wrong: Some("Enter the phone number, with the country code.".into()) });
                    }
                    Err(error) => login.set(Step::Phone { wrong: Some(error.message) }),
                }
            }
            Step::Passkey { options, .. } => {
                let assertion = match assertion(&field("assertion")) {
                    Ok(assertion) => assertion,
                    Err(wrong) => {
                        login.set(Step::Passkey { options, wrong: Some(wrong) });
                        return Ok(());
                    }
                };
                login.set(Step::Waiting);
                let client = self.client()?;
                let sent = runtime::run(&self.account.runtime, async move {
                    client.send_passkey_response(assertion).await.map_err(|error| SendError::invalid(error.to_string()))
                });
                if let Err(error) = sent.await {
                    login.advance(Step::Failed(format!(
                        "WhatsApp did not take the passkey's answer: {}",
                        error.message
                    )));
                }
            }
            Step::Confirm { code: Some(_) } => {
                if field("confirm") != "yes" {
                    login.set(Step::Failed(
                        "the codes were not the same: somebody else may be linking this device".into(),
                    ));
                    self.disconnect().await;
                    return Ok(());
                }
                login.set(Step::Waiting);
                let client = self.client()?;
                let sent = runtime::run(&self.account.runtime, async move {
                    client.send_passkey_confirmation().await.map_err(|error| SendError::invalid(error.to_string()))
                });
                if let Err(error) = sent.await {
                    login.advance(Step::Failed(format!("the link could not be confirmed: {}", error.message)));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What `navigator.credentials.get` gave, as the server wants it.
fn assertion(json: &str) -> Result<Assertion, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let read: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("That is not JSON: {error}."))?;
    let id = read.get("rawId").or_else(|| read.get("id")).and_then(Value::as_str);
    let id = id.ok_or("There is no id in it: paste what JSON.stringify printed.")?;
    let credential_id =
        URL_SAFE_NO_PAD.decode(id.trim_end_matches('=')).map_err(|error| format!("Its id cannot be read: {error}."))?;
    if read.pointer("/response/signature").is_none() {
        return Err("There is no signature in it: paste what JSON.stringify printed.".into());
    }
    Ok(Assertion { assertion_json: json.as_bytes().to_vec(), credential_id })
}

impl Channel for WhatsApp {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        config.check()?;
        let account = Arc::new(Account::load(ctx, config, runtime::handle()?).await?);
        let channel = Self { account, session: Mutex::default() };
        if ctx.is_offline() {
            return Ok(Started::new(channel, Own {}));
        }
        if let Some(ended) = channel.account.ended().await? {
            ctx.state(ConnectionState::LoggedOut { reason: ended.reason, user_action: ended.user_action });
        } else if channel.account.is_linked().await? {
            ctx.state(ConnectionState::Connecting);
            channel.connect(None).await?;
        } else {
            ctx.state(ConnectionState::WaitingForLogin);
        }
        Ok(Started::new(channel, Own {}))
    }

    async fn login(&self, _ctx: &Context, call: LoginCall) -> Result<LoginStep, ChannelError> {
        match call {
            LoginCall::Start { flow } => {
                let is_logged_in = self.client().is_ok_and(|client| client.is_logged_in());
                if is_logged_in {
                    return Ok(Step::Done.show());
                }
                if flow.as_deref() == Some("code") {
                    self.account.login.set(Step::Phone { wrong: None });
                    return Ok(self.account.login.step().show());
                }
                self.begin_login(Step::Waiting, None).await?;
            }
            LoginCall::Poll => return Ok(self.account.login.step().show()),
            LoginCall::Submit { fields, .. } => {
                // What follows the phone number is WhatsApp's to do, everything else that of somebody with a phone.
                let within = if matches!(self.account.login.step(), Step::Phone { .. }) { FIRST_CODE } else { SOON };
                self.submit(&fields).await?;
                return Ok(self.shown(within).await);
            }
            LoginCall::Cancel => {
                if self.account.login.is_open() {
                    self.account.login.set(Step::Failed("the login was given up".into()));
                    self.disconnect().await;
                    self.account.host.state(ConnectionState::WaitingForLogin);
                }
                return Ok(self.account.login.step().show());
            }
        }
        Ok(self.shown(FIRST_CODE).await)
    }

    async fn stop(&self, _ctx: &Context) {
        self.disconnect().await;
    }

    async fn send(&self, _ctx: &Context, asked: request::Send) -> Result<SendReceipt, SendError> {
        outbound::check(&asked.content)?;
        self.ask(|account, client| outbound::send(account, client, asked)).await
    }

    async fn edit(&self, _ctx: &Context, asked: EditMessage) -> Result<(), SendError> {
        self.ask(|account, client| outbound::edit(account, client, asked)).await
    }

    async fn delete(&self, _ctx: &Context, asked: DeleteMessage) -> Result<(), SendError> {
        self.ask(|account, client| outbound::delete(account, client, asked)).await
    }

    async fn react(&self, _ctx: &Context, asked: React) -> Result<(), SendError> {
        self.ask(|account, client| outbound::react(account, client, asked)).await
    }

    async fn typing(&self, _ctx: &Context, asked: ShowTyping) -> Result<(), SendError> {
        self.ask(|_, client| asked::typing(client, asked)).await
    }

    async fn mark_read(&self, _ctx: &Context, asked: MarkRead) -> Result<(), SendError> {
        self.ask(|account, client| asked::mark_read(account, client, asked)).await
    }

    async fn history(&self, _ctx: &Context, asked: History) -> Result<HistoryPage, SendError> {
        self.ask(|account, client| asked::history(account, client, asked)).await
    }

    async fn directory(&self, _ctx: &Context, asked: Directory) -> Result<DirectoryPage, SendError> {
        self.ask(|account, client| asked::people::directory(account, client, asked)).await
    }

    async fn profile(&self, _ctx: &Context, asked: GetProfile) -> Result<ProfileReply, SendError> {
        self.ask(|account, client| asked::people::profile(account, client, asked)).await
    }

    async fn set_profile(&self, _ctx: &Context, asked: SetProfile) -> Result<(), SendError> {
        self.ask(|account, client| asked::people::set_profile(account, client, asked)).await
    }

    async fn group(&self, _ctx: &Context, asked: GroupChange) -> Result<GroupReply, SendError> {
        self.ask(|account, client| asked::groups::group(account, client, asked)).await
    }

    async fn set_chat(&self, _ctx: &Context, asked: SetChat) -> Result<(), SendError> {
        self.ask(|account, client| asked::set_chat(account, client, asked)).await
    }

    async fn resolve(&self, _ctx: &Context, asked: Resolve) -> Result<request::AddressReply, SendError> {
        self.ask(|account, client| asked::people::resolve(account, client, asked)).await
    }

    async fn fetch_media(&self, _ctx: &Context, asked: FetchMedia) -> Result<MediaReply, SendError> {
        let server = self.account.config.media_url.clone();
        if !asked.gone {
            return inbound::media::fetch(&asked.reference, server.as_deref());
        }
        self.ask(move |_, client| async move {
            inbound::media::fetch_anew(&asked.reference, &client, server.as_deref()).await
        })
        .await
    }

    async fn reconcile(&self, _ctx: &Context, asked: Reconcile) -> Result<Reconciled, SendError> {
        // A message that is known as ours was acknowledged. One that is not may have gone out, but its id is made from the
        // host's: sent again it is the same message, which whoever has it drops.
        let id = outbound::message_id(asked.send.client_id.as_str());
        let known = self.account.names.message(&id).await?;
        Ok(match known.filter(|known| known.m) {
            Some(known) => Reconciled::Sent { receipt: SendReceipt { at: Some(known.a), ..SendReceipt::new(id) } },
            None => Reconciled::NotSent,
        })
    }

    async fn import_auth(&self, ctx: &Context, asked: ImportAuth) -> Result<AuthReport, SendError> {
        if self.session().is_some() {
            return Err(SendError::invalid(
                "the instance is connected; disconnect it before another identity is put into it",
            ));
        }
        auth::import(ctx, asked, wacore::time::now_millis()).await
    }

    async fn export_auth(&self, ctx: &Context, _asked: Nothing) -> Result<AuthExport, SendError> {
        auth::export(ctx, &self.account.store).await
    }

    async fn logout(&self, _ctx: &Context, _asked: Nothing) -> Result<(), SendError> {
        let client = self.client()?;
        runtime::run(&self.account.runtime, async move {
            client.logout().await;
            Ok(())
        })
        .await
    }
}

//! A small Telegram Bot API server on a port of its own, for tests: one bot, its chats, and what a test makes of them.
//!
//! ```text
//! telegram_fake  the server as a test holds it: start it, look at what was called, make things go wrong
//! people         the people, chats and things that happen in them, pushed as updates
//! server         HTTP: the token, the body, faults, the record, judging by the specification
//! methods        what each method answers
//! sending        what a sent message looks like
//! poll           getUpdates: the long poll with its offset, and who is refused
//! hook           the webhook: updates are brought to it, in order, until each was taken
//! state          what the server knows
//! spec           the Bot API's specification, as a judge
//! tests          what a test may rely on
//! ```
//!
//! It behaves as Telegram does where a bot can tell: an update is given again until an offset behind it was seen, a second
//! poll ends the first with a 409, a chat must be known, an edit that changes nothing is refused. Every call and every
//! answer is judged by the published specification where that is at hand; what is not by the book is a violation, and a
//! test ends with [`TelegramFake::assert_by_the_book`]. Time is the server's own and stands still between two messages.
//!
//! Deliberately not here: webhooks outside of this machine, inline mode, payments, and the rights of members other than the
//! bot.

mod hook;
mod methods;
mod people;
mod poll;
mod sending;
mod server;
mod spec;
mod state;
mod tests;

pub use people::{Person, group, private, supergroup};
pub use state::Recorded;

use serde_json::Value;
use state::State;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

/// The token of the bot. Made up.
pub const TOKEN: &str = "600100:AAFakeTokenOfTheTelegramFake-0123456789";

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// 429, with the seconds to wait.
    TooMany(u64),
    /// A refusal in the Bot API's own form.
    Refuse(u16, String),
    /// A gateway in between answers with this status and HTML. Nothing is done.
    Gateway(u16),
    /// The call is done, and then the gateway answers with this status and HTML.
    DoneThenGateway(u16),
    /// The call is done, and the connection breaks in the middle of the answer.
    DoneThenCut,
    /// Nothing is done and no answer comes, until [`TelegramFake::resume`].
    Stall,
}

/// A running server. It ends when this is dropped.
pub struct TelegramFake {
    shared: Arc<Shared>,
    url: String,
    server: tokio::task::JoinHandle<()>,
    hook: tokio::task::JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    spec: Option<spec::Spec>,
    /// There may be news for a poll.
    news: Notify,
    /// A call was answered.
    recorded: Notify,
    /// Stalled calls go on.
    resumed: Notify,
    /// How many calls are stalled.
    stalled: watch::Sender<u32>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the state")
    }
}

impl std::fmt::Debug for TelegramFake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TelegramFake").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for TelegramFake {
    fn drop(&mut self) {
        self.server.abort();
        self.hook.abort();
    }
}

impl TelegramFake {
    /// Starts a server on a free port of this machine.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(TOKEN)),
            spec: spec::Spec::load(&repository),
            news: Notify::new(),
            recorded: Notify::new(),
            resumed: Notify::new(),
            stalled: watch::Sender::new(0),
        });
        let router = server::router(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("a listener that is open can be served");
        });
        let hook = tokio::spawn(hook::deliver(Arc::clone(&shared)));
        Self { shared, url, server, hook }
    }

    /// What an instance has as `apiBaseUrl`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets the next calls of a method (of any method: `*`) go wrong.
    pub fn fail(&self, method: &str, times: u32, fault: Fault) {
        self.shared.lock().faults.push((method.to_owned(), times, fault));
    }

    /// Lets stalled calls go on: they are then answered as if nothing had been.
    pub fn resume(&self) {
        self.shared.lock().faults.retain(|(_, _, fault)| !matches!(fault, Fault::Stall));
        self.shared.resumed.notify_waiters();
    }

    /// How many calls are stalled at this moment, to be waited for.
    pub fn stalled(&self) -> watch::Receiver<u32> {
        self.shared.stalled.subscribe()
    }

    /// From now on the token is another one: every call is a 401, and a poll that waits ends so.
    pub fn revoke_token(&self) {
        self.shared.lock().token.clear();
        self.shared.news.notify_waiters();
    }

    /// Makes the bot's token valid (again), or another one.
    pub fn accept_token(&self, token: &str) {
        token.clone_into(&mut self.shared.lock().token);
    }

    /// Sets a webhook, as some other program might: polls are refused until it is deleted.
    pub fn set_webhook(&self, url: &str) {
        self.shared.lock().webhook = Some(hook::Hook::foreign(url));
        self.shared.news.notify_waiters();
    }

    /// Takes the webhook away, as some other program might.
    pub fn delete_webhook(&self) {
        self.shared.lock().webhook = None;
        self.shared.news.notify_waiters();
    }

    /// The address of the webhook that is set, if one is.
    pub fn webhook(&self) -> Option<String> {
        self.shared.lock().webhook.as_ref().map(|hook| hook.url.clone())
    }

    /// From now on each update comes to the webhook so often, as it may when an answer is lost.
    pub fn deliver_times(&self, times: u32) {
        self.shared.lock().deliver_times = times;
    }

    /// From now on the webhook is called with another secret than was agreed.
    pub fn forget_secret(&self) {
        self.shared.lock().wrong_secret = true;
        self.shared.news.notify_waiters();
    }

    /// Somebody blocks the bot: what is sent there is refused.
    pub fn block(&self, chat: i64) {
        self.shared.lock().blocked.insert(chat);
    }

    /// What the members of a group may do from now on; what is not said they may.
    pub fn permit(&self, chat: i64, permissions: Value) {
        self.shared.lock().permissions.insert(chat, permissions);
    }

    /// What the bot is in a chat from now on, `{"status": "administrator", …}`.
    pub fn bot_is(&self, chat: i64, membership: Value) {
        self.shared.lock().membership.insert(chat, membership);
    }

    /// The updates that no poll has confirmed yet.
    pub fn unconfirmed(&self) -> usize {
        self.shared.lock().pending.len()
    }

    /// The messages of a chat as they are now, oldest first.
    pub fn messages(&self, chat: i64) -> Vec<Value> {
        self.shared.lock().messages.range((chat, i64::MIN)..=(chat, i64::MAX)).map(|(_, found)| found.clone()).collect()
    }

    /// The bot's reactions to a message as they are now.
    pub fn reactions(&self, chat: i64, message: i64) -> Value {
        self.shared.lock().reactions.get(&(chat, message)).cloned().unwrap_or_else(|| serde_json::json!([]))
    }

    /// Every call so far, in the order of their answers.
    pub fn calls(&self) -> Vec<Recorded> {
        self.shared.lock().record.clone()
    }

    /// The calls of one method so far.
    pub fn calls_of(&self, method: &str) -> Vec<Recorded> {
        self.shared.lock().record.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Waits until a method was called (and answered) this often, and gives those calls. Put a time limit around it.
    pub async fn called(&self, method: &str, times: usize) -> Vec<Recorded> {
        loop {
            let recorded = self.shared.recorded.notified();
            tokio::pin!(recorded);
            recorded.as_mut().enable();
            let calls = self.calls_of(method);
            if calls.len() >= times {
                return calls;
            }
            recorded.await;
        }
    }

    /// Waits until every pushed update was confirmed. Put a time limit around it.
    pub async fn confirmed(&self) {
        loop {
            let recorded = self.shared.recorded.notified();
            let news = self.shared.news.notified();
            tokio::pin!(recorded, news);
            recorded.as_mut().enable();
            news.as_mut().enable();
            if self.unconfirmed() == 0 {
                return;
            }
            tokio::select! { () = recorded => {}, () = news => {} }
        }
    }

    /// What was not by the book so far, in calls, answers and pushed updates.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    /// # Panics
    ///
    /// When something was not by the book.
    pub fn assert_by_the_book(&self) {
        let violations = self.violations();
        assert!(violations.is_empty(), "not by the Bot API's book:\n  {}", violations.join("\n  "));
    }
}

//! One value of every kind, with every field set in at least one of them.

use omni_channel_sdk::capabilities::*;
use omni_channel_sdk::chat::Reply;
use omni_channel_sdk::chat::*;
use omni_channel_sdk::connection::*;
use omni_channel_sdk::content::*;
use omni_channel_sdk::event::*;
use omni_channel_sdk::http::*;
use omni_channel_sdk::ingress::*;
use omni_channel_sdk::login::*;
use omni_channel_sdk::manifest::*;
use omni_channel_sdk::outcome::*;
use omni_channel_sdk::request;
use omni_channel_sdk::request::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A value on the wire, and the way there and back.
pub struct Case {
    pub name: String,
    pub json: Value,
    /// Reads JSON as the case's type and writes it again.
    pub again: fn(&Value) -> Result<Value, serde_json::Error>,
}

impl Case {
    /// Whether an object belongs to a kind that is not known, and so keeps what is in it.
    pub fn is_unknown(&self, pointer: &str) -> bool {
        let mut pointer = pointer;
        loop {
            if self.json.pointer(pointer).and_then(|value| value.get("type")) == Some(&json!("brandNew")) {
                return true;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return false,
            }
        }
    }
}

/// One golden file: its cases, and the kinds that have to be among them, at which place.
pub struct Group {
    pub name: &'static str,
    pub cases: Vec<Case>,
    pub kinds: Vec<(&'static str, &'static str)>,
}

impl Group {
    pub fn new(name: &'static str) -> Self {
        Self { name, cases: Vec::new(), kinds: Vec::new() }
    }

    pub fn kinds(mut self, pointer: &'static str, kinds: &[&'static str]) -> Self {
        self.kinds.extend(kinds.iter().map(|kind| (*kind, pointer)));
        self
    }

    pub fn case<T: Serialize + DeserializeOwned>(mut self, name: &str, value: &T) -> Self {
        fn again<T: Serialize + DeserializeOwned>(json: &Value) -> Result<Value, serde_json::Error> {
            // Over text, as it really travels.
            let value: T = serde_json::from_str(&json.to_string())?;
            serde_json::to_value(&value)
        }
        let json = serde_json::to_value(value).expect("wire types can be written");
        self.cases.push(Case { name: name.to_owned(), json, again: again::<T> });
        self
    }

    /// One case for each value, named by its `type`.
    pub fn cases<T: Serialize + DeserializeOwned>(self, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, |group, value| {
            let json = serde_json::to_value(&value).expect("wire types can be written");
            let name = json["type"].as_str().expect("it is of an open set").to_owned();
            group.case(&name, &value)
        })
    }
}

pub fn groups() -> Vec<Group> {
    vec![
        contents(),
        entities(),
        events(),
        requests(),
        replies(),
        ingresses(),
        ingress_events(),
        https(),
        logins(),
        connections(),
        errors(),
        all_capabilities(),
        manifests(),
    ]
}

pub fn unknown<T: DeserializeOwned>() -> T {
    serde_json::from_value(json!({"type": "brandNew", "field": [1, {"a": null}]})).expect("unknown kinds are kept")
}

pub fn user() -> User {
    User {
        id: "u1".into(),
        name: Some("Ada".into()),
        username: Some("ada".into()),
        phone: Some("+491234567".into()),
        email: Some("ada@example.org".into()),
        avatar: Some("avatar-1".into()),
        language: Some("de-DE".into()),
        is_bot: true,
    }
}

pub fn sender() -> Sender {
    Sender { user: user(), is_from_me: true, on_behalf_of: Some("c0".into()) }
}

pub fn chat() -> Chat {
    Chat {
        id: "c1".into(),
        kind: ChatKind::Group,
        name: Some("Friends".into()),
        parent: Some("c0".into()),
        description: Some("All of us".into()),
        avatar: Some("avatar-2".into()),
        participants: Some(3),
        also_known_as: Some("c2".into()),
    }
}

fn target() -> MessageRef {
    MessageRef { id: "m1".into(), part: Some("p1".into()) }
}

fn media() -> Media {
    Media {
        reference: Some("file-1".into()),
        blob: Some("blob-1".into()),
        url: Some("https://files.example/1".into()),
        caption: Some(Text::plain("a cat")),
        mime_type: Some("image/jpeg".into()),
        file_name: Some("cat.jpg".into()),
        size: Some(1_234),
        width: Some(640),
        height: Some(480),
        duration_ms: Some(2_500),
        voice: true,
        animation: true,
        view_once: true,
        emoji: Some("😀".into()),
        waveform: vec![0, 50, 100],
    }
}

fn location() -> Location {
    Location {
        latitude: 52.5,
        longitude: 13.25,
        name: Some("Home".into()),
        address: Some("Street 1".into()),
        accuracy: Some(12.5),
    }
}

fn poll() -> Poll {
    Poll {
        id: Some("poll-1".into()),
        question: "Tea?".into(),
        options: vec![
            PollOption { id: "0".into(), text: "yes".into(), votes: Some(2) },
            PollOption { id: "1".into(), text: "no".into(), votes: None },
        ],
        max_choices: Some(2),
        anonymous: true,
        closed: true,
        closes_at: Some(1_767_225_600_000),
    }
}

fn contents() -> Group {
    let card = ContactCard {
        name: "Ada".into(),
        phones: vec!["+491234567".into()],
        emails: vec!["ada@example.org".into()],
        organization: Some("Engines".into()),
        user: Some(User::new("u1")),
        vcard: Some("BEGIN:VCARD".into()),
    };
    let button = Button {
        text: "yes".into(),
        data: Some("y".into()),
        url: Some("https://example.org".into()),
        description: Some("really".into()),
    };
    Group::new("content").kinds("/type", Content::KINDS).cases([
        Content::Text(Text {
            text: "hello 😀".into(),
            entities: vec![Entity { offset: 0, length: 5, kind: EntityKind::Bold(Plain {}) }],
        }),
        Content::Image(media()),
        Content::Audio(Media::default()),
        Content::Video(Media::default()),
        Content::Document(Media::default()),
        Content::Sticker(Media::default()),
        Content::Location(location()),
        Content::LiveLocation(LiveLocation { location: location(), period_seconds: Some(900), heading: Some(90) }),
        Content::Contact(Contacts {
            contacts: vec![card, ContactCard { name: "Bob".into(), ..ContactCard::default() }],
        }),
        Content::Poll(poll()),
        Content::Buttons(Buttons {
            text: Text::plain("choose"),
            rows: vec![vec![button], vec![Button { text: "no".into(), ..Button::default() }]],
            list_title: Some("Open".into()),
        }),
        Content::System(System {
            event: "pinned_message".into(),
            text: Some("pinned".into()),
            message: Some("m1".into()),
        }),
        unknown(),
    ])
}

fn entities() -> Group {
    let kinds = [
        EntityKind::Bold(Plain {}),
        EntityKind::Italic(Plain {}),
        EntityKind::Underline(Plain {}),
        EntityKind::Strikethrough(Plain {}),
        EntityKind::Spoiler(Plain {}),
        EntityKind::Quote(Plain {}),
        EntityKind::Code(Plain {}),
        EntityKind::Pre(Pre { language: Some("rust".into()) }),
        EntityKind::Link(Link { url: "https://example.org".into() }),
        EntityKind::Url(Plain {}),
        EntityKind::Email(Plain {}),
        EntityKind::Phone(Plain {}),
        EntityKind::Hashtag(Plain {}),
        EntityKind::Command(Plain {}),
        EntityKind::Mention(Mention { user: Some(user()), target: MentionTarget::User }),
        EntityKind::CustomEmoji(CustomEmoji { id: "e1".into() }),
        unknown(),
    ];
    let entities = kinds.map(|kind| Entity { offset: 1, length: 2, kind });
    Group::new("entities").kinds("/type", EntityKind::KINDS).cases(entities)
}

pub fn message() -> Message {
    Message {
        message: target(),
        sender: sender(),
        content: Content::text("hello"),
        reply_to: Some(Reply {
            message: MessageRef::from("m0"),
            chat: Some("c2".into()),
            quoted_text: Some("hi".into()),
            sender: Some(User::new("u2")),
        }),
        forward: Some(Forward {
            sender: Some(User::new("u3")),
            sender_name: Some("Somebody".into()),
            chat: Some(Chat::new("c3", ChatKind::Channel)),
            message: Some("m9".into()),
            at: Some(1_767_225_600_000),
            count: Some(4),
        }),
        album: Some("a1".into()),
        echo: Some(Echo { client_id: Some("k1".into()) }),
        expires_at: Some(1_767_225_700_000),
    }
}

pub fn bodies() -> Vec<EventBody> {
    let emoji = Emoji { emoji: "👍".into(), custom_id: Some("e1".into()) };
    vec![
        message().into(),
        Edit { target: target(), revision: 7, content: Content::text("hello!"), sender: Some(sender()) }.into(),
        Delete { targets: vec![target()], sender: Some(sender()), only_for_me: true }.into(),
        Reaction {
            target: target(),
            sender: Some(sender()),
            emojis: vec![emoji.clone(), "❤".into()],
            revision: 8,
            change: ReactionChange::Add,
            counts: vec![EmojiCount { emoji, count: 3 }],
        }
        .into(),
        PollVote {
            target: Some(target()),
            poll_id: Some("poll-1".into()),
            sender: Some(sender()),
            option_ids: vec!["0".into()],
            poll: Some(poll()),
        }
        .into(),
        ButtonAnswer {
            id: "b1".into(),
            target: Some(target()),
            sender: sender(),
            data: Some("y".into()),
            text: Some("yes".into()),
        }
        .into(),
        Receipt {
            kind: ReceiptKind::Read,
            targets: vec![target()],
            up_to: Some(1_767_225_600_000),
            sender: Some(sender()),
        }
        .into(),
        Typing { sender: sender(), activity: Activity::Recording, timeout_ms: Some(5_000) }.into(),
        Presence { user: user(), state: PresenceState::Away, last_seen: Some(1_767_225_600_000) }.into(),
        Membership {
            users: vec![user()],
            change: MembershipChange::Added,
            by: Some(sender()),
            role: Some("administrator".into()),
            is_me: true,
        }
        .into(),
        ChatUpdate { moved_to: Some("c9".into()), moved_from: Some("c7".into()), deleted: true }.into(),
        UserUpdate { user: user() }.into(),
        SendUpdate { target: target(), error: Some(SendError::transient("the network failed")) }.into(),
        Call { id: "call-1".into(), sender: sender(), state: "ringing".into(), video: true }.into(),
        unknown(),
    ]
}

pub fn event(body: EventBody) -> Event {
    Event { raw: Some(json!({"update_id": 7})), ..Event::new(chat(), 1_767_225_600_000, body).delivered_as("d1") }
}

fn events() -> Group {
    let bare = Event {
        delivery_key: None,
        at: 1_767_225_600_000,
        chat: None,
        body: Presence { user: User::new("u1"), state: PresenceState::Online, last_seen: None }.into(),
        origin: None,
        raw: None,
    };
    let old = Event {
        origin: Some(EventOrigin::History),
        ..event(Delete { targets: vec![], sender: None, only_for_me: false }.into())
    };
    let state = StateChange { state: ConnectionState::Connecting, since: 1_767_225_600_000 };
    Group::new("events")
        .kinds("/type", EventBody::KINDS)
        .cases(bodies())
        .case("(event) whole", &event(Delete { targets: vec![], sender: None, only_for_me: false }.into()))
        .case("(event) history", &old)
        .case("(event) bare", &bare)
        .case("(state change)", &state)
}

fn send() -> request::Send {
    request::Send {
        chat: "c1".into(),
        client_id: "k1".into(),
        content: Content::text("hello"),
        album: vec![Content::Image(media())],
        reply_to: Some(target()),
        part: 1,
        follows: Some(target()),
        options: BTreeMap::from([("silent".into(), json!(true))]),
    }
}

fn requests() -> Group {
    let chat = || "c1".into();
    Group::new("requests").kinds("/type", Request::KINDS).cases([
        Request::Send(Box::new(send())),
        Request::Edit(Box::new(EditMessage { chat: chat(), target: target(), content: Content::text("hello!") })),
        Request::Delete(DeleteMessage { chat: chat(), target: target(), only_for_me: true }),
        Request::React(React { chat: chat(), target: target(), emojis: vec!["👍".into()] }),
        Request::Typing(ShowTyping { chat: chat(), activity: Activity::Typing, duration_ms: Some(5_000) }),
        Request::MarkRead(MarkRead {
            chat: chat(),
            messages: vec![ReadMessage { id: "m1".into(), sender: Some("u1".into()) }],
        }),
        Request::AnswerButton(AnswerButton { id: "b1".into(), text: Some("done".into()), alert: true }),
        Request::History(History {
            chat: chat(),
            cursor: Some("page-2".into()),
            anchor: Some(target()),
            forward: true,
            limit: 50,
        }),
        Request::Directory(Directory {
            list: DirectoryList::Members,
            chat: Some(chat()),
            search: Some("ada".into()),
            cursor: Some("page-2".into()),
            limit: 50,
        }),
        Request::Profile(GetProfile { user: Some("u1".into()) }),
        Request::SetProfile(SetProfile {
            name: Some("Ada".into()),
            about: Some("hi".into()),
            picture: Some(media()),
            remove_picture: true,
            privacy: [("last".to_owned(), "contacts".to_owned())].into(),
        }),
        Request::Group(Box::new(GroupChange {
            chat: Some(chat()),
            action: GroupAction::Add,
            users: vec!["u1".into()],
            text: Some("Friends".into()),
            picture: Some(Media::default()),
            message: Some(target()),
            parent: Some(chat()),
        })),
        Request::SetChat(SetChat {
            chat: "c1".into(),
            action: ChatAction::Mute,
            until: Some(1_767_225_600_000),
            seconds: Some(86_400),
            message: Some("m1".into()),
        }),
        Request::Resolve(Resolve { address: "+491234567".into() }),
        Request::FetchMedia(FetchMedia { reference: "file-1".into(), gone: true }),
        Request::Reconcile(Reconcile { send: send(), tried_at: 1_767_225_600_000 }),
        Request::Capabilities(ChatCapabilities { chat: chat() }),
        Request::Logout(Nothing {}),
        Request::Release(Nothing {}),
        Request::ImportAuth(ImportAuth {
            source: "omni-v1".into(),
            rows: BTreeMap::from([("sessions".into(), vec![json!({"id": "1"})])]),
            files: BTreeMap::from([("creds.json".into(), "e30=".into())]),
            archive: Some("blob-1".into()),
            dry_run: true,
        }),
        Request::ExportAuth(Nothing {}),
        unknown(),
    ])
}

fn receipt() -> SendReceipt {
    SendReceipt {
        message_id: "m1".into(),
        part: Some("p1".into()),
        at: Some(1_767_225_600_000),
        chat_id: Some("c9".into()),
        began: Some(Box::new(Chat::new("c10", ChatKind::Thread))),
        album: vec![SendReceipt::new("m2")],
    }
}

fn replies() -> Group {
    type R = omni_channel_sdk::request::Reply;
    Group::new("replies")
        .kinds("/type", R::KINDS)
        .cases([
            R::Sent(receipt()),
            R::Done(Nothing {}),
            R::History(HistoryPage { events: vec![event(message().into())], cursor: Some("page-3".into()) }),
            R::Directory(DirectoryPage { users: vec![user()], chats: vec![chat()], cursor: Some("page-3".into()) }),
            R::Profile(ProfileReply {
                profile: profile(),
                about: Some("hi".into()),
                privacy: [("last".to_owned(), "contacts".to_owned())].into(),
            }),
            R::Group(GroupReply { chat: chat(), invite: Some("https://invite.example/1".into()) }),
            R::Address(AddressReply { user: Some(user()), chat: Some(chat()) }),
            R::Media(MediaReply {
                call: HttpCall::get("https://files.example/1"),
                mime_type: Some("image/jpeg".into()),
                file_name: Some("cat.jpg".into()),
                size: Some(1_234),
                sealed: Some(SealedMedia {
                    key: "00".repeat(32),
                    iv: "01".repeat(16),
                    mac_key: "02".repeat(32),
                    mac_length: 10,
                    sha256: Some("03".repeat(32)),
                }),
            }),
            R::Reconciled(Reconciled::Sent { receipt: receipt() }),
            R::Capabilities(Box::new(capabilities())),
            R::AuthImported(AuthReport {
                found: BTreeMap::from([("sessions".into(), 2)]),
                imported: BTreeMap::from([("sessions".into(), 1)]),
                skipped: vec![SkippedRecord { record: "session-1.0".into(), reason: "it is cut short".into() }],
                missing: vec!["there are no app-state keys".into()],
                paired: true,
                warnings: vec!["one key was left behind: it is expired".into()],
                profile: Some(profile()),
            }),
            R::AuthExported(AuthExport { files: BTreeMap::from([("creds.json".into(), "e30=".into())]) }),
            unknown(),
        ])
        .case("(reconciled) notSent", &Reconciled::NotSent)
        .case("(reconciled) unresolved", &Reconciled::Unresolved)
}

pub fn ingress_list() -> Vec<Ingress> {
    vec![
        LongPoll { tag: "updates".into(), min_interval_ms: 1_000 }.into(),
        Websocket {
            tag: "gateway".into(),
            url: "wss://gateway.example".into(),
            first_url: Some("wss://gateway-7.example".into()),
            headers: vec![Header { name: "authorization".into(), value: "secret".into() }],
            idle_ms: Some(60_000),
        }
        .into(),
        Webhook {
            listen: Some("127.0.0.1:9000".into()),
            verify: vec![
                HeaderEquals { header: "x-secret".into(), value: "s".into() }.into(),
                HmacSha256 { header: "x-hub-signature-256".into(), prefix: "sha256=".into(), key: "k".into() }.into(),
                TimestampWindow { header: "x-timestamp".into(), seconds: 300 }.into(),
                unknown(),
            ],
            max_body_bytes: Some(65_536),
            challenge: Some(HubChallenge { token: "t".into() }),
        }
        .into(),
        Timer { tag: "tick".into(), every_ms: 60_000 }.into(),
        Own {}.into(),
        unknown(),
    ]
}

fn ingresses() -> Group {
    let verify: Vec<Verify> = ingress_list()
        .into_iter()
        .find_map(|ingress| if let Ingress::Webhook(webhook) = ingress { Some(webhook.verify) } else { None })
        .expect("there is a webhook");
    let group =
        Group::new("ingress").kinds("/type", Ingress::KINDS).kinds("/type", Verify::KINDS).cases(ingress_list());
    let verify: Vec<Verify> = verify.into_iter().filter(|verify| !matches!(verify, Verify::Unknown(_))).collect();
    group.cases(verify).case(
        "(next poll)",
        &NextPoll { tag: "updates".into(), call: HttpCall::get("https://api.example/updates").timeout_ms(60_000) },
    )
}

pub fn ingress_event_list() -> Vec<IngressEvent> {
    let header = || vec![Header { name: "content-type".into(), value: "application/json".into() }];
    let tag = || "t".to_owned();
    vec![
        IngressEvent::PollResponse {
            tag: tag(),
            response: HttpResponse { status: 200, headers: header(), body: Vec::new() },
        },
        IngressEvent::PollFailed { tag: tag(), failure: failure() },
        IngressEvent::Webhook {
            request: WebhookRequest {
                method: "POST".into(),
                path: "/hook".into(),
                query: "a=b".into(),
                headers: header(),
                body: Vec::new(),
            },
        },
        IngressEvent::Timer { tag: tag() },
        IngressEvent::SocketOpen { tag: tag() },
        IngressEvent::SocketText { tag: tag(), text: "{}".into() },
        IngressEvent::SocketBinary { tag: tag(), bytes: Vec::new() },
        IngressEvent::SocketClosed { tag: tag(), code: Some(1_006), reason: "gone".into() },
    ]
}

fn ingress_events() -> Group {
    Group::new("ingress-events").cases(ingress_event_list())
}

pub fn failure() -> HttpFailure {
    HttpFailure { message: "the connection broke".into(), sent: true, timed_out: true }
}

pub fn call(body: HttpBody) -> HttpCall {
    HttpCall {
        method: "POST".into(),
        url: "https://api.example/send".into(),
        headers: vec![Header { name: "authorization".into(), value: "Bearer secret".into() }],
        body,
        timeout_ms: Some(10_000),
        max_bytes: Some(1_024),
        secrets_in_body: true,
    }
}

fn https() -> Group {
    let part = FormPart {
        name: "photo".into(),
        text: Some("words".into()),
        blob: Some("blob-1".into()),
        file_name: Some("cat.jpg".into()),
        mime_type: Some("image/jpeg".into()),
    };
    Group::new("http")
        .case("call, nothing sent", &HttpCall::get("https://api.example/get"))
        .case("call, empty", &call(HttpBody::Empty))
        .case("call, json", &call(HttpBody::Json { json: json!({"a": [1]}) }))
        .case("call, text", &call(HttpBody::Text { text: "a=b".into() }))
        .case("call, multipart", &call(HttpBody::Multipart { parts: vec![part, FormPart::text("chat", "c1")] }))
        .case("call, blob", &call(HttpBody::Blob { blob: "blob-1".into() }))
        .case(
            "response",
            &HttpResponse {
                status: 429,
                headers: vec![Header { name: "retry-after".into(), value: "3".into() }],
                body: Vec::new(),
            },
        )
        .case("failure", &failure())
}

pub fn login_step() -> LoginStep {
    LoginStep {
        step_id: "s1".into(),
        show: LoginShow::Qr(ShowQr { data: "2@abc".into() }),
        instructions: Some("Scan it".into()),
        expires_at: Some(1_767_225_660_000),
    }
}

fn logins() -> Group {
    let field = FormField {
        id: "phone".into(),
        label: "Phone".into(),
        kind: FieldKind::Phone,
        pattern: Some("^\\+".into()),
        help: Some("With country code".into()),
        options: vec!["one".into()],
    };
    let calls = [
        LoginCall::Start { flow: Some("qr".into()) },
        LoginCall::Poll,
        LoginCall::Submit { step_id: "s1".into(), fields: BTreeMap::from([("phone".into(), "+49".into())]) },
        LoginCall::Cancel,
    ];
    let shows = [
        login_step().show,
        LoginShow::Code(ShowCode { code: "ABCD".into() }),
        LoginShow::Form(ShowForm { fields: vec![field] }),
        LoginShow::OpenUrl(ShowUrl { url: "https://login.example".into() }),
        LoginShow::Wait(ShowNothing {}),
        LoginShow::Done(ShowNothing {}),
        LoginShow::Failed(ShowFailure { message: "the code was wrong".into() }),
        unknown(),
    ];
    let group = Group::new("login").kinds("/type", LoginShow::KINDS).cases(shows).case("(step)", &login_step());
    calls.iter().enumerate().fold(group, |group, (index, call)| group.case(&format!("(call {index})"), call))
}

pub fn profile() -> Profile {
    Profile {
        id: "u0".into(),
        name: Some("Our bot".into()),
        username: Some("our_bot".into()),
        avatar_url: Some("https://files.example/bot".into()),
    }
}

pub fn connection_list() -> [ConnectionState; 6] {
    let reason = || "the network says so".to_owned();
    [
        ConnectionState::Connecting,
        ConnectionState::Connected {
            profile: Some(profile()),
            limited: Some(Box::new(Limited { reason: reason(), until: Some(1_767_225_600_000) })),
        },
        ConnectionState::WaitingForLogin,
        ConnectionState::Disconnected { reason: reason(), transient: true },
        ConnectionState::LoggedOut { reason: reason(), user_action: "Make a new token".into() },
        ConnectionState::connected(None),
    ]
}

fn connections() -> Group {
    let states = connection_list();
    states.iter().enumerate().fold(Group::new("connection"), |group, (index, state)| {
        let name = if index == 5 { "connected, unknown who" } else { state.name() };
        group.case(name, state)
    })
}

fn errors() -> Group {
    let group = Group::new("errors").kinds("/code", ErrorCode::WORDS).kinds("/next", NextActor::WORDS);
    let group = ErrorCode::WORDS.iter().fold(group, |group, word| {
        let error = SendError::new(ErrorCode::from(*word), NextActor::Caller, "a sentence");
        group.case(&format!("(code) {word}"), &error)
    });
    let made = [
        ("unsupported", SendError::unsupported("edits")),
        ("invalid", SendError::invalid("no such thing")),
        ("rate limited", SendError::rate_limited(3_000, "too fast")),
        ("unauthorized", SendError::unauthorized("the token was revoked")),
        ("transient", SendError::transient("the network failed")),
        ("uncertain", SendError::uncertain("the connection broke")),
        ("internal", SendError::internal("a bug")),
    ];
    made.iter().fold(group, |group, (name, error)| group.case(name, error))
}

pub fn capabilities() -> Capabilities {
    let limits = |unit| ContentLimits {
        max_length: Some(4_096),
        unit,
        max_bytes: Some(10_485_760),
        mime_types: vec!["image/*".into()],
        max_items: Some(10),
        max_item_length: Some(100),
        markdown: true,
        by_url: true,
    };
    Capabilities {
        chat_kinds: vec![ChatKind::Direct, ChatKind::Thread],
        send: BTreeMap::from([
            ("text".into(), limits(LengthUnit::Utf16)),
            ("image".into(), limits(LengthUnit::Bytes)),
            ("poll".into(), limits(LengthUnit::Chars)),
            ("sticker".into(), ContentLimits::default()),
        ]),
        requests: BTreeMap::from([
            (
                "edit".into(),
                RequestLimits { max_age_seconds: Some(172_800), max_items: Some(3), allowed: vec!["👍".into()] },
            ),
            ("delete".into(), RequestLimits::default()),
        ]),
        events: vec!["message".into()],
        reply: true,
        formatting: vec!["bold".into()],
        album_max_items: Some(10),
        client_id: ClientIdSupport::Nonce,
    }
}

fn all_capabilities() -> Group {
    Group::new("capabilities").case("all", &capabilities()).case("none", &Capabilities::default())
}

fn manifests() -> Group {
    let channel = ChannelManifest {
        id: "example".into(),
        aliases: vec!["sample".into()],
        name: "Example".into(),
        description: "A network.".into(),
        own_process: true,
        secrets: Secrets::Plain,
        capabilities: capabilities(),
        config_schema: json!({"type": "object", "properties": {"token": {"type": "string", "writeOnly": true}}}),
        login_flows: vec![LoginFlow { id: "qr".into(), name: "Scan a QR code".into(), kind: FlowKind::Qr }],
        state_version: 2,
        addresses: vec!["user:".into()],
        hosts: vec!["api.example".into()],
        limits: Needs {
            memory_bytes: Some(64 << 20),
            state_bytes: Some(1 << 20),
            events_per_call: Some(100),
            bytes_per_call: Some(1 << 20),
            fuel_per_frame: Some(1_000_000_000),
            table_entries: Some(10_000),
        },
    };
    let manifest = Manifest {
        manifest: 1,
        version: "0.1.0".into(),
        sdk: "1.0.0".into(),
        abi: NATIVE_ABI.into(),
        panic: "unwind".into(),
        target: "x86_64-linux-gnu".into(),
        channel,
    };
    let least: ChannelManifest = serde_json::from_value(json!({"id": "least", "name": "Least", "capabilities": {}}))
        .expect("a manifest needs no more");
    Group::new("manifest").case("whole", &manifest).case("least", &least)
}

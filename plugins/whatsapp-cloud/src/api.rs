//! What we read of Meta's objects, and nothing else of them.
//!
//! Shapes: Meta's OpenAPI of the WhatsApp Business platform, and its documentation of the webhooks where that says more
//! (business-scoped user ids, edits, echoes and history of the app on a phone). Only an id that nothing works without is
//! required; the message itself is kept raw beside the event.

#![expect(missing_docs, reason = "the fields have Meta's own names, and its documentation says what they are")]

use omni_channel_sdk::lenient::Id;
use omni_channel_sdk::lenient_objects;
use serde_json::Value;

lenient_objects! {
    /// What a webhook brings.
    Payload { must object: String; every entry: Entry; }
    Entry { may id: String; every changes: Change; }
    Change { must field: String, value: Value; }
    /// Of the field `messages`, and its relatives.
    Update {
        may metadata: Metadata;
        list errors: Value;
        every contacts: ContactEntry, messages: Value, message_echoes: Value, statuses: Value, groups: Value,
            history: HistoryChunk;
    }
    Metadata { may display_phone_number: String, phone_number_id: String; }
    ContactEntry { may wa_id: Id, user_id: Id, profile: ContactProfile; }
    ContactProfile { may name: String, username: String; }
    HistoryChunk { list errors: Value; every threads: HistoryThread; }
    HistoryThread { may id: Id; every messages: Value; }

    Message {
        must id: Id;
        may from: Id, from_user_id: Id, to: Id, to_user_id: Id, group_id: Id, timestamp: Value, r#type: String,
            context: MessageContext, text: Body, image: File, audio: File, video: File, document: File, sticker: File,
            location: Place, reaction: Reaction, button: TemplateButton, interactive: Interactive, order: Order,
            system: System, edit: Edited, revoke: Revoked;
        list contacts: Card, errors: Value;
    }
    Body { must body: String; }
    MessageContext { may id: Id, from: Id, forwarded: bool, frequently_forwarded: bool; }
    File { must id: Id; may mime_type: String, caption: String, filename: String, voice: bool; }
    Place { must latitude: f64, longitude: f64; may name: String, address: String; }
    Reaction { must message_id: Id; may emoji: String; }
    TemplateButton { may payload: String, text: String; }
    Interactive { may button_reply: Choice, list_reply: Choice, nfm_reply: Flow; }
    Choice { must id: String; may title: String; }
    Flow { may body: String, response_json: String; }
    Order { may text: String; list product_items: Item; }
    Item { must product_retailer_id: String; may quantity: f64, item_price: f64, currency: String; }
    System { may r#type: String, body: String; }
    Edited { must original_message_id: Id, message: Value; }
    Revoked { must original_message_id: Id; }
    Card { may name: CardName, org: CardOrg; list phones: CardPhone, emails: CardEmail; }
    CardName { may formatted_name: String, first_name: String, last_name: String; }
    CardOrg { may company: String; }
    CardPhone { may phone: String, wa_id: Id; }
    CardEmail { must email: String; }

    Status {
        must id: Id, status: String;
        may timestamp: Value, recipient_id: Id, recipient_user_id: Id, recipient_participant_id: Id, recipient_type: String,
            group_id: Id, biz_opaque_callback_data: String;
        list errors: Value;
    }
    Group {
        must group_id: Id, r#type: String;
        may timestamp: Value, request_id: String, subject: String, description: String, group_subject: GroupWords,
            group_description: GroupWords;
        list added_participants: Participant, removed_participants: Participant, errors: Value;
    }
    /// Words of a group that were to be changed, and whether they were.
    GroupWords { may text: String, update_successful: bool; }
    Participant { may wa_id: Id, input: String, user_id: Id; }

    Sent { list messages: SentMessage, contacts: ContactEntry; }
    SentMessage { must id: Id; }
    Uploaded { must id: Id; }
    Stored { must url: String; may mime_type: String, file_size: Value; }
    PhoneNumber {
        may display_phone_number: String, verified_name: String, quality_rating: String,
            webhook_configuration: Webhooks;
    }
    Webhooks { may phone_number: String, whatsapp_business_account: String, application: String; }
    Profiles { list data: BusinessProfile; }
    BusinessProfile { may about: String, profile_picture_url: String, business_profile: Box<BusinessProfile>; }
    BlockedUsers { may paging: Paging; list data: BlockedUser; }
    BlockedUser { may wa_id: Id, user_id: Id; }
    Paging { may cursors: Cursors, next: String; }
    Cursors { may after: Id; }
}

/// A time of Meta's, seconds since 1970 as a word or a number, in milliseconds. What lies outside of this century is none.
pub fn millis(time: Option<&Value>) -> Option<i64> {
    const CENTURY: std::ops::Range<i64> = 946_684_800..4_102_444_800;
    let seconds = match time? {
        Value::String(words) => words.parse().ok()?,
        number => number.as_i64()?,
    };
    CENTURY.contains(&seconds).then_some(seconds * 1000)
}

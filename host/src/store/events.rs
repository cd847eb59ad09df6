//! Stand-in.
use super::{Result, Time, Tx};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;
/// .
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "stand-in")]
pub struct NewDomainEvent<'a> {
    pub id: Uuid,
    pub event_type: Cow<'static, str>,
    pub external_id: Option<Cow<'a, str>>,
    pub channel: Arc<str>,
    pub instance_id: Uuid,
    pub person_id: Option<Uuid>,
    pub platform_identity_id: Option<Uuid>,
    pub direction: &'static str,
    pub content_type: Option<&'static str>,
    pub text_content: Option<Cow<'a, str>>,
    pub chat_id: Option<Cow<'a, str>>,
    pub chat_uuid: Option<Uuid>,
    pub message_id: Option<Uuid>,
    pub payload: String,
    pub raw_payload: Option<Cow<'a, str>>,
    pub received_at: Time,
}
/// .
pub async fn append(_tx: &mut Tx, _e: &[NewDomainEvent<'_>], _n: Time) -> Result<()> {
    Ok(())
}

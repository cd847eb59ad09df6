//! Secrets of messages: a poll's votes, edits and comments are encrypted with that of the message they belong to.

use super::{Store, damaged};
use async_trait::async_trait;
use wacore::store::error::Result;
use wacore::store::traits::{MsgSecretEntry, MsgSecretStore, merge_msg_secret_expiry, merge_msg_secret_message_ts};

const SECRETS: &str = "sec/";

/// When it may go and when its message was written, both in seconds (0: never, unknown), and the secret.
struct Row {
    expires_at: i64,
    message_ts: i64,
    secret: Vec<u8>,
}

impl Row {
    fn read(key: &str, value: &[u8]) -> Result<Self> {
        let (Some(expires), Some(written)) =
            (value.first_chunk::<8>(), value.get(8..).and_then(|rest| rest.first_chunk::<8>()))
        else {
            return Err(damaged(key, "it is too short"));
        };
        Ok(Self {
            expires_at: i64::from_be_bytes(*expires),
            message_ts: i64::from_be_bytes(*written),
            secret: value[16..].to_vec(),
        })
    }

    fn write(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(16 + self.secret.len());
        value.extend(self.expires_at.to_be_bytes());
        value.extend(self.message_ts.to_be_bytes());
        value.extend(&self.secret);
        value
    }
}

fn key(chat: &str, sender: &str, id: &str) -> String {
    format!("{SECRETS}{chat}/{sender}/{id}")
}

#[async_trait]
impl MsgSecretStore for Store {
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> Result<usize> {
        let count = entries.len();
        let mut writes = Vec::with_capacity(count);
        for entry in entries {
            let key = key(&entry.chat, &entry.sender, &entry.msg_id);
            let old = self.get(&key).await?.and_then(|value| Row::read(&key, &value).ok());
            let row = Row {
                expires_at: old
                    .as_ref()
                    .map_or(entry.expires_at, |old| merge_msg_secret_expiry(old.expires_at, entry.expires_at)),
                message_ts: old
                    .map_or(entry.message_ts, |old| merge_msg_secret_message_ts(old.message_ts, entry.message_ts)),
                secret: entry.secret.to_vec(),
            };
            writes.push((key, Some(row.write())));
        }
        for part in writes.chunks(1_000) {
            self.write(part.to_vec()).await?;
        }
        Ok(count)
    }

    async fn get_msg_secret(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get_msg_secret_with_ts(chat, sender, msg_id).await?.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(&self, chat: &str, sender: &str, msg_id: &str) -> Result<Option<(Vec<u8>, i64)>> {
        let key = key(chat, sender, msg_id);
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        let row = Row::read(&key, &value)?;
        Ok(Some((row.secret, row.message_ts)))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> Result<u32> {
        let old = |value: &[u8]| {
            Row::read(SECRETS, value).is_ok_and(|row| row.expires_at != 0 && row.expires_at <= cutoff_timestamp)
        };
        self.sweep(SECRETS, old).await
    }
}

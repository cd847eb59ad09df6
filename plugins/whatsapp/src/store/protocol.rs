//! What the protocol has to remember: who has our sender keys, LIDs and phone numbers, device lists, tokens, and messages that
//! are on their way in or may be asked for again.

use super::{Store, damaged, to_json};
use crate::kv::Write;
use async_trait::async_trait;
use wacore::store::error::Result;
use wacore::store::traits::{
    DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore, TcTokenEntry,
};
use wacore::time::now_secs;

const HAS_KEY: &str = "skd/";
pub(super) const LIDS: &str = "lid/";
pub(super) const PHONES: &str = "pn/";
pub(super) const TOKENS: &str = "tc/";
const SENT: &str = "sent/";
const INBOUND: &str = "in/";

/// A value with the time it was stored at, in seconds, before it.
fn dated(value: &[u8]) -> Vec<u8> {
    let mut dated = now_secs().to_be_bytes().to_vec();
    dated.extend_from_slice(value);
    dated
}

/// The time of a dated value; one that has none is as old as can be.
fn date_of(value: &[u8]) -> i64 {
    value.first_chunk().map_or(i64::MIN, |bytes| i64::from_be_bytes(*bytes))
}

fn undated(key: &str, mut value: Vec<u8>) -> Result<Vec<u8>> {
    if value.len() < 8 {
        return Err(damaged(key, "it has no date"));
    }
    value.drain(..8);
    Ok(value)
}

fn inbound(chat: &str, sender: &str, id: &str) -> String {
    format!("{INBOUND}{chat}/{sender}/{id}")
}

#[async_trait]
impl ProtocolStore for Store {
    async fn get_sender_key_devices(&self, group_jid: &str) -> Result<Vec<(String, bool)>> {
        let prefix = format!("{HAS_KEY}{group_jid}/");
        let found = self.all(&prefix).await?.into_iter();
        Ok(found.map(|(key, value)| (key[prefix.len()..].to_owned(), value == [1])).collect())
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> Result<()> {
        let writes =
            entries.iter().map(|(device, has)| (format!("{HAS_KEY}{group_jid}/{device}"), Some(vec![u8::from(*has)])));
        self.write(writes.collect()).await
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> Result<()> {
        self.sweep(&format!("{HAS_KEY}{group_jid}/"), |_| true).await.map(|_| ())
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> Result<()> {
        if device_jids.is_empty() {
            return Ok(());
        }
        let of_them = |key: &str| device_jids.iter().any(|device| key.ends_with(&format!("/{device}")));
        let gone = self.all(HAS_KEY).await?.into_iter().filter(|(key, _)| of_them(key)).map(|(key, _)| (key, None));
        self.write(gone.collect()).await
    }

    async fn clear_all_sender_key_devices(&self) -> Result<()> {
        self.sweep(HAS_KEY, |_| true).await.map(|_| ())
    }

    async fn get_lid_mapping(&self, lid: &str) -> Result<Option<LidPnMappingEntry>> {
        self.json(&format!("{LIDS}{lid}")).await
    }

    async fn get_pn_mapping(&self, phone: &str) -> Result<Option<LidPnMappingEntry>> {
        let Some(lid) = self.get(&format!("{PHONES}{phone}")).await? else { return Ok(None) };
        self.get_lid_mapping(&String::from_utf8_lossy(&lid)).await
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> Result<()> {
        self.put_lid_mappings(std::slice::from_ref(entry)).await
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> Result<()> {
        let mut writes: Vec<Write> = Vec::with_capacity(entries.len() * 2);
        for entry in entries {
            // A LID whose number changed is no longer what the old number leads to.
            if let Some(old) = self.get_lid_mapping(&entry.lid).await?
                && old.phone_number != entry.phone_number
            {
                writes.push((format!("{PHONES}{}", old.phone_number), None));
            }
            writes.push((format!("{PHONES}{}", entry.phone_number), Some(entry.lid.clone().into_bytes())));
            writes.push((format!("{LIDS}{}", entry.lid), Some(to_json(entry)?)));
        }
        self.write(writes).await
    }

    async fn get_all_lid_mappings(&self) -> Result<Vec<LidPnMappingEntry>> {
        self.all(LIDS).await?.iter().map(|(key, value)| super::from_json(key, value)).collect()
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> Result<()> {
        self.put(format!("bk/{address}/{message_id}"), base_key.to_vec()).await
    }

    async fn has_same_base_key(&self, address: &str, message_id: &str, current_base_key: &[u8]) -> Result<bool> {
        Ok(self.get(&format!("bk/{address}/{message_id}")).await?.as_deref() == Some(current_base_key))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> Result<()> {
        self.remove(format!("bk/{address}/{message_id}")).await
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> Result<()> {
        self.update_device_lists(vec![record]).await
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> Result<()> {
        let writes = records.iter().map(|record| Ok((format!("dev/{}", record.user), Some(to_json(record)?))));
        self.write(writes.collect::<Result<_>>()?).await
    }

    async fn get_devices(&self, user: &str) -> Result<Option<DeviceListRecord>> {
        self.json(&format!("dev/{user}")).await
    }

    async fn delete_devices(&self, user: &str) -> Result<()> {
        self.remove(format!("dev/{user}")).await
    }

    async fn get_group_metadata(&self, group_jid: &str) -> Result<Option<Vec<u8>>> {
        self.get(&format!("gm/{group_jid}")).await
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> Result<()> {
        self.put(format!("gm/{group_jid}"), blob.to_vec()).await
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> Result<()> {
        self.remove(format!("gm/{group_jid}")).await
    }

    async fn get_tc_token(&self, jid: &str) -> Result<Option<TcTokenEntry>> {
        self.json(&format!("{TOKENS}{jid}")).await
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> Result<()> {
        self.put(format!("{TOKENS}{jid}"), to_json(entry)?).await
    }

    async fn delete_tc_token(&self, jid: &str) -> Result<()> {
        self.remove(format!("{TOKENS}{jid}")).await
    }

    async fn get_all_tc_token_jids(&self) -> Result<Vec<String>> {
        Ok(self.all(TOKENS).await?.into_iter().map(|(key, _)| key[TOKENS.len()..].to_owned()).collect())
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> Result<u32> {
        let old = |value: &[u8]| {
            // What cannot be read is left to whoever asks for it: it says that it is damaged.
            serde_json::from_slice::<TcTokenEntry>(value).is_ok_and(|entry| {
                let token_lives = !entry.token.is_empty() && entry.token_timestamp >= token_cutoff;
                let sender_lives = entry.sender_timestamp.is_some_and(|at| at >= sender_cutoff);
                !token_lives && !sender_lives
            })
        };
        self.sweep(TOKENS, old).await
    }

    async fn store_sent_message(&self, chat_jid: &str, message_id: &str, payload: &[u8]) -> Result<()> {
        self.put(format!("{SENT}{chat_jid}/{message_id}"), dated(payload)).await
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> Result<Option<Vec<u8>>> {
        let key = format!("{SENT}{chat_jid}/{message_id}");
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        self.remove(key.clone()).await?;
        undated(&key, value).map(Some)
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> Result<u32> {
        self.sweep(SENT, |value| date_of(value) < cutoff_timestamp).await
    }

    async fn store_pending_inbound(&self, chat: &str, sender: &str, id: &str, message: &[u8]) -> Result<()> {
        self.put(inbound(chat, sender, id), dated(message)).await
    }

    async fn get_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<Option<Vec<u8>>> {
        let key = inbound(chat, sender, id);
        self.get(&key).await?.map(|value| undated(&key, value)).transpose()
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> Result<()> {
        self.remove(inbound(chat, sender, id)).await
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> Result<u32> {
        self.sweep(INBOUND, |value| date_of(value) < cutoff_timestamp).await
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> Result<()> {
        self.write(rows.iter().map(|row| (inbound(row.chat, row.sender, row.id), Some(dated(row.message)))).collect())
            .await
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> Result<()> {
        self.write(keys.iter().map(|key| (inbound(key.chat, key.sender, key.id), None)).collect()).await
    }
}

//! Files: what a message says of one, and how it can be had.
//!
//! A file lies encrypted on WhatsApp's servers, its key in the message. The reference that an event carries has all that is
//! needed to fetch and open it later; the host does both, while it streams.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
use omni_channel_sdk::content::Media;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{MediaReply, SealedMedia};
use serde::Serialize;
use wacore::download::{DownloadUtils, MediaType};
use wacore::types::message::MessageInfo;
use wacore_binary::{Jid, JidExt};
use waproto::whatsapp as wa;
use whatsapp_rust::Client;
use whatsapp_rust::features::{MediaRetryResult, MediaReuploadRequest};

/// Where WhatsApp keeps files.
const SERVER: &str = "https://mmg.whatsapp.net";
/// What the MAC at the end of a file has of its 32 bytes.
const MAC_LENGTH: u8 = 10;

/// What a reference says; its letters are few because it is stored with every file.
#[derive(Debug, Serialize, Deserialize)]
struct Reference {
    /// Image, video, audio, document, sticker.
    t: String,
    /// Path on the server, with its query.
    p: String,
    /// Key.
    k: String,
    /// SHA-256 of the file, and of what lies on the server.
    h: Option<String>,
    e: Option<String>,
    m: Option<String>,
    n: Option<String>,
    s: Option<u64>,
    /// The message that it came with: whoever has it can be asked for the file anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    o: Option<Origin>,
}

/// A message: chat, id, whether it is ours, and who wrote it where many do.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Origin {
    c: String,
    i: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    f: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<String>,
}

fn kind_of(name: &str) -> Option<MediaType> {
    Some(match name {
        "i" => MediaType::Image,
        "v" => MediaType::Video,
        "a" => MediaType::Audio,
        "d" => MediaType::Document,
        "s" => MediaType::Sticker,
        _ => return None,
    })
}

macro_rules! file_of {
    ($message:expr, $kind:literal, $name:expr) => {{
        let message = $message;
        let name: Option<String> = $name;
        let reference = match (&message.direct_path, &message.media_key) {
            (Some(path), Some(key)) if !path.is_empty() && !key.is_empty() => {
                let reference = Reference {
                    t: $kind.into(),
                    p: path.clone(),
                    k: STANDARD_NO_PAD.encode(key),
                    h: message.file_sha256.as_ref().map(|hash| STANDARD_NO_PAD.encode(hash)),
                    e: message.file_enc_sha256.as_ref().map(|hash| STANDARD_NO_PAD.encode(hash)),
                    m: message.mimetype.clone(),
                    n: name.clone(),
                    s: message.file_length,
                    o: None,
                };
                serde_json::to_string(&reference).ok().map(MediaRef::new)
            }
            _ => None,
        };
        Media {
            reference,
            mime_type: message.mimetype.clone(),
            file_name: name,
            size: message.file_length,
            ..Media::default()
        }
    }};
}

/// A picture.
pub fn of_image(image: &wa::message::ImageMessage) -> Media {
    Media {
        width: image.width,
        height: image.height,
        view_once: image.view_once.unwrap_or_default(),
        ..file_of!(image, "i", None)
    }
}

/// A film, a loop, or a round video note.
pub fn of_video(video: &wa::message::VideoMessage) -> Media {
    Media {
        width: video.width,
        height: video.height,
        duration_ms: video.seconds.map(|seconds| u64::from(seconds) * 1_000),
        animation: video.gif_playback.unwrap_or_default(),
        view_once: video.view_once.unwrap_or_default(),
        ..file_of!(video, "v", None)
    }
}

/// Sound, or a voice note.
pub fn of_audio(audio: &wa::message::AudioMessage) -> Media {
    Media {
        duration_ms: audio.seconds.map(|seconds| u64::from(seconds) * 1_000),
        voice: audio.ptt.unwrap_or_default(),
        view_once: audio.view_once.unwrap_or_default(),
        waveform: audio.waveform.clone().unwrap_or_default().into_iter().map(|loud| loud.min(100)).collect(),
        ..file_of!(audio, "a", None)
    }
}

/// Any other file.
pub fn of_document(document: &wa::message::DocumentMessage) -> Media {
    let name = document.file_name.clone().or_else(|| document.title.clone()).filter(|name| !name.is_empty());
    file_of!(document, "d", name)
}

/// A sticker.
pub fn of_sticker(sticker: &wa::message::StickerMessage) -> Media {
    Media {
        width: sticker.width,
        height: sticker.height,
        animation: sticker.is_animated.unwrap_or_default(),
        emoji: sticker.emojis.clone().filter(|emoji| !emoji.is_empty()),
        ..file_of!(sticker, "s", None)
    }
}

/// Notes in a file's reference with which message it came.
pub fn came_with(media: &mut Media, info: &MessageInfo) {
    let Some(mut reference) = media.reference.as_ref().and_then(|it| read(it).ok()) else { return };
    let source = &info.source;
    reference.o = Some(Origin {
        c: source.chat.to_string(),
        i: info.id.clone(),
        f: source.is_from_me,
        p: (source.is_group || source.chat.is_status_broadcast()).then(|| source.sender.to_string()),
    });
    if let Ok(written) = serde_json::to_string(&reference) {
        media.reference = Some(MediaRef::new(written));
    }
}

fn unusable(why: impl std::fmt::Display) -> SendError {
    let mut error = SendError::invalid(format!("the reference to the file cannot be used: {why}"));
    error.code = ErrorCode::Media;
    error
}

fn read(reference: &MediaRef) -> Result<Reference, SendError> {
    serde_json::from_str(reference.as_str()).map_err(unusable)
}

/// How a file can be had.
pub fn fetch(reference: &MediaRef, server: Option<&str>) -> Result<MediaReply, SendError> {
    how(read(reference)?, server)
}

/// How a file can be had that WhatsApp no longer keeps: the account's phone is asked to put it there anew.
pub async fn fetch_anew(reference: &MediaRef, client: &Client, server: Option<&str>) -> Result<MediaReply, SendError> {
    let mut found = read(reference)?;
    let lost = |why: &str| {
        let mut error = SendError::invalid(format!("WhatsApp no longer keeps the file, and {why}"));
        error.code = ErrorCode::Media;
        error
    };
    let origin = found.o.clone().ok_or_else(|| lost("the message that it came with is not known"))?;
    let jid = |text: &str| text.parse::<Jid>().map_err(unusable);
    let chat = jid(&origin.c)?;
    if chat.is_newsletter() {
        return Err(lost("files of channels cannot be asked for"));
    }
    let participant = origin.p.as_deref().map(jid).transpose()?;
    let key = STANDARD_NO_PAD.decode(&found.k).map_err(unusable)?;
    let asked = MediaReuploadRequest {
        msg_id: &origin.i,
        chat_jid: &chat,
        media_key: &key,
        is_from_me: origin.f,
        participant: participant.as_ref(),
    };
    match client.media_reupload().request(&asked).await {
        Ok(MediaRetryResult::Success { direct_path }) => {
            found.p = direct_path;
            how(found, server)
        }
        Ok(MediaRetryResult::NotFound) => Err(lost("the phone does not have it any more")),
        Ok(other) => Err(lost(&format!("the phone could not give it ({other:?})"))),
        Err(error) => Err(SendError::transient(format!(
            "WhatsApp no longer keeps the file, and the phone, which has to be online to give it anew, did not: {error}"
        ))),
    }
}

fn how(found: Reference, server: Option<&str>) -> Result<MediaReply, SendError> {
    let kind = kind_of(&found.t).ok_or_else(|| unusable(format!("{:?} is no kind of file", found.t)))?;
    let decode =
        |what: &str, text: &str| STANDARD_NO_PAD.decode(text).map_err(|error| unusable(format!("its {what}: {error}")));
    let key = decode("key", &found.k)?;
    let (iv, cipher_key, mac_key) = DownloadUtils::get_media_keys(&key, kind).map_err(unusable)?;
    // A path is all that a message may say: which server is ours to say.
    if !found.p.starts_with('/') || found.p.starts_with("//") {
        return Err(unusable("its path does not begin with one slash"));
    }
    let mut url = format!("{}{}", server.unwrap_or(SERVER).trim_end_matches('/'), found.p);
    if let Some(hash) = &found.e {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&format!(
            "hash={}&mms-type={}&__wa-mms=",
            URL_SAFE.encode(decode("hash", hash)?),
            kind.mms_type()
        ));
    }
    let sha256 = found.h.as_deref().map(|hash| decode("hash", hash)).transpose()?;
    let mut call = HttpCall::get(url);
    call = call.header("origin", "https://web.whatsapp.com");
    // Padding and MAC come on top of what was announced.
    call.max_bytes = found.s.map(|size| size + 16 + u64::from(MAC_LENGTH) + 16);
    Ok(MediaReply {
        call,
        mime_type: found.m,
        file_name: found.n,
        size: found.s,
        sealed: Some(SealedMedia {
            key: hex::encode(cipher_key),
            iv: hex::encode(iv),
            mac_key: hex::encode(mac_key),
            mac_length: MAC_LENGTH,
            sha256: sha256.map(hex::encode),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> wa::message::ImageMessage {
        wa::message::ImageMessage {
            direct_path: Some("/v/t62.7118-24/1_n.enc?ccb=11-4".into()),
            media_key: Some(vec![7; 32]),
            file_sha256: Some(vec![1; 32]),
            file_enc_sha256: Some(vec![0xFF; 32]),
            file_length: Some(1_000),
            mimetype: Some("image/jpeg".into()),
            ..Default::default()
        }
    }

    #[test]
    fn a_reference_leads_to_the_file_and_opens_it() {
        let media = of_image(&image());
        let how = fetch(media.reference.as_ref().unwrap(), None).unwrap();
        assert!(
            how.call.url.starts_with("https://mmg.whatsapp.net/v/t62.7118-24/1_n.enc?ccb=11-4&hash=_____"),
            "{}",
            how.call.url
        );
        let sealed = how.sealed.unwrap();
        assert_eq!((sealed.key.len(), sealed.iv.len(), sealed.mac_key.len(), sealed.mac_length), (64, 32, 64, 10));
        assert_eq!(sealed.sha256, Some("01".repeat(32)));
        assert_eq!(how.call.max_bytes, Some(1_042));
    }

    #[test]
    fn a_message_cannot_name_another_server() {
        for path in ["//evil.example/x", "https://evil.example/x", "@evil.example/", ".evil.example/", ""] {
            let media = of_image(&wa::message::ImageMessage { direct_path: Some(path.into()), ..image() });
            let Some(reference) = media.reference else { continue };
            assert!(fetch(&reference, None).is_err(), "{path}");
        }
    }
}

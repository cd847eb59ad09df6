//! Opens files that a network keeps end-to-end encrypted, while they are streamed: AES-256 in CBC mode with PKCS#7 padding,
//! and the first bytes of an HMAC-SHA256 behind it.
//!
//! What is opened is handed on before the HMAC at the end can be checked, for a file may be larger than memory. Whoever takes
//! it must therefore throw away what came before an error. The padding is looked at only once the HMAC is right: what an
//! attacker changed is told apart from a wrong padding by nobody.
//!
//! Deliberately not here: where the keys come from, which only the channel knows.

use super::MediaError;
use aes::Aes256;
use aes::cipher::{Block, BlockModeDecrypt, KeyIvInit};
use bytes::{Bytes, BytesMut};
use cbc::Decryptor;
use futures_util::{Stream, StreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use omni_channel_sdk::request::SealedMedia;
use sha2::{Digest, Sha256};

const BLOCK: usize = 16;
/// Shortest HMAC that says anything.
const SHORTEST_MAC: usize = 10;
/// What HMAC-SHA256 has.
const LONGEST_MAC: usize = 32;

/// Why a file does not open. None of these gets better by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The channel gave no usable key.
    #[error("the channel gave a {0}")]
    Key(&'static str),
    /// It has not the length of a sealed file.
    #[error("it is cut short: {0} bytes are no whole number of blocks with an HMAC behind them")]
    Length(u64),
    /// It is not what was sealed with this key.
    #[error("its HMAC is wrong: it was changed on the way, is not whole, or belongs to another key")]
    Mac,
    /// The HMAC is right and what is in it is not: whoever sealed it made a mistake.
    #[error("its last block has no padding")]
    Padding,
    /// Another file was sealed than the sender said.
    #[error("it holds another file than the one that was sent (its SHA-256 is another)")]
    Content,
}

/// A file that is being opened. Holds back what may be the last block and the HMAC, and nothing else.
pub(super) struct Opening {
    aes: Decryptor<Aes256>,
    mac: Hmac<Sha256>,
    mac_length: usize,
    plain: Sha256,
    expected: Option<[u8; 32]>,
    held: BytesMut,
    taken: u64,
}

impl Opening {
    pub(super) fn new(sealed: &SealedMedia) -> Result<Self, Broken> {
        let key: [u8; 32] = digits(&sealed.key).ok_or(Broken::Key("key that is not 64 hex digits"))?;
        let iv: [u8; 16] = digits(&sealed.iv).ok_or(Broken::Key("initialization vector that is not 32 hex digits"))?;
        let mac_key = hex::decode(&sealed.mac_key).ok().filter(|key| !key.is_empty());
        let mac_key = mac_key.ok_or(Broken::Key("key of the HMAC that is not in hex digits"))?;
        let mac_length = usize::from(sealed.mac_length);
        if !(SHORTEST_MAC..=LONGEST_MAC).contains(&mac_length) {
            return Err(Broken::Key("length of the HMAC that is not 10 to 32 bytes"));
        }
        let expected = match &sealed.sha256 {
            Some(sum) => Some(digits(sum).ok_or(Broken::Key("SHA-256 that is not 64 hex digits"))?),
            None => None,
        };
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&mac_key).map_err(|_| Broken::Key("key of the HMAC that is none"))?;
        mac.update(&iv);
        let aes = Decryptor::new(&key.into(), &iv.into());
        Ok(Self { aes, mac, mac_length, plain: Sha256::new(), expected, held: BytesMut::new(), taken: 0 })
    }

    /// How much longer a sealed file is than what is in it, at most.
    pub(super) fn overhead(&self) -> u64 {
        (BLOCK + self.mac_length) as u64
    }

    /// Takes a piece, and gives what of it can be opened already.
    pub(super) fn take(&mut self, piece: &[u8]) -> Bytes {
        self.taken += piece.len() as u64;
        self.held.extend_from_slice(piece);
        let free = self.held.len().saturating_sub(BLOCK + self.mac_length);
        // Of a last block that is whole as much as of one that is not: it waits until it is known to be the last.
        let mut open = self.held.split_to(free - free % BLOCK);
        self.mac.update(&open);
        self.aes.decrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(&mut open).0);
        self.plain.update(&open);
        open.freeze()
    }

    /// Checks everything, and gives the rest. Nothing of what was given before may be used when this fails.
    pub(super) fn end(mut self) -> Result<Bytes, Broken> {
        let length = self.held.len().checked_sub(self.mac_length);
        // A file of no bytes has a block of padding.
        let Some(length) = length.filter(|length| *length > 0 && length % BLOCK == 0) else {
            return Err(Broken::Length(self.taken));
        };
        let mac = self.held.split_off(length);
        self.mac.update(&self.held);
        self.mac.verify_truncated_left(&mac).map_err(|_| Broken::Mac)?;
        self.aes.decrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(&mut self.held).0);
        let padding = self.held.last().map_or(0, |last| usize::from(*last));
        let is_padding = |from: usize| self.held[from..].iter().all(|byte| usize::from(*byte) == padding);
        if !(1..=BLOCK).contains(&padding) || !is_padding(length - padding) {
            return Err(Broken::Padding);
        }
        self.held.truncate(length - padding);
        self.plain.update(&self.held);
        if self.expected.is_some_and(|expected| expected != *self.plain.finalize()) {
            return Err(Broken::Content);
        }
        Ok(self.held.freeze())
    }
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// What is in a sealed stream. An error at its end makes worthless what came before.
pub(super) fn opened(
    sealed: impl Stream<Item = Result<Bytes, MediaError>> + Send + Unpin,
    opening: Opening,
) -> impl Stream<Item = Result<Bytes, MediaError>> + Send {
    stream::unfold(Some((sealed, opening)), |state| async {
        let (mut sealed, mut opening) = state?;
        Some(match sealed.next().await {
            Some(Ok(piece)) => (Ok(opening.take(&piece)), Some((sealed, opening))),
            Some(Err(error)) => (Err(error), None),
            None => (opening.end().map_err(MediaError::from), None),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::BlockModeEncrypt;

    const KEY: [u8; 32] = [7; 32];
    const IV: [u8; 16] = [9; 16];
    const MAC_KEY: [u8; 32] = [11; 32];

    fn how(mac_length: u8, plain: Option<&[u8]>) -> SealedMedia {
        SealedMedia {
            key: hex::encode(KEY),
            iv: hex::encode(IV),
            mac_key: hex::encode(MAC_KEY),
            mac_length,
            sha256: plain.map(|plain| hex::encode(Sha256::digest(plain))),
        }
    }

    fn mac_of(ciphertext: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&MAC_KEY).expect("any length");
        mac.update(&IV);
        mac.update(ciphertext);
        mac.finalize().into_bytes().to_vec()
    }

    fn behind(mut ciphertext: Vec<u8>, mac_length: u8) -> Vec<u8> {
        let mac = mac_of(&ciphertext);
        ciphertext.extend_from_slice(&mac[..usize::from(mac_length)]);
        ciphertext
    }

    fn seal(plain: &[u8], mac_length: u8) -> Vec<u8> {
        let padding = BLOCK - plain.len() % BLOCK;
        let padded = [plain, &vec![padding as u8; padding][..]].concat();
        behind(encrypted(padded), mac_length)
    }

    fn encrypted(mut blocks: Vec<u8>) -> Vec<u8> {
        let mut aes = cbc::Encryptor::<Aes256>::new(&KEY.into(), &IV.into());
        aes.encrypt_blocks(Block::<Aes256>::slice_as_chunks_mut(&mut blocks).0);
        blocks
    }

    fn plain(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at * 31 % 251) as u8).collect()
    }

    fn open_in(sealed: &[u8], how: &SealedMedia, pieces: usize) -> Result<Vec<u8>, Broken> {
        let mut opening = Opening::new(how)?;
        let mut open = Vec::new();
        for piece in sealed.chunks(pieces) {
            open.extend_from_slice(&opening.take(piece));
            assert!(opening.held.len() < BLOCK + usize::from(how.mac_length) + BLOCK, "no more is held back");
        }
        open.extend_from_slice(&opening.end()?);
        Ok(open)
    }

    #[test]
    fn a_known_answer_opens() {
        // NIST SP 800-38A, F.2.6 (CBC-AES256), its four blocks and one of padding.
        let (key, iv) =
            ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "000102030405060708090a0b0c0d0e0f");
        let plain = hex::decode(concat!(
            "6bc1bee22e409f96e93d7e117393172a",
            "ae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52ef",
            "f69f2445df4f9b17ad2b417be66c3710",
        ));
        let blocks = hex::decode(concat!(
            "f58c4c04d6e5f1ba779eabfb5f7bfbd6",
            "9cfc4e967edb808d679f777bc6702c7d",
            "39f23369a9d9bacfa530e26304231461",
            "b2eb05e2c39be9fcda6c19078c6a9d1b",
        ));
        let how = SealedMedia { key: key.into(), iv: iv.into(), ..how(10, None) };
        let mut opening = Opening::new(&how).expect("keys");
        let blocks = blocks.expect("hex");
        let mut open = opening.take(&blocks).to_vec();
        // The last of them is known not to be the last one of the file once more came.
        open.extend_from_slice(&opening.take(&[0; BLOCK + 10]));
        assert_eq!(open, plain.expect("hex"));
    }

    #[test]
    fn files_of_every_length_open_in_pieces_of_every_size() {
        for size in [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 100, 1_000] {
            let plain = plain(size);
            for mac_length in [10, 16, 32] {
                let sealed = seal(&plain, mac_length);
                for pieces in [1, 2, 7, 15, 16, 17, 26, 27, 64, 4_096] {
                    assert_eq!(open_in(&sealed, &how(mac_length, Some(&plain)), pieces), Ok(plain.clone()), "{size}");
                }
            }
        }
    }

    #[test]
    fn a_change_of_any_bit_at_any_place_is_noticed() {
        let plain = plain(50);
        let sealed = seal(&plain, 10);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(open_in(&changed, &how(10, None), 16), Err(Broken::Mac), "byte {at}, bit {bit}");
            }
        }
        for (name, other) in [
            ("iv", SealedMedia { iv: "00".repeat(16), ..how(10, None) }),
            ("mac key", SealedMedia { mac_key: "00".repeat(32), ..how(10, None) }),
        ] {
            assert_eq!(open_in(&sealed, &other, 16), Err(Broken::Mac), "another {name}");
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_none() {
        let sealed = seal(&plain(50), 10);
        for length in 0..sealed.len() {
            let broken = open_in(&sealed[..length], &how(10, None), 7).expect_err("is not whole");
            let is_whole_blocks = length > 10 && (length - 10) % BLOCK == 0;
            let expected = if is_whole_blocks { Broken::Mac } else { Broken::Length(length as u64) };
            assert_eq!(broken, expected, "the first {length} bytes");
        }
        for more in 1..=BLOCK {
            let longer = [&sealed[..], &vec![0; more][..]].concat();
            assert!(open_in(&longer, &how(10, None), 7).is_err(), "{more} bytes more");
        }
    }

    #[test]
    fn what_was_sealed_wrongly_is_told() {
        let plain = plain(32);
        assert_eq!(open_in(&seal(&plain, 10), &how(10, Some(b"another")), 16), Err(Broken::Content));
        for last in [0, 17, 255, 2] {
            let mut block = [1; BLOCK];
            block[BLOCK - 1] = last;
            assert_eq!(
                open_in(&behind(encrypted(block.to_vec()), 10), &how(10, None), 16),
                Err(Broken::Padding),
                "{last}"
            );
        }
    }

    #[test]
    fn keys_that_are_none_are_refused_before_anything_is_fetched() {
        for bad in [
            SealedMedia { key: "00".repeat(31), ..how(10, None) },
            SealedMedia { iv: "xy".repeat(16), ..how(10, None) },
            SealedMedia { mac_key: String::new(), ..how(10, None) },
            SealedMedia { mac_length: 9, ..how(10, None) },
            SealedMedia { mac_length: 33, ..how(10, None) },
            SealedMedia { sha256: Some("00".into()), ..how(10, None) },
        ] {
            assert!(matches!(Opening::new(&bad), Err(Broken::Key(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_says_so_and_not_that_it_was_changed() {
        let sealed = seal(&plain(1_000), 10);
        let pieces = sealed.chunks(100).take(5).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let broken_off = pieces.chain([Err(MediaError::Stream("gone".into()))]).collect::<Vec<_>>();
        let opening = Opening::new(&how(10, None)).expect("keys");
        let open: Vec<_> = opened(stream::iter(broken_off), opening).collect().await;
        assert!(matches!(open.last(), Some(Err(MediaError::Stream(_)))), "{open:?}");
        let whole = sealed.chunks(100).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
        let opening = Opening::new(&how(10, None)).expect("keys");
        let open: Vec<_> = opened(stream::iter(whole), opening).collect().await;
        let open: Vec<u8> = open.into_iter().flat_map(|piece| piece.expect("opens").to_vec()).collect();
        assert_eq!(open, plain(1_000));
    }
}

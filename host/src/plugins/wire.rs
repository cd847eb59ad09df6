//! What goes over the socket between the host and a plugin's process: the same frames, each with the instance it is for.
//!
//! `u32 length ‖ u8 kind ‖ u64 instance ‖ payload`, little-endian; the length counts what follows it.

use super::sandbox::Sandbox;
use serde::{Deserialize, Serialize};
use std::io;

/// No message is larger: media never travels here.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Bytes before the payload, after the length.
pub const HEAD: usize = 9;
/// The largest payload.
pub const MAX_FRAME: usize = MAX_MESSAGE - HEAD;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host → plugin: make an instance.
    Open = 1,
    /// Either way: a frame.
    Frame = 2,
    /// Host → plugin: end an instance.
    Close = 3,
    /// Plugin → host: an instance has ended; the payload says why.
    Ended = 4,
    /// Plugin → host: the library is open, or why it could not be opened: a [`Ready`] as JSON.
    Ready = 5,
    /// Host → plugin: answer with `Pong`.
    Ping = 6,
    /// Plugin → host: the loop that reads the host's messages goes round.
    Pong = 7,
}

/// The first message of a plugin's process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    /// How far it is shut in.
    pub sandbox: Sandbox,
    /// Why the library could not be opened.
    pub refused: Option<String>,
}

impl Kind {
    /// The kind that a byte stands for.
    pub fn from_byte(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            1 => Self::Open,
            2 => Self::Frame,
            3 => Self::Close,
            4 => Self::Ended,
            5 => Self::Ready,
            6 => Self::Ping,
            7 => Self::Pong,
            other => return Err(io::Error::other(format!("unknown message kind {other}"))),
        })
    }
}

/// One message as bytes.
pub fn message(kind: Kind, instance: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEAD + payload.len()).expect("a frame is far below 4 GiB");
    let mut bytes = Vec::with_capacity(4 + HEAD + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&instance.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The length that four bytes announce.
pub fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes) as usize;
    if (HEAD..=MAX_MESSAGE).contains(&length) {
        Ok(length)
    } else {
        Err(io::Error::other(format!("a message of {length} bytes is none of ours")))
    }
}

/// Kind, instance and payload of a message whose length was read.
pub fn parse(mut body: Vec<u8>) -> io::Result<(Kind, u64, Vec<u8>)> {
    let kind = Kind::from_byte(body[0])?;
    let mut instance = [0; 8];
    instance.copy_from_slice(&body[1..HEAD]);
    body.drain(..HEAD);
    Ok((kind, u64::from_le_bytes(instance), body))
}

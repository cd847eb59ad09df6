//! The sizes that a host takes. What is larger is refused by it, so the suite refuses it first.

/// Ids of chats, messages, people and deliveries, in bytes.
pub const ID_BYTES: usize = 1_024;
/// Names, titles and handles, in bytes.
pub const NAME_BYTES: usize = 4_096;
/// A text or a caption, in bytes.
pub const TEXT_BYTES: usize = 262_144;
/// An event with its raw JSON, in bytes.
pub const EVENT_BYTES: usize = 1_048_576;
/// A key of the key-value store, in bytes.
pub const KEY_BYTES: usize = 400;
/// An entry of the key-value store, in bytes.
pub const VALUE_BYTES: usize = 1_048_576;
/// A sentence: the message of an error, a state's reason, a log line, in bytes.
pub const SENTENCE_BYTES: usize = 8_192;
/// Events that one call emits.
pub const EVENTS_PER_CALL: usize = 10_000;
/// 2000-01-01 in milliseconds: a time before it is most likely in seconds.
pub const EARLIEST: i64 = 946_684_800_000;
/// 2100-01-01 in milliseconds: a time behind it is most likely in microseconds.
pub const LATEST: i64 = 4_102_444_800_000;

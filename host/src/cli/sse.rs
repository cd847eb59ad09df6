//! Reads server-sent events from bytes as they come, in whatever pieces. Pure.

/// The most that one event may hold.
const LIMIT: usize = 8 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Where to go on from after this one.
    pub id: Option<String>,
    /// Its name; empty for a plain message.
    pub name: String,
    /// Its lines, joined.
    pub data: String,
}

/// Collects lines into events.
#[derive(Debug, Default)]
pub struct SseReader {
    line: Vec<u8>,
    event: SseEvent,
    after_cr: bool,
}

/// An event is larger than this program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server sent an event of more than 8 MiB")]
pub struct TooLarge;

impl SseReader {
    /// Takes the next bytes, and gives the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, TooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_of_line());
                }
                byte => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
            if self.line.len() + self.event.data.len() > LIMIT {
                return Err(TooLarge);
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self) -> Option<SseEvent> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            // An event without data is only a heartbeat, unless it moves the place to go on from.
            event.data.pop();
            return Some(event).filter(|event| !event.data.is_empty());
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event.name),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            // A comment, `retry`, or what later servers say.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces() {
        let text = ": hello\r\nid: 7\nevent: message.received\ndata: {\"a\":\ndata:  1}\r\n\r\n\n: beat\n\nretry: 3\rdata:ä\r\r\n";
        let expected = [
            SseEvent { id: Some("7".into()), name: "message.received".into(), data: "{\"a\":\n 1}".into() },
            SseEvent { id: None, name: String::new(), data: "ä".into() },
        ];
        for size in 1..text.len() {
            let mut reader = SseReader::default();
            let events: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|piece| reader.push(piece).expect("is small")).collect();
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut reader = SseReader::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..10).find_map(|_| reader.push(&piece).err());
        assert_eq!(refused, Some(TooLarge));
    }
}

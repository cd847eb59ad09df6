//! What was told, against what is stored.

use super::load::Chat;
use super::program::Program;
use crate::harness::PATIENCE;
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What a number of rounds came to.
#[derive(Debug, Default)]
pub struct Verdict {
    pub rounds: usize,
    pub acknowledged: usize,
    pub lost: usize,
    pub repeated: usize,
    pub reordered: usize,
    pub invented: usize,
    /// Looks at which the host's own ledger did not balance.
    pub unbalanced: usize,
}

impl Verdict {
    /// Looks at chats, once everything that is durable is stored.
    pub async fn look(&mut self, host: &Program, chats: &[Chat]) {
        for chat in chats {
            let began = Instant::now();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            let mut looks = 0;
            // What is durable may not be stored yet; it is soon, or it is lost. One look can take longer than that.
            let stored = loop {
                looks += 1;
                let texts = host.texts(&chat.id).await;
                let stored: Vec<usize> = texts.iter().map(|text| text.parse().unwrap_or(usize::MAX)).collect();
                let known: HashSet<usize> = stored.iter().copied().collect();
                let missing: Vec<_> = chat.acknowledged.iter().filter(|number| !known.contains(number)).collect();
                if missing.is_empty() {
                    break stored;
                }
                if looks > 1 && began.elapsed() > PATIENCE {
                    println!("chat {} ends with {:?}, and has not {missing:?}", chat.id, chat.acknowledged.last());
                    break stored;
                }
                tick.tick().await;
            };
            self.compare(chat, &stored);
        }
        let (ledger, _) = host.ledger().await;
        let is_known = |line: &Value| line["there"]["waiting"].is_number();
        let lines = ledger["ledger"].as_array().filter(|lines| !lines.is_empty());
        if ledger["status"] != "ok" || !lines.is_some_and(|lines| lines.iter().all(is_known)) {
            println!("the ledger: {ledger}");
            self.unbalanced += 1;
        }
    }

    /// Compares what one chat was told with what is stored of it, in order.
    pub fn compare(&mut self, chat: &Chat, stored: &[usize]) {
        let known: HashSet<usize> = stored.iter().copied().collect();
        self.acknowledged += chat.acknowledged.len();
        self.lost += chat.acknowledged.iter().filter(|number| !known.contains(number)).count();
        self.repeated += stored.len() - known.len();
        self.reordered += stored.windows(2).filter(|pair| pair[0] > pair[1]).count();
        self.invented += known.iter().filter(|number| **number >= chat.next).count();
    }

    /// Prints it, and fails when anything is wrong.
    pub fn check(&self, what: &str, seed: u64) {
        println!("{what}: seed {seed}, {self:?}");
        assert!(self.acknowledged > 0, "{what}: nothing was acknowledged, so nothing was tested");
        let wrong = self.lost + self.repeated + self.reordered + self.invented + self.unbalanced;
        assert_eq!(wrong, 0, "{what}: seed {seed}, {self:?}");
    }
}

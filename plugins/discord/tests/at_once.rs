//! What a transcript cannot show: what goes on at the same time, and what there is a lot of.

use omni_channel_discord::Discord;
use omni_channel_sdk::Exported;
use omni_channel_sdk::frame::{HostRequest, ToChannel, ToHost, decode};
use omni_channel_sdk::testkit::{InProcess, Play, Port, Subject, play};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

fn subject(open: Box<dyn Fn() -> Result<Box<dyn Port>, String>>) -> Subject {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    Subject::new(Discord::CHANNEL_JSON, &folder, open).expect("the transcripts can be read")
}

/// An instance of which it is known how many calls it has under way.
struct Counted {
    channel: InProcess<Discord>,
    said: RefCell<VecDeque<Vec<u8>>>,
    open: Cell<usize>,
    most: Rc<Cell<usize>>,
}

impl Port for Counted {
    fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        if let Ok((ToChannel::Answer { .. }, _)) = decode(frame) {
            self.open.set(self.open.get().saturating_sub(1));
        }
        self.channel.deliver(frame)
    }

    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut said = self.said.borrow_mut();
        let mut patience = if said.is_empty() { patience } else { Duration::ZERO };
        while let Some(frame) = self.channel.next(patience) {
            patience = Duration::ZERO;
            if let Ok((ToHost::Call { request: HostRequest::Http { .. }, .. }, _)) = decode(&frame) {
                self.open.set(self.open.get() + 1);
                self.most.set(self.most.get().max(self.open.get()));
            }
            said.push_back(frame);
        }
        said.pop_front()
    }
}

#[test]
fn first_words_do_not_wait_for_each_other() {
    let most = Rc::new(Cell::new(0));
    let open = {
        let most = Rc::clone(&most);
        Box::new(move || {
            let (channel, said, open, most) = (InProcess::open(), RefCell::default(), Cell::new(0), Rc::clone(&most));
            Ok(Box::new(Counted { channel, said, open, most }) as Box<dyn Port>)
        })
    };
    let subject = subject(open);
    let named =
        |start: &str| subject.transcripts.iter().find(|found| found.name.starts_with(start)).expect("it is there");
    let alone = named("a command is a message");
    play(&subject, alone);
    assert_eq!(most.replace(0), 1);
    assert_eq!(play(&subject, named("the first words to many")).problems, Vec::<String>::new());
    assert_eq!(most.get(), 20);
}

#[test]
fn of_a_poll_that_has_ended_no_vote_is_left() {
    let subject = subject(Box::new(|| Ok(Box::new(InProcess::<Discord>::open()))));
    let transcript = subject.transcripts.iter().find(|found| found.name.starts_with("votes are put together"));
    let transcript = transcript.expect("it is there");
    let mut play = Play::open(&subject, transcript).expect("it opens");
    let poll = "1456074192322560000";
    for voter in 0..2_500 {
        play.host.kv.insert(format!("vote/{poll}/{voter}"), b"[\"1\"]".to_vec());
    }
    for step in 0..transcript.steps.len() {
        assert_eq!(play.step(step).problems, Vec::<String>::new());
    }
    let left: Vec<&String> = play.host.kv.keys().filter(|key| key.starts_with("vote/")).collect();
    assert!(left.is_empty(), "{} are left", left.len());
}

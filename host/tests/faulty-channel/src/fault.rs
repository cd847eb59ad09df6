//! The ways in which a channel can go wrong, by name.

use omni_channel_sdk::prelude::*;
use std::future::pending;
use std::time::Duration;

/// One of them. The words before a `:` or a space of a text name it, so that texts can be told apart (`panic 1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `panic`: panics.
    Panic,
    /// `hang`: blocks its thread for ever.
    Hang,
    /// `spin`: keeps its thread busy for ever.
    Spin,
    /// `abort`: ends the process at once.
    Abort,
    /// `exit`: ends the process politely.
    Exit,
    /// `overflow`: uses up its stack.
    Overflow,
    /// `allocate`: takes memory without end.
    Allocate,
    /// `never`: waits for what never comes.
    Never,
    /// `questions`: asks the host without end.
    Questions,
    /// `log`: writes a thousand log lines, large ones.
    Log,
    /// `hugeEntry`: writes an entry that no host takes.
    HugeEntry,
    /// `flood`: emits `n` events.
    Flood,
    /// `large`: emits an event of `n` bytes.
    Large,
    /// `keeps`: writes an entry of `n` bytes, under a key of its own each time.
    Keeps,
    /// `uncertain`: an error whose outcome nobody knows.
    Uncertain,
    /// `slow`: the network asks to wait `n` milliseconds.
    Slow,
    /// `flaky`: fails the first `n` times.
    Flaky,
    /// `fails`: always fails, and might not.
    Fails,
    /// `invalid`: always fails, and always will.
    Invalid,
    /// `unauthorized`: the credentials are no longer good.
    Unauthorized,
}

impl Fault {
    /// The fault that a text asks for.
    pub fn of(text: &str) -> Option<Self> {
        Some(match text.split([' ', ':']).next().unwrap_or_default() {
            "panic" => Self::Panic,
            "hang" => Self::Hang,
            "spin" => Self::Spin,
            "abort" => Self::Abort,
            "exit" => Self::Exit,
            "overflow" => Self::Overflow,
            "allocate" => Self::Allocate,
            "never" => Self::Never,
            "questions" => Self::Questions,
            "log" => Self::Log,
            "hugeEntry" => Self::HugeEntry,
            "flood" => Self::Flood,
            "large" => Self::Large,
            "keeps" => Self::Keeps,
            "uncertain" => Self::Uncertain,
            "slow" => Self::Slow,
            "flaky" => Self::Flaky,
            "fails" => Self::Fails,
            "invalid" => Self::Invalid,
            "unauthorized" => Self::Unauthorized,
            _ => return None,
        })
    }

    /// Does it, as far as it can be done anywhere. The rest is answered by whoever asked for it.
    pub async fn commit(self, ctx: &Context) {
        match self {
            Self::Panic => panic!("on purpose"),
            Self::Hang => loop {
                std::thread::park_timeout(Duration::from_secs(3_600));
            },
            Self::Spin => loop {
                std::hint::spin_loop();
            },
            Self::Abort => std::process::abort(),
            Self::Exit => std::process::exit(3),
            Self::Overflow => ctx.log(LogLevel::Debug, format!("{} deep", deeper(1))),
            Self::Allocate => allocate(),
            Self::Never => pending().await,
            Self::Questions => while ctx.get("nothing").await.is_ok() {},
            Self::Log => {
                for number in 0..1_000 {
                    ctx.log(LogLevel::Error, format!("{number} {}", "x".repeat(10_000)));
                }
            }
            Self::HugeEntry => ctx.set("huge", vec![b'x'; 64 << 20]),
            Self::Flood
            | Self::Large
            | Self::Keeps
            | Self::Uncertain
            | Self::Slow
            | Self::Flaky
            | Self::Fails
            | Self::Invalid
            | Self::Unauthorized => {}
        }
    }
}

/// Memory that is really used, so that nobody can lend it for nothing.
fn allocate() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&all);
    }
}

#[expect(unconditional_recursion, reason = "that is the fault")]
fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 128]);
    deeper(depth + 1) + room[0]
}

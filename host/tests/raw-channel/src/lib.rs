//! A plugin that speaks the calling convention by hand, to say what no channel would that is made with the SDK: bytes
//! that are no frame, answers to what nobody asked, and more after the host has let go of it.
//!
//! The `mode` of the configuration says what it does wrong; without one it starts, sends and stops as it should.
#![expect(unsafe_code, reason = "the export is what the SDK's macro writes, by hand")]

use omni_channel_sdk::abi_stable::library::{self, CheckTypeLayout, IntoRootModuleResult, LibHeader};
use omni_channel_sdk::abi_stable::prefix_type::PrefixTypeTrait as _;
use omni_channel_sdk::abi_stable::sabi_trait::TD_Opaque;
use omni_channel_sdk::abi_stable::std_types::{ROption, RResult, RSlice, RString, RVec};
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::frame::{
    CallResult, Commit, HostRequest, KvWrite, LogLevel, Op, Output, ToChannel, ToHost, decode, encode,
};
use omni_channel_sdk::http::HttpCall;
use omni_channel_sdk::native::{
    ChannelModule, ChannelModuleRef, ChannelPort, ChannelPort_TO, ChannelPortBox, HostPortBox,
};
use omni_channel_sdk::outcome::SendReceipt;
use omni_channel_sdk::request::{Reply, Request};
use omni_channel_sdk::{__export, manifest};
use std::sync::Arc;

/// Calls that it has made at once: several times as many as the host works on.
const CALLS: u32 = 300;
/// How often a thread that will not stop tries to be heard once it is not.
const UNHEARD: usize = 1_000;

struct Raw {
    host: Arc<HostPortBox>,
}

impl Raw {
    fn say(&self, frame: Vec<u8>) -> bool {
        self.host.deliver(RVec::from(frame))
    }

    fn done(&self, call: u64, output: Output) {
        let done = ToHost::Done { call, result: CallResult::Ok(output), commit: Commit::default() };
        self.say(encode(&done, &[]));
    }

    /// Says something over and over on a thread of its own, until it was not heard for a while.
    fn over_and_over(&self, frame: impl Fn(u64) -> ToHost + Send + 'static) {
        let host = Arc::clone(&self.host);
        std::thread::spawn(move || {
            let mut unheard = 0;
            for round in 0.. {
                if !host.deliver(RVec::from(encode(&frame(round), &[]))) {
                    unheard += 1;
                }
                if unheard > UNHEARD {
                    return;
                }
            }
        });
    }

    fn start(&self, call: u64, mode: &str, url: &str) -> Result<(), String> {
        let started = || Output::Started { ingress: Vec::new(), polls: Vec::new() };
        match mode {
            "garbage" => drop(self.say(vec![0xff; 64])),
            "half" => {
                let whole = encode(&ToHost::State { state: ConnectionState::Connecting }, &[]);
                self.say(whole[..whole.len() / 2].to_vec());
            }
            "empty" => drop(self.say(Vec::new())),
            "huge" => drop(self.say(vec![b' '; 80 << 20])),
            "refuses" => return Err("these are no words of mine".into()),
            "other" => self.done(call, Output::Stopped {}),
            "missing" => {
                let writes = vec![KvWrite { key: "promised".into(), delete: false }];
                let commit = Commit { writes, ..Commit::default() };
                self.say(encode(&ToHost::Done { call, result: CallResult::Ok(started()), commit }, &[]));
            }
            _ => {
                if mode == "strangers" {
                    for stranger in call + 1..call + 1_000 {
                        self.done(stranger, started());
                        self.say(encode(&ToHost::Wake { call: stranger }, &[]));
                        self.say(encode(&ToHost::Pong { nonce: stranger }, &[]));
                    }
                }
                self.done(call, started());
                if mode == "calls" {
                    for id in 0..CALLS {
                        let http = Box::new(HttpCall::get(url));
                        self.say(encode(&ToHost::Call { call: 0, id, request: HostRequest::Http { http } }, &[]));
                    }
                }
                // A network's callback that nobody has told of the end.
                match mode {
                    "logs" | "afterStop" => self.over_and_over(|round| ToHost::Log {
                        level: LogLevel::Debug,
                        message: format!("still here {round}"),
                    }),
                    "states" => self.over_and_over(|round| ToHost::State {
                        state: ConnectionState::Disconnected { reason: format!("{round}"), transient: true },
                    }),
                    "questions" => self.over_and_over(|round| ToHost::Call {
                        call: 0,
                        id: u32::try_from(round % 1_000_000).unwrap_or(0),
                        request: HostRequest::KvGet { key: "nothing".into() },
                    }),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl ChannelPort for Raw {
    fn deliver(&self, frame: RSlice<'_, u8>) -> RResult<(), RString> {
        let said = decode::<ToChannel>(frame.as_slice()).map_err(|error| error.to_string());
        let taken = said.and_then(|(said, _)| {
            match said {
                ToChannel::Begin { call, op: Op::Start { config, .. }, .. } => {
                    let word = |name: &str| config[name].as_str().unwrap_or_default();
                    return self.start(call, word("mode"), word("url"));
                }
                ToChannel::Begin { call, op: Op::Stop {}, .. } => self.done(call, Output::Stopped {}),
                ToChannel::Begin { call, op: Op::Request { request: Request::Send(send) }, .. } => {
                    let reply = Box::new(Reply::Sent(SendReceipt::new(send.client_id.as_str())));
                    self.done(call, Output::Reply { reply });
                }
                ToChannel::Ping { nonce } => drop(self.say(encode(&ToHost::Pong { nonce }, &[]))),
                _ => {}
            }
            Ok(())
        });
        taken.map_err(RString::from).into()
    }
}

extern "C" fn open(host: HostPortBox) -> ROption<ChannelPortBox> {
    ROption::RSome(ChannelPort_TO::from_value(Raw { host: Arc::new(host) }, TD_Opaque))
}

const PARTS: &[&str] = &[
    "{\"manifest\":1,\"version\":\"",
    env!("CARGO_PKG_VERSION"),
    "\",\"sdk\":\"",
    manifest::SDK_VERSION,
    "\",\"abi\":\"",
    manifest::NATIVE_ABI,
    "\",\"panic\":\"unwind\",\"target\":\"",
    __export::TARGET,
    "\",\"channel\":",
    include_str!("../channel.json"),
    "}",
];
const LENGTH: usize = __export::joined_len(PARTS);

#[used]
#[unsafe(link_section = ".note.omni.channel")]
static MANIFEST: __export::Note<LENGTH> = __export::Note::new(__export::join::<LENGTH>(PARTS));

fn module() -> ChannelModuleRef {
    ChannelModule { open }.leak_into_prefix()
}

extern "C" fn root() -> library::RootModuleResult {
    library::__call_root_module_loader(module)
}

/// What the host's loader looks for.
#[unsafe(no_mangle)]
pub static _1as_0lib_1header_0root_bmodule_bloader: LibHeader = {
    type Module = <ChannelModuleRef as IntoRootModuleResult>::Module;
    // SAFETY: `root` gives a reference to exactly this module type.
    unsafe { LibHeader::from_constructor::<Module>(root, CheckTypeLayout::Yes) }
};

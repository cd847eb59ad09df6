//! Guests that do what they must not, each answered with its sentence while everybody else goes on.

use super::*;
use tokio::time::timeout;

const MEMORY: u64 = 4 << 20;
const LIMITS: Limits = Limits { memory: MEMORY, tables: 100_000, frame: Duration::from_millis(300), fuel: 0 };
/// How long a test waits before it says that nothing came.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest that does this with a frame; `$out` hands bytes of its memory to the host.
fn guest(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "{HOST}" (instance $host (export "deliver" (func (param "frame" (list u8)) (result bool)))))
          (core module $room (memory (export "memory") 1))
          (core instance $room (instantiate $room))
          (alias core export $room "memory" (core memory $memory))
          (alias export $host "deliver" (func $deliver))
          (core func $out (canon lower (func $deliver) (memory $memory)))
          (core module $guest
            (import "env" "memory" (memory 1))
            (import "env" "deliver" (func $out (param i32 i32) (result i32)))
            (table $table 1 funcref)
            (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "deliver") (param i32 i32) (result i32) {body} (i32.const 16)))
          (core instance $guest (instantiate $guest
            (with "env" (instance (export "memory" (memory $memory)) (export "deliver" (func $out))))))
          (func $lifted (param "frame" (list u8)) (result (result (error string)))
            (canon lift (core func $guest "deliver") (memory $memory) (realloc (core func $guest "realloc"))))
          (instance $channel (export "deliver" (func $lifted)))
          (export "{CHANNEL}" (instance $channel)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn sandbox() -> (Sandbox, tempfile::TempDir) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    (Sandbox::new(cache.path().to_owned()), cache)
}

fn open(bytes: &[u8]) -> (Line, tempfile::TempDir) {
    let (sandbox, cache) = sandbox();
    let ready = sandbox.prepare(bytes).expect("it can be run");
    (ready.open(LIMITS), cache)
}

async fn next(line: &mut Line) -> FromChannel {
    let next = timeout(PATIENCE, line.from_channel.recv()).await.expect("something comes in time");
    next.unwrap_or_else(|| FromChannel::Ended("nothing comes any more".into()))
}

/// What becomes of a guest with the first frame.
async fn end_of(body: &str) -> String {
    let (mut line, _cache) = open(&guest(body));
    line.to_channel.send(vec![1, 2, 3].into()).expect("it is there");
    loop {
        if let FromChannel::Ended(reason) = next(&mut line).await {
            return reason;
        }
    }
}

fn refused(text: &str) -> String {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    sandbox().0.prepare(&bytes).expect_err("it cannot be run")
}

/// Gives the frame back.
const ECHO: &str = "(drop (call $out (local.get 0) (local.get 1)))";
const LOOP: &str = "(loop $again (br $again))";

#[tokio::test]
async fn frames_go_there_and_back_again_and_again() {
    let (mut line, _cache) = open(&guest(ECHO));
    for number in 0..100_u8 {
        line.to_channel.send(vec![number; 100].into()).expect("it is there");
        match next(&mut line).await {
            FromChannel::Frame(frame) => assert_eq!(frame, vec![number; 100]),
            FromChannel::Ended(reason) => panic!("{reason}"),
        }
    }
    // Nobody needs it any more: nothing of it stays.
    drop(line.to_channel);
    assert!(timeout(PATIENCE, line.from_channel.recv()).await.expect("it ends").is_none());
}

#[tokio::test]
async fn whoever_is_listened_to_no_more_computes_no_more() {
    let (sandbox, _cache) = sandbox();
    let ready = sandbox.prepare(&guest(LOOP)).expect("it can be run");
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let line = ready.open(Limits { frame: PATIENCE * 10, ..LIMITS });
    line.to_channel.send(vec![1, 2, 3].into()).expect("it is there");
    assert!(tasks() > before);
    drop(line);
    let ended = async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it ends long before its time is over");
}

#[tokio::test]
async fn each_way_to_end_has_its_sentence() {
    let cases = [
        ("(unreachable)", "the channel panicked; the log has its words"),
        (LOOP, "the channel did not come back within 0.3 s (plugins.call_timeout_seconds) and was ended"),
        ("(drop (call $deep (i32.const 0)))", "the channel called itself until its stack was full"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "the channel trapped: wasm trap: integer divide by zero"),
        // It would get as much again and again.
        (
            "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            "the channel wanted more memory than the 4 MiB that it may have (plugins.memory_limit)",
        ),
        (
            "(drop (table.grow $table (ref.null func) (i32.const 5000000))) (unreachable)",
            "the channel wanted tables of more than the 100000 entries that they may have (table_entries)",
        ),
        // What it hands over lies outside of its memory.
        ("(drop (call $out (i32.const 60000) (i32.const 60000)))", "the channel could not be run: "),
    ];
    for (body, expected) in cases {
        let reason = end_of(body).await;
        assert!(reason.starts_with(expected), "{body}: {reason}");
    }
}

#[tokio::test]
async fn a_guest_that_floods_the_host_waits_for_it_and_then_its_time_is_up() {
    let flood = "(loop $again (drop (call $out (i32.const 0) (i32.const 8))) (br $again))";
    let (mut line, _cache) = open(&guest(flood));
    line.to_channel.send(vec![0; 8].into()).expect("it is there");
    let mut frames = 0_u64;
    let reason = loop {
        match next(&mut line).await {
            FromChannel::Frame(_) => frames += 1,
            FromChannel::Ended(reason) => break reason,
        }
    };
    assert!(frames > 0 && reason.contains("did not come back within 0.3 s"), "{frames}: {reason}");
    // And where nobody reads, it is no more than the line holds.
    let (mut line, _cache) = open(&guest(flood));
    line.to_channel.send(vec![0; 8].into()).expect("it is there");
    timeout(PATIENCE, line.to_channel.closed()).await.expect("its time is up all the same");
    line.from_channel.close();
    let mut held = 0;
    while let Some(FromChannel::Frame(_)) = line.from_channel.recv().await {
        held += 1;
    }
    assert!(held > 0 && held < 1_000, "{held} frames were held");
}

#[tokio::test]
async fn others_go_on_while_one_computes_for_ever() {
    // One thread for all of them: whoever holds it holds up everybody.
    let (sandbox, _cache) = sandbox();
    let patient = Limits { frame: PATIENCE, ..LIMITS };
    let busy = sandbox.prepare(&guest(LOOP)).expect("it can be run").open(patient);
    busy.to_channel.send(vec![0].into()).expect("it is there");
    let mut echo = sandbox.prepare(&guest(ECHO)).expect("it can be run").open(patient);
    for number in 0..20_u8 {
        echo.to_channel.send(vec![number].into()).expect("it is there");
        assert!(matches!(next(&mut echo).await, FromChannel::Frame(frame) if frame == [number]));
    }
    assert!(!busy.to_channel.is_closed(), "it computes still");
}

#[test]
fn what_cannot_be_run_is_told_apart() {
    let stranger = r#"(component (import "wasi:sockets/tcp@0.2.0" (instance (export "open" (func)))))"#;
    let reason = refused(stranger);
    assert!(reason.contains("needs what this host does not give") && reason.contains("wasi:sockets/tcp"), "{reason}");
    let newer = format!(r#"(component (import "{HOST}" (instance (export "teleport" (func)))))"#);
    let reason = refused(&newer);
    assert!(reason.contains("teleport") && reason.contains("a newer host may load it"), "{reason}");
    let reason = refused("(component)");
    assert!(reason.contains(&format!("it does not export {CHANNEL}")), "{reason}");
    let whole = guest(ECHO);
    // Behind what it exports are the names of its functions, which nobody needs.
    let needed = wasmparser::Parser::new(0).parse_all(&whole).filter_map(|payload| match payload {
        Ok(wasmparser::Payload::ComponentExportSection(section)) => Some(section.range().end),
        _ => None,
    });
    for length in 0..needed.max().expect("it exports something") {
        assert!(sandbox_once(&whole[..length]).is_err(), "cut to {length} of {} bytes", whole.len());
    }
    let mut garbage = whole[..8].to_vec();
    garbage.extend((0..1_000_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]));
    let reason = sandbox_once(&garbage).expect_err("garbage is no component");
    assert!(reason.starts_with("it is damaged"), "{reason}");
}

#[test]
fn what_was_found_good_is_known_to_the_same_host_after_a_restart_and_to_no_other() {
    let (sandbox, cache) = sandbox();
    sandbox.prepare(&guest(ECHO)).expect("it can be run");
    assert!(!sandbox.knows("cafe"));
    sandbox.mark_good("cafe");
    let after_a_restart = Sandbox::new(cache.path().to_owned());
    assert!(after_a_restart.knows("cafe") && !after_a_restart.knows("beef"));
    for file in std::fs::read_dir(cache.path()).expect("it is there") {
        let path = file.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("cafe") {
            std::fs::rename(&path, path.with_file_name("cafe.0.0.9-0000000000000000.good")).expect("it is renamed");
        }
    }
    assert!(!after_a_restart.knows("cafe"), "another version found it good");
}

/// Without a cache, for many that are none.
fn sandbox_once(bytes: &[u8]) -> Result<Ready, String> {
    static SANDBOX: std::sync::LazyLock<(Sandbox, tempfile::TempDir)> = std::sync::LazyLock::new(sandbox);
    SANDBOX.0.prepare(bytes)
}

#[tokio::test]
async fn a_guest_of_another_shape_is_refused_before_it_gets_a_frame() {
    // It exports what it must, with another signature.
    let text = format!(
        r#"(component
          (core module $guest (func (export "deliver")))
          (core instance $guest (instantiate $guest))
          (func $lifted (canon lift (core func $guest "deliver")))
          (instance $channel (export "deliver" (func $lifted)))
          (export "{CHANNEL}" (instance $channel)))"#
    );
    let (mut line, _cache) = open(&wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}")));
    let FromChannel::Ended(reason) = next(&mut line).await else { panic!("it is ended") };
    assert!(reason.starts_with("the channel could not be run: "), "{reason}");
}

/// What is counted for one frame is not counted for the next.
#[tokio::test]
async fn fuel_is_for_one_frame() {
    let work = "(local.set 0 (i32.const 10000)) (loop $again \
                (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if $again (local.get 0)))";
    let answer = format!("{ECHO} {work}");
    let (sandbox, _cache) = sandbox();
    let ready = sandbox.prepare(&guest(&answer)).expect("it can be run");
    let mut line = ready.open(Limits { fuel: 100_000, frame: PATIENCE, ..LIMITS });
    for number in 0..200_u8 {
        line.to_channel.send(vec![number].into()).expect("it is there");
        let answer = next(&mut line).await;
        assert!(matches!(&answer, FromChannel::Frame(frame) if *frame == [number]), "{number}: {answer:?}");
    }
    let mut line = ready.open(Limits { fuel: 10_000, frame: PATIENCE, ..LIMITS });
    line.to_channel.send(vec![0].into()).expect("it is there");
    let reason = loop {
        if let FromChannel::Ended(reason) = next(&mut line).await {
            break reason;
        }
    };
    assert!(reason.contains("than the 10000 units of fuel that it may (fuel_per_frame)"), "{reason}");
}

/// The world as it is, and as it may be one day: a function more in what the host gives.
#[tokio::test]
async fn guests_and_hosts_of_any_1_x_fit_as_long_as_the_host_has_what_the_guest_needs() {
    const NEXT_HOST: &str = "omni:channel/host@1.1.0";
    const NEXT_CHANNEL: &str = "omni:channel/channel@1.1.0";
    let old_guest = guest(ECHO);
    let text_of = |host: &str, channel: &str, needs: &str| {
        format!(
            r#"(component
              (import "{host}" (instance $host
                (export "deliver" (func (param "frame" (list u8)) (result bool))) {needs}))
              (core module $room (memory (export "memory") 1))
              (core instance $room (instantiate $room))
              (alias core export $room "memory" (core memory $memory))
              (alias export $host "deliver" (func $deliver))
              (core func $out (canon lower (func $deliver) (memory $memory)))
              (core module $guest
                (import "env" "memory" (memory 1))
                (import "env" "deliver" (func $out (param i32 i32) (result i32)))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
                (func (export "deliver") (param i32 i32) (result i32) {ECHO} (i32.const 16)))
              (core instance $guest (instantiate $guest
                (with "env" (instance (export "memory" (memory $memory)) (export "deliver" (func $out))))))
              (func $lifted (param "frame" (list u8)) (result (result (error string)))
                (canon lift (core func $guest "deliver") (memory $memory) (realloc (core func $guest "realloc"))))
              (instance $channel (export "deliver" (func $lifted)))
              (export "{channel}" (instance $channel)))"#
        )
    };
    let assembled = |text: &str| wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    let newer_unused = assembled(&text_of(NEXT_HOST, NEXT_CHANNEL, ""));
    let newer_used = assembled(&text_of(NEXT_HOST, NEXT_CHANNEL, r#"(export "measure" (func (result u64)))"#));
    let another = assembled(&text_of("omni:channel/host@2.0.0", "omni:channel/channel@2.0.0", ""));
    let cache = tempfile::tempdir().expect("a temporary folder");
    let now = Runtime::new(cache.path()).expect("it runs");
    let mut next_host = Runtime::new(cache.path()).expect("it runs");
    let mut gives = next_host.linker.instance(NEXT_HOST).expect("another name");
    gives.func_wrap_async("deliver", deliver_to_host).expect("provides");
    gives.func_wrap("measure", |_, ()| Ok((7_u64,))).expect("provides");
    let mut table = Vec::new();
    for (guest_name, bytes) in
        [("1.0", &old_guest), ("1.1 unused", &newer_unused), ("1.1 used", &newer_used), ("2.0", &another)]
    {
        for (host_name, host) in [("1.0", &now), ("1.1", &next_host)] {
            let runs = match host.prepare(bytes) {
                Err(reason) => reason,
                Ok(ready) => {
                    let mut line = ready.open(LIMITS);
                    line.to_channel.send(vec![42].into()).expect("it is there");
                    match next(&mut line).await {
                        FromChannel::Frame(frame) if frame == [42] => "runs".into(),
                        other => format!("{other:?}"),
                    }
                }
            };
            table.push((guest_name, host_name, runs));
        }
    }
    for (guest_name, host_name, outcome) in &table {
        match (*guest_name, *host_name) {
            ("1.1 used", "1.0") => {
                assert!(outcome.contains("measure") && outcome.contains("a newer host may load it"), "{outcome}");
            }
            ("2.0", _) => assert!(outcome.contains("omni:channel/host@2.0.0"), "{outcome}"),
            _ => assert_eq!(outcome, "runs", "guest {guest_name} on host {host_name}"),
        }
    }
}

//! The program `omni`: gathers the outside world and hands it to the command line. Nothing below reads it again.

use omni_host::cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One TLS provider for the whole process. It is only installed already when this is called twice.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Tests name places at which it is to fail; a program that people run has none.
    let _faults = fail::has_failpoints().then(fail::FailScenario::setup);
    cli::main(cli::World::of_this_process())
}
